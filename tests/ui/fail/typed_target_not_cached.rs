//! Only what is cached can be named.

use cache_aside::{cache, cache_invalidate};

async fn get_user(id: u64) -> u64 {
    id
}

struct Service;

impl Service {
    async fn get(id: u64) -> u64 {
        id
    }
}

#[cache(helpers = "none")]
async fn without_helpers(id: u64) -> u64 {
    id
}

#[cache(key_builder = |id| format!("{id}"))]
async fn built(id: u64) -> u64 {
    id
}

#[cache_invalidate(get_user(id))]
async fn a_function(id: u64) {
    let _ = get_user(id).await;
}

#[cache_invalidate(Service::get(id))]
async fn a_method(id: u64) {
    let _ = Service::get(id).await;
}

#[cache_invalidate(no_such(id))]
async fn nothing(id: u64) {
    let _ = id;
}

#[cache_invalidate(without_helpers(id))]
async fn no_helpers(id: u64) {
    let _ = id;
}

#[cache_invalidate(built::*)]
async fn no_glob(id: u64) {
    let _ = id;
}

fn main() {}
