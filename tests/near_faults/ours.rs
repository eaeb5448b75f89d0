//! The cache under test: values kept in the process, by keys with names and by keys of arguments.

use std::time::Duration;

use cache_aside::{Cache, cache, cache_invalidate};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::history::now;
use crate::support::client::Client;
use crate::support::{fleet, ms, secs};
use crate::truth::Truth;
use crate::worker::{Read, Subject, load};

/// What `near_staleness` says. Short, so that a fault outlasts it, and not so short that a busy machine
/// has no sign of life in time.
pub(crate) const DELTA: Duration = ms(300);

/// More than a server with a small table remembers.
pub(crate) const KEYS: usize = 24;

/// It names its key, so that it can't be taken for another's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: usize,
    pub(crate) version: u64,
}

#[cache(key = "named:{key}", ttl = 60, near = true)]
pub(crate) async fn named(key: usize, truth: &Truth, rng: Rng) -> Row {
    Row { key, version: load(key, truth, rng, 3_000).await }
}

#[cache(key_prefix = "hashed", ttl = 60, near = true, skip(truth, rng))]
async fn hashed(key: usize, truth: &Truth, rng: Rng) -> Option<Row> {
    Some(Row { key, version: load(key, truth, rng, 3_000).await })
}

#[cache_invalidate("named:{key}")]
async fn write_one(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[cache_invalidate("*")]
async fn write_wide(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[derive(Debug)]
pub(crate) struct Ours {
    cache: Cache,
    /// The server has a replica, and only what that one knows counts: a failover may undo the rest.
    replicated: Option<String>,
    pace: u64,
}

impl Ours {
    pub(crate) fn of_member() -> Self {
        let url = fleet::given("SERVER").expect("the parent says where");
        let replicated = (fleet::number("REPLICATED") == 1).then(|| url.clone());
        // The farther one writes little: what it forgets by itself it needn't be told of.
        let pace = if fleet::number("NUMBER") == 0 { 20_000 } else { 300_000 };
        Self { cache: cache(&url), replicated, pace }
    }

    async fn write_now(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        match rng.u8(..100) {
            0 => return Some(write_wide(key, truth).await),
            1..30 if is_named(key) => return Some(write_one(key, truth).await),
            _ => {}
        }
        let version = truth.write(key).await;
        let done = match (is_named(key), rng.u8(..100)) {
            (_, 0) => self.cache.delete_pattern("*").await.map(drop),
            (true, 1) => named::clear_cache_all().await,
            (true, 2..30) => self.cache.delete(&format!("named:{key}")).await.map(drop),
            (true, _) => named::clear_cache(key).await.map(drop),
            (false, 1) => hashed::clear_cache_all().await,
            (false, _) => hashed::clear_cache(key).await.map(drop),
        };
        done.ok().map(|()| version)
    }

    /// Whether all that was written by now is known to the replica.
    async fn is_confirmed(&self) -> bool {
        let Some(url) = &self.replicated else { return true };
        let mut client = Client::to(url).await;
        // `WAIT` is about what its own connection wrote, and all before that.
        client.ask("SET confirmed 1").await == "OK" && client.ask("WAIT 1 2000").await == "1"
    }
}

/// A cache at this server.
pub(crate) fn cache(url: &str) -> Cache {
    let cache = Cache::builder().redis(url).namespace("near").near_staleness(DELTA).reconnect(ms(5), ms(50));
    // What comes late is waited for, and kept. No number of calls without an answer ends the connections:
    // near hits have to end by themselves.
    let cache = cache.store_budget(DELTA * 5 / 6).breaker(u32::MAX).build();
    cache.expect("the settings are good")
}

fn is_named(key: usize) -> bool {
    key.is_multiple_of(2)
}

impl Subject for Ours {
    const KEYS: usize = KEYS;

    fn pace(&self) -> u64 {
        self.pace
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Read> {
        let (since, truth, fork) = (now(), truth.clone(), rng.fork());
        let read = tokio::spawn(Cache::scope(self.cache.clone(), async move {
            if is_named(key) { Some(named(key, &truth, fork).await) } else { hashed(key, &truth, fork).await }
        }));
        // Most don't wait for what isn't near, or nobody would be left to find what is. That goes on alone.
        let patience = if rng.u8(..4) == 0 { secs(60) } else { ms(15) };
        let Ok(row) = tokio::time::timeout(patience, read).await else {
            assert!(patience < secs(60), "a read hangs: key {key}");
            return None;
        };
        let row = row.expect("it didn't panic").expect("every row is there");
        assert_eq!(row.key, key, "a row of another key");
        Some(Read { version: row.version, since })
    }

    async fn write(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        let done = Cache::scope(self.cache.clone(), self.write_now(key, truth, rng)).await;
        // A decorated writer returns while its invalidation is kept for better times.
        let done = done.filter(|_| self.cache.pending_invalidations() == 0)?;
        self.is_confirmed().await.then_some(done)
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        let stats = self.cache.stats();
        vec![
            ("near_hits", stats.near_hits),
            ("hits", stats.hits),
            ("loads", stats.loads),
            ("store_errors", stats.store_errors),
        ]
    }
}
