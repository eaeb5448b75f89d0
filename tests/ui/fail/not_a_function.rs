//! The attributes go on functions.

use cache_aside::{cache, cache_invalidate};

#[cache]
struct User;

#[cache_invalidate("user:*")]
mod users {}

trait Find {
    #[cache]
    async fn find(&self, id: u64) -> u64;
}

fn main() {}
