//! A method of an `#[async_trait]` impl never has helpers.

use cache_aside::cache;

#[async_trait::async_trait]
trait Find {
    async fn find(&self, id: u64) -> u64;
}

struct Service;

#[async_trait::async_trait]
impl Find for Service {
    #[cache(skip(self), helpers = "none")]
    async fn find(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
