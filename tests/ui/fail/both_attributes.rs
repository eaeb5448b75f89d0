//! One function reads or writes, not both.

use cache_aside::{cache, cache_invalidate};

#[cache(ttl = 60)]
#[cache_invalidate("user:*")]
async fn outer_cache(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*")]
#[cache(ttl = 60)]
async fn inner_cache(id: u64) -> u64 {
    id
}

#[cache(ttl = 60)]
#[cache(ttl = 90)]
async fn two_caches(id: u64) -> u64 {
    id
}

fn main() {}
