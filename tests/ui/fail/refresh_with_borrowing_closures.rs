//! A closure over the result is asked when its caller may be gone.

use cache_aside::cache;

#[cache(refresh_ahead = "20%", ttl = |value| std::time::Duration::from_secs(*value + limit.len() as u64))]
async fn life(id: u64, limit: &str) -> u64 {
    id + limit.len() as u64
}

#[cache(refresh_ahead = "20%", unless = |value: &Option<u64>| format!("{limit}") == format!("{value:?}"))]
async fn captured(id: u64, limit: &str) -> Option<u64> {
    Some(id + limit.len() as u64)
}

#[derive(Clone)]
struct Service(u64);

impl Service {
    #[cache(refresh_ahead = "20%", unless = |value| *value > self.0, skip(self))]
    async fn receiver(&self, id: u64) -> u64 {
        id
    }
}

struct Limit(u64);

#[cache(refresh_ahead = "20%", unless = |value| *value > limit.0, skip(limit))]
async fn not_copied(limit: Limit) -> u64 {
    limit.0
}

fn main() {}
