//! Braces come in pairs and hold a name.

use cache_aside::cache;

#[cache(key = "user:{id")]
async fn unclosed(id: u64) -> u64 {
    id
}

#[cache(key = "user:id}")]
async fn unopened(id: u64) -> u64 {
    id
}

#[cache(key = "user:{}")]
async fn empty(id: u64) -> u64 {
    id
}

#[cache(key = "")]
async fn no_key(id: u64) -> u64 {
    id
}

fn main() {}
