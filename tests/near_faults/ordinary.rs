//! A writer, and a reader in another process that does nothing but read: how long it hears old news.

use cache_aside::Cache;
use fastrand::Rng;

use crate::history::{Log, now};
use crate::ours::{Row, cache};
use crate::support::{fleet, ms};
use crate::truth::Truth;

#[cache_aside::cache(key = "row:{key}", ttl = 60, near = true)]
async fn row(key: usize, truth: &Truth) -> Row {
    Row { key, version: truth.version(key).await }
}

/// One of the two, until it is told to stop.
pub(crate) async fn run() {
    let cache = cache(&fleet::given("DIRECT").expect("the parent says where"));
    let truth = Truth::at(&fleet::given("TRUTH").expect("the parent says where"));
    let log = Log(fleet::Lines::of_member());
    let day = async {
        if fleet::number("NUMBER") == 0 {
            write(&log, &truth, Rng::with_seed(fleet::number("SEED"))).await;
        } else {
            read(&log, &truth, &cache).await;
        }
    };
    let mut orders = fleet::orders();
    tokio::select! {
        () = Cache::scope(cache.clone(), day) => {}
        _ = orders.recv() => {}
    }
}

async fn write(log: &Log, truth: &Truth, mut rng: Rng) {
    loop {
        tokio::time::sleep(ms(rng.u64(1..10))).await;
        let version = truth.write(0).await;
        if row::clear_cache(0).await.is_ok() {
            log.invalidated(0, version);
        }
    }
}

async fn read(log: &Log, truth: &Truth, cache: &Cache) {
    let (mut reads, mut said, mut last) = (0_u64, 0, None::<(u64, u64, u64)>);
    loop {
        let begun = now();
        let Row { version, .. } = row(0, truth).await;
        let answered = now();
        reads += 1;
        // Of a million reads these tell: the last of each version, and the first.
        if let Some((before, begun, answered)) = last.filter(|(before, ..)| *before != version) {
            log.answered(0, before, begun, answered);
        }
        if last.is_none_or(|(before, ..)| before != version) {
            log.answered(0, version, begun, answered);
        }
        last = Some((version, begun, answered));
        if answered - said > 100_000_000 {
            said = answered;
            log.counted(&[("reads", reads), ("near_hits", cache.stats().near_hits)]);
        }
        tokio::task::yield_now().await;
    }
}
