//! What is stored, for how long, and what each call is counted as (SPEC 2.1; I8, I13).

#[path = "support/log.rs"]
mod log;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use cache_aside::{Cache, Expiry, Stats, Ttl, cache, global};
use log::Log;
use support::{Loads, embedded, ms, secs};
use tokio::task::JoinSet;

/// Hits, misses, loads.
fn counts(stats: Stats) -> (u64, u64, u64) {
    (stats.hits, stats.misses, stats.loads)
}

/// An error that asks nothing of anybody.
#[derive(Debug, PartialEq)]
struct Opaque(u64);

type Answer<T> = Result<T, Opaque>;
type Lookup = Answer<Option<u64>>;

#[tokio::test]
async fn a_plain_value_is_loaded_once() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(id: u64) -> String {
        format!("{id}:{}", LOADS.load(ms(0)).await)
    }
    Cache::scope(embedded(), async {
        assert_eq!(get(7).await, "7:1");
        assert_eq!(counts(get::cache_stats()), (0, 1, 1));
        assert_eq!(get(7).await, "7:1");
        assert_eq!(counts(get::cache_stats()), (1, 1, 1));
        assert_eq!(get(8).await, "8:2");
        assert_eq!(counts(get::cache_stats()), (1, 2, 2));
        assert!((get::cache_stats().hit_rate() - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(counts(global().unwrap().stats()), (1, 2, 2), "the cache counts the same");
    })
    .await;
}

#[tokio::test]
async fn none_is_cached() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn find(id: u64) -> Option<u64> {
        LOADS.load(ms(0)).await;
        (id == 1).then_some(id)
    }
    Cache::scope(embedded(), async {
        for _ in 0..3 {
            assert_eq!((find(1).await, find(2).await), (Some(1), None));
        }
        assert_eq!(counts(find::cache_stats()), (4, 2, 2));
    })
    .await;
}

#[tokio::test]
async fn of_a_result_only_ok_is_cached() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(fails_until: u64) -> Answer<u64> {
        let load = LOADS.load(ms(0)).await;
        if load <= fails_until { Err(Opaque(load)) } else { Ok(load) }
    }
    Cache::scope(embedded(), async {
        assert_eq!(get(2).await, Err(Opaque(1)));
        assert_eq!(get(2).await, Err(Opaque(2)), "an error is never stored, and never another's");
        assert_eq!(get(2).await, Ok(3));
        assert_eq!(get(2).await, Ok(3));
        let stats = get::cache_stats();
        assert_eq!((counts(stats), stats.load_errors), ((1, 3, 3), 2));
    })
    .await;
}

#[tokio::test]
async fn of_a_result_of_an_option_none_is_cached_whatever_the_type_is_called() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn find(id: u64) -> Lookup {
        match (id, LOADS.load(ms(0)).await) {
            (0, load) => Err(Opaque(load)),
            (1, _) => Ok(None),
            (_, load) => Ok(Some(load)),
        }
    }
    Cache::scope(embedded(), async {
        assert_eq!((find(1).await, find(1).await), (Ok(None), Ok(None)));
        assert_eq!((find(2).await, find(2).await), (Ok(Some(2)), Ok(Some(2))));
        assert_eq!((find(0).await, find(0).await), (Err(Opaque(3)), Err(Opaque(4))));
        assert_eq!(counts(find::cache_stats()), (2, 4, 4));
    })
    .await;
}

#[tokio::test]
async fn what_json_writes_alike_comes_back_as_it_was() {
    #[cache(ttl = 60)]
    async fn nested(id: u64) -> Option<Option<u64>> {
        [None, Some(None), Some(Some(1))][usize::try_from(id).unwrap()]
    }
    #[cache(ttl = 60)]
    async fn unit(is_there: bool) -> Option<()> {
        is_there.then_some(())
    }
    Cache::scope(embedded(), async {
        for _ in 0..2 {
            assert_eq!(nested(0).await, None);
            assert_eq!(nested(1).await, Some(None));
            assert_eq!(nested(2).await, Some(Some(1)));
            assert_eq!((unit(true).await, unit(false).await), (Some(()), None));
        }
        assert_eq!((nested::cache_stats().hits, unit::cache_stats().hits), (3, 2));
    })
    .await;
}

#[tokio::test]
async fn when_decides_before_the_call_and_unless_after_it() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, when = id > 0)]
    async fn sometimes(id: u64) -> u64 {
        LOADS.load(ms(0)).await + id
    }
    #[cache(ttl = 60, unless = |list| list.len() < 2)]
    async fn list(id: u64) -> Answer<Vec<u64>> {
        Ok(vec![1; usize::try_from(id).unwrap()])
    }
    Cache::scope(embedded(), async {
        assert_eq!((sometimes(0).await, sometimes(0).await), (1, 2), "neither written");
        sometimes::put_cache(0, &9).await.unwrap();
        assert_eq!(sometimes(0).await, 3, "nor read");
        assert_eq!((sometimes(1).await, sometimes(1).await), (5, 5));
        assert_eq!(counts(sometimes::cache_stats()), (1, 1, 1));

        for _ in 0..2 {
            assert_eq!((list(0).await.unwrap().len(), list(3).await.unwrap().len()), (0, 3));
        }
        assert_eq!(list::cached(0).await.unwrap(), None);
        assert_eq!(counts(list::cache_stats()), (1, 3, 3));
    })
    .await;
}

/// Hits up to the end of the life, a miss after it.
macro_rules! lives {
    ($call:expr, $life:expr) => {{
        let first = $call.await;
        tokio::time::advance($life - ms(1)).await;
        assert_eq!($call.await, first, "{:?}: still there", $life);
        tokio::time::advance(ms(1)).await;
        assert_ne!($call.await, first, "{:?}: over", $life);
    }};
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_has_four_forms_and_a_default() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 2)]
    async fn seconds() -> u64 {
        LOADS.load(ms(0)).await
    }
    #[cache(ttl = "1m250ms")]
    async fn text() -> u64 {
        LOADS.load(ms(0)).await
    }
    #[cache(ttl = Duration::from_secs(u64::from(is_new)) + ms(10))]
    async fn from_arguments(is_new: bool) -> u64 {
        LOADS.load(ms(u64::from(is_new))).await
    }
    #[cache(ttl = |value| secs(10 * value.0))]
    async fn from_the_value(tens: u64) -> Answer<(u64, u64)> {
        Ok((tens, LOADS.load(ms(0)).await))
    }
    #[cache]
    async fn default() -> u64 {
        LOADS.load(ms(0)).await
    }
    Cache::scope(embedded(), async {
        lives!(seconds(), secs(2));
        lives!(text(), ms(60_250));
        lives!(from_arguments(true), ms(1010));
        lives!(from_arguments(false), ms(10));
        lives!(from_the_value(1), secs(10));
        lives!(from_the_value(3), secs(30));
        lives!(default(), secs(300));
    })
    .await;
    let own = Cache::builder().default_ttl(secs(7)).build().unwrap();
    Cache::scope(own, async { lives!(default(), secs(7)) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_of_zero_is_not_stored() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = Duration::ZERO)]
    async fn before() -> u64 {
        LOADS.load(ms(0)).await
    }
    #[cache(ttl = |_| Duration::ZERO)]
    async fn after() -> u64 {
        LOADS.load(ms(0)).await
    }
    Cache::scope(embedded(), async {
        assert_eq!((before().await, before().await, after().await, after().await), (1, 2, 3, 4));
        assert_eq!((before::cached().await.unwrap(), after::cached().await.unwrap()), (None, None));
        assert_eq!(before::cache_stats().fills_refused, 2);
        assert!(matches!(global().unwrap().ttl(&before::cache_key().unwrap()).await, Ok(Expiry::Missing)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn none_may_live_shorter_or_not_at_all() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, none_ttl = "2s")]
    async fn shorter(is_there: bool) -> Answer<Option<u64>> {
        let load = LOADS.load(ms(0)).await;
        Ok(is_there.then_some(load))
    }
    #[cache(ttl = 60, cache_none = false)]
    async fn never(is_there: bool) -> Option<u64> {
        let load = LOADS.load(ms(0)).await;
        is_there.then_some(load)
    }
    Cache::scope(embedded(), async {
        assert_eq!((shorter(true).await, shorter(false).await), (Ok(Some(1)), Ok(None)));
        tokio::time::advance(ms(1999)).await;
        shorter(false).await.unwrap();
        assert_eq!(LOADS.count(), 2);
        tokio::time::advance(ms(1)).await;
        shorter(false).await.unwrap();
        assert_eq!(LOADS.count(), 3);
        tokio::time::advance(secs(57)).await;
        assert_eq!(shorter(true).await, Ok(Some(1)), "a value lives for its own time");

        assert_eq!((never(false).await, never(false).await), (None, None));
        assert_eq!(never(true).await, never(true).await);
        assert_eq!(counts(never::cache_stats()), (1, 3, 3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn jitter_only_adds_and_stays_in_its_bounds() {
    #[cache(ttl = 100, jitter = 60)]
    async fn seconds(id: u64) -> u64 {
        id
    }
    #[cache(ttl = 100, jitter = "250ms")]
    async fn text(id: u64) -> u64 {
        id
    }
    #[cache(ttl = 100, jitter = "10%")]
    async fn share(id: u64) -> u64 {
        id
    }
    async fn spread(lives: impl AsyncFn(u64) -> String) -> BTreeSet<Duration> {
        let mut all = BTreeSet::new();
        for id in 0..100 {
            let Expiry::In(left) = global().unwrap().ttl(&lives(id).await).await.unwrap() else {
                panic!("no expiry")
            };
            all.insert(left);
        }
        all
    }
    fn within(all: &BTreeSet<Duration>, most: Duration) {
        let (first, last) = (*all.first().unwrap(), *all.last().unwrap());
        assert!(first >= secs(100) && last <= secs(100) + most, "{first:?}..{last:?}");
        assert!(last.abs_diff(first) > most / 2, "spread over the whole: {first:?}..{last:?}");
    }
    Cache::scope(embedded(), async {
        let lives = async |id| {
            seconds(id).await;
            seconds::cache_key(id).unwrap()
        };
        within(&spread(lives).await, secs(60));
        let lives = async |id| {
            text(id).await;
            text::cache_key(id).unwrap()
        };
        within(&spread(lives).await, ms(250));
        let lives = async |id| {
            share(id).await;
            share::cache_key(id).unwrap()
        };
        within(&spread(lives).await, secs(10));
    })
    .await;
}

/// Two builds of one function, as in a deployment: items of two blocks of one body have one path.
mod deployed {
    use super::{cache, ms};

    pub(crate) async fn old(id: u64) -> String {
        both(1, id, 0).await
    }
    pub(crate) async fn new(id: u64) -> String {
        both(2, id, 0).await
    }
    pub(crate) async fn new_and_slow(id: u64) -> String {
        both(2, id, 100).await
    }
    pub(crate) async fn put_old(id: u64) {
        both(3, id, 0).await;
    }
    pub(crate) async fn number(id: u64) -> String {
        both(4, id, 0).await
    }

    async fn both(which: u8, id: u64, takes: u64) -> String {
        if which == 1 || which == 3 {
            #[cache(ttl = 60, key = "deployed:{id}", version = 1)]
            async fn value(id: u64, takes: u64) -> String {
                tokio::time::sleep(ms(takes)).await;
                format!("old {id}")
            }
            if which == 3 {
                value::put_cache(id, &"old put".to_owned()).await.unwrap();
                return String::new();
            }
            value(id, takes).await
        } else if which == 2 {
            #[cache(ttl = 60, key = "deployed:{id}", version = 2)]
            async fn value(id: u64, takes: u64) -> String {
                tokio::time::sleep(ms(takes)).await;
                format!("new {id}")
            }
            value(id, takes).await
        } else {
            #[cache(ttl = 60, key = "deployed:{id}", version = 2)]
            async fn value(id: u64, takes: u64) -> u64 {
                tokio::time::sleep(ms(takes)).await;
                id
            }
            value(id, takes).await.to_string()
        }
    }
}

#[tokio::test]
async fn an_older_version_is_a_miss_and_never_overwrites_a_newer_one() {
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        assert_eq!(deployed::old(1).await, "old 1");
        assert_eq!(deployed::new(1).await, "new 1", "what the old one stored is a miss");
        assert_eq!(deployed::old(1).await, "old 1", "what the new one stored is not for the old one");
        assert_eq!(cache.get::<String>("deployed:1").await.unwrap().as_deref(), Some("new 1"));
        let hits = cache.stats().hits;
        assert_eq!(deployed::new(1).await, "new 1");
        assert_eq!(cache.stats().hits, hits + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_older_version_does_not_take_a_newer_ones_load() {
    Cache::scope(embedded(), async {
        let (new, old) = tokio::join!(deployed::new_and_slow(2), async {
            tokio::time::sleep(ms(10)).await;
            deployed::old(2).await
        });
        assert_eq!((new.as_str(), old.as_str()), ("new 2", "old 2"));
    })
    .await;
}

#[tokio::test]
async fn an_older_version_is_not_put_over_a_newer_one() {
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        deployed::new(3).await;
        deployed::put_old(3).await;
        assert_ne!(cache.get::<String>("deployed:3").await.unwrap().as_deref(), Some("old put"));
        assert_eq!(deployed::new(3).await, "new 3");
    })
    .await;
}

#[tokio::test]
async fn another_type_under_the_key_is_a_miss() {
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        assert_eq!(deployed::new(4).await, "new 4");
        assert_eq!(deployed::number(4).await, "4");
        assert_eq!((cache.stats().hits, cache.stats().misses), (0, 2));
        assert_eq!(cache.get::<u64>("deployed:4").await.unwrap(), Some(4), "replaced");
    })
    .await;
}

#[tokio::test]
async fn plain_json_is_a_hit_and_foreign_bytes_are_left_alone() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, key = "by_hand:{id}")]
    async fn get(id: u64) -> u64 {
        LOADS.load(ms(0)).await + id
    }
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        cache.set("by_hand:1", &41, Ttl::Default).await.unwrap();
        assert_eq!(get(1).await, 41);
        let stats = get::cache_stats();
        assert_eq!((stats.plain_hits, counts(stats)), (1, (0, 0, 0)));
        assert!((stats.hit_rate() - 1.0).abs() < 1e-9);

        let (log, _guard) = Log::new();
        cache.set("by_hand:2", &"no number", Ttl::Default).await.unwrap();
        assert_eq!((get(2).await, get(2).await), (3, 4));
        assert_eq!(cache.get::<String>("by_hand:2").await.unwrap().as_deref(), Some("no number"));
        assert_eq!(log.count("WARN"), 1, "{}", log.text());
    })
    .await;
}

#[tokio::test]
async fn a_panic_reaches_its_caller_and_poisons_nothing() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(id: u64) -> u64 {
        let load = LOADS.load(ms(0)).await;
        assert!(load > 1, "the first load of {id}");
        load
    }
    let cache = embedded();
    let call = tokio::spawn(Cache::scope(cache.clone(), get(1)));
    let panic = call.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("the first load of 1"));
    Cache::scope(cache, async {
        assert_eq!((get(1).await, get(1).await), (2, 2));
        let stats = get::cache_stats();
        assert_eq!((counts(stats), stats.load_errors), ((1, 2, 2), 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn single_flight_says_who_waits() {
    static SHARED: Loads = Loads::new();
    static OWN: Loads = Loads::new();
    #[cache(ttl = 60, single_flight = "process")]
    async fn shared() -> u64 {
        SHARED.load(ms(100)).await
    }
    #[cache(ttl = 60, single_flight = "off")]
    async fn own() -> u64 {
        OWN.load(ms(100)).await
    }
    let cache = embedded();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        calls.spawn(Cache::scope(cache.clone(), async { (shared().await, own().await) }));
    }
    calls.join_all().await;
    assert_eq!((SHARED.count(), OWN.count()), (1, 10));
    assert_eq!(shared::cache_stats().coalesced, 9);
    assert_eq!(own::cache_stats().coalesced, 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_loads_is_added_up() {
    #[cache(ttl = 60)]
    async fn slow(id: u64) -> u64 {
        tokio::time::sleep(ms(id)).await;
        id
    }
    Cache::scope(embedded(), async {
        slow(100).await;
        slow(100).await;
        slow(20).await;
        assert_eq!(slow::cache_stats().load_time, ms(120));
    })
    .await;
}

#[tokio::test]
async fn a_recursion_on_the_same_key_ends() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn deep(id: u64) -> u64 {
        if LOADS.load(ms(0)).await < 3 { Box::pin(deep(id)).await + 1 } else { 0 }
    }
    let ended = tokio::time::timeout(secs(1), Cache::scope(embedded(), deep(1)));
    assert_eq!(ended.await, Ok(2));
}
