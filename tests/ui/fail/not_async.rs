//! Only an async function can wait for a cache.

use cache_aside::{cache, cache_invalidate};

#[cache]
fn get_user(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*")]
fn set_user(id: u64) -> u64 {
    id
}

#[cache]
fn boxed(id: u64) -> std::pin::Pin<Box<dyn Future<Output = u64>>> {
    Box::pin(async move { id })
}

fn main() {}
