//! A scan of a million cold keys through a near cache in use: the share of hits before, in and after it.
//!
//! ```text
//! cargo xtask bench near_scan
//! ```

use benches::{runtime, zipf};
use cache_aside::{Cache, cache};

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

fn main() {
    // Room for about a third of the hot keys: the scan is three hundred times as long.
    let cache = Cache::builder().near_memory(2 << 20).build().expect("a cache");
    let mut cold = HOT as u64..;
    let mut share = |seed, scanned: u64| {
        runtime().block_on(async {
            let mut hits = 0;
            for id in zipf(seed, HOT, DRAWS) {
                hits += u32::from(is_near(&cache, id as u64).await);
                for _ in 0..scanned {
                    is_near(&cache, cold.next().expect("numbers go on")).await;
                }
            }
            f64::from(hits) / DRAWS as f64
        })
    };
    share(1, 0);
    let (before, during, after) = (share(2, 0), share(3, COLD), share(4, 0));
    println!("hit ratio under zipf: {before:.3} before the scan, {during:.3} in it, {after:.3} after it");
}
