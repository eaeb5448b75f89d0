//! A load that outlives its caller can't go on changing what its caller has.

use cache_aside::cache;
use std::pin::Pin;

#[cache(refresh_ahead = "20%", skip(count))]
async fn argument(id: u64, count: &mut u64) -> u64 {
    *count += 1;
    id
}

#[derive(Clone)]
struct Service(u64);

impl Service {
    #[cache(refresh_ahead = "20%", skip(self))]
    async fn receiver(&mut self, id: u64) -> u64 {
        self.0 += 1;
        id
    }

    #[cache(stale_if_error = "1h", timeout = 1, skip(self))]
    async fn typed(self: &mut Self, id: u64) -> u64 {
        self.0 += 1;
        id
    }

    #[cache(refresh_ahead = "20%", key = "{id}")]
    async fn pinned(self: Pin<&mut Self>, id: u64) -> u64 {
        id
    }
}

fn main() {}
