//! Targets are patterns in quotes.

use cache_aside::cache_invalidate;

#[cache_invalidate(user:*)]
async fn no_quotes(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:{di}")]
async fn typo(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*", no = "always")]
async fn unknown_option(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*", on = "error")]
async fn unknown_value(id: u64) -> u64 {
    id
}

fn main() {}
