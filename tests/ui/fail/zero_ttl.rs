//! A time to live of nothing is a mistake, however it is written.

use cache_aside::cache;

#[cache(ttl = 0)]
async fn in_seconds(id: u64) -> u64 {
    id
}

#[cache(ttl = "0s")]
async fn in_words(id: u64) -> u64 {
    id
}

#[cache(none_ttl = 0)]
async fn of_none(id: u64) -> Option<u64> {
    Some(id)
}

fn main() {}
