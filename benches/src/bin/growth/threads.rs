//! Near hits a second, by the number of threads: whether they are in each other's way.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use benches::{Better, Cell, Chart, Report, Row, Table, runtime, zipf};
use cache_aside::Cache;
use cached::macros::concurrent_cached;

use crate::rows::{User, near_user};

const THREADS: [u64; 4] = [1, 2, 4, 8];
const KEYS: usize = 10_000;
const CALLS: usize = 200_000;

/// `cached` in this process, with a lock for each shard.
#[concurrent_cached(ttl_secs = 3600)]
async fn sharded(id: u64) -> User {
    User::new(id)
}

#[derive(Clone, Copy)]
enum Way {
    Ours,
    Sharded,
}

impl Way {
    async fn hits(self, cache: &Cache, ids: &[usize]) {
        for id in ids {
            let id = black_box(*id as u64);
            black_box(match self {
                Self::Ours => near_user(cache, id).await,
                Self::Sharded => sharded(id).await,
            });
        }
    }

    /// Millions a second, of all threads together.
    fn rate(self, cache: &Cache, work: &[Vec<usize>]) -> f64 {
        let start = Barrier::new(work.len());
        let one = |ids: &[usize]| {
            let runtime = runtime();
            start.wait();
            let begun = Instant::now();
            runtime.block_on(self.hits(cache, ids));
            (begun, Instant::now())
        };
        let times: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = work.iter().map(|ids| scope.spawn(|| one(ids))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ran")).collect()
        });
        let begun = times.iter().map(|time| time.0).min().expect("a thread");
        let ended = times.iter().map(|time| time.1).max().expect("a thread");
        let hits: usize = work.iter().map(Vec::len).sum();
        hits as f64 / (ended - begun).as_secs_f64() / 1e6
    }
}

pub fn measure(report: &mut Report, rounds: usize) {
    // The embedded store: what is behind a near hit makes no difference to it.
    let cache = Cache::builder().memory(64 << 20).build().expect("a cache");
    let all: Vec<usize> = (0..KEYS).collect();
    for way in [Way::Ours, Way::Sharded] {
        // Loaded, then read, then near.
        (0..2).for_each(|_| runtime().block_on(way.hits(&cache, &all)));
    }
    for (load, is_hot) in [("10,000 keys (zipf)", false), ("one hot key", true)] {
        let numbers = |thread| if is_hot { vec![77; CALLS] } else { zipf(thread, KEYS, CALLS) };
        let work: Vec<Vec<usize>> = (0..THREADS[THREADS.len() - 1]).map(numbers).collect();
        let rows = [("#[cache(near = true)]", Way::Ours), ("cached: #[concurrent_cached]", Way::Sharded)];
        let mut rates = rows.map(|_| THREADS.map(|_| Vec::new()));
        for round in 0..=rounds {
            for (at, threads) in THREADS.into_iter().enumerate() {
                for ((_, way), rates) in rows.iter().zip(&mut rates) {
                    let rate = way.rate(&cache, &work[..threads as usize]);
                    // The first round only warms up.
                    rates[at].extend((round > 0).then_some(rate));
                }
            }
        }
        let rows = rows.iter().zip(&rates).map(|((name, _), own)| {
            let cells = own.iter().zip(&rates[0]).map(|(own, first)| Cell::beside(first, own));
            Row::new(*name, cells.collect())
        });
        let columns = crate::columns(&THREADS, "Mop/s", Better::Higher);
        let lines = Chart::Lines { axis: "threads", at: THREADS.map(|threads| threads as f64).into() };
        report.add(
            Table::new(format!("near hits of {load}, by threads"), columns, rows.collect()).chart(lines),
        );
    }
}
