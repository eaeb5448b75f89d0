//! What is stored is what the target returns.

use cache_aside::{cache, cache_put};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> Result<Option<u64>, String> {
    Ok(Some(id))
}

#[cache_put(get_user(id))]
async fn another_type(id: u64) -> Result<u64, std::fmt::Error> {
    Ok(id)
}

fn main() {}
