//! A fence stands before the body runs: it needs keys or tags that are known then, and some time.

use cache_aside::cache_invalidate;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[cache_invalidate("user:{id}", "users:*", fence = "10s")]
async fn glob(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:{value}", fence = "10s")]
async fn of_the_result(id: u64) -> u64 {
    id
}

#[cache_invalidate(tags = ["user:{id}", "org:{value}"], fence = "10s")]
async fn tag_of_the_result(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:{id}", fence = 0)]
async fn zero(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:{id}", fence = LONG)]
async fn of_another_form(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:{id}", fence = "10")]
async fn without_a_unit(id: u64) -> u64 {
    id
}

#[cache_aside::cache]
async fn user(id: u64) -> u64 {
    id
}

#[cache_invalidate(user::*, fence = "10s")]
async fn all_of_a_function(id: u64) -> u64 {
    id
}

#[cache_invalidate(user(*value), fence = "10s")]
async fn typed_of_the_result(id: u64) -> u64 {
    id
}

fn main() {}
