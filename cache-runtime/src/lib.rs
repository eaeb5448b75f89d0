//! What runs behind `cache-aside`: the stores, the protocol, the keys, the settings.
//!
//! Depend on `cache-aside`; this crate is its engine room and changes with it. `ARCHITECTURE.md` in
//! the repository says which room holds what.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod ahead;
mod away;
mod background;
mod builder;
mod cache;
mod call;
mod canon;
mod clock;
mod close;
mod codec;
mod commands;
mod deferred;
mod engine;
mod entry;
mod error;
mod events;
mod fallback;
mod flight;
mod global;
mod helpers;
mod hold;
mod invalidate;
mod key;
mod lead;
mod lent;
mod manager;
mod near;
mod pending;
mod place;
mod policy;
#[doc(hidden)]
pub mod private;
mod put;
mod rate_limit;
mod reads;
mod record;
mod recovery;
mod recursion;
mod refresh;
mod session;
mod settings;
mod shared;
mod sight;
mod site;
mod store;
mod tagged;
mod tags;
mod unfit;
mod value;
mod words;
mod write_behind;

/// The door for `fuzz/`: all that must hold of any bytes in the store.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use record::check::hostile;

pub use builder::Builder;
pub use cache::Cache;
pub use deferred::{Invalidations, deferred};
pub use error::CacheError;
pub use events::Stats;
pub use global::{close_redis, get_redis, global, init};
pub use manager::CacheManager;
pub use policy::Ttl;
pub use rate_limit::RateLimiter;
pub use redis;
pub use session::{Session, SessionId, SessionStore};
pub use settings::Settings;
pub use store::{Decision, Expiry, RedisConnection};
pub use write_behind::{
    CacheEntry, DeadLetter, Draft, Durability, Job, QueueStats, Workers, WriteBehind, WriteBehindBuilder,
};
