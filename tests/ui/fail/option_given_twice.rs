//! The second of two is the one too many.

use cache_aside::cache;

#[cache(ttl = 300, key = "user:{id}", ttl = 600)]
async fn get_user(id: u64) -> u64 {
    id
}

fn main() {}
