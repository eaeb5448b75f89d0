//! A template takes what can be shown.

use cache_aside::cache;

#[cache(key = "user:{id}")]
async fn get_user(id: Id) -> u64 {
    id.0
}

struct Id(u64);

fn main() {}
