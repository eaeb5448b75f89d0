//! A time that can't be read says how to write one.

use cache_aside::cache;

#[cache(ttl = "10")]
async fn no_unit(id: u64) -> u64 {
    id
}

#[cache(ttl = "10min")]
async fn unknown_unit(id: u64) -> u64 {
    id
}

#[cache(ttl = 1.5)]
async fn fraction(id: u64) -> u64 {
    id
}

#[cache(ttl = -5)]
async fn negative(id: u64) -> u64 {
    id
}

#[cache(jitter = "200%")]
async fn too_much_jitter(id: u64) -> u64 {
    id
}

#[cache(jitter = 0)]
async fn no_jitter(id: u64) -> u64 {
    id
}

fn main() {}
