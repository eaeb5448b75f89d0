#![doc = include_str!("../README.md")]

pub use cache_macros::{cache, cache_invalidate};
pub use cache_runtime::{Builder, Cache, CacheError, CacheManager, Expiry, Settings, Stats, Ttl, global, init};

#[doc(hidden)]
pub use cache_runtime::private as __private;
