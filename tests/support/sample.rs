//! What the fault tests call: a table whose rows are read through a cache and written past it.
//!
//! A row tells whose it is and how often it was written, so a wrong value and an old one both show.
#![allow(dead_code, unreachable_pub)] // each test binary takes what it needs

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_aside::{Builder, Cache, cache, cache_invalidate};
use serde::{Deserialize, Serialize};

/// A table and the cache in front of it.
#[derive(Debug)]
pub struct World {
    pub cache: Cache,
    versions: Mutex<BTreeMap<u64, u64>>,
    loads: AtomicU64,
    /// How long a load takes.
    takes: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: u64,
    pub version: u64,
}

impl World {
    pub fn new(cache: Cache) -> Self {
        Self { cache, versions: Mutex::default(), loads: AtomicU64::new(0), takes: Duration::ZERO }
    }

    /// With loads that take so long.
    pub fn slow(cache: Cache, takes: Duration) -> Self {
        Self { takes, ..Self::new(cache) }
    }

    /// The row that the table holds now.
    pub fn row(&self, id: u64) -> Row {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        Row { id, version: versions.get(&id).copied().unwrap_or(0) }
    }

    /// Writes into the table, and nowhere else.
    pub fn touch(&self, id: u64) -> u64 {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions.entry(id).or_default();
        *version += 1;
        *version
    }

    pub fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }

    async fn load(&self, id: u64) -> Row {
        self.loads.fetch_add(1, SeqCst);
        let row = self.row(id);
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        row
    }

    /// Calls `read` for this row and says how long that took; the row must be the one in the table.
    #[track_caller]
    pub fn check(&self, id: u64) -> impl Future<Output = Duration> + use<'_> {
        let here = std::panic::Location::caller();
        async move {
            let begun = Instant::now();
            let got = read(self, id).await;
            let took = begun.elapsed();
            assert_eq!(got, self.row(id), "{here}");
            took
        }
    }

    /// Calls until one is a hit, and says how long that took; every row must be right meanwhile.
    #[track_caller]
    pub fn until_hit(&self, id: u64) -> impl Future<Output = Duration> + use<'_> {
        let here = std::panic::Location::caller();
        async move {
            let (begun, before) = (Instant::now(), self.cache.stats().hits);
            while self.cache.stats().hits == before {
                assert!(
                    begun.elapsed() < Duration::from_secs(15),
                    "no hit at {here}: {:?}",
                    self.cache.stats()
                );
                self.check(id).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            begun.elapsed()
        }
    }
}

#[cache(ttl = 600, key = "row:{id}", cache = &world.cache)]
pub async fn read(world: &World, id: u64) -> Row {
    world.load(id).await
}

/// Gives the new version.
#[cache_invalidate("row:{id}", cache = &world.cache)]
pub async fn write(world: &World, id: u64) -> u64 {
    world.touch(id)
}

/// Writes the rows below `below`, and invalidates all.
#[cache_invalidate("row:*", cache = &world.cache)]
pub async fn write_all(world: &World, below: u64) -> &'static str {
    for id in 0..below {
        world.touch(id);
    }
    "written"
}

/// A cache that is quick to connect again, with a budget that a busy machine doesn't exhaust.
pub fn patient(url: &str) -> Builder {
    let ms = Duration::from_millis;
    Cache::builder().redis(url).store_budget(ms(3000)).reconnect(ms(10), ms(100))
}

/// As `patient`, with a budget for servers that don't answer.
pub fn hasty(url: &str) -> Builder {
    patient(url).store_budget(Duration::from_millis(150))
}

/// Waits until it is so, and says how long that took.
///
/// # Panics
///
/// After fifteen seconds.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> impl Future<Output = Duration> {
    let here = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(15), "{what}: not in time, at {here}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun.elapsed()
    }
}

/// The one in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
