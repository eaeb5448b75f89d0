//! Times of `refresh_ahead`, `stale_if_error` and `timeout` that make no sense, or aren't times.

use cache_aside::cache;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(60);

#[cache(refresh_ahead = 0)]
async fn zero_ahead(id: u64) -> u64 {
    id
}

#[cache(refresh_ahead = "100%")]
async fn always_ahead(id: u64) -> u64 {
    id
}

#[cache(refresh_ahead = GRACE)]
async fn ahead_of_another_form(id: u64) -> u64 {
    id
}

#[cache(ttl = "1m", refresh_ahead = 60)]
async fn ahead_from_the_beginning(id: u64) -> u64 {
    id
}

#[cache(ttl = 60, none_ttl = 5, refresh_ahead = "30s")]
async fn ahead_of_none(id: u64) -> Option<u64> {
    Some(id)
}

#[cache(stale_if_error = "0s")]
async fn zero_grace(id: u64) -> u64 {
    id
}

#[cache(stale_if_error = GRACE)]
async fn grace_of_another_form(id: u64) -> u64 {
    id
}

#[cache(stale_if_error = "1h", timeout = "2")]
async fn timeout_without_unit(id: u64) -> u64 {
    id
}

#[cache(stale_if_error = "1h", timeout = |value| value)]
async fn timeout_of_another_form(id: u64) -> u64 {
    id
}

fn main() {}
