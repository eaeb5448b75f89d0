//! A prefix beside a whole key says where to put it.

use cache_aside::cache;

#[cache(key = "users:{id}", key_prefix = "v2")]
async fn by_key(id: u64) -> u64 {
    id
}

#[cache(key_builder = |id| format!("users:{id}"), key_prefix = "v2")]
async fn by_builder(id: u64) -> u64 {
    id
}

fn main() {}
