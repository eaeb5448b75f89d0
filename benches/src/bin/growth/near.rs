//! What a near value takes in the process, and whether a near hit stays as fast, by the number of entries.

use std::hint::black_box;

use benches::allocations::bytes;
use benches::{Better, Cell, Chart, Report, Row, Table};
use cache_aside::Cache;
use cached::macros::concurrent_cached;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::rows::{User, near_user, user};

/// Calls of each way, number of entries and round.
const CALLS: u64 = 100_000;
/// To tell how many are there.
const SAMPLE: u64 = 1_000;
/// Room for everything.
const MUCH: u64 = 8 << 30;
/// The default.
const BOUND: u64 = 64 << 20;

/// `cached` in this process, without a bound.
#[concurrent_cached(ttl_secs = 3600)]
async fn sharded(id: u64) -> User {
    User::new(id)
}

/// What the embedded store has behind the near values, and how many entries are more than it takes.
const STORE: u64 = 1 << 20;
const MORE: u64 = 20_000;

/// What was measured, a cell for each number of entries.
pub struct Near {
    /// In the process of `cached`, which keeps what it has.
    filled: u64,
    filled_bytes: i64,
    heap: [Vec<Cell>; 2],
    times: [Vec<Cell>; 2],
    bounded: [Vec<Cell>; 2],
}

impl Near {
    pub fn new() -> Self {
        let [heap, times, bounded] = [const { [const { Vec::new() }; 2] }; 3];
        Self { filled: 0, filled_bytes: 0, heap, times, bounded }
    }

    pub fn measure(&mut self, runtime: &Runtime, size: u64, rounds: usize) {
        let per_entry = |bytes: i64| bytes as f64 / size as f64;
        let (cache, heap, _) = filled(runtime, size, MUCH);
        let before = bytes();
        runtime.block_on(calls(self.filled..size, sharded));
        self.filled_bytes += bytes() - before;
        self.filled = size;
        let heaps = [per_entry(heap), per_entry(self.filled_bytes)];
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            let ours = runtime.block_on(time(size, round, |id| near_user(&cache, id)));
            let peer = runtime.block_on(time(size, round, sharded));
            // The first round only warms up.
            if round > 0 {
                times[0].push(ours);
                times[1].push(peer);
            }
        }
        for at in 0..2 {
            self.heap[at].push(Cell::beside(&[heaps[0]], &[heaps[at]]));
            self.times[at].push(Cell::beside(&times[0], &times[at]));
        }
        let (_, heap, kept) = filled(runtime, size, BOUND);
        self.bounded[0].push(Cell::just(heap as f64 / f64::from(1 << 20)));
        self.bounded[1].push(Cell::just(kept));
    }

    pub fn report(self, report: &mut Report, sizes: &[u64], lines: &Chart) {
        let names = ["#[cache(near = true)]", "cached: #[concurrent_cached]"];
        let table = |title, unit, cells: [Vec<Cell>; 2]| {
            let rows = names.into_iter().zip(cells).map(|(name, cells)| Row::new(name, cells));
            let columns = crate::columns(sizes, unit, Better::Lower);
            Table::new(title, columns, rows.collect()).chart(lines.clone())
        };
        report.add(table("heap per near entry, by entries", "B", self.heap));
        report.add(table("a near hit on 1 thread, by entries", "ns", self.times));
        let names = ["heap, MiB", "entries kept"];
        let rows = names.into_iter().zip(self.bounded).map(|(name, cells)| Row::new(name, cells));
        let columns = crate::columns(sizes, "", Better::Lower);
        report
            .add(Table::new("near_memory of 64 MiB, by entries", columns, rows.collect()).chart(Chart::None));
    }
}

/// A cache that has read them all, how much memory that took, and about how many of them it kept.
fn filled(runtime: &Runtime, size: u64, bound: u64) -> (Cache, i64, f64) {
    let cache = Cache::builder().memory(STORE).near_memory(bound).build().expect("a cache");
    // The store is full by then, so all that comes on top is near values.
    runtime.block_on(calls(0..MORE, |id| user(&cache, id)));
    let before = bytes();
    // Loaded, then read, then kept.
    runtime.block_on(calls((0..size).flat_map(|id| [id, id]), |id| near_user(&cache, id)));
    let heap = bytes() - before;
    let seen = cache.stats().near_hits;
    let mut random = fastrand::Rng::with_seed(size);
    // Few: those that aren't there come in the place of others.
    let asked = (0..SAMPLE).map(|_| random.u64(..size));
    runtime.block_on(calls(asked, |id| near_user(&cache, id)));
    let share = (cache.stats().near_hits - seen) as f64 / SAMPLE as f64;
    (cache, heap, (share * size as f64).round())
}

async fn calls<T: Future<Output = User>>(ids: impl Iterator<Item = u64>, call: impl Fn(u64) -> T) {
    for id in ids {
        call(id).await;
    }
}

/// Nanoseconds of this thread per call.
async fn time<T: Future<Output = User>>(size: u64, round: usize, call: impl Fn(u64) -> T) -> f64 {
    let mut random = fastrand::Rng::with_seed(round as u64);
    let ids: Vec<u64> = (0..CALLS).map(|_| random.u64(..size)).collect();
    let begun = cpu_nanos();
    for id in &ids {
        black_box(call(black_box(*id)).await);
    }
    (cpu_nanos() - begun) / CALLS as f64
}

fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
