//! The cache under test: keys by hand, decorated functions, every way to read and to invalidate.

use std::time::Duration;

use cache_aside::{Cache, cache, cache_invalidate};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::support::{fleet, ms};
use crate::truth::Truth;
use crate::worker::{Subject, load};

/// It names its key, so that it can't be taken for another's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Row {
    key: usize,
    version: u64,
}

async fn load_row(key: usize, truth: &Truth, rng: Rng) -> Row {
    Row { key, version: load(key, truth, rng).await }
}

#[cache(key = "shared:{key}", ttl = life)]
async fn shared(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

#[cache(key = "local:{key}", ttl = life, single_flight = "process")]
async fn local(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

#[cache_invalidate("shared:{key}", "local:{key}")]
async fn write_one(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[cache_invalidate("*:{key}")]
async fn write_wide(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[derive(Debug)]
pub(crate) struct Ours {
    cache: Cache,
}

impl Ours {
    /// Over this server. Leases are about as long as loads, so that some are lost.
    pub(crate) fn over(url: &str, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let cache = Cache::builder()
            .redis(url)
            .namespace("fresh")
            .lease(ms(rng.u64(40..=100)))
            // Some loads run past the time for which they are shared.
            .load_deadline(ms(if rng.bool() { 45 } else { 30_000 }))
            .poll(ms(2), ms(20))
            .reconnect(ms(5), ms(50))
            .build();
        Self { cache: cache.expect("the settings are good") }
    }

    async fn read_now(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Row> {
        let (fork, life) = (rng.fork(), ms(rng.u64(20..400)));
        match (Kind::of(key), rng.u8(..100)) {
            (Kind::ByHand, 0..5) => self.cache.get(&by_hand(key)).await.ok().flatten(),
            (Kind::ByHand, _) => {
                self.cache.get_or_set(&by_hand(key), life, || load_row(key, truth, fork)).await.ok()
            }
            (Kind::Shared, 0..5) => shared::cached(key).await.ok().flatten(),
            (Kind::Shared, 5..8) => Some(shared::refresh_cache(key, truth, fork, life).await),
            (Kind::Shared, _) => Some(shared(key, truth, fork, life).await),
            (Kind::Local, 0..3) => Some(local::refresh_cache(key, truth, fork, life).await),
            (Kind::Local, _) => Some(local(key, truth, fork, life).await),
        }
    }

    async fn write_now(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        match (Kind::of(key), rng.u8(..10)) {
            (Kind::Shared | Kind::Local, 0..3) => return Some(write_one(key, truth).await),
            (_, 3) => return Some(write_wide(key, truth).await),
            _ => {}
        }
        let version = truth.write(key).await;
        let done = match (Kind::of(key), rng.u8(..6)) {
            (_, 0) => self.cache.delete_pattern("*").await.map(drop),
            (Kind::ByHand, _) => self.cache.delete(&by_hand(key)).await.map(drop),
            (Kind::Shared, 1) => shared::clear_cache_all().await,
            (Kind::Shared, _) => shared::clear_cache(key).await.map(drop),
            (Kind::Local, 1) => local::clear_cache_all().await,
            (Kind::Local, _) => local::clear_cache(key).await.map(drop),
        };
        done.ok().map(|()| version)
    }
}

/// How a key is cached.
enum Kind {
    ByHand,
    Shared,
    Local,
}

impl Kind {
    fn of(key: usize) -> Self {
        match key % 4 {
            0 => Self::ByHand,
            1 | 2 => Self::Shared,
            _ => Self::Local,
        }
    }
}

fn by_hand(key: usize) -> String {
    format!("hand:{key}")
}

impl Subject for Ours {
    const PACE: u64 = 120_000;

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        let patience = if rng.u8(..20) == 0 { ms(rng.u64(..50)) } else { ms(60_000) };
        let read = Cache::scope(self.cache.clone(), self.read_now(key, truth, rng));
        let row = match tokio::time::timeout(patience, read).await {
            Ok(row) => row?,
            Err(_) => {
                assert!(patience < ms(60_000), "a read hangs: key {key}");
                return None; // its caller went away
            }
        };
        assert_eq!(row.key, key, "a row of another key");
        Some(row.version)
    }

    async fn write(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        let done = Cache::scope(self.cache.clone(), self.write_now(key, truth, rng)).await;
        // A decorated writer returns while its invalidation is kept for better times.
        done.filter(|_| self.cache.pending_invalidations() == 0)
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        let stats = self.cache.stats();
        vec![
            ("hits", stats.hits),
            ("coalesced", stats.coalesced),
            ("loads", stats.loads),
            ("fills_refused", stats.fills_refused),
            ("store_errors", stats.store_errors),
        ]
    }
}

/// A member of the fleet.
pub(crate) fn of_member() -> Ours {
    Ours::over(&fleet::given("SERVER").expect("the parent says where"), fleet::number("SEED"))
}
