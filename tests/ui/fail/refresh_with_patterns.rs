//! Arguments that are passed on whole have names.

use cache_aside::cache;

#[cache(refresh_ahead = "20%")]
async fn tuple((a, b): (u64, u64), _: u64) -> u64 {
    a + b
}

#[cache(stale_if_error = "1h", timeout = 0)]
async fn reference(ref id: u64) -> u64 {
    *id
}

fn main() {}
