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
    Builder, Cache, CacheEntry, CacheError, CacheManager, DeadLetter, Decision, Draft, Durability, Expiry,
    Invalidations, Job, QueueStats, RateLimiter, RedisConnection, Session, SessionId, SessionStore, Settings,
    Stats, Ttl, Workers, WriteBehind, WriteBehindBuilder, close_redis, deferred, get_redis, global, init,
    redis,
};

#[doc = include_str!("../docs/cache.md")]
pub mod guide {}

#[doc = include_str!("../docs/around.md")]
pub mod around {}
#[doc = include_str!("../docs/getting-started.md")]
pub mod getting_started {}

#[doc = include_str!("../docs/keys.md")]
pub mod keys {}

#[doc = include_str!("../docs/stampede.md")]
pub mod stampede {}

#[doc = include_str!("../docs/near.md")]
pub mod near {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/coming-from.md")]
pub mod coming_from {}

#[doc = include_str!("../docs/outages.md")]
pub mod outages {}

#[doc = include_str!("../docs/topologies.md")]
pub mod topologies {}

#[doc = include_str!("../docs/compatibility.md")]
pub mod compatibility {}

#[doc = include_str!("../docs/performance.md")]
pub mod performance {}

#[doc = include_str!("../docs/wire-format.md")]
pub mod wire_format {}

#[doc = include_str!("../docs/write-strategies.md")]
pub mod write_strategies {}

#[doc(hidden)]
pub use cache_runtime::private as __private;

// Its snippets are tested, too.
#[cfg(doctest)]
#[doc = include_str!("../README.zh-CN.md")]
mod readme_zh {}
