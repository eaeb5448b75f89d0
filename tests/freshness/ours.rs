//! The cache under test: keys by hand, decorated functions, every way to read and to invalidate.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cache_aside::{Cache, cache, cache_invalidate, cache_put, deferred};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::history::now;
use crate::support::{fleet, ms};
use crate::truth::Truth;
use crate::worker::{Read, Subject, load, pause};

/// It names its key, so that it can't be taken for another's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Row {
    key: usize,
    version: u64,
}

async fn load_row(key: usize, truth: &Truth, rng: Rng) -> Row {
    Row { key, version: load(key, truth, rng, 30_000).await }
}

#[cache(key = "shared:{key}", ttl = life)]
async fn shared(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

#[cache(key = "local:{key}", ttl = life, single_flight = "process")]
async fn local(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

/// The database didn't answer.
#[derive(Debug)]
struct Down;

/// A load that fails now and then, and says when.
async fn load_or_fail(key: usize, truth: &Truth, mut rng: Rng, failed: &AtomicU64) -> Result<Row, Down> {
    let fails = rng.u8(..3) == 0;
    let row = load_row(key, truth, rng).await;
    if fails {
        failed.store(now(), Relaxed);
        return Err(Down);
    }
    Ok(row)
}

#[cache(key = "lasting:{key}", ttl = life, stale_if_error = "2s")]
async fn lasting(
    key: usize,
    truth: &Truth,
    rng: Rng,
    life: Duration,
    failed: &AtomicU64,
) -> Result<Row, Down> {
    load_or_fail(key, truth, rng, failed).await
}

#[cache(key = "hasty:{key}", ttl = life, stale_if_error = "2s", timeout = "20ms")]
async fn hasty(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    load_or_fail(key, truth, rng, &AtomicU64::new(0)).await
}

#[cache(key = "eager:{key}", ttl = life, refresh_ahead = "50%", stale_if_error = "2s", timeout = 0)]
async fn eager(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    load_or_fail(key, truth, rng, &AtomicU64::new(0)).await
}

#[cache(key = "near:{key}", ttl = life, near = true)]
async fn near(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

#[cache(key = "all:{key}", ttl = life, near = "200ms", refresh_ahead = "50%", stale_if_error = "2s")]
async fn all(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    load_or_fail(key, truth, rng, &AtomicU64::new(0)).await
}

#[cache(key = "tagged:{key}", ttl = life, tags = ["tag:{key}", "tags"])]
async fn tagged(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

#[cache(key = "named:{key}", ttl = life, tags = ["named:{value.key}"], stale_if_error = "2s")]
async fn named(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    load_or_fail(key, truth, rng, &AtomicU64::new(0)).await
}

#[cache(
    key = "most:{key}",
    ttl = life,
    tags = ["tag:{key}", "named:{value.key}"],
    near = true,
    refresh_ahead = "50%",
    stale_if_error = "2s",
    timeout = "20ms"
)]
async fn most(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    load_or_fail(key, truth, rng, &AtomicU64::new(0)).await
}

#[cache(key = "fenced:{key}", ttl = life)]
async fn fenced(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Row {
    load_row(key, truth, rng).await
}

/// Killed writers have a test of their own: here others take the fences away.
#[cache_invalidate(fenced(key), fence = "2s")]
async fn write_fenced(key: usize, truth: &Truth, rng: Rng) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

#[cache_invalidate(tags = ["tag:{key}", "named:{key}"])]
async fn write_tags(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[cache_invalidate("shared:{key}", "local:{key}", "lasting:{key}", "hasty:{key}", "eager:{key}")]
#[cache_invalidate("near:{key}", "all:{key}")]
async fn write_one(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[cache_invalidate("*:{key}")]
async fn write_wide(key: usize, truth: &Truth) -> u64 {
    truth.write(key).await
}

#[cache_put(shared(key, life))]
async fn put_shared(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

#[cache_put(near(key, life))]
async fn put_near(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

#[cache_put(fenced(key, life))]
async fn put_fenced(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

#[cache_put(tagged(key, life))]
async fn put_tagged(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

#[cache_put(named(key, life))]
async fn put_named(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

#[cache_put(most(key, life))]
async fn put_most(key: usize, truth: &Truth, rng: Rng, life: Duration) -> Result<Row, Down> {
    put_or_fail(key, truth, rng).await
}

/// It outlives its fence now and then.
#[cache_invalidate(shared(key), near(key), tagged(key), named(key), most(key), fence = "20ms")]
async fn write_outliving(key: usize, truth: &Truth, mut rng: Rng) -> u64 {
    pause(&mut rng, 30_000).await;
    truth.write(key).await
}

/// It commits after its last statement.
async fn write_later(key: usize, truth: &Truth) -> u64 {
    let ((), list) = deferred(async {
        let ((), inner) = deferred(cleared_tags(key)).await;
        inner.apply().await;
        cleared(key).await;
    })
    .await;
    let version = truth.write(key).await;
    list.apply().await;
    version
}

#[cache_invalidate(shared(key), near(key), fence = "100ms")]
async fn cleared(key: usize) {}

#[cache_invalidate(tags = ["tag:{key}", "named:{key}"])]
async fn cleared_tags(key: usize) {
    let _ = key;
}

/// A write that takes its time, and fails now and then although it has written.
async fn put_or_fail(key: usize, truth: &Truth, mut rng: Rng) -> Result<Row, Down> {
    pause(&mut rng, 30_000).await;
    let version = truth.write(key).await;
    pause(&mut rng, 30_000).await;
    if rng.u8(..5) == 0 { Err(Down) } else { Ok(Row { key, version }) }
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
            .near_staleness(STALENESS)
            .build();
        Self { cache: cache.expect("the settings are good") }
    }

    /// With when its own load failed, if that did.
    async fn read_now(&self, key: usize, truth: &Truth, rng: &mut Rng, failed: &AtomicU64) -> Option<Row> {
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
            (Kind::Lasting, 0..3) => lasting::refresh_cache(key, truth, fork, life, failed).await.ok(),
            (Kind::Lasting, _) => lasting(key, truth, fork, life, failed).await.ok(),
            (Kind::Hasty, 0..3) => hasty::refresh_cache(key, truth, fork, life).await.ok(),
            (Kind::Hasty, _) => hasty(key, truth, fork, life).await.ok(),
            (Kind::Eager, 0..3) => eager::refresh_cache(key, truth, fork, life).await.ok(),
            (Kind::Eager, _) => eager(key, truth, fork, life).await.ok(),
            (Kind::Near, 0..2) => Some(near::refresh_cache(key, truth, fork, life * 3).await),
            (Kind::Near, _) => Some(near(key, truth, fork, life * 3).await),
            (Kind::All, _) => all(key, truth, fork, life * 3).await.ok(),
            (Kind::Tagged, 0..5) => tagged::cached(key).await.ok().flatten(),
            (Kind::Tagged, 5..8) => Some(tagged::refresh_cache(key, truth, fork, life).await),
            (Kind::Tagged, _) => Some(tagged(key, truth, fork, life).await),
            (Kind::Named, 0..3) => named::refresh_cache(key, truth, fork, life).await.ok(),
            (Kind::Named, _) => named(key, truth, fork, life).await.ok(),
            (Kind::Most, _) => most(key, truth, fork, life * 3).await.ok(),
            (Kind::Fenced, 0..5) => fenced::cached(key).await.ok().flatten(),
            (Kind::Fenced, _) => Some(fenced(key, truth, fork, life).await),
        }
    }

    async fn write_now(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        let (fork, life) = (rng.fork(), ms(rng.u64(20..400)));
        let version = |done: Result<Row, Down>| done.ok().map(|row| row.version);
        match (Kind::of(key), rng.u8(..10)) {
            (Kind::Fenced, 0..3) => return version(put_fenced(key, truth, fork, life).await),
            (Kind::Fenced, 4..9) => return version(write_fenced(key, truth, fork).await),
            (Kind::Tagged | Kind::Named | Kind::Most, 0..3) => return Some(write_tags(key, truth).await),
            (kind, 0..3) if kind != Kind::ByHand => return Some(write_one(key, truth).await),
            (_, 3) => return Some(write_wide(key, truth).await),
            (Kind::Shared, 4..7) => return version(put_shared(key, truth, fork, life).await),
            (Kind::Near, 4..7) => return version(put_near(key, truth, fork, life * 3).await),
            (Kind::Tagged, 4..7) => return version(put_tagged(key, truth, fork, life).await),
            (Kind::Named, 4..7) => return version(put_named(key, truth, fork, life).await),
            (Kind::Most, 4..7) => return version(put_most(key, truth, fork, life * 3).await),
            (Kind::Tagged | Kind::Named | Kind::Most | Kind::Shared | Kind::Near, 7) => {
                return Some(write_outliving(key, truth, fork).await);
            }
            (Kind::Tagged | Kind::Named | Kind::Most | Kind::Shared | Kind::Near, 8) => {
                return Some(write_later(key, truth).await);
            }
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
            (Kind::Lasting, 1) => lasting::clear_cache_all().await,
            (Kind::Lasting, _) => lasting::clear_cache(key).await.map(drop),
            (Kind::Hasty, 1) => hasty::clear_cache_all().await,
            (Kind::Hasty, _) => hasty::clear_cache(key).await.map(drop),
            (Kind::Eager, 1) => eager::clear_cache_all().await,
            (Kind::Eager, _) => eager::clear_cache(key).await.map(drop),
            (Kind::Near, 1) => near::clear_cache_all().await,
            (Kind::Near, _) => near::clear_cache(key).await.map(drop),
            (Kind::All, 1) => all::clear_cache_all().await,
            (Kind::All, _) => all::clear_cache(key).await.map(drop),
            (Kind::Tagged, 1) => self.cache.invalidate_tags(&["tags"]).await,
            (Kind::Tagged, 2) => tagged::clear_cache(key).await.map(drop),
            (Kind::Tagged, _) | (Kind::Most, 1) => self.cache.invalidate_tags(&[format!("tag:{key}")]).await,
            (Kind::Named, 1) => named::clear_cache_all().await,
            (Kind::Fenced, 1) => fenced::clear_cache_all().await,
            (Kind::Fenced, _) => fenced::clear_cache(key).await.map(drop),
            (Kind::Named | Kind::Most, _) => self.cache.invalidate_tags(&[format!("named:{key}")]).await,
        };
        done.ok().map(|()| version)
    }
}

/// What stands before the number in the keys.
pub(crate) const KINDS: [&str; 12] = [
    "hand", "shared", "local", "lasting", "hasty", "eager", "near", "all", "tagged", "named", "most",
    "fenced",
];

/// How much older than another process' invalidation a read of this key may be: kept in its own process.
pub(crate) fn lag(key: usize) -> Duration {
    match Kind::of(key) {
        Kind::Near | Kind::All | Kind::Most => STALENESS,
        _ => Duration::ZERO,
    }
}

const STALENESS: Duration = ms(600);

/// How a key is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ByHand,
    Shared,
    Local,
    /// Stale values answer to errors.
    Lasting,
    /// And to loads that take long.
    Hasty,
    /// And it is refreshed ahead.
    Eager,
    /// Kept in this process.
    Near,
    /// With all options.
    All,
    /// With tags of its arguments,
    Tagged,
    /// of its result,
    Named,
    /// of both, with most other options.
    Most,
    /// Some of its writers have fences.
    Fenced,
}

impl Kind {
    fn of(key: usize) -> Self {
        match key {
            0 => Self::ByHand,
            1 => Self::Shared,
            2 => Self::Local,
            3 => Self::Lasting,
            4 => Self::Hasty,
            5 => Self::Eager,
            6 => Self::Near,
            7 => Self::All,
            8 => Self::Tagged,
            9 => Self::Named,
            10 => Self::Most,
            _ => Self::Fenced,
        }
    }
}

fn by_hand(key: usize) -> String {
    format!("hand:{key}")
}

impl Subject for Ours {
    const KEYS: usize = KINDS.len();

    fn pace(&self) -> u64 {
        120_000
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Read> {
        let (begun, failed) = (now(), AtomicU64::new(0));
        let patience = if rng.u8(..20) == 0 { ms(rng.u64(..50)) } else { ms(60_000) };
        let read = Cache::scope(self.cache.clone(), self.read_now(key, truth, rng, &failed));
        let row = match tokio::time::timeout(patience, read).await {
            Ok(row) => row?,
            Err(_) => {
                assert!(patience < ms(60_000), "a read hangs: key {key}");
                return None; // its caller went away
            }
        };
        assert_eq!(row.key, key, "a row of another key");
        // A stale value that answers to its own load's failure was still there after that.
        Some(Read { version: row.version, since: begun.max(failed.into_inner()) })
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
            ("refreshes", stats.refreshes),
            ("stale_served", stats.stale_served),
            ("near_hits", stats.near_hits),
            ("fills_refused", stats.fills_refused),
            ("store_errors", stats.store_errors),
        ]
    }
}

/// A member of the fleet.
pub(crate) fn of_member() -> Ours {
    Ours::over(&fleet::given("SERVER").expect("the parent says where"), fleet::number("SEED"))
}
