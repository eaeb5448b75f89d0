//! A `const fn` can't wait for a cache.

use cache_aside::cache;

#[cache]
const fn get_user(id: u64) -> u64 {
    id
}

fn main() {}
