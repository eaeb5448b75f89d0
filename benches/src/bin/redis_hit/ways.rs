//! The ways to read a value from Redis.

use std::marker::PhantomData;
use std::time::Duration;

use cache_aside::{Cache, cache};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::measure::Way;

pub const HOUR: u64 = 3600;

/// A row of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "hitbox", derive(hitbox_fn::CacheableResponse))]
pub struct User {
    id: u64,
    name: String,
    email: String,
    groups: Vec<u32>,
}

/// Fifty rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "hitbox", derive(hitbox_fn::CacheableResponse))]
pub struct Page {
    id: u64,
    users: Vec<User>,
}

/// What is read: its bytes are a hundred or four thousand as JSON.
pub trait Value: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    const NAME: &'static str;
    fn new(id: u64) -> Self;
    fn id(&self) -> u64;
    /// By `#[cache]`.
    fn ours(cache: &Cache, id: u64) -> impl Future<Output = Self> + Send;
    /// By `cached`.
    fn theirs(runtime: usize, id: u64) -> impl Future<Output = Result<Self, String>> + Send;
}

impl Value for User {
    const NAME: &'static str = "user";

    fn new(id: u64) -> Self {
        let (name, email) = ("Ada Lovelace".to_owned(), format!("ada{id:06}@example.com"));
        Self { id, name, email, groups: vec![1, 22, 333, 4444] }
    }

    fn id(&self) -> u64 {
        self.id
    }

    async fn ours(cache: &Cache, id: u64) -> Self {
        user(cache, id).await
    }

    async fn theirs(runtime: usize, id: u64) -> Result<Self, String> {
        match runtime {
            0 => cached_on_one::user(id).await,
            1 => cached_on_two::user(id).await,
            _ => cached_on_none::user(id).await,
        }
    }
}

impl Value for Page {
    const NAME: &'static str = "page";

    fn new(id: u64) -> Self {
        Self { id, users: (0..40).map(|n| User::new(id * 100 + n)).collect() }
    }

    fn id(&self) -> u64 {
        self.id
    }

    async fn ours(cache: &Cache, id: u64) -> Self {
        page(cache, id).await
    }

    async fn theirs(runtime: usize, id: u64) -> Result<Self, String> {
        match runtime {
            0 => cached_on_one::page(id).await,
            1 => cached_on_two::page(id).await,
            _ => cached_on_none::page(id).await,
        }
    }
}

#[cache(ttl = 3600, skip(cache), cache = cache)]
async fn user(cache: &Cache, id: u64) -> User {
    User::new(id)
}

#[cache(ttl = 3600, skip(cache), cache = cache)]
async fn page(cache: &Cache, id: u64) -> Page {
    Page::new(id)
}

/// `cached` has one connection for each function, which belongs to the runtime of the first call.
macro_rules! cached_on {
    ($name:ident) => {
        mod $name {
            use std::time::Duration;

            use cached::AsyncRedisCache;
            use cached::macros::concurrent_cached;

            use super::{HOUR, Page, URL, User, Value};

            #[concurrent_cached(
                map_error = r##"|error| format!("{error:?}")"##,
                ty = "AsyncRedisCache<u64, User>",
                create = r##"{
                    AsyncRedisCache::builder("cached:user").ttl(Duration::from_secs(HOUR))
                        .connection_string(URL.get().unwrap()).build().await.unwrap()
                }"##
            )]
            pub async fn user(id: u64) -> Result<User, String> {
                Ok(User::new(id))
            }

            #[concurrent_cached(
                map_error = r##"|error| format!("{error:?}")"##,
                ty = "AsyncRedisCache<u64, Page>",
                create = r##"{
                    AsyncRedisCache::builder("cached:page").ttl(Duration::from_secs(HOUR))
                        .connection_string(URL.get().unwrap()).build().await.unwrap()
                }"##
            )]
            pub async fn page(id: u64) -> Result<Page, String> {
                Ok(Page::new(id))
            }
        }
    };
}

cached_on!(cached_on_one);
cached_on!(cached_on_two);
cached_on!(cached_on_none);

static URL: std::sync::OnceLock<String> = std::sync::OnceLock::new();

async fn multiplexed(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Stores all that will be read.
async fn store<V: Value>(url: &str) {
    let mut connection = multiplexed(url).await;
    for id in 0..super::KEYS {
        let json = serde_json::to_vec(&V::new(id)).unwrap();
        let () = connection.set_ex(format!("{}:{id}", V::NAME), json, HOUR).await.unwrap();
    }
}

/// The bytes alone.
#[derive(Clone)]
pub struct Raw<V>(MultiplexedConnection, PhantomData<V>);

impl<V: Value> Raw<V> {
    pub async fn connect(url: &str) -> Self {
        store::<V>(url).await;
        Self(multiplexed(url).await, PhantomData)
    }
}

impl<V: Value> Way for Raw<V> {
    async fn get(&self, id: u64) {
        let bytes: Vec<u8> = self.0.clone().get(format!("{}:{id}", V::NAME)).await.unwrap();
        assert!(!bytes.is_empty());
    }
}

/// The bytes, decoded: the least that a cache does.
#[derive(Clone)]
pub struct ByHand<V>(MultiplexedConnection, PhantomData<V>);

impl<V: Value> ByHand<V> {
    pub async fn connect(url: &str) -> Self {
        store::<V>(url).await;
        Self(multiplexed(url).await, PhantomData)
    }
}

impl<V: Value> Way for ByHand<V> {
    async fn get(&self, id: u64) {
        let bytes: Vec<u8> = self.0.clone().get(format!("{}:{id}", V::NAME)).await.unwrap();
        let value: V = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value.id(), id);
    }
}

/// What most people write: a pooled connection, a GET, and on a miss the load and a SET.
#[derive(Clone)]
pub struct Pooled<V>(deadpool_redis::Pool, PhantomData<V>);

impl<V: Value> Pooled<V> {
    pub async fn connect(url: &str) -> Self {
        let mut config = deadpool_redis::Config::from_url(url);
        config.pool = Some(deadpool_redis::PoolConfig::new(16));
        Self(config.create_pool(Some(deadpool_redis::Runtime::Tokio1)).unwrap(), PhantomData)
    }
}

impl<V: Value> Way for Pooled<V> {
    async fn get(&self, id: u64) {
        let (key, mut connection) = (format!("{}:{id}", V::NAME), self.0.get().await.unwrap());
        let found: Option<Vec<u8>> = connection.get(&key).await.unwrap();
        let value = match found {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap(),
            None => {
                let value = V::new(id);
                let json = serde_json::to_vec(&value).unwrap();
                let () = connection.set_ex(&key, json, HOUR).await.unwrap();
                value
            }
        };
        assert_eq!(value.id(), id);
    }
}

/// The decorated function.
#[derive(Clone)]
pub struct Ours<V>(Cache, PhantomData<V>);

impl<V: Value> Ours<V> {
    pub async fn connect(url: &str) -> Self {
        Self(Cache::builder().redis(url).store_budget(Duration::from_secs(5)).build().unwrap(), PhantomData)
    }
}

impl<V: Value> Way for Ours<V> {
    async fn get(&self, id: u64) {
        assert_eq!(V::ours(&self.0, id).await.id(), id);
    }
}

/// `cached`, which packs its values by MessagePack.
#[derive(Clone)]
pub struct Cached<V>(usize, PhantomData<V>);

impl<V: Value> Cached<V> {
    pub async fn connect(url: &str, runtime: usize) -> Self {
        URL.get_or_init(|| url.to_owned());
        Self(runtime, PhantomData)
    }
}

impl<V: Value> Way for Cached<V> {
    async fn get(&self, id: u64) {
        assert_eq!(V::theirs(self.0, id).await.unwrap().id(), id);
    }
}
