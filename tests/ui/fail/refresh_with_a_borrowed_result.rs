//! What a load returns that outlives its caller borrows from nobody.

use cache_aside::cache;
use std::borrow::Cow;

#[cache(refresh_ahead = "20%")]
async fn value(name: &str) -> Cow<'_, str> {
    name.into()
}

#[cache(refresh_ahead = "20%")]
async fn error(name: &str) -> Result<u64, &str> {
    Err(name)
}

#[cache(refresh_ahead = "20%")]
async fn once(name: &str) -> &str {
    name
}

fn main() {}
