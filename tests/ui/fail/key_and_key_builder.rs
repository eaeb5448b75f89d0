//! Two ways to make the key are one too many.

use cache_aside::cache;

#[cache(key = "user:{id}", key_builder = |id| format!("user:{id}"))]
async fn get_user(id: u64) -> u64 {
    id
}

fn main() {}
