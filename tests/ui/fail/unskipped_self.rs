//! Two instances that share entries are the classic leak: a method says what of `self` matters.

use cache_aside::cache;

struct Service;

impl Service {
    #[cache(ttl = 60)]
    async fn get_user(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
