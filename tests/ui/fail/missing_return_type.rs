//! A function that returns nothing has nothing to cache.

use cache_aside::cache;

#[cache]
async fn get_user(id: u64) {
    let _ = id;
}

#[cache]
async fn unit(id: u64) -> () {
    let _ = id;
}

fn main() {}
