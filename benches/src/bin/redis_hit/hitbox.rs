//! `hitbox`, which is made for HTTP and has a macro for functions, too.

use std::marker::PhantomData;
use std::time::Duration;

use hitbox_backend::format::JsonFormat;
use hitbox_fn::prelude::*;
use hitbox_redis::{ConnectionMode, RedisBackend};

use super::measure::Way;
use super::ways::{HOUR, Page, User, Value};

pub type Backed = Cache<RedisBackend<JsonFormat>>;

/// A value that a function of `hitbox` returns.
pub trait Hitboxed: Value {
    fn hitboxed(cache: &Backed, id: u64) -> impl Future<Output = Result<Self, Never>> + Send;
}

/// The error of what can't fail: only results are cached.
#[derive(Debug)]
pub struct Never;

#[cached(prefix = "user")]
async fn user(id: u64) -> Result<User, Never> {
    Ok(User::new(id))
}

#[cached(prefix = "page")]
async fn page(id: u64) -> Result<Page, Never> {
    Ok(Page::new(id))
}

impl Hitboxed for User {
    async fn hitboxed(cache: &Backed, id: u64) -> Result<Self, Never> {
        user(id).cache(cache).await
    }
}

impl Hitboxed for Page {
    async fn hitboxed(cache: &Backed, id: u64) -> Result<Self, Never> {
        page(id).cache(cache).await
    }
}

/// The decorated function of `hitbox`.
#[derive(Clone)]
pub struct Hitbox<V>(Backed, PhantomData<V>);

impl<V: Hitboxed> Hitbox<V> {
    pub async fn connect(url: &str) -> Self {
        let backend =
            RedisBackend::builder().connection(ConnectionMode::single(url)).value_format(JsonFormat);
        let policy = PolicyConfig::builder().ttl(Duration::from_secs(HOUR)).build();
        Self(Cache::builder().backend(backend.build().unwrap()).policy(policy).build(), PhantomData)
    }
}

impl<V: Hitboxed> Way for Hitbox<V> {
    async fn get(&self, id: u64) {
        assert_eq!(V::hitboxed(&self.0, id).await.unwrap().id(), id);
    }
}
