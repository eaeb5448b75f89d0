//! What tests share.
// Each test binary takes what it needs, and exports nothing.
#![allow(dead_code, unreachable_pub)]

pub mod client;
pub mod cluster;
pub mod conformance;
pub mod db;
pub mod example;
pub mod fences;
pub mod fleet;
mod link;
mod net;
mod process;
pub mod proxy;
pub mod rate_limit;
pub mod resp;
pub mod script;
pub mod seen;
pub mod sentinel;
pub mod server;
pub mod session;
mod tricks;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cache_aside::Cache;

/// A cache of its own on the embedded store.
pub fn embedded() -> Cache {
    Cache::builder().build().expect("the defaults are good")
}

/// Counts loads, and gives their number as the value.
#[derive(Debug, Default)]
pub struct Loads(AtomicU64);

impl Loads {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One load that takes this long; gives which one it is, from 1.
    pub async fn load(&self, takes: Duration) -> u64 {
        let number = self.0.fetch_add(1, SeqCst) + 1;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        number
    }

    pub fn count(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
