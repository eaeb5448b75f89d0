//! How much memory near values take. One test alone: it looks at the whole process.

use allocation_counter::measure;
use cache_aside::{Cache, cache};
use tokio::runtime::Builder;

/// For near values.
const BOUND: u64 = 32 << 20;
/// For the embedded store behind them.
const STORE: u64 = 1 << 20;
/// More than there is room for.
const KEYS: u64 = 32_000;

#[cache(ttl = 600, near = true, skip(cache), cache = cache)]
async fn page(cache: &Cache, id: u64) -> String {
    let _ = cache;
    format!("{id:01000}")
}

#[test]
fn near_values_of_a_kilobyte_stay_within_their_bound() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let cache = Cache::builder().memory(STORE).near_memory(BOUND).build().unwrap();
    // What the first calls make is not theirs.
    runtime.block_on(async { assert_eq!(page(&cache, KEYS).await.len(), 1000) });
    let before = resident();
    let counted = measure(|| {
        runtime.block_on(async {
            for id in 0..KEYS {
                // Loaded, then read, then kept.
                page(&cache, id).await;
                page(&cache, id).await;
            }
        });
    });
    let kept = runtime.block_on(async {
        let before = cache.stats().near_hits;
        for id in 0..KEYS {
            page(&cache, id).await;
        }
        cache.stats().near_hits - before
    });
    let most = BOUND.cast_signed() * 3 / 2 + STORE.cast_signed();
    let (counted, resident) = (counted.bytes_current, before.zip(resident()).map(|(old, new)| new - old));
    println!("{kept} kept: {counted} bytes allocated, {resident:?} more resident, of {BOUND} allowed");
    assert!(kept * 1000 > BOUND / 2, "only {kept} values of a kilobyte are kept");
    assert!(counted < most, "{counted} bytes allocated");
    assert!(resident.is_none_or(|resident| resident < most), "{resident:?} bytes resident");
}

/// Bytes of this process in memory, where the system says so.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()? * 1024)
}
