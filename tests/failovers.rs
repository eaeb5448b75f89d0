//! What a failover costs (I19): for how long the cache answers nothing, and how many invalidations that had
//! returned Ok are undone, because replication is asynchronous. Figures, not promises: it takes a minute, and
//! runs by hand.
//!
//! `cargo test --test failovers -- --ignored --nocapture`, `CACHE_ASIDE_FAILOVERS` of each kind (5).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_aside::{Cache, cache};
use sample::{World, eventually, median, patient, read, write};
use support::fleet::report;
use support::sentinel::Trio;
use support::server::Kind;
use support::{Loads, ms};
use tokio::task::{JoinSet, block_in_place};

/// Rows that are in the cache and on the replica, and then written once.
const ROWS: u64 = 8_000;

/// Read all the time, and written by nobody.
#[cache(ttl = 600, key = "hot", cache = cache)]
async fn hot(cache: &Cache, loads: &Loads) -> u64 {
    loads.load(ms(0)).await
}

#[derive(Debug, Clone, Copy)]
enum How {
    Command,
    /// Valkey's: the primary stops taking writes until its replica has caught up.
    Coordinated,
    Killed,
    Frozen,
}

#[derive(Debug, Default)]
struct Cost {
    /// Between two hits of a row that is there all the time.
    gap: Duration,
    /// Invalidations until the sentinels agreed on the new primary.
    invalidations: u64,
    /// Rows that are older in the cache than in the table when all is quiet again: undone invalidations.
    undone: usize,
}

async fn fail(kind: Kind, how: How) -> Cost {
    let trio = block_in_place(|| Trio::start(kind));
    let old = trio.primary();
    let world = Arc::new(World::new(Cache::builder().redis(trio.url()).build().unwrap()));
    let filler = Arc::new(World::new(patient(&trio.url()).build().unwrap()));
    for first in (0..ROWS).step_by(50) {
        let all = (first..first + 50).map(|id| {
            let world = Arc::clone(&filler);
            async move {
                read(&world, id).await;
            }
        });
        all.collect::<JoinSet<()>>().join_all().await;
    }
    assert_eq!(filler.cache.stats().store_errors, 0, "all rows are in the cache");
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (world, stop, written) = (Arc::clone(&world), Arc::clone(&stop), Arc::clone(&written));
        tasks.spawn(async move {
            while !stop.load(SeqCst) {
                let id = written.fetch_add(1, SeqCst);
                if id < ROWS {
                    write(&world, id).await;
                }
                tokio::time::sleep(ms(1)).await;
            }
            Duration::ZERO
        });
    }
    let (reader, done) = (Arc::clone(&world), Arc::clone(&stop));
    tasks.spawn(async move {
        let (loads, mut last, mut longest) = (Loads::new(), Instant::now(), Duration::ZERO);
        hot(&reader.cache, &loads).await;
        while !done.load(SeqCst) {
            let before = loads.count();
            hot(&reader.cache, &loads).await;
            if loads.count() == before {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            tokio::time::sleep(ms(1)).await;
        }
        longest
    });
    tokio::time::sleep(ms(300)).await;
    let before = written.load(SeqCst);
    match how {
        How::Command => block_in_place(|| trio.failover(&[])),
        How::Coordinated => block_in_place(|| trio.failover(&["COORDINATED"])),
        How::Killed => old.kill(),
        How::Frozen => old.freeze(),
    }
    block_in_place(|| trio.wait_for_another(old));
    let invalidations = written.load(SeqCst) - before;
    tokio::time::sleep(ms(1_500)).await;
    if let How::Frozen = how {
        old.thaw();
        tokio::time::sleep(ms(500)).await;
    }
    stop.store(true, SeqCst);
    let gap = tasks.join_all().await.into_iter().max().unwrap_or_default();
    eventually("all is carried out", || world.cache.stats().pending_invalidations == 0).await;
    let mut undone = 0;
    for id in 0..written.load(SeqCst).min(ROWS) {
        undone += usize::from(read(&world, id).await != world.row(id));
    }
    Cost { gap, invalidations, undone }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_a_failover_costs() {
    let rounds = std::env::var("CACHE_ASIDE_FAILOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let kinds = [
        (Kind::Redis, How::Command),
        (Kind::Redis, How::Killed),
        (Kind::Redis, How::Frozen),
        (Kind::Valkey, How::Command),
        (Kind::Valkey, How::Coordinated),
    ];
    for (kind, how) in kinds {
        let (mut gaps, mut invalidations, mut undone) = (Vec::new(), 0, Vec::new());
        for _ in 0..rounds {
            let cost = fail(kind, how).await;
            gaps.push(cost.gap);
            invalidations += cost.invalidations;
            undone.push(cost.undone);
        }
        let longest = gaps.iter().max().copied().unwrap_or_default();
        report(format_args!(
            "{kind:?}, {how:?}: without a hit for {:?} (median), {longest:?} (longest); {invalidations} \
             invalidations meanwhile, undone in each: {undone:?}",
            median(gaps)
        ));
    }
}
