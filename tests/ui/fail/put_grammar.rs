//! One target, with its arguments, known before the body.

use cache_aside::{cache, cache_put};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> u64 {
    id
}

#[cache_put]
async fn no_target(id: u64) -> u64 {
    id
}

#[cache_put("user:{id}")]
async fn a_text(id: u64) -> u64 {
    id
}

#[cache_put(get_user::*)]
async fn all_entries(id: u64) -> u64 {
    id
}

#[cache_put(get_user(id), get_user(id + 1))]
async fn two_targets(id: u64) -> u64 {
    id
}

#[cache_put(get_user(id), ttl = 60)]
async fn a_life_of_its_own(id: u64) -> u64 {
    id
}

#[cache_put(get_user(*value))]
async fn a_key_from_the_result(id: u64) -> u64 {
    id
}

#[cache_put(get_user(id))]
async fn nothing_to_store(id: u64) {
    let _ = id;
}

#[cache_put(key = "user:{id}", key_prefix = "user")]
async fn unknown_option(id: u64) -> u64 {
    id
}

#[cache]
#[cache_put(get_user(id))]
async fn reads_and_writes(id: u64) -> u64 {
    id
}

#[cache_put(get_user(id))]
fn not_async(id: u64) -> u64 {
    id
}

fn main() {}
