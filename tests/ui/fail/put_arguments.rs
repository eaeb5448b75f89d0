//! The arguments of a target are those of its `put_cache`, without the value.

use cache_aside::{cache, cache_put};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> u64 {
    id
}

#[cache_put(get_user(name))]
async fn another_type(name: String) -> u64 {
    name.len() as u64
}

#[cache_put(get_user())]
async fn one_too_few(id: u64) -> u64 {
    id
}

async fn not_cached(id: u64) -> u64 {
    id
}

#[cache_put(not_cached(id))]
async fn no_target(id: u64) -> u64 {
    not_cached(id).await
}

fn main() {}
