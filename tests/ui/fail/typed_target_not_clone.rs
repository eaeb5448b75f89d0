//! What is read after the body is copied before it.

use cache_aside::{cache, cache_invalidate};

#[cache(ttl = 60)]
async fn get_user(org: u64, id: u64) -> u64 {
    org + id
}

struct Change {
    org: u64,
}

#[cache_invalidate(get_user(change.org, *value))]
async fn create(change: Change) -> u64 {
    drop(change);
    1
}

struct Service;

impl Service {
    #[cache(ttl = 60, skip(self))]
    async fn get(&self, id: u64) -> u64 {
        id
    }

    #[cache_invalidate(self.get(*value))]
    async fn create(&mut self) -> u64 {
        *self = Self;
        1
    }
}

fn main() {}
