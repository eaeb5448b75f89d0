//! A trait impl has no room for helpers.

use cache_aside::cache;

trait Find {
    async fn find(&self, id: u64) -> u64;
}

struct Service;

impl Find for Service {
    #[cache(skip(self))]
    async fn find(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
