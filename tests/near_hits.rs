//! What a near hit asks of the allocator, and that values in use stay near.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use allocation_counter::measure;
use cache_aside::{Cache, cache};
use tokio::runtime::{Builder, Runtime};

#[cache(ttl = 600, near = true, skip(cache), cache = cache)]
async fn number(cache: &Cache, id: u64) -> u64 {
    let _ = cache;
    id
}

#[cache(ttl = 600, near = true)]
async fn global(id: u64) -> Option<u64> {
    Some(id)
}

#[cache(ttl = 600, near = true)]
async fn shared(name: &str) -> Arc<String> {
    Arc::new(name.to_owned())
}

#[cache(ttl = 600, near = true, skip(cache), cache = cache)]
async fn three(cache: &Cache, tenant: &str, id: u64, deleted: bool) -> Result<(u64, bool), String> {
    let _ = (cache, tenant);
    Ok((id, deleted))
}

#[cache(ttl = 600, near = true)]
async fn text(id: u64) -> String {
    id.to_string()
}

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Page([[u64; 32]; 4]);

#[cache(ttl = 600, near = true)]
async fn page(id: u64) -> Page {
    Page([[id; 32]; 4])
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn embedded() -> Cache {
    Cache::builder().build().unwrap()
}

/// Allocations of a hundred near hits, each a whole decorated call.
fn allocations(cache: &Cache, call: impl AsyncFn()) -> u64 {
    let (runtime, mut counted) = (runtime(), 0);
    runtime.block_on(Cache::scope(cache.clone(), async {
        // Loaded, then read, then near: the first near hit of a function makes room for its count.
        for _ in 0..3 {
            call().await;
        }
    }));
    let before = cache.stats().near_hits;
    let hits = async {
        for _ in 0..100 {
            call().await;
        }
    };
    let mut hits = std::pin::pin!(Cache::scope(cache.clone(), hits));
    runtime.block_on(std::future::poll_fn(|cx| {
        let mut polled = std::task::Poll::Pending;
        counted += measure(|| polled = hits.as_mut().poll(cx)).count_total;
        polled
    }));
    assert_eq!(cache.stats().near_hits - before, 100);
    counted
}

#[test]
fn a_near_hit_allocates_only_what_the_clone_does() {
    let cache = &embedded();
    assert_eq!(allocations(cache, async || _ = number(cache, 7).await), 0);
    assert_eq!(allocations(cache, async || _ = global(1 << 40).await), 0);
    assert_eq!(allocations(cache, async || _ = shared("a name that is not too short").await), 0);
    assert_eq!(allocations(cache, async || _ = three(cache, "acme", 7, true).await), 0);
    assert_eq!(allocations(cache, async || _ = text(7).await), 100);
}

/// The value isn't in it, nor is what only a miss needs.
#[test]
fn the_future_of_a_near_function_is_small() {
    assert!(size_of_val(&page(7)) < 128, "{}", size_of_val(&page(7)));
}

/// Least recently used goes first: what a scan flushes.
struct Lru {
    room: usize,
    clock: u64,
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
}

impl Lru {
    fn call(&mut self, key: u64) -> bool {
        self.clock += 1;
        let before = self.used.insert(key, self.clock);
        if let Some(before) = before {
            self.order.remove(&before);
        }
        self.order.insert(self.clock, key);
        if self.used.len() > self.room
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
        before.is_some()
    }
}

#[test]
fn a_scan_of_cold_keys_does_not_flush_the_hot() {
    const BOUND: u64 = 1 << 19;
    const HOT: u64 = 4000;
    let (runtime, cache) = (runtime(), Cache::builder().near_memory(BOUND).build().unwrap());
    // An entry weighs more than 400 bytes.
    let room = usize::try_from(BOUND / 400).unwrap();
    let mut lru = Lru { room, clock: 0, used: HashMap::new(), order: BTreeMap::new() };
    let sums: Vec<f64> = (1..=u32::try_from(HOT).unwrap())
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(1);
    let mut zipf = || {
        let drawn = random.f64() * sums[sums.len() - 1];
        sums.partition_point(|sum| *sum < drawn) as u64
    };
    // Whether it was near; it is now, as far as the map takes it.
    let near = async |key: u64| {
        let before = cache.stats().near_hits;
        number(&cache, key).await;
        let is_near = cache.stats().near_hits > before;
        if !is_near {
            number(&cache, key).await;
        }
        is_near
    };
    let mut cold = HOT..;
    let mut ratios = |draws: u32, scanned: usize| {
        let (mut ours, mut theirs) = (0_u32, 0_u32);
        for _ in 0..draws {
            let key = zipf();
            ours += u32::from(runtime.block_on(near(key)));
            theirs += u32::from(lru.call(key));
            for key in cold.by_ref().take(scanned) {
                assert!(!runtime.block_on(near(key)) && !lru.call(key));
            }
        }
        (f64::from(ours) / f64::from(draws), f64::from(theirs) / f64::from(draws))
    };
    ratios(10_000, 0);
    let (before, _) = ratios(10_000, 0);
    let (during, flushed) = ratios(4000, 10);
    println!("hit ratio {before:.2} before a scan, {during:.2} in it; with LRU {flushed:.2}");
    assert!(before > 0.7 && during > before - 0.2 && during > flushed + 0.2, "{before} {during} {flushed}");
}
