//! What is borrowed inside another type can't be copied.

use cache_aside::cache;
use std::borrow::Cow;

#[cache(refresh_ahead = "20%")]
async fn option(name: Option<&str>) -> u64 {
    name.map_or(0, |name| name.len() as u64)
}

#[cache(refresh_ahead = "20%")]
async fn slice(names: &[&str]) -> u64 {
    names.len() as u64
}

#[cache(refresh_ahead = "20%")]
async fn elided(name: Cow<'_, str>) -> u64 {
    name.len() as u64
}

#[cache(stale_if_error = "1h", timeout = "2s", skip(ids))]
async fn named<'a>(ids: impl Iterator<Item = u64> + Send + 'a) -> u64 {
    ids.sum()
}

fn main() {}
