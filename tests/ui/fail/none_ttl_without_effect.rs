//! A life for a `None` that is never stored is a mistake.

use cache_aside::cache;

#[cache(none_ttl = 30, cache_none = false)]
async fn get_user(id: u64) -> Option<u64> {
    Some(id)
}

fn main() {}
