//! `pending` is the name of a queue: a text in quotes, of few characters.

use cache_aside::cache;

#[cache(ttl = 60, pending = "")]
async fn nothing(id: u64) -> u64 {
    id
}

#[cache(ttl = 60, pending = user_writes)]
async fn without_quotes(id: u64) -> u64 {
    id
}

#[cache(ttl = 60, pending = "user writes:{id}")]
async fn odd_text(id: u64) -> u64 {
    id
}

#[cache(ttl = 60, pending = "a_name_that_is_so_long_that_nobody_could_read_it_in_a_dashboard.v2")]
async fn long(id: u64) -> u64 {
    id
}

#[cache(ttl = 60, pending = true, pendign = "user_writes")]
async fn two_mistakes(id: u64) -> u64 {
    id
}

#[cache(ttl = 60, pending)]
async fn half_typed(id: u64) -> u64 {
    id
}

fn main() {}
