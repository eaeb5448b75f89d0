//! An attribute that is being typed leaves the function where its callers find it.

use cache_aside::cache;

#[cache(ttl = )]
async fn get_user(id: u64) -> u64 {
    id
}

#[cache(ttl)]
async fn get_post(id: u64) -> u64 {
    id
}

#[cache(ttl = 300 key = "user:{id}")]
async fn get_tag(id: u64) -> u64 {
    id
}

#[cache(300)]
async fn get_name(id: u64) -> u64 {
    id
}

fn main() {
    drop((get_user(1), get_post(1), get_tag(1), get_name(1)));
}
