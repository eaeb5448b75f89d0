//! What the processes do: they send, apply, read.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use cache_aside::{Cache, CacheError, Durability, Job, WriteBehind, cache, cache_invalidate};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::check::{Handed, Nature, REFUSAL};
use crate::db::Db;
use crate::support::fleet::{self, Lines, given, number};
use crate::support::{ms, secs};

/// How often a write is tried at most.
pub(crate) const ATTEMPTS: u32 = 6;
/// Who doesn't say so for this long has lost its shards.
pub(crate) const LEASE: Duration = ms(500);
pub(crate) const SHARDS: u32 = 8;
/// Of each producer.
pub(crate) const KEYS: usize = 25;

/// What is sent.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    value: u64,
}

/// Not what the handler takes.
#[derive(Debug, Serialize)]
struct Garbled {
    value: String,
}

/// Nanoseconds by the kernel's monotonic clock, the same in all processes of a machine.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).expect("after the start") * 1_000_000_000
        + u64::try_from(now.tv_nsec).expect("below a second")
}

/// How a run uses the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) synced: bool,
    /// With entries of a cached function, which others read, and with writes that are skipped when there is
    /// a later one.
    pub(crate) cached: bool,
    /// The function asks the queue before it brings a row back.
    pub(crate) pending: bool,
}

/// A cache of a process of its own, and the queue.
pub(crate) fn queue(server: &str, usage: Usage) -> (Cache, WriteBehind) {
    // Nobody who stood still for a moment is to think that the store is away: its function would run.
    let cache = Cache::builder().redis(server).lease(LEASE).poll(ms(2), ms(20)).store_budget(secs(20));
    let cache = cache.build().expect("the settings are good");
    let writes = WriteBehind::queue("chaos")
        .cache(&cache)
        .shards(SHARDS)
        .capacity(5000)
        .retries(ATTEMPTS - 1)
        .backoff(ms(20), ms(300))
        .durability(if usage.synced { Durability::Fsync } else { Durability::Memory })
        .coalesce(usage.cached)
        .drain(ms(500))
        .build();
    (cache, writes.expect("the settings are good"))
}

/// The process of a member.
pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("it starts");
    let usage = Usage {
        synced: number("SYNCED") == 1,
        cached: number("CACHED") == 1,
        pending: number("PENDING") == 1,
    };
    let (cache, writes) = queue(&given("SERVER").expect("the parent says where"), usage);
    let db = || Db::open(Path::new(&given("DB").expect("the parent says where")));
    runtime.block_on(async {
        match given("ROLE").as_deref() {
            Some("producer") => produce(cache, writes, usage).await,
            Some("worker") => work(&writes, db()).await,
            Some("reader") => read_all(cache, db(), usage).await,
            role => panic!("no role: {role:?}"),
        }
    });
    runtime.shutdown_background();
}

/// For between nothing and so long.
async fn pause(most: Duration) {
    tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
}

/// Set when the parent says so.
fn stopped() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    tokio::spawn(async move {
        let mut orders = fleet::orders();
        while orders.recv().await.is_some() {}
        told.store(true, Relaxed);
    });
    stop
}

/// The row as it is read. Its life is short, so that it is often gone while a write of it is in the queue.
#[cache(key = "row:{key}", ttl = "300ms", pending = "chaos")]
async fn row(key: usize, db: &Db) -> u64 {
    load(key, db).await
}

/// The same, without a look at the queue.
#[cache(key = "row:{key}", ttl = "300ms")]
async fn bare_row(key: usize, db: &Db) -> u64 {
    load(key, db).await
}

async fn load(key: usize, db: &Db) -> u64 {
    let value = db.read(key).await;
    pause(ms(10)).await; // old meanwhile
    value
}

#[cache_invalidate("row:{key}")]
async fn forget(key: usize) {
    let _ = key;
}

/// What each value of a key is. Poison comes while there is time for all its attempts.
fn nature(key: usize, value: u64, usage: Usage) -> Nature {
    match (key, key % 10, value) {
        _ if usage.cached => Nature::Good,
        (3, _, 5) | (KEYS.., 8, 30) => Nature::Deadly,
        (_, 1, 5 | 60) => Nature::Undecodable,
        (_, 2, 5 | 60) => Nature::Failing,
        _ => Nature::Good,
    }
}

/// What this producer and those before it have tried of a key.
fn tried(files: &[PathBuf], key: usize) -> u64 {
    let lines = files.iter().flat_map(|file| fleet::said(file));
    let values = lines.filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0] == "t" && words[1] == key.to_string()).then(|| words[2].parse::<u64>().expect("a value"))
    });
    values.max().unwrap_or_default()
}

/// A producer: each of its keys gets one value after the other.
async fn produce(cache: Cache, writes: WriteBehind, usage: Usage) {
    let lines = Arc::new(Lines::of_member());
    let stop = stopped();
    let first = usize::try_from(number("NUMBER")).expect("few") * KEYS;
    let files: Vec<PathBuf> =
        given("BEFORE").unwrap_or_default().split_whitespace().map(PathBuf::from).collect();
    let mut tasks = JoinSet::new();
    for key in first..first + KEYS {
        let (writes, lines, stop, tried) =
            (writes.clone(), Arc::clone(&lines), Arc::clone(&stop), tried(&files, key));
        tasks.spawn(Cache::scope(cache.clone(), async move {
            for value in tried + 1.. {
                pause(ms(300)).await;
                if stop.load(Relaxed) {
                    return;
                }
                let nature = nature(key, value, usage);
                lines.say(format_args!("t {key} {value} {}", nature.name()));
                // Once begun, it is sent until it is taken: nobody knows what became of it otherwise.
                loop {
                    match send(&writes, key, value, nature, usage).await {
                        Ok(seq) => break lines.say(format_args!("a {key} {value} {seq} {}", now())),
                        Err(
                            CacheError::Unavailable(_)
                            | CacheError::Timeout(_)
                            | CacheError::QueueFull { .. },
                        ) => pause(ms(100)).await,
                        Err(error) => return lines.say(format_args!("e {error}")),
                    }
                }
            }
        }));
    }
    tasks.join_all().await;
}

async fn send(
    writes: &WriteBehind,
    key: usize,
    value: u64,
    nature: Nature,
    usage: Usage,
) -> Result<u64, CacheError> {
    let change = Change { value };
    match nature {
        Nature::Good if usage.cached => {
            let entry = if usage.pending {
                row::cache_entry(key, &value)
            } else {
                bare_row::cache_entry(key, &value)
            };
            writes.put(entry?).send("set", key, &change).await
        }
        Nature::Undecodable => writes.send("set", key, &Garbled { value: value.to_string() }).await,
        nature => writes.send(nature.name(), key, &change).await,
    }
}

/// What a handler panics with on purpose.
struct Meant;

/// A worker, on which little can be relied.
async fn work(writes: &WriteBehind, db: Db) {
    // Only what isn't meant to happen is said.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<Meant>().is_none() {
            say(panic);
        }
    }));
    let shutdown = async {
        let mut orders = fleet::orders();
        while orders.recv().await.is_some() {}
    };
    let workers = writes.workers(db).handle("set", set).handle("fail", fail).handle("die", die);
    match workers.run_until(shutdown).await {
        // The server is away while this one stops: nobody can say what is left in it.
        Ok(_) | Err(CacheError::Unavailable(_) | CacheError::Timeout(_)) => {}
        Err(error) => panic!("the server won't do: {error}"),
    }
}

async fn note(job: &Job<Change>, db: &Db) -> usize {
    let key = job.order_key().parse().expect("a number");
    let (value, by, begun) = (job.payload.value, std::process::id(), now());
    db.note(Handed { key, value, seq: job.seq(), attempt: job.attempt(), by, begun }).await;
    key
}

async fn set(job: Job<Change>, db: Db) -> Result<(), String> {
    let key = note(&job, &db).await;
    pause(ms(5)).await;
    match fastrand::u8(..100) {
        0..4 => return Err("not this time".to_owned()),
        4 => std::panic::panic_any(Meant),
        _ => db.apply(key, job.payload.value, job.seq()).await,
    }
    pause(ms(4)).await;
    Ok(())
}

async fn fail(job: Job<Change>, db: Db) -> Result<(), String> {
    note(&job, &db).await;
    Err(REFUSAL.to_owned())
}

async fn die(job: Job<Change>, db: Db) -> Result<(), Infallible> {
    note(&job, &db).await;
    std::process::exit(0)
}

/// A reader of all keys.
async fn read_all(cache: Cache, db: Db, usage: Usage) {
    let (lines, stop, keys) = (Arc::new(Lines::of_member()), stopped(), 2 * KEYS);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (cache, db, lines, stop) = (cache.clone(), db.clone(), Arc::clone(&lines), Arc::clone(&stop));
        tasks.spawn(Cache::scope(cache, async move {
            while !stop.load(Relaxed) {
                let (key, begun) = (fastrand::usize(..keys), now());
                let value = if usage.pending { row(key, &db).await } else { bare_row(key, &db).await };
                lines.say(format_args!("r {key} {value} {begun}"));
                if fastrand::u8(..20) == 0 {
                    forget(fastrand::usize(..keys)).await;
                }
                pause(ms(4)).await;
            }
        }));
    }
    tasks.join_all().await;
}
