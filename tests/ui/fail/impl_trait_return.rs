//! A type without a name can't be stored.

use cache_aside::{cache, cache_invalidate};

#[cache]
async fn get_users(id: u64) -> impl Iterator<Item = u64> {
    std::iter::once(id)
}

#[cache_invalidate("user:*")]
async fn set_users(id: u64) -> Option<impl Sized> {
    Some(id)
}

fn main() {}
