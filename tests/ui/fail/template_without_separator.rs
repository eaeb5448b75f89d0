//! Two values with nothing between them could read alike: `1` and `23`, `12` and `3`.

use cache_aside::cache;

#[cache(key = "user:{org}{id}")]
async fn get_user(org: u64, id: u64) -> u64 {
    org + id
}

fn main() {}
