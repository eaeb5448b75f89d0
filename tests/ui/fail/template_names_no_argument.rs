//! A template speaks of arguments.

use cache_aside::cache;

#[cache(key = "user:{user_di}")]
async fn typo(user_id: u64) -> u64 {
    user_id
}

#[cache(key = "{self.tenant}:{id}")]
async fn no_receiver(id: u64) -> u64 {
    id
}

#[cache(key = "user:{value.id}")]
async fn too_early(id: u64) -> u64 {
    id
}

#[cache(key = "user:{id + 1}")]
async fn expression(id: u64) -> u64 {
    id
}

fn main() {}
