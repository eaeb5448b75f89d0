#![doc = include_str!("../README.md")]

#[doc = include_str!("../docs/attribute.md")]
#[doc(inline)]
pub use cache_macros::cache;
#[doc = include_str!("../docs/invalidation.md")]
#[doc(inline)]
pub use cache_macros::cache_invalidate;
#[doc = include_str!("../docs/put.md")]
#[doc(inline)]
pub use cache_macros::cache_put;
pub use cache_runtime::{
    Builder, Cache, CacheEntry, CacheError, CacheManager, DeadLetter, Draft, Durability, Expiry,
    Invalidations, Job, QueueStats, RedisConnection, Settings, Stats, Ttl, Workers, WriteBehind,
    WriteBehindBuilder, close_redis, deferred, get_redis, global, init, redis,
};

#[doc = include_str!("../docs/cache.md")]
pub mod guide {}

#[doc = include_str!("../docs/outages.md")]
pub mod outages {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[doc = include_str!("../docs/wire-format.md")]
pub mod wire_format {}

#[doc = include_str!("../docs/write-strategies.md")]
pub mod write_strategies {}

#[doc(hidden)]
pub use cache_runtime::private as __private;
