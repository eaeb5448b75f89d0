#![doc = include_str!("../README.md")]

pub use cache_macros::{cache, cache_invalidate};
pub use cache_runtime::{
    Builder, Cache, CacheError, CacheManager, Expiry, RedisConnection, Settings, Stats, Ttl, close_redis,
    get_redis, global, init, redis,
};

#[doc(hidden)]
pub use cache_runtime::private as __private;
