//! A scan of a million cold keys through a near cache in use: the share of hits before, in and after it.
//!
//! ```text
//! cargo xtask bench near_scan [--rounds N]
//! ```

use benches::{Better, Cell, Column, Options, Report, Row, Table, runtime, zipf};
use cache_aside::{Cache, cache};
use clap::Parser;

const HOT: usize = 10_000;
const DRAWS: usize = 100_000;
/// Between any two calls of the load: a million altogether.
const COLD: u64 = 10;

#[cache(ttl = 3600, near = true, skip(cache), cache = cache)]
async fn row(cache: &Cache, id: u64) -> u64 {
    let _ = cache;
    id
}

/// Whether it was near. It is read until it could be: loaded, then kept.
async fn is_near(cache: &Cache, id: u64) -> bool {
    let before = cache.stats().near_hits;
    row(cache, id).await;
    let is_near = cache.stats().near_hits > before;
    if !is_near {
        row(cache, id).await;
    }
    is_near
}

/// The shares of one cache's life.
fn shares(round: u64) -> [f64; 3] {
    // Room for about a third of the hot keys: the scan is three hundred times as long.
    let cache = Cache::builder().near_memory(2 << 20).build().expect("a cache");
    let mut cold = HOT as u64..;
    let mut share = |seed, scanned: u64| {
        runtime().block_on(async {
            let mut hits = 0;
            for id in zipf(4 * round + seed, HOT, DRAWS) {
                hits += u32::from(is_near(&cache, id as u64).await);
                for _ in 0..scanned {
                    is_near(&cache, cold.next().expect("numbers go on")).await;
                }
            }
            f64::from(hits) / DRAWS as f64
        })
    };
    share(1, 0);
    [share(2, 0), share(3, COLD), share(4, 0)]
}

fn main() {
    let options = Options::parse();
    let rounds: Vec<[f64; 3]> = (0..options.rounds(3) as u64).map(shares).collect();
    let columns = ["before the scan", "in it", "after it"];
    let cells = (0..3).map(|at| Cell::median(&rounds.iter().map(|shares| shares[at]).collect::<Vec<_>>()));
    let row = Row::new("near = true, zipf over 10,000 keys", cells.collect());
    let columns = columns.map(|name| Column::new(name, "share", Better::Higher)).into();
    let mut report = Report::new("Near hits under a scan of a million cold keys");
    report.add(Table::new("share of hits", columns, vec![row]));
    report.finish(&options);
}
