//! How a target is written.

use cache_aside::{Cache, cache, cache_invalidate};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> u64 {
    id
}

#[cache_invalidate(get_user)]
async fn no_arguments(id: u64) -> u64 {
    id
}

#[cache_invalidate(get_user(id), cache = cache)]
async fn a_cache_without_effect(id: u64, cache: &Cache) -> u64 {
    let _ = cache;
    id
}

#[cache_invalidate(get_user(value))]
async fn an_argument_named_value(value: u64) -> u64 {
    value
}

#[cache_invalidate(get_user::*, get_user[id])]
async fn no_call(id: u64) -> u64 {
    id
}

fn main() {}
