//! Which calls share an entry, and which never do (SPEC 2.3; I14, I15).

#![allow(
    clippy::option_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "such shapes are what is tested"
)]

#[path = "support/child.rs"]
mod child;
#[path = "support/log.rs"]
mod log;
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cache_aside::{Cache, CacheError, Ttl, cache};
use log::Log;
use serde::{Deserialize, Serialize};
use support::{embedded, ms};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
enum Status {
    Open,
    Since { year: u16 },
}

/// Functions whose keys are pinned.
mod pinned {
    use super::{BTreeMap, HashMap, Serialize, Status, User, cache};

    #[cache(ttl = 60)]
    pub(crate) async fn none() -> u8 {
        0
    }
    #[cache(ttl = 60, key_prefix = "user")]
    pub(crate) async fn number(_id: i64) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn text(_name: &str) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn several(_id: u64, _name: Option<String>, _flags: [bool; 2]) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn structs(_user: &User, _status: Status) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn slice(_ids: &[u64]) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn floats(_at: (f64, f32)) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn map(_filters: HashMap<String, u64>) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn sorted(_filters: BTreeMap<String, u64>) -> u8 {
        0
    }
    #[cache(ttl = 60)]
    pub(crate) async fn generic<T: Serialize + Sync, const N: usize>(_value: &T) -> u8 {
        0
    }
    #[cache(ttl = 60, skip(_db))]
    pub(crate) async fn skipping<E: Sync>(_db: &E, _id: u64) -> u8 {
        0
    }
    #[cache(ttl = 60, key_prefix = "a:b")]
    pub(crate) async fn r#match(_id: u64) -> u8 {
        0
    }
    #[cache(ttl = 60, key = "users:{status}:{user.id}:{{x}}")]
    pub(crate) async fn template(user: &User, status: &str) -> u8 {
        let _ = (user, status);
        0
    }

    pub(crate) struct Service;
    impl Service {
        #[cache(ttl = 60, skip(self))]
        pub(crate) async fn method(&self, _id: u64) -> u8 {
            0
        }
        #[cache(ttl = 60, helpers = "method")]
        pub(crate) async fn constructor(_id: u64) -> u8 {
            0
        }
    }
}

fn pinned_keys() -> Result<Vec<String>, CacheError> {
    use pinned::Service;
    let user = User { id: 7, name: "Ada".to_owned() };
    // A map of its own: another hasher seed, another order.
    let map = || -> HashMap<String, u64> { (0..20).map(|n| (format!("key {n}"), n)).collect() };
    Ok(vec![
        pinned::none::cache_key()?,
        pinned::number::cache_key(-1)?,
        pinned::text::cache_key("Grüße: *")?,
        pinned::several::cache_key(1, None, [true, false])?,
        pinned::several::cache_key(1, Some(String::new()), [true, false])?,
        pinned::structs::cache_key(&user, Status::Open)?,
        pinned::structs::cache_key(&user, Status::Since { year: 1815 })?,
        pinned::slice::cache_key(&[1, 2, 1 << 40])?,
        pinned::floats::cache_key((0.1, f32::MAX))?,
        pinned::map::cache_key(map())?,
        pinned::sorted::cache_key(map().into_iter().collect())?,
        pinned::generic::cache_key::<Vec<Option<String>>, 3>(&vec![None])?,
        pinned::skipping::cache_key(1)?,
        pinned::r#match::cache_key(1)?,
        pinned::template::cache_key(&user, "a:b")?,
        Service::method_cache_key(1)?,
        Service::constructor_cache_key(1)?,
    ])
}

/// Entries outlive builds: a change of these is a breaking change.
const GOLDEN: [&str; 17] = [
    "none:e5230b8fec7b90df1597af31ad3bca45",
    "user:number:f7cc0075dea2b243ec7b4a99fef1d10e",
    "text:2a88e4296f7a5d36332edb87dd3bde62",
    "several:d2be7d222bd1797416b4e7c4be1e9471",
    "several:d2be7d22941e173093fa1b807988d020",
    "structs:fecd7434825b642d04c8b040a6bb117e",
    "structs:fecd74346058057ef54571a7546bbdd1",
    "slice:02cb86504450120853df7606546a8957",
    "floats:586cb6b0012b80056303d992ea2f19d0",
    "map:15d343cdd2a292e962ec480659f20095",
    "sorted:2aff204bcc7c5506e7a7a03bf35ae115",
    "generic:71365c133a031e7016a2a29b694176c8",
    "skipping:fbc195bd00b2b157a60edff6380d6578",
    "a:b:match:9adabbe230ea47464fcb3a29a4396bae",
    "users:a%3Ab:7:{x}",
    "method:a49ba0bed6782be2cc7ff6dcdb972bad",
    "constructor:02d9adfab179b831a37ebc5270bf076c",
];

#[test]
fn keys_are_what_they_were() {
    assert_eq!(pinned_keys().unwrap(), GOLDEN);
}

#[test]
fn a_second_process_computes_the_same_keys() {
    if child::is_child() {
        child::say(&pinned_keys().unwrap().join("|"));
        return;
    }
    let keys = pinned_keys().unwrap().join("|");
    for _ in 0..3 {
        let said = child::run("a_second_process_computes_the_same_keys", &std::env::temp_dir(), &[]);
        assert_eq!(said, std::slice::from_ref(&keys));
    }
}

#[test]
fn a_key_says_the_function_but_no_argument() {
    let key = pinned::number::cache_key(123_456_789).unwrap();
    let hash = key.strip_prefix("user:number:").expect(&key);
    assert!(hash.len() == 32 && hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{key}");
    assert!(!key.contains("123456789"));
    // The first eight digits are the function's.
    assert_eq!(key[..20], pinned::number::cache_key(2).unwrap()[..20]);
    assert_ne!(key[20..], pinned::number::cache_key(2).unwrap()[20..]);
    assert!(pinned::r#match::cache_key(1).unwrap().starts_with("a:b:match:"));
}

#[test]
fn equal_arguments_have_equal_keys() {
    use pinned::{floats, map, sorted, text};
    let map = |pairs: &[(&str, u64)]| {
        map::cache_key(pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()).unwrap()
    };
    assert_eq!(map(&[("a", 1), ("b", 2), ("c", 3)]), map(&[("c", 3), ("b", 2), ("a", 1)]));
    assert_eq!(floats::cache_key((0.0, 0.0)).unwrap(), floats::cache_key((-0.0, -0.0)).unwrap());
    let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
    assert_eq!(floats::cache_key((f64::NAN, 0.0)).unwrap(), floats::cache_key((other_nan, 0.0)).unwrap());
    assert_eq!(floats::cache_key((f64::NAN, 0.0)).unwrap(), floats::cache_key((-f64::NAN, 0.0)).unwrap());
    assert_eq!(text::cache_key("a").unwrap(), text::cache_key(&String::from("a")).unwrap());
    assert_eq!(sorted::cache_key(BTreeMap::new()).unwrap(), sorted::cache_key(BTreeMap::new()).unwrap());
}

#[test]
fn different_arguments_have_different_keys() {
    #[cache]
    async fn pair(_a: &str, _b: &str) -> u8 {
        0
    }
    #[cache]
    async fn lists(_a: &[u64], _b: &[u64]) -> u8 {
        0
    }
    #[cache]
    async fn option(_a: Option<()>) -> u8 {
        0
    }
    #[cache]
    async fn nested(_a: Option<Option<u8>>) -> u8 {
        0
    }
    #[cache]
    async fn maybe(_a: Option<&str>) -> u8 {
        0
    }
    #[cache]
    async fn many(_a: Option<Vec<u8>>, _b: Option<Vec<u8>>) -> u8 {
        0
    }
    #[cache]
    async fn float(_a: f64) -> u8 {
        0
    }
    let mut seen = HashSet::new();
    let mut all_new = |keys: &[Result<String, CacheError>]| {
        for (at, key) in keys.iter().enumerate() {
            let key = key.as_ref().unwrap();
            assert!(seen.insert(key.clone()), "{at}: {key}");
        }
    };
    all_new(&[
        pair::cache_key("ab", "c"),
        pair::cache_key("a", "bc"),
        pair::cache_key("abc", ""),
        pair::cache_key("", "abc"),
    ]);
    all_new(&[lists::cache_key(&[1, 2], &[]), lists::cache_key(&[1], &[2]), lists::cache_key(&[], &[1, 2])]);
    all_new(&[option::cache_key(None), option::cache_key(Some(()))]);
    all_new(&[nested::cache_key(None), nested::cache_key(Some(None)), nested::cache_key(Some(Some(0)))]);
    all_new(&[maybe::cache_key(None), maybe::cache_key(Some("")), maybe::cache_key(Some("null"))]);
    all_new(&[
        many::cache_key(None, None),
        many::cache_key(None, Some(vec![])),
        many::cache_key(Some(vec![]), None),
        many::cache_key(Some(vec![]), Some(vec![])),
    ]);
    all_new(&[
        float::cache_key(0.0),
        float::cache_key(f64::NAN),
        float::cache_key(f64::INFINITY),
        float::cache_key(f64::MIN_POSITIVE),
    ]);
}

/// A function of one name and one signature, wherever a function can stand.
macro_rules! same_name {
    ($says:literal $(, $($option:tt)*)?) => {
        #[cache(ttl = 60 $(, $($option)*)?)]
        pub(crate) async fn get(id: u64) -> String {
            format!("{} {id}", $says)
        }
    };
}

mod one {
    use super::cache;
    same_name!("one");
    pub(crate) mod inner {
        use super::cache;
        same_name!("inner");
    }
}
mod two {
    use super::cache;
    same_name!("two");
}

struct First;
struct Second;
impl First {
    same_name!("First", helpers = "method");
}
impl Second {
    same_name!("Second", helpers = "method");
}

trait Read {
    async fn get(&self, id: u64) -> String;
}
trait Fetch {
    async fn get(&self, id: u64) -> String;
}
impl Read for First {
    #[cache(skip(self), helpers = "none")]
    async fn get(&self, id: u64) -> String {
        format!("Read {id}")
    }
}
impl Read for Second {
    #[cache(skip(self), helpers = "none")]
    async fn get(&self, id: u64) -> String {
        format!("Read of the second {id}")
    }
}
impl Fetch for First {
    #[cache(skip(self), helpers = "none")]
    async fn get(&self, id: u64) -> String {
        format!("Fetch {id}")
    }
}

async fn body(id: u64) -> String {
    same_name!("body");
    get(id).await
}
async fn other_body(id: u64) -> String {
    same_name!("other body");
    get(id).await
}

#[tokio::test]
async fn functions_of_one_name_never_share() {
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        for _ in 0..2 {
            assert_eq!(one::get(1).await, "one 1");
            assert_eq!(one::inner::get(1).await, "inner 1");
            assert_eq!(two::get(1).await, "two 1");
            assert_eq!(First::get(1).await, "First 1");
            assert_eq!(Second::get(1).await, "Second 1");
            assert_eq!(Read::get(&First, 1).await, "Read 1");
            assert_eq!(Read::get(&Second, 1).await, "Read of the second 1");
            assert_eq!(Fetch::get(&First, 1).await, "Fetch 1");
            assert_eq!(body(1).await, "body 1");
            assert_eq!(other_body(1).await, "other body 1");
        }
        assert_eq!((cache.stats().misses, cache.stats().hits), (10, 10), "each has an entry of its own");
        one::get::clear_cache_all().await.unwrap();
        assert_eq!(one::get::cached(1).await.unwrap(), None);
        assert_eq!(two::get::cached(1).await.unwrap().as_deref(), Some("two 1"));
        assert_eq!(one::inner::get::cached(1).await.unwrap().as_deref(), Some("inner 1"));
    })
    .await;
}

/// Two functions that were given one template.
mod shared_template {
    use super::{cache, ms};

    pub(crate) mod one {
        use super::{cache, ms};
        #[cache(ttl = 60, key = "shared:{id}")]
        pub(crate) async fn get(id: u64) -> String {
            tokio::time::sleep(ms(100)).await;
            format!("one {id}")
        }
    }
    pub(crate) mod two {
        use super::{cache, ms};
        #[cache(ttl = 60, key = "shared:{id}")]
        pub(crate) async fn get(id: u64) -> String {
            tokio::time::sleep(ms(100)).await;
            format!("two {id}")
        }
    }

    #[cache(ttl = 60, key = "dash:{a}-{b}")]
    pub(crate) async fn dash(a: &str, b: &str) -> String {
        tokio::time::sleep(ms(100)).await;
        format!("{a} and {b}")
    }
}

#[tokio::test(start_paused = true)]
async fn two_calls_at_one_key_never_give_each_others_values() {
    use shared_template::{dash, one, two};
    Cache::scope(embedded(), async {
        let (log, _guard) = Log::new();
        for _ in 0..2 {
            assert_eq!(one::get(1).await, "one 1");
            assert_eq!(two::get(1).await, "two 1");
        }
        assert!(log.count("ERROR") > 0, "it is said aloud: {}", log.text());

        assert_eq!(dash::cache_key("x-y", "z").unwrap(), dash::cache_key("x", "y-z").unwrap());
        for _ in 0..2 {
            assert_eq!(dash("x-y", "z").await, "x-y and z");
            assert_eq!(dash("x", "y-z").await, "x and y-z");
        }
        assert_eq!(dash::cached("x-y", "z").await.unwrap(), None, "the last one stands");
        assert_eq!(dash::cached("x", "y-z").await.unwrap().as_deref(), Some("x and y-z"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_calls_at_one_key_never_share_a_load() {
    use shared_template::{dash, one, two};
    Cache::scope(embedded(), async {
        let (first, second) = tokio::join!(dash("x-y", "z"), dash("x", "y-z"));
        assert_eq!((first.as_str(), second.as_str()), ("x-y and z", "x and y-z"));
        let (first, second) = tokio::join!(one::get(2), two::get(2));
        assert_eq!((first.as_str(), second.as_str()), ("one 2", "two 2"));
    })
    .await;
}

struct Repo<T>(std::marker::PhantomData<T>);

impl<T: Default + Serialize + serde::de::DeserializeOwned> Repo<T> {
    #[cache(skip(self))]
    async fn find(&self, _id: u64) -> T {
        T::default()
    }
    #[cache(helpers = "method")]
    async fn make(_id: u64) -> T {
        T::default()
    }
}

#[tokio::test]
async fn type_parameters_count() {
    #[cache]
    async fn size_of<T>() -> usize {
        size_of_val(&std::mem::MaybeUninit::<T>::uninit())
    }
    #[cache]
    async fn repeated<const N: usize>(id: u64) -> Vec<u64> {
        vec![id; N]
    }
    #[cache]
    async fn opaque(_id: impl Serialize + Send) -> u8 {
        0
    }
    Cache::scope(embedded(), async {
        for _ in 0..2 {
            assert_eq!((size_of::<u8>().await, size_of::<u64>().await), (1, 8));
            assert_eq!((repeated::<1>(7).await, repeated::<2>(7).await), (vec![7], vec![7, 7]));
        }
        assert_ne!(opaque::cache_key(1_u8).unwrap(), opaque::cache_key(1_u64).unwrap());
        assert_ne!(Repo::<u8>::find_cache_key(1).unwrap(), Repo::<u64>::find_cache_key(1).unwrap());
        assert_ne!(Repo::<u8>::make_cache_key(1).unwrap(), Repo::<u64>::make_cache_key(1).unwrap());
        assert_eq!(Repo::<u8>(std::marker::PhantomData).find(1).await, 0);
        assert_eq!(Repo::<u64>(std::marker::PhantomData).find(1).await, 0);
        assert_eq!(Repo::<u8>::make(1).await, 0);
    })
    .await;
}

/// As an sqlx executor: pool, connection and transaction are different types.
trait Executor {
    fn name(&self) -> &'static str;
}
struct Pool;
struct Transaction;
impl Executor for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }
}
impl Executor for &mut Transaction {
    fn name(&self) -> &'static str {
        "transaction"
    }
}

#[tokio::test]
async fn a_type_parameter_of_a_skipped_argument_does_not_count() {
    #[cache(skip(db))]
    async fn get<E: Executor>(db: E, id: u64) -> String {
        format!("{id} by {}", db.name())
    }
    Cache::scope(embedded(), async {
        assert_eq!(get(Pool, 1).await, "1 by pool");
        assert_eq!(get(&mut Transaction, 1).await, "1 by pool");
        assert!(get::clear_cache(1).await.unwrap());
        assert_eq!(get(&mut Transaction, 1).await, "1 by transaction");
    })
    .await;
}

#[tokio::test]
async fn no_argument_forges_a_key_or_widens_a_pattern() {
    #[cache(key = "doc:{owner}:{name}")]
    async fn doc(owner: &str, name: &str) -> String {
        format!("{owner}'s {name}")
    }
    assert_eq!(doc::cache_key("ada", "notes").unwrap(), "doc:ada:notes");
    assert_eq!(
        doc::cache_key("a:*?[]{}\\%", " \n\t\u{a0}é").unwrap(),
        "doc:a%3A%2A%3F%5B%5D%7B%7D%5C%25:%20%0A%09%C2%A0é"
    );
    assert_ne!(doc::cache_key("a:b", "c").unwrap(), doc::cache_key("a", "b:c").unwrap());
    assert_ne!(doc::cache_key("a%3Ab", "c").unwrap(), doc::cache_key("a:b", "c").unwrap());
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        doc("ada", "notes").await;
        assert_eq!(doc("*", "*").await, "*'s *");
        assert!(doc::clear_cache("*", "*").await.unwrap());
        assert_eq!(doc::cached("ada", "notes").await.unwrap().as_deref(), Some("ada's notes"));
    })
    .await;
}

#[tokio::test]
async fn a_key_builder_is_taken_as_it_is() {
    struct Tenant {
        name: String,
    }
    impl Tenant {
        fn key(&self, id: &u64) -> String {
            format!("{}/{id}", self.name)
        }
        #[cache(key_builder = |id| format!("{}:{id}", self.name))]
        async fn by_closure(&self, id: u64) -> u64 {
            id
        }
        #[cache(key_builder = Self::key)]
        async fn by_path(&self, id: u64) -> u64 {
            id
        }
    }
    fn build(id: &u64, status: &str) -> String {
        format!("built:{status}:{id}")
    }
    #[cache(key_builder = |user_id, status| format!("users:{status}:{user_id}"))]
    async fn by_closure(user_id: u64, status: &str) -> u64 {
        user_id + status.len() as u64
    }
    #[cache(key_builder = build, skip(db))]
    async fn by_path(id: u64, db: &Pool, status: &str) -> u64 {
        id + (db.name().len() + status.len()) as u64
    }
    #[cache(key_builder = |_id| String::new())]
    async fn empty(_id: u64) -> u64 {
        1
    }
    let tenant = Tenant { name: "t".to_owned() };
    assert_eq!(by_closure::cache_key(1, "on:*").unwrap(), "users:on:*:1");
    assert_eq!(by_path::cache_key(1, "on").unwrap(), "built:on:1");
    assert_eq!(tenant.by_closure_cache_key(1).unwrap(), "t:1");
    assert_eq!(tenant.by_path_cache_key(1).unwrap(), "t/1");
    assert!(matches!(empty::cache_key(1), Err(CacheError::Serialize(_))));
    Cache::scope(embedded(), async {
        assert_eq!((by_closure(1, "on").await, by_closure(1, "on").await), (3, 3));
        assert_eq!((by_path(1, &Pool, "on").await, by_path(1, &Pool, "on").await), (7, 7));
        assert_eq!((by_closure::cache_stats().hits, by_path::cache_stats().hits), (1, 1));
        assert_eq!((tenant.by_closure(1).await, tenant.by_path(1).await), (1, 1));
        assert_eq!((empty(1).await, empty::cache_stats().bypassed), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn the_namespace_stands_in_front_of_every_key() {
    #[cache(key = "n:{id}")]
    async fn get(id: u64) -> u64 {
        id
    }
    let cache = Cache::builder().namespace("shop").build().unwrap();
    Cache::scope(cache.clone(), async {
        let (log, _guard) = Log::new();
        get(1).await;
        assert!(log.text().contains("key=shop:n:1"), "{}", log.text());
        assert_eq!(get::cache_key(1).unwrap(), "n:1", "handles put it there themselves");
        assert!(cache.exists("n:1").await.unwrap());
        cache.set("other", &1, Ttl::Default).await.unwrap();
        assert_eq!(cache.delete_pattern("*:*").await.unwrap(), 1, "patterns begin behind it");
    })
    .await;
}

#[test]
fn a_sorted_set_is_what_to_take_for_a_set() {
    #[cache]
    async fn get(_tags: BTreeSet<String>) -> u8 {
        0
    }
    let tags = |order: [&str; 3]| get::cache_key(order.map(str::to_owned).into()).unwrap();
    assert_eq!(tags(["a", "b", "c"]), tags(["c", "a", "b"]));
}

/// `refresh_ahead` and `timeout` move the body into a function of its own. Two blocks of one function
/// are one place, so all else is equal here.
#[tokio::test]
async fn what_stands_in_a_body_keeps_its_key_when_that_body_moves() {
    macro_rules! keys {
        ($($options:tt)*) => {{
            macro_rules! inner {
                () => {{
                    #[cache]
                    async fn inner(id: u64) -> u64 {
                        id
                    }
                    struct Inner;
                    impl Inner {
                        #[cache(skip(self))]
                        async fn method(&self, id: u64) -> u64 {
                            id
                        }
                    }
                    assert_eq!(inner(1).await + Inner.method(2).await, 3);
                    [inner::cache_key(1).unwrap(), Inner::method_cache_key(1).unwrap()]
                }};
            }
            #[cache($($options)*, when = false)]
            async fn outer<T: Default + Serialize + Send + 'static>(value: T) -> [String; 2] {
                drop(value);
                inner!()
            }
            #[derive(Clone)]
            struct Outer<T>(T);
            impl<T: Clone + Send + Sync + 'static> Outer<T> {
                #[cache($($options)*, when = false, skip(self))]
                async fn r#match(&self) -> [String; 2] {
                    let _ = &self.0;
                    inner!()
                }
            }
            [outer(1_u8).await, Outer(1_u8).r#match().await]
        }};
    }
    let plain = keys!(ttl = 60);
    assert_eq!(keys!(ttl = 60, refresh_ahead = "10%"), plain);
    assert_eq!(keys!(ttl = 60, stale_if_error = "1h", timeout = 0), plain);
    assert_ne!(plain[0], plain[1]);
}
