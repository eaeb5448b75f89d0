//! A trait has no room for the second function that a load needs which outlives its caller.

use cache_aside::cache;

trait Find {
    async fn find(&self, id: u64) -> u64;

    #[cache(stale_if_error = "1h", timeout = 1, skip(self), helpers = "none")]
    async fn by_default(&self, id: u64) -> u64 {
        id
    }
}

#[derive(Clone)]
struct Service;

impl Find for Service {
    #[cache(refresh_ahead = "20%", skip(self), helpers = "none")]
    async fn find(&self, id: u64) -> u64 {
        id
    }
}

#[async_trait::async_trait]
trait Boxed {
    async fn find(&self, id: &str) -> u64;
}

#[async_trait::async_trait]
impl Boxed for Service {
    #[cache(refresh_ahead = "20%", skip(self))]
    async fn find(&self, id: &str) -> u64 {
        id.len() as u64
    }
}

fn main() {}
