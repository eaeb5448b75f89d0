//! A prefix has no text that a pattern, a cluster or a reader would take for something else.

use cache_aside::cache;

#[cache(key_prefix = "user profile")]
async fn white_space(id: u64) -> u64 {
    id
}

#[cache(key_prefix = "user:*")]
async fn glob(id: u64) -> u64 {
    id
}

#[cache(key_prefix = "{user}")]
async fn braces(id: u64) -> u64 {
    id
}

#[cache(key_prefix = "")]
async fn empty(id: u64) -> u64 {
    id
}

fn main() {}
