//! An expression for the `ttl` is a `Duration`.

use cache_aside::cache;

#[cache(ttl = 60 * 10)]
async fn get_user(id: u64) -> u64 {
    id
}

#[cache(ttl = |value| value.seconds)]
async fn get_post(id: u64) -> Post {
    Post { seconds: id }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Post {
    seconds: u64,
}

fn main() {}
