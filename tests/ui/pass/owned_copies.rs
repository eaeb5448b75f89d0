//! Functions whose load may outlive its caller: every shape of argument, receiver and scope.

#![deny(warnings)]

use cache_aside::{CacheError, cache};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone)]
struct Db;

type Fallible<T> = Result<T, String>;

// With a `timeout` of zero and nothing in the cache the load is the one that owns its arguments.

#[cache(ttl = 60, stale_if_error = "1h", timeout = 0, skip(db))]
async fn references(name: &str, ids: &[u64], flag: &bool, path: &Path, db: &Db) -> usize {
    let Db = db;
    name.len() + ids.len() + usize::from(*flag) + path.components().count()
}

#[cache(refresh_ahead = "20%", stale_if_error = 3600, timeout = "2s")]
async fn all_options(id: u64, name: &str) -> Fallible<Option<String>> {
    if id == 0 {
        return Err(name.to_owned());
    }
    let rest = id.checked_sub(1).ok_or("too small")?;
    Ok(Some(format!("{name}{rest}")))
}

#[cache(stale_if_error = "1h")]
async fn stale_alone(id: u64, name: &str, count: &mut u64) -> Result<String, std::rc::Rc<str>> {
    *count += 1;
    Ok(format!("{id}{name}"))
}

#[cache(refresh_ahead = "10s")]
async fn owned(id: u64, name: String, more: Option<Vec<u8>>, fixed: &'static str) -> Vec<u8> {
    let _ = (id, name, fixed);
    more.unwrap_or_default()
}

#[cache(refresh_ahead = 5, skip(ids))]
async fn changed(mut id: u64, mut ids: Vec<u64>, _: u64, _unused: &str) -> Vec<u64> {
    id += 1;
    ids.push(id);
    ids
}

#[cache(stale_if_error = "1h", timeout = 0, skip(ids, found))]
async fn generic<'a, T, F, const N: usize>(id: &'a T, ids: [u8; N], found: F) -> Vec<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    F: Fn(&T) -> T + Send + 'static,
{
    let _ = ids;
    vec![found(id); N]
}

#[cache(stale_if_error = "1h", timeout = 0)]
async fn not_in_an_argument<T: Default + Serialize + DeserializeOwned + Send + 'static>(id: u64) -> Option<T> {
    (id > 0).then(T::default)
}

#[cache(stale_if_error = "1h", timeout = 0, skip(text, more, find, plain))]
async fn impl_trait(
    id: u64,
    text: impl AsRef<str> + Send + 'static,
    more: &(impl ToString + Clone + Send + Sync + 'static),
    find: impl for<'a> Fn(&'a str) -> Option<&'a str> + Send + 'static,
    plain: fn(&u64) -> &u64,
) -> usize {
    let _ = plain;
    find(text.as_ref()).map_or(0, str::len) + more.to_string().len() + usize::from(id > 0)
}

#[cache(stale_if_error = "1h", timeout = 0, skip(text))]
async fn unsized_argument<T: ?Sized + ToOwned<Owned: Send> + AsRef<str> + Sync + 'static>(text: &T) -> usize {
    text.as_ref().len()
}

#[cache(refresh_ahead = "10%", key_builder = |map| format!("map:{}", map.len()))]
async fn borrowed_collections(map: &HashMap<String, Vec<u8>>, shared: &Arc<Db>) -> usize {
    let _ = shared;
    map.len()
}

#[cache(refresh_ahead = "10%")]
async fn recursion(n: u64) -> u64 {
    if n < 2 { n } else { Box::pin(recursion(n - 1)).await + Box::pin(recursion(n - 2)).await }
}

#[cache(stale_if_error = "1h", timeout = 0)]
async fn even(n: u64, name: &str) -> bool {
    if n == 0 { true } else { Box::pin(odd(n - 1, name)).await }
}

#[cache(stale_if_error = "1h", timeout = 0)]
async fn odd(n: u64, name: &str) -> bool {
    if n == 0 { false } else { Box::pin(even(n - 1, name)).await }
}

#[cache(refresh_ahead = "10%")]
async fn no_arguments() -> u64 {
    1
}

#[cache(
    refresh_ahead = "10%",
    key = "limits:{id}",
    when = *on,
    ttl = std::time::Duration::from_secs(life),
    none_ttl = |value| std::time::Duration::from_secs(if value.is_some() { 1 } else { least }),
    unless = |value: &Option<u64>| value.is_some_and(|found| found > most)
)]
async fn read_by_the_attribute_alone(id: u64, on: &bool, life: u64, least: u64, most: u64) -> Option<u64> {
    Some(7)
}

#[cache(refresh_ahead = "10%", skip(limit), unless = |value| value.len() > limit.len())]
async fn read_by_a_closure(limit: Vec<u8>, value: u8) -> Vec<u8> {
    let mut found = limit;
    found.push(value);
    found
}

#[cache(refresh_ahead = "10%")]
#[expect(unused_mut, unused_variables, reason = "a function with habits")]
async fn with_expectations(id: u64) -> u64 {
    #![allow(clippy::needless_return)]
    use std::convert::identity;
    let mut seen = identity(id);
    1
}

#[cache(refresh_ahead = "10%")]
async fn items_inside(id: u64) -> u64 {
    #[cache(ttl = 60)]
    async fn part(id: u64) -> u64 {
        id + 1
    }

    part(id).await + part::cached(id).await.map_or(1, |_| 0)
}

#[cache(refresh_ahead = "10%")]
async fn never_returns(id: u64) -> u64 {
    let _ = id;
    panic!("the body gives no value")
}

#[cache(refresh_ahead = "10%", helpers = "none")]
async fn names_of_ours(call: u64, kind: u64, this: u64, value: u64, arg0: u64, make: &str) -> u64 {
    call + kind + this + value + arg0 + make.len() as u64
}

macro_rules! lookup {
    ($name:ident, $id:ident: $ty:ty, $ahead:expr, $body:block) => {
        #[cache(refresh_ahead = $ahead, stale_if_error = "1h", timeout = 0)]
        async fn $name($id: $ty) -> u64 $body
    };
}

lookup!(made_by_a_macro, id: &u64, 60, { *id });

#[tracing::instrument]
#[cache(stale_if_error = "1h", timeout = 0)]
async fn instrumented_above(id: u64, name: &str) -> Result<u64, String> {
    Ok(id + name.len() as u64)
}

#[cache(stale_if_error = "1h", timeout = 0)]
#[tracing::instrument(err, ret)]
async fn instrumented_below(id: u64, name: &str, _: u64) -> Result<u64, String> {
    Ok(id + name.len() as u64)
}

#[derive(Clone)]
struct Service {
    tenant: &'static str,
    runs: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
struct User {
    id: u64,
}

impl Service {
    #[cache(stale_if_error = "1h", timeout = 0, skip(self))]
    async fn by_reference(&self, id: u64, name: &str) -> Option<User> {
        Some(User { id: id + self.runs + name.len() as u64 })
    }

    #[cache(stale_if_error = "1h", timeout = 0, key = "{self.tenant}:value:{id}")]
    pub async fn by_value(mut self, id: u64) -> u64 {
        self.runs += id;
        self.runs
    }

    #[cache(stale_if_error = "1h", timeout = 0, key = "{self.tenant}:arc:{id}")]
    async fn by_arc(self: Arc<Self>, id: u64) -> u64 {
        id + self.runs
    }

    #[cache(stale_if_error = "1h", timeout = 0, key = "{self.tenant}:reference:{id}")]
    async fn by_reference_to_arc(self: &Arc<Self>, id: u64) -> u64 {
        id + self.runs
    }

    #[cache(refresh_ahead = "10%", skip(self), unless = |value| *value > self.runs)]
    async fn read_by_a_closure(self: Arc<Self>, id: u64) -> u64 {
        id
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    async fn by_typed_reference(self: &Self, id: u64) -> u64 {
        id + self.runs
    }

    #[cache(refresh_ahead = "10%", key = "{self.tenant}:unused:{id}")]
    async fn read_by_the_key_alone(&self, id: u64) -> u64 {
        1
    }

    #[cache(refresh_ahead = "10%", helpers = "method")]
    async fn a_static_one(id: u64) -> u64 {
        id
    }

    #[cache(refresh_ahead = "10%", skip(like))]
    async fn with_self_in_its_signature(like: &Self, id: u64) -> u64 {
        id + like.runs
    }

    #[cache(refresh_ahead = "10%", helpers = "none")]
    async fn without_helpers(id: u64) -> u64 {
        id
    }

    #[cache(stale_if_error = "1h", timeout = 0, skip(self))]
    async fn with_generics<T: Serialize + Into<u64> + Send + 'static, const N: u64>(&self, id: u64, other: T) -> u64 {
        id + other.into() + N + self.runs
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    #[expect(unused_mut, unused_variables)]
    #[allow(clippy::needless_pass_by_value)]
    async fn with_expectations(&self, id: u64, name: String) -> u64 {
        let mut seen = self.runs;
        id
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    async fn with_an_inner_expectation(&self, id: u64) -> u64 {
        #![expect(unused_variables)]
        let seen = self.runs;
        id
    }

    #[cfg(any())]
    #[cache(refresh_ahead = "10%", skip(self))]
    async fn never_there(&self, id: Missing) -> u64 {
        id
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    #[cfg(any())]
    async fn never_there_either(&self, id: Missing) -> u64 {
        id
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    #[deprecated = "old"]
    #[allow(dead_code)]
    async fn old(&self, id: u64) -> u64 {
        id
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    async fn recursion(&self, n: u64) -> u64 {
        if n < 2 { n } else { Box::pin(self.recursion(n - 1)).await + 1 }
    }

    #[tracing::instrument(skip(self))]
    #[cache(refresh_ahead = "10%", skip(self))]
    async fn instrumented_above(&self, id: u64) -> u64 {
        id + self.runs
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    #[tracing::instrument(skip_all)]
    async fn instrumented_below(&self, id: u64) -> u64 {
        id + self.runs
    }

    #[cache(refresh_ahead = "10%", skip(self))]
    async fn r#match(&self, r#type: u64) -> u64 {
        r#type
    }
}

struct Repo<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Clone for Repo<T> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Repo<T> {
    #[cache(stale_if_error = "1h", timeout = 0, skip(self))]
    async fn find(&self, id: u64) -> Option<T> {
        let _ = id;
        Some(T::default())
    }

    #[cache(stale_if_error = "1h", timeout = 0, helpers = "method")]
    async fn make<U>(id: U, count: &u64) -> T
    where
        U: Serialize + Send + 'static,
    {
        let _ = (id, count);
        T::default()
    }
}

trait Find {
    async fn find(&self, id: u64) -> Result<User, String>;
    async fn stale(&self, id: u64) -> Result<User, String>;
}

impl Find for Service {
    // The body is in an inherent method, where there is room for another one beside it.
    async fn find(&self, id: u64) -> Result<User, String> {
        Ok(self.by_reference(id, "").await.unwrap_or(User { id }))
    }

    #[cache(stale_if_error = "1h", key = "{self.tenant}:stale:{id}", helpers = "none")]
    async fn stale(&self, id: u64) -> Result<User, String> {
        Ok(User { id })
    }
}

#[async_trait::async_trait]
trait Boxed {
    async fn stale(&self, id: u64) -> Result<User, String>;
}

#[async_trait::async_trait]
impl Boxed for User {
    #[cache(stale_if_error = "1h", key = "{self.id}:boxed:{id}")]
    async fn stale(&self, id: u64) -> Result<User, String> {
        Ok(User { id })
    }
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() -> Result<(), CacheError> {
    #[cache(refresh_ahead = "10%")]
    async fn in_a_body(id: u64, name: &str) -> Local {
        Local(id + name.len() as u64)
    }
    #[derive(Serialize, serde::Deserialize)]
    struct Local(u64);

    let ids = [1, 2];
    assert_eq!(is_send(references("ab", &ids, &true, Path::new("a/b"), &Db)).await, 7);
    assert!(references::clear_cache("ab", &ids, &true, Path::new("a/b")).await?);
    assert_eq!(is_send(references::refresh_cache("ab", &ids, &true, Path::new("a/b"), &Db)).await, 7);
    assert_eq!(is_send(all_options(2, "a")).await, Ok(Some("a1".to_owned())));
    assert_eq!(all_options::cached(2, "a").await?, Some(Ok(Some("a1".to_owned()))));
    assert_eq!(all_options(0, "a").await, Err("a".to_owned()));
    let mut count = 0;
    assert_eq!(stale_alone(1, "a", &mut count).await.as_deref(), Ok("1a"));
    assert_eq!(is_send(owned(1, "a".to_owned(), Some(vec![3]), "b")).await, [3]);
    assert_eq!(is_send(changed(1, vec![1], 2, "a")).await, [1, 2]);
    assert_eq!(changed::refresh_cache(1, vec![3], 2, "a").await, [3, 2]);
    assert_eq!(is_send(generic::<u64, _, 2>(&7, [0; 2], |id| *id)).await, [7, 7]);
    assert!(generic::clear_cache::<u64>(&7).await?);
    assert_eq!(generic::refresh_cache::<u64, _, 2>(&7, [0; 2], |id| *id).await, [7, 7]);
    assert_eq!(is_send(not_in_an_argument::<u8>(1)).await, Some(0));
    assert_eq!(is_send(impl_trait(1, "ab", &7, |text| text.get(1..), |id| id)).await, 3);
    assert_eq!(is_send(unsized_argument("ab")).await, 2);
    assert_eq!(is_send(borrowed_collections(&HashMap::new(), &Arc::new(Db))).await, 0);
    assert_eq!(is_send(recursion(10)).await, 55);
    assert!(is_send(even(4, "a")).await);
    assert_eq!(no_arguments().await, 1);
    assert_eq!(is_send(read_by_the_attribute_alone(1, &true, 60, 5, 9)).await, Some(7));
    assert_eq!(is_send(read_by_a_closure(vec![1], 2)).await, [1, 2]);
    assert_eq!(read_by_a_closure::cached(2).await?, None);
    assert_eq!(with_expectations(1).await, 1);
    assert_eq!(is_send(items_inside(1)).await, 2);
    drop(never_returns(1));
    assert_eq!(names_of_ours(1, 2, 3, 4, 5, "six").await, 18);
    assert_eq!(is_send(made_by_a_macro(&1)).await, 1);
    assert_eq!(is_send(instrumented_above(1, "a")).await, Ok(2));
    assert_eq!(is_send(instrumented_below(1, "a", 1)).await, Ok(2));
    assert_eq!(instrumented_below::refresh_cache(1, "a", 1).await, Ok(2));
    assert_eq!(is_send(in_a_body(1, "a")).await.0, 2);

    let service = Service { tenant: "t", runs: 1 };
    assert_eq!(is_send(service.by_reference(1, "a")).await, Some(User { id: 3 }));
    assert_eq!(is_send(service.by_reference_refresh_cache(1, "a")).await, Some(User { id: 3 }));
    assert_eq!(is_send(service.clone().by_value(1)).await, 2);
    assert_eq!(service.clone().by_value_refresh_cache(1).await, 2);
    assert_eq!(is_send(Arc::new(service.clone()).by_arc(1)).await, 2);
    assert_eq!(is_send(Arc::new(service.clone()).by_reference_to_arc(1)).await, 2);
    assert_eq!(is_send(Arc::new(service.clone()).read_by_a_closure(1)).await, 1);
    assert_eq!(is_send(service.by_typed_reference(1)).await, 2);
    assert_eq!(service.read_by_the_key_alone(1).await, 1);
    assert_eq!(Service::a_static_one(1).await + Service::without_helpers(1).await, 2);
    assert_eq!(Service::with_self_in_its_signature(&service, 1).await, 2);
    assert_eq!(is_send(service.with_generics::<_, 5>(1, 2_u32)).await, 9);
    assert_eq!(service.with_generics_refresh_cache::<_, 5>(1, 2_u32).await, 9);
    assert_eq!(service.with_expectations(1, String::new()).await, 1);
    assert_eq!(service.with_an_inner_expectation(1).await, 1);
    assert_eq!(is_send(service.recursion(5)).await, 5);
    assert_eq!(is_send(service.instrumented_above(1)).await, 2);
    assert_eq!(is_send(service.instrumented_below(1)).await, 2);
    assert_eq!(service.r#match(1).await, 1);
    assert_eq!(Find::find(&service, 1).await, Ok(User { id: 2 }));
    assert_eq!(Find::stale(&service, 1).await, Ok(User { id: 1 }));
    assert_eq!(is_send(Boxed::stale(&User { id: 1 }, 1)).await, Ok(User { id: 1 }));

    let repo = Repo::<u8>(std::marker::PhantomData);
    assert_eq!(is_send(repo.find(1)).await, Some(0));
    assert_eq!(is_send(Repo::<u8>::make(1, &2)).await, 0);
    assert!(Repo::<u8>::make_clear_cache(1, &2).await?);
    Ok(())
}
