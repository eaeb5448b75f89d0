//! Who awaited a write reads fresh data, whatever happened meanwhile (SPEC 2.4; I1, I2, I3, I15).

#[path = "support/log.rs"]
mod log;
mod support;

use std::fmt::Display;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Waker};

use cache_aside::{Cache, Ttl, cache, cache_invalidate, global};
use log::Log;
use support::{embedded, ms};

/// Those of these keys that are there.
async fn left<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    let cache = global().unwrap();
    let mut left = Vec::new();
    for key in keys {
        if cache.exists(key).await.unwrap() {
            left.push(*key);
        }
    }
    left
}

/// A cache that holds these keys.
async fn holding(keys: &[&str]) -> Cache {
    let cache = embedded();
    for key in keys {
        cache.set(key, &1, Ttl::Default).await.unwrap();
    }
    cache
}

#[tokio::test]
async fn globs_are_those_of_redis() {
    #[cache_invalidate("a:?", "b:[12]", "c:[^1]", "d:\\*", "e:*:x", "exact")]
    async fn write() {}
    let keys = [
        "a:1", "a:12", "b:1", "b:2", "b:3", "c:1", "c:2", "d:*", "d:1", "e:1:x", "e:1:2:x", "e:1", "exact",
        "exactly",
    ];
    Cache::scope(holding(&keys).await, async {
        write().await;
        assert_eq!(left(&keys).await, ["a:12", "b:3", "c:1", "d:1", "e:1", "exactly"]);
    })
    .await;
}

#[tokio::test]
async fn targets_come_from_arguments_fields_and_the_result() {
    struct Change {
        user_id: u64,
        names: (String, String),
    }
    struct Saved {
        org: String,
        number: u64,
    }
    #[cache_invalidate(
        "user:{change.user_id}",
        "name:{change.names.1}:*",
        "org:{value.org}:{change.user_id}:{tag}"
    )]
    #[cache_invalidate("order:{value.number}")]
    async fn save(change: Change, tag: String) -> Result<Saved, String> {
        drop(change);
        drop(tag);
        Ok(Saved { org: "acme".to_owned(), number: 9 })
    }
    let keys =
        ["user:1", "user:2", "name:a:x", "name:b:x", "org:acme:1:t", "org:acme:2:t", "order:9", "order:8"];
    Cache::scope(holding(&keys).await, async {
        let saved = save(Change { user_id: 1, names: ("a".to_owned(), "b".to_owned()) }, "t".to_owned())
            .await
            .unwrap();
        assert_eq!((saved.org.as_str(), saved.number), ("acme", 9), "the result is handed on untouched");
        assert_eq!(left(&keys).await, ["user:2", "name:a:x", "org:acme:2:t", "order:8"]);
        assert_eq!(global().unwrap().stats().invalidations, 4);
    })
    .await;
}

#[tokio::test]
async fn a_result_of_any_kind_counts_as_done_but_for_an_err() {
    type Saved = Result<u64, ()>;
    #[cache_invalidate("k")]
    async fn save(saved: Saved) -> Saved {
        saved
    }
    #[cache_invalidate("k")]
    async fn nothing() -> Option<u64> {
        None
    }
    #[cache_invalidate("k")]
    async fn unit() {}
    #[cache_invalidate("k", on = "ok")]
    async fn on_ok(fails: bool) -> Result<(), ()> {
        if fails { Err(()) } else { Ok(()) }
    }
    #[cache_invalidate("k", on = "always")]
    async fn on_always(fails: bool) -> Result<(), ()> {
        if fails { Err(()) } else { Ok(()) }
    }
    macro_rules! forgets {
        ($call:expr) => {
            Cache::scope(holding(&["k"]).await, async {
                let _ = $call.await;
                left(&["k"]).await.is_empty()
            })
            .await
        };
    }
    assert!(forgets!(save(Ok(1))));
    assert!(!forgets!(save(Err(()))));
    assert!(forgets!(nothing()));
    assert!(forgets!(unit()));
    assert!(forgets!(on_ok(false)));
    assert!(!forgets!(on_ok(true)));
    assert!(forgets!(on_always(false)));
    assert!(forgets!(on_always(true)));
}

#[tokio::test]
async fn attributes_stack_each_with_its_own_rule() {
    #[cache_invalidate("a")]
    #[cache_invalidate("b", on = "always")]
    #[cache_invalidate("c")]
    async fn write(fails: bool) -> Result<(), ()> {
        if fails { Err(()) } else { Ok(()) }
    }
    let keys = ["a", "b", "c", "d"];
    Cache::scope(holding(&keys).await, async {
        write(true).await.unwrap_err();
        assert_eq!(left(&keys).await, ["a", "c", "d"]);
        write(false).await.unwrap();
        assert_eq!(left(&keys).await, ["d"]);
    })
    .await;
}

#[tokio::test]
async fn the_cache_can_be_named() {
    struct Service {
        tenant: &'static str,
        cache: Cache,
    }
    impl Service {
        #[cache_invalidate("{self.tenant}:{id}", cache = &self.cache)]
        async fn save(&mut self, id: u64) -> u64 {
            self.tenant = "other";
            id
        }
    }
    let own = holding(&["t:1", "t:2"]).await;
    Cache::scope(holding(&["t:1"]).await, async {
        let mut service = Service { tenant: "t", cache: own.clone() };
        service.save(1).await;
        assert_eq!(left(&["t:1"]).await, ["t:1"]);
        assert!(!own.exists("t:1").await.unwrap() && own.exists("t:2").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_namespace_is_never_left() {
    #[cache_invalidate("*")]
    async fn everything() {}
    let cache = Cache::builder().namespace("shop").build().unwrap();
    cache.set("a:b", &1, Ttl::Default).await.unwrap();
    Cache::scope(cache, async {
        let (log, _guard) = Log::new();
        everything().await;
        assert!(left(&["a:b"]).await.is_empty());
        assert!(log.text().contains("shop:*"), "{}", log.text());
    })
    .await;
}

#[tokio::test]
async fn values_never_widen_a_pattern() {
    #[cache_invalidate("user:{name}:*", "exact:{name}")]
    async fn write(name: &str) {
        let _ = name;
    }
    #[cache_invalidate("user:{value}:*")]
    async fn write_and_tell(name: &str) -> String {
        name.to_owned()
    }
    let keys = ["user:ada:1", "user:bob:1", "exact:ada", "user:*:1", "user:a:b:1"];
    Cache::scope(holding(&keys).await, async {
        for name in ["*", "?da", "[a-z]*", "a:b", "\\*", "", "{name}"] {
            write(name).await;
            write_and_tell(name).await;
        }
        assert_eq!(left(&keys).await, keys);
    })
    .await;
}

#[tokio::test]
async fn a_template_means_the_same_in_a_key_and_in_a_pattern() {
    #[cache(ttl = 60, key = "profile:{{v1}}:{name}")]
    async fn profile(name: &str) -> usize {
        name.len()
    }
    #[cache_invalidate("profile:{{v1}}:{name}")]
    async fn rename(name: &str) {
        let _ = name;
    }
    Cache::scope(embedded(), async {
        for name in ["ada", "a:b", "*", "[x]", "a b", "{}", "é%", ""] {
            profile(name).await;
            profile("other").await;
            rename(name).await;
            assert_eq!(profile::cached(name).await.unwrap(), None, "{name}");
            assert_eq!(profile::cached("other").await.unwrap(), Some(5), "{name}");
        }
    })
    .await;
}

static TITLE: Mutex<&str> = Mutex::new("");

/// The row as it was when the query began.
#[cache(ttl = 60, key = "race:title:{id}")]
async fn title(id: u64) -> String {
    let row = *TITLE.lock().unwrap();
    tokio::time::sleep(ms(100)).await;
    format!("{id}: {row}")
}

#[cache_invalidate("race:title:{id}")]
async fn retitle(id: u64, title: &'static str) -> Result<(), ()> {
    let _ = id;
    tokio::time::sleep(ms(10)).await;
    *TITLE.lock().unwrap() = title;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_load_that_read_before_the_write_is_not_stored_after_it() {
    Cache::scope(embedded(), async {
        *TITLE.lock().unwrap() = "old";
        let (reader, late_reader) = tokio::join!(title(1), async {
            tokio::time::sleep(ms(20)).await;
            retitle(1, "new").await.unwrap();
            // The first load still runs; joining it would show the old row.
            title(1).await
        });
        assert_eq!(reader, "1: old", "who asked before the write may get it");
        assert_eq!(late_reader, "1: new");
        assert_eq!(title(1).await, "1: new", "and nobody gets the old row from the cache");
        assert_eq!(title::cache_stats().fills_refused, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_glob_stops_loads_in_progress_too() {
    #[cache(ttl = 60, key_prefix = "globbed")]
    async fn get(id: u64) -> u64 {
        tokio::time::sleep(ms(100)).await;
        id
    }
    #[cache_invalidate("globbed:*")]
    async fn write() {}
    Cache::scope(embedded(), async {
        tokio::join!(get(1), get(2), async {
            tokio::time::sleep(ms(50)).await;
            write().await;
        });
        assert_eq!((get::cached(1).await.unwrap(), get::cached(2).await.unwrap()), (None, None));
    })
    .await;
}

#[cache_invalidate("k", "k:{id}")]
#[cache_invalidate("from:{value}", on = "always")]
async fn slow_write(id: u64) -> u64 {
    tokio::time::sleep(ms(100)).await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_caller_goes_away_still_invalidates() {
    let keys = ["k", "k:1", "k:2", "from:1"];
    Cache::scope(holding(&keys).await, async {
        let begun = tokio::time::timeout(ms(50), slow_write(1)).await;
        assert!(begun.is_err(), "the caller gave up");
        assert_eq!(left(&keys).await, ["k:2", "from:1"], "what needs the result can't be known");
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_never_began_invalidates_nothing() {
    Cache::scope(holding(&["k"]).await, async {
        drop(slow_write(1));
        assert_eq!(left(&["k"]).await, ["k"]);
    })
    .await;
}

#[tokio::test]
async fn a_writer_dropped_with_its_scope_finds_its_cache() {
    let cache = holding(&["k"]).await;
    {
        let mut write = pin!(Cache::scope(cache.clone(), slow_write(1)));
        let _ = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    assert!(!cache.exists("k").await.unwrap());
}

#[tokio::test]
async fn a_writer_that_panics_still_invalidates() {
    #[cache_invalidate("k:{id}")]
    async fn write(id: u64) -> Result<(), ()> {
        panic!("after the commit of {id}")
    }
    let cache = holding(&["k:1"]).await;
    let write = tokio::spawn(Cache::scope(cache.clone(), write(1)));
    let panic = write.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("after the commit of 1"));
    assert!(!cache.exists("k:1").await.unwrap());
}

struct Repo;

#[async_trait::async_trait]
trait Write {
    async fn save(&self, id: u64) -> Result<u64, String>;
}

#[async_trait::async_trait]
impl Write for Repo {
    #[cache_invalidate("k:{id}", "from:{value}")]
    async fn save(&self, id: u64) -> Result<u64, String> {
        tokio::task::yield_now().await;
        id.checked_sub(1).ok_or_else(|| "zero".to_owned())
    }
}

#[tokio::test]
async fn async_trait_writers_invalidate() {
    let keys = ["k:0", "k:2", "from:1"];
    Cache::scope(holding(&keys).await, async {
        Repo.save(0).await.unwrap_err();
        assert_eq!(left(&keys).await, keys);
        Repo.save(2).await.unwrap();
        assert_eq!(left(&keys).await, ["k:0"]);
    })
    .await;
}

#[tokio::test]
async fn a_generic_writer_invalidates_by_its_value() {
    #[cache_invalidate("n:{value}")]
    async fn write<T: Display>(value_to_be: T) -> T {
        value_to_be
    }
    let keys = ["n:1", "n:a%20b"];
    Cache::scope(holding(&keys).await, async {
        write(1).await;
        write("a b").await;
        assert!(left(&keys).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_pattern_that_fits_no_cached_function_is_said_once() {
    #[cache(ttl = 60, key_prefix = "known")]
    async fn known() -> u8 {
        1
    }
    #[cache_invalidate("known:*")]
    async fn right() {}
    #[cache_invalidate("knwon:{id}:*")]
    async fn typo(id: u64) {
        let _ = id;
    }
    Cache::scope(embedded(), async {
        let (log, _guard) = Log::new();
        known().await;
        for id in 0..10 {
            right().await;
            typo(id).await;
        }
        assert_eq!(log.count("WARN"), 1, "{}", log.text());
        assert!(log.text().contains("knwon:*:*"), "{}", log.text());
    })
    .await;
}
