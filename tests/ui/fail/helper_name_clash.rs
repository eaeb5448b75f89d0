//! A type of the function's name is in the way of its helpers.

use cache_aside::cache;

mod user {}

#[cache(ttl = 60)]
async fn user(id: u64) -> u64 {
    id
}

fn main() {}
