//! `#[tracing::instrument]` above and below.

#![deny(warnings)]

use cache_aside::{cache, cache_invalidate};
use tracing::instrument;

#[instrument]
#[cache(ttl = 60)]
async fn above(id: u64) -> Result<u64, String> {
    Ok(id)
}

#[cache(ttl = 60)]
#[instrument(err)]
async fn below(id: u64) -> Result<u64, String> {
    if id == 0 {
        return Err("zero".to_owned());
    }
    Ok(id)
}

#[instrument]
#[cache_invalidate("above:*")]
#[instrument(ret)]
async fn writer(id: u64) -> u64 {
    id
}

struct Service;

impl Service {
    #[instrument(skip(self))]
    #[cache(skip(self))]
    async fn above(&self, id: u64) -> u64 {
        id
    }

    #[cache(skip(self))]
    #[instrument(skip_all)]
    async fn below(&self, id: u64) -> u64 {
        id
    }
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() {
    assert_eq!(is_send(above(1)).await, Ok(1));
    assert_eq!(above::refresh_cache(1).await, Ok(1));
    assert!(is_send(below(0)).await.is_err());
    assert_eq!(below::refresh_cache(1).await, Ok(1));
    assert_eq!(is_send(writer(1)).await, 1);
    assert_eq!(Service.above(1).await + Service.below(1).await, 2);
}
