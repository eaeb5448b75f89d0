//! The parameters of a `key_builder` are arguments.

use cache_aside::cache;

#[cache(key_builder = |user_di| format!("user:{user_di}"))]
async fn typo(user_id: u64) -> u64 {
    user_id
}

#[cache(key_builder = |(a, b)| format!("{a}{b}"))]
async fn pattern(pair: (u64, u64)) -> u64 {
    pair.0
}

#[cache(key_builder = "user:{id}")]
async fn template(id: u64) -> u64 {
    id
}

fn main() {}
