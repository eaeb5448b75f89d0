//! Functions whose values are kept in the process.

#![deny(warnings)]

use std::sync::Arc;

use async_trait::async_trait;
use cache_aside::{Cache, cache};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    id: u64,
}

#[cache(near = true)]
async fn plain(id: u64) -> Row {
    Row { id }
}

#[cache(ttl = 60, near = "5s", key = "row:{id}", when = id > 0)]
async fn fallible(id: u64, name: &str) -> Result<Option<Row>, std::fmt::Error> {
    let _ = name;
    Ok(Some(Row { id }))
}

#[cache(near = true, refresh_ahead = "20%", stale_if_error = "1h", timeout = "1s")]
async fn all(name: &str) -> Result<Arc<Row>, std::fmt::Error> {
    Ok(Arc::new(Row { id: name.len() as u64 }))
}

#[cache(near = true)]
async fn generic<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static>(value: T) -> T {
    value
}

struct Service {
    cache: Cache,
}

impl Service {
    #[cache(near = true, skip(self), cache = &self.cache)]
    async fn row(&self, id: u64) -> Row {
        Row { id }
    }
}

#[async_trait]
trait Find {
    async fn find(&self, id: u64) -> Row;
}

#[async_trait]
impl Find for Service {
    #[cache(near = true, skip(self))]
    async fn find(&self, id: u64) -> Row {
        Row { id }
    }
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() {
    for _ in 0..4 {
        assert_eq!(is_send(plain(1)).await.id, 1);
        assert_eq!(is_send(fallible(2, "a")).await.unwrap().unwrap().id, 2);
        assert_eq!(is_send(all("abc")).await.unwrap().id, 3);
        assert_eq!((is_send(generic(4_u8)).await, generic("five".to_owned()).await), (4, "five".to_owned()));
        let service = Service { cache: Cache::builder().build().unwrap() };
        assert_eq!((is_send(service.row(6)).await.id, is_send(service.find(7)).await.id), (6, 7));
    }
    assert_eq!(plain::cache_stats().near_hits, 2);
}
