//! The body can't see the names of generated code.

use cache_aside::{cache, cache_invalidate};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> u64 {
    let _ = call;
    let _ = kind;
    id
}

#[cache(key_builder = |id| format!("{id}{}", make), unless = |it| value == it)]
async fn get_post(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*")]
async fn set_user(id: u64) -> u64 {
    let _ = plan;
    id
}

fn main() {}
