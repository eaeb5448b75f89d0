//! `#[async_trait]` hands the macros a function that returns a boxed future.

#![deny(warnings)]

use async_trait::async_trait;
use cache_aside::{cache, cache_invalidate, cache_put};
use tracing::instrument;

struct Db;
struct Users {
    tenant: String,
}
struct Generic<T>(T);

#[async_trait]
trait Store {
    async fn get(&self, id: u64, db: &Db) -> Result<Option<String>, std::fmt::Error>;
    async fn set(&self, id: u64, (a, b): (u64, u64)) -> Result<u64, std::fmt::Error>;
    async fn fixed(mut id: u64) -> u64;
    async fn traced(&self, id: u64) -> u64;
    async fn by_default(&self, id: u64) -> u64 {
        id
    }
}

#[cache]
async fn number(id: u64) -> u64 {
    id
}

#[async_trait]
impl Store for Users {
    #[cache(ttl = 60, key = "{self.tenant}:{id}")]
    async fn get(&self, id: u64, db: &Db) -> Result<Option<String>, std::fmt::Error> {
        let Db = db;
        if id == 0 {
            return Ok(None);
        }
        tokio::task::yield_now().await;
        Ok(Some(self.tenant.clone()))
    }

    #[cache_put(number(id))]
    #[cache_invalidate("{self.tenant}:{id}", "of:{value}", number(id), number(*value + id))]
    async fn set(&self, id: u64, (a, b): (u64, u64)) -> Result<u64, std::fmt::Error> {
        Ok(id + a + b)
    }

    #[cache]
    async fn fixed(mut id: u64) -> u64 {
        id += 1;
        id
    }

    #[instrument(skip(self))]
    #[cache(skip(self))]
    #[instrument(skip(self))]
    async fn traced(&self, id: u64) -> u64 {
        id
    }
}

#[async_trait]
impl<T: Sync> Store for Generic<T> {
    #[cache(skip(self, db))]
    async fn get(&self, id: u64, db: &Db) -> Result<Option<String>, std::fmt::Error> {
        let _ = (&self.0, db);
        Ok(Some(id.to_string()))
    }

    async fn set(&self, id: u64, _: (u64, u64)) -> Result<u64, std::fmt::Error> {
        Ok(id)
    }

    #[cache]
    async fn fixed(id: u64) -> u64 {
        id
    }

    #[cache(skip(self))]
    async fn traced(&self, id: u64) -> u64 {
        id
    }
}

#[async_trait(?Send)]
trait Local {
    async fn get(&self, id: u64) -> u64;
}

#[async_trait(?Send)]
impl Local for Users {
    #[cache(skip(self))]
    async fn get(&self, id: u64) -> u64 {
        let local = std::rc::Rc::new(id);
        tokio::task::yield_now().await;
        *local
    }
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() {
    let users = Users { tenant: "t".to_owned() };
    assert_eq!(is_send(Store::get(&users, 1, &Db)).await, Ok(Some("t".to_owned())));
    assert_eq!(is_send(users.set(1, (2, 3))).await, Ok(6));
    assert_eq!(<Users as Store>::fixed(1).await, 2);
    assert_eq!(users.traced(1).await, 1);
    assert_eq!(users.by_default(1).await, 1);
    let generic = Generic("g");
    assert_eq!(is_send(Store::get(&generic, 1, &Db)).await, Ok(Some("1".to_owned())));
    assert_eq!(<Generic<u8> as Store>::fixed(1).await, 1);
    assert_eq!(generic.traced(1).await, 1);
    assert_eq!(generic.set(1, (0, 0)).await, Ok(1));
    assert_eq!(Local::get(&users, 7).await, 7);
}
