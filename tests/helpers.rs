//! What can be done with an entry by hand, beside free functions and methods (SPEC 2.2; I1).

mod support;

use std::sync::Mutex;
use std::time::Duration;

use cache_aside::{Cache, Expiry, Ttl, cache, global};
use serde::{Deserialize, Serialize};
use support::{Loads, embedded, ms, secs};

#[tokio::test]
async fn clear_cache_forgets_one_entry_and_says_if_there_was_one() {
    #[cache(ttl = 60)]
    async fn find(id: u64) -> Option<u64> {
        (id > 0).then_some(id)
    }
    Cache::scope(embedded(), async {
        assert!(!find::clear_cache(1).await.unwrap());
        find(1).await;
        find(0).await;
        assert!(find::clear_cache(1).await.unwrap());
        assert!(!find::clear_cache(1).await.unwrap());
        assert_eq!(find::cached(0).await.unwrap(), Some(None), "the other one stays");
        assert!(find::clear_cache(0).await.unwrap(), "a cached `None` is a value");
        assert_eq!(find::cache_stats().invalidations, 4);
    })
    .await;
}

#[tokio::test]
async fn clear_cache_all_forgets_every_entry_of_the_function_and_no_other() {
    #[cache(ttl = 60, key_prefix = "same")]
    async fn number(id: u64) -> u64 {
        id
    }
    #[cache(ttl = 60, key_prefix = "same")]
    async fn number_too(id: u64) -> u64 {
        id
    }
    #[cache(ttl = 60, key = "book:{id}:title")]
    async fn title(id: u64) -> u64 {
        id
    }
    #[cache(ttl = 60, key = "book:{id}:price")]
    async fn price(id: u64) -> u64 {
        id
    }
    #[cache(ttl = 60, key = "book:{id}")]
    async fn book(id: &str) -> usize {
        id.len()
    }
    Cache::scope(embedded(), async {
        for id in 0..5 {
            number(id).await;
            number_too(id).await;
            title(id).await;
            price(id).await;
        }
        number::clear_cache_all().await.unwrap();
        title::clear_cache_all().await.unwrap();
        book("1").await;
        book("1:price").await; // escaped, so it isn't the key of another
        global().unwrap().increment("book:1:readers").await.unwrap();
        book::clear_cache_all().await.unwrap();
        assert_eq!((book::cached("1").await.unwrap(), book::cached("1:price").await.unwrap()), (None, None));
        assert_eq!(
            global().unwrap().increment("book:1:readers").await.unwrap(),
            2,
            "no entry of this function"
        );
        for id in 0..5 {
            assert_eq!(number::cached(id).await.unwrap(), None);
            assert_eq!(number_too::cached(id).await.unwrap(), Some(id));
            assert_eq!(title::cached(id).await.unwrap(), None);
            assert_eq!(price::cached(id).await.unwrap(), Some(id));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cached_looks_and_never_loads() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn find(id: u64) -> Result<Option<u64>, String> {
        LOADS.load(ms(100)).await;
        Ok((id > 0).then_some(id))
    }
    Cache::scope(embedded(), async {
        assert_eq!(find::cached(1).await.unwrap(), None);
        let (_, during) = tokio::join!(find(1), async {
            tokio::time::sleep(ms(50)).await;
            find::cached(1).await.unwrap()
        });
        assert_eq!(during, None, "a load in progress is no value");
        find(0).await.unwrap();
        assert_eq!(find::cached(1).await.unwrap(), Some(Ok(Some(1))));
        assert_eq!(find::cached(0).await.unwrap(), Some(Ok(None)));
        assert_eq!(LOADS.count(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn put_cache_stores_as_a_load_would_and_the_last_put_wins() {
    #[cache(ttl = Duration::from_secs(u64::from(minutes) * 60), none_ttl = 2, jitter = "10%")]
    async fn find(id: u64, minutes: u32) -> Result<Option<String>, std::io::Error> {
        Ok(Some(format!("{id} for {minutes} min")))
    }
    #[cache(cache_none = false)]
    async fn never_none(id: u64) -> Option<u64> {
        Some(id)
    }
    Cache::scope(embedded(), async {
        find(1, 3).await.unwrap();
        find::put_cache(1, 3, &Some("first".to_owned())).await.unwrap();
        find::put_cache(1, 3, &Some("second".to_owned())).await.unwrap();
        assert_eq!(find(1, 3).await.unwrap().as_deref(), Some("second"));
        let left = global().unwrap().ttl(&find::cache_key(1, 3).unwrap()).await.unwrap();
        assert!(matches!(left, Expiry::In(left) if left >= secs(180) && left <= secs(198)), "{left:?}");

        find::put_cache(1, 3, &None).await.unwrap();
        assert_eq!(find(1, 3).await.unwrap(), None);
        tokio::time::advance(ms(2201)).await;
        assert_eq!(find(1, 3).await.unwrap().as_deref(), Some("1 for 3 min"), "the life of a `None`");

        never_none(1).await;
        never_none::put_cache(1, &None).await.unwrap();
        assert_eq!(never_none::cached(1).await.unwrap(), None, "not kept, and what was there is older");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_does_not_overwrite_a_put_that_came_meanwhile() {
    #[cache(ttl = 60)]
    async fn get(id: u64) -> String {
        tokio::time::sleep(ms(100)).await;
        format!("loaded {id}")
    }
    Cache::scope(embedded(), async {
        let (loaded, ()) = tokio::join!(get(1), async {
            tokio::time::sleep(ms(50)).await;
            get::put_cache(1, &"put".to_owned()).await.unwrap();
        });
        assert_eq!(loaded, "loaded 1");
        assert_eq!(get(1).await, "put");
        assert_eq!(get::cache_stats().fills_refused, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refresh_cache_runs_the_function_and_stores_while_others_read() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(id: u64, fails: bool) -> Result<u64, String> {
        let load = LOADS.load(ms(100)).await;
        if fails { Err(format!("{id} failed")) } else { Ok(load) }
    }
    Cache::scope(embedded(), async {
        assert_eq!(get(1, false).await, Ok(1));
        let (refreshed, during) = tokio::join!(get::refresh_cache(1, false), async {
            tokio::time::sleep(ms(50)).await;
            get(1, false).await
        });
        assert_eq!((refreshed, during), (Ok(2), Ok(1)));
        assert_eq!(get(1, false).await, Ok(2));
        assert_eq!(get::refresh_cache(2, false).await, Ok(3), "where nothing was, too");
        assert_eq!(get(2, false).await, Ok(3));

        assert_eq!(get(3, true).await, Err("3 failed".to_owned()));
        assert_eq!(get::refresh_cache(3, true).await, Err("3 failed".to_owned()));
        assert_eq!(get::cache_stats().refreshes, 3);
    })
    .await;
}

static SOURCE: Mutex<&str> = Mutex::new("");

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_value() {
    #[cache(ttl = 60)]
    async fn get(id: u64) -> Result<String, u64> {
        let source = *SOURCE.lock().unwrap();
        if source.is_empty() { Err(id) } else { Ok(source.to_owned()) }
    }
    Cache::scope(embedded(), async {
        *SOURCE.lock().unwrap() = "value";
        get(1).await.unwrap();
        *SOURCE.lock().unwrap() = "";
        assert_eq!(get::refresh_cache(1).await, Err(1));
        assert_eq!(get(1).await.as_deref(), Ok("value"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_refresh_wins() {
    #[cache(ttl = 60)]
    async fn get(id: u64) -> u64 {
        tokio::time::sleep(ms(100)).await;
        id
    }
    Cache::scope(embedded(), async {
        get(1).await;
        let (_, was_there) = tokio::join!(get::refresh_cache(1), async {
            tokio::time::sleep(ms(50)).await;
            get::clear_cache(1).await.unwrap()
        });
        assert!(was_there);
        assert_eq!(get::cached(1).await.unwrap(), None, "the refresh read before the invalidation");
    })
    .await;
}

#[tokio::test]
async fn a_refresh_is_of_one_call_not_of_those_inside_it() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn sum(n: u64) -> u64 {
        LOADS.load(ms(0)).await;
        if n == 0 { 0 } else { n + Box::pin(sum(n - 1)).await }
    }
    Cache::scope(embedded(), async {
        assert_eq!(sum(3).await, 6);
        assert_eq!(LOADS.count(), 4);
        assert_eq!(sum::refresh_cache(3).await, 6);
        assert_eq!(LOADS.count(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_that_panics_early_leaves_no_mark_on_the_next_call() {
    #[cache(ttl = 60, key_builder = |id| { assert!(*id > 0, "no such id"); format!("early:{id}") })]
    async fn get(id: u64) -> u64 {
        id
    }
    let cache = embedded();
    Cache::scope(cache.clone(), get(1)).await;
    // On this thread: the runtime has one.
    let refresh = tokio::spawn(Cache::scope(cache.clone(), get::refresh_cache(0)));
    assert!(refresh.await.unwrap_err().is_panic());
    Cache::scope(cache, get(1)).await;
    let stats = get::cache_stats();
    assert_eq!((stats.loads, stats.hits, stats.refreshes), (1, 1, 0));
}

#[tokio::test]
async fn skipped_arguments_are_left_out() {
    struct Db(u64);
    #[cache(ttl = 60, skip(db, trace))]
    async fn get(db: &Db, id: u64, trace: &str, name: &str) -> String {
        format!("{}:{id}:{trace}:{name}", db.0)
    }
    #[cache(ttl = 60, key = "only:{id}")]
    async fn only(db: &Db, id: u64, name: &str) -> String {
        format!("{}:{id}:{name}", db.0)
    }
    Cache::scope(embedded(), async {
        assert_eq!(get(&Db(1), 2, "t", "n").await, "1:2:t:n");
        assert_eq!(get(&Db(9), 2, "u", "n").await, "1:2:t:n");
        assert_eq!(get::cached(2, "n").await.unwrap().as_deref(), Some("1:2:t:n"));
        assert_eq!(get::refresh_cache(&Db(9), 2, "u", "n").await, "9:2:u:n");
        assert!(get::clear_cache(2, "n").await.unwrap());
        assert_eq!(only(&Db(1), 2, "n").await, "1:2:n");
        assert_eq!(only::cache_key(2).unwrap(), "only:2");
        assert!(only::clear_cache(2).await.unwrap());
    })
    .await;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
}

struct Service {
    tenant: &'static str,
    loads: Loads,
    cache: Cache,
}

impl Service {
    fn new(tenant: &'static str) -> Self {
        Self { tenant, loads: Loads::new(), cache: embedded() }
    }

    #[cache(ttl = 60, skip(self))]
    async fn shared(&self, id: u64) -> u64 {
        self.loads.load(ms(0)).await * 10 + id
    }

    #[cache(ttl = 60, key = "user:{self.tenant}:{id}", cache = &self.cache)]
    async fn own(&self, id: u64) -> Option<User> {
        self.loads.load(ms(0)).await;
        (id > 0).then_some(User { id })
    }

    #[cache(ttl = 60, helpers = "method")]
    async fn get_user_by_id(id: u64) -> Result<User, String> {
        Ok(User { id })
    }
}

#[tokio::test]
async fn a_method_has_its_helpers_beside_it() {
    let service = Service::new("t");
    Cache::scope(embedded(), async {
        assert_eq!((service.shared(1).await, service.shared(1).await), (11, 11));
        assert!(Service::shared_cache_key(1).unwrap().starts_with("shared:"));
        assert_eq!(Service::shared_cached(1).await.unwrap(), Some(11));
        assert_eq!(service.shared_refresh_cache(1).await, 21);
        Service::shared_put_cache(1, &5).await.unwrap();
        assert_eq!(service.shared(1).await, 5);
        assert!(Service::shared_clear_cache(1).await.unwrap());
        service.shared(2).await;
        Service::shared_clear_cache_all().await.unwrap();
        assert_eq!(Service::shared_cached(2).await.unwrap(), None);
        let stats = Service::shared_cache_stats();
        assert_eq!((stats.hits, stats.misses, stats.loads, stats.refreshes), (2, 2, 3, 1));

        Service::get_user_by_id(1).await.unwrap();
        assert_eq!(Service::get_user_by_id_cached(1).await.unwrap(), Some(Ok(User { id: 1 })));
        Service::get_user_by_id_put_cache(1, &User { id: 2 }).await.unwrap();
        assert_eq!(Service::get_user_by_id(1).await, Ok(User { id: 2 }));
        assert!(Service::get_user_by_id_clear_cache(1).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn helpers_use_the_cache_that_the_function_uses() {
    let (one, two) = (Service::new("one"), Service::new("two"));
    assert_eq!((one.own(1).await, two.own(1).await), (Some(User { id: 1 }), Some(User { id: 1 })));
    assert_eq!(one.own_cache_key(1).unwrap(), "user:one:1");
    assert!(one.cache.exists("user:one:1").await.unwrap());
    assert!(!two.cache.exists("user:one:1").await.unwrap());
    assert!(one.own_clear_cache(1).await.unwrap());
    assert_eq!(
        (one.own_cached(1).await.unwrap(), two.own_cached(1).await.unwrap()),
        (None, Some(Some(User { id: 1 })))
    );
    two.own_put_cache(1, &None).await.unwrap();
    assert_eq!(two.own(1).await, None);
    two.own_clear_cache_all().await.unwrap();
    assert_eq!(two.own(1).await, Some(User { id: 1 }));
    assert_eq!(two.own_refresh_cache(1).await, Some(User { id: 1 }));
    assert_eq!((one.loads.count(), two.loads.count()), (1, 3));
}

#[tokio::test]
async fn generic_functions_have_generic_helpers() {
    #[cache(ttl = 60)]
    async fn parse<T: std::str::FromStr + Serialize + for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    Cache::scope(embedded(), async {
        assert_eq!((parse::<u8>("300").await, parse::<u16>("300").await), (None, Some(300)));
        assert_eq!(parse::cached::<u8>("300").await.unwrap(), Some(None));
        assert!(parse::clear_cache::<u8>("300").await.unwrap());
        assert_eq!(parse::cached::<u16>("300").await.unwrap(), Some(Some(300)));
        parse::put_cache::<u16>("300", &Some(1)).await.unwrap();
        assert_eq!(parse::<u16>("300").await, Some(1));
        parse::clear_cache_all().await.unwrap();
        assert_eq!(parse::cached::<u16>("300").await.unwrap(), None, "of every type");
    })
    .await;
}

mod accounts {
    use cache_aside::cache;

    #[cache(ttl = 60)]
    pub(crate) async fn balance(id: u64) -> u64 {
        id * 100
    }
}

#[tokio::test]
async fn one_use_brings_the_function_and_its_helpers() {
    use accounts::balance;
    Cache::scope(embedded(), async {
        assert_eq!(balance(1).await, 100);
        assert_eq!(balance::cached(1).await.unwrap(), Some(100));
        global().unwrap().set(&balance::cache_key(1).unwrap(), &7, Ttl::Never).await.unwrap();
        assert_eq!(balance(1).await, 7, "what another writes under the key is read");
    })
    .await;
}
