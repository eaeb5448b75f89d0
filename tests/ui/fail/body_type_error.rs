//! A wrong value in the body is one error, at that value.

use cache_aside::{cache, cache_invalidate};

#[cache(ttl = 60)]
async fn tail(id: u64) -> Option<bool> {
    Some(id)
}

#[cache(ttl = 60)]
async fn early(id: u64) -> Result<u64, bool> {
    if id == 0 {
        return "zero";
    }
    Ok(id)
}

#[cache(ttl = 60)]
async fn nothing(id: u64) -> u64 {
    let _ = id;
}

#[cache_invalidate("user:*")]
async fn writer(id: u64) -> bool {
    id
}

fn main() {}
