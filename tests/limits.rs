//! What can't be cached costs its caller nothing, and is counted (SPEC 2.3; I13, I17).

#[path = "support/log.rs"]
mod log;
mod support;

use std::collections::HashMap;

use cache_aside::{Cache, CacheError, Stats, cache, global};
use log::Log;
use serde::{Deserialize, Serialize, Serializer};
use support::{Loads, embedded, ms};

/// Hits, misses, loads.
fn counts(stats: Stats) -> (u64, u64, u64) {
    (stats.hits, stats.misses, stats.loads)
}

#[tokio::test]
async fn a_value_that_has_no_encoding_reaches_its_caller_and_is_counted() {
    type Board = HashMap<(u8, u8), u64>; // JSON has no such keys
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn board() -> Board {
        HashMap::from([((1, 2), LOADS.load(ms(0)).await)])
    }
    Cache::scope(embedded(), async {
        let (log, _guard) = Log::new();
        assert_eq!(board().await, HashMap::from([((1, 2), 1)]));
        assert_eq!(board().await, HashMap::from([((1, 2), 2)]));
        let stats = board::cache_stats();
        assert_eq!((counts(stats), stats.fills_refused), ((0, 2, 2), 2));
        assert_eq!(log.count("WARN"), 1, "said once: {}", log.text());
        assert_eq!(board::cached().await.unwrap(), None);
        let put = board::put_cache(&HashMap::from([((1, 2), 3)])).await;
        assert!(matches!(put, Err(CacheError::Serialize(_))), "{put:?}");
        // The lease is free: nobody waits for what will never come.
        assert!(!global().unwrap().exists(&board::cache_key().unwrap()).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_number_that_json_cannot_write_is_no_hit() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn nan() -> f64 {
        LOADS.load(ms(0)).await;
        f64::NAN
    }
    #[cache(ttl = 60)]
    async fn some_nan() -> Option<f64> {
        LOADS.load(ms(0)).await;
        Some(f64::NAN)
    }
    Cache::scope(embedded(), async {
        assert!(nan().await.is_nan() && nan().await.is_nan());
        assert!(some_nan().await.is_some_and(f64::is_nan) && some_nan().await.is_some_and(f64::is_nan));
        assert_eq!(LOADS.count(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_value_above_the_bound_is_not_stored() {
    #[cache(ttl = 60)]
    async fn text(len: usize) -> String {
        "x".repeat(len)
    }
    let cache = Cache::builder().value_size(100).build().unwrap();
    Cache::scope(cache, async {
        for _ in 0..2 {
            assert_eq!((text(98).await.len(), text(99).await.len()), (98, 99));
        }
        let stats = text::cache_stats();
        assert_eq!((counts(stats), stats.fills_refused), ((1, 3, 3), 2), "98 and two quotes fit");
        let put = text::put_cache(99, &"x".repeat(99)).await;
        assert!(matches!(put, Err(CacheError::ValueTooLarge { max: 100 })), "{put:?}");
    })
    .await;
}

#[tokio::test]
async fn an_argument_that_fails_to_serialise_goes_past_the_cache() {
    #[derive(Clone, Copy)]
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(_broken: Broken) -> u64 {
        LOADS.load(ms(0)).await
    }
    Cache::scope(embedded(), async {
        let (log, _guard) = Log::new();
        assert_eq!((get(Broken).await, get(Broken).await), (1, 2));
        let stats = get::cache_stats();
        assert_eq!((stats.bypassed, counts(stats)), (2, (0, 0, 0)));
        assert_eq!(log.count("WARN"), 1, "said once: {}", log.text());
        assert!(matches!(get::cache_key(Broken), Err(CacheError::Serialize(_))));
        assert!(matches!(get::cached(Broken).await, Err(CacheError::Serialize(_))));
        assert!(matches!(get::clear_cache(Broken).await, Err(CacheError::Serialize(_))));
        assert!(matches!(get::put_cache(Broken, &1).await, Err(CacheError::Serialize(_))));
        assert_eq!(get::refresh_cache(Broken).await, 3, "it still runs");
    })
    .await;
}

#[tokio::test]
async fn a_key_above_four_kib_goes_past_the_cache() {
    #[cache(ttl = 60, key = "k:{text}")]
    async fn get(text: &str) -> usize {
        text.len()
    }
    let (fits, too_long) = ("x".repeat(4094), "x".repeat(4095));
    Cache::scope(embedded(), async {
        for _ in 0..2 {
            assert_eq!((get(&fits).await, get(&too_long).await), (4094, 4095));
        }
        let stats = get::cache_stats();
        assert_eq!((counts(stats), stats.bypassed), ((1, 1, 1), 2));
        let key = get::cache_key(&too_long);
        assert!(matches!(key, Err(CacheError::KeyTooLong { bytes: 4097, max: 4096 })), "{key:?}");
    })
    .await;
    // The namespace is a part of it.
    let cache = Cache::builder().namespace("shop").build().unwrap();
    Cache::scope(cache.clone(), async {
        get(&fits).await;
        assert_eq!(cache.stats().bypassed, 1);
    })
    .await;
}

#[tokio::test]
async fn a_value_that_does_not_decode_is_a_miss() {
    /// Written as a number, read only if it is odd.
    #[derive(Debug, PartialEq, Serialize)]
    struct Odd(u64);
    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u64::deserialize(deserializer)? {
                odd if odd % 2 == 1 => Ok(Self(odd)),
                _ => Err(serde::de::Error::custom("even")),
            }
        }
    }
    #[cache(ttl = 60)]
    async fn get(number: u64) -> Odd {
        Odd(number)
    }
    Cache::scope(embedded(), async {
        for _ in 0..2 {
            assert_eq!((get(1).await, get(2).await), (Odd(1), Odd(2)));
        }
        assert_eq!(counts(get::cache_stats()), (1, 3, 3));
        assert_eq!(get::cached(2).await.unwrap(), None);
    })
    .await;
}
