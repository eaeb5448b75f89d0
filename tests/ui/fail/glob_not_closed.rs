//! A pattern closes what it opens.

use cache_aside::cache_invalidate;

#[cache_invalidate("user:[0-9")]
async fn bracket(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:\\")]
async fn backslash(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:{id")]
async fn brace(id: u64) -> u64 {
    id
}

#[cache_invalidate("")]
async fn empty(id: u64) -> u64 {
    id
}

fn main() {}
