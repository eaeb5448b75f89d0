//! One primary of a cluster.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::choir::{Choir, Voice};
use crate::clock;
use crate::recovery::Kept;
use crate::store::Store;
use crate::store::redis::RedisStore;
use crate::store::redis::address::Address;
use crate::store::redis::link::{LinkOptions, Part};

/// How long a node is kept that has no slot, after a key of one was asked for there: in milliseconds.
const MIGRATION: u64 = 60_000;

/// A primary, and all that there is for a server of its own: its connections, its breaker.
pub(super) struct Node {
    /// Nobody else's, ever.
    pub(super) number: usize,
    pub(super) address: Address,
    pub(super) store: RedisStore,
    options: LinkOptions,
    /// The same, for a slot that it is being given. Made when that happens.
    importing: OnceLock<RedisStore>,
    /// When it was last asked so.
    asked: AtomicU64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Node {
    pub(super) fn new(number: usize, address: Address, options: LinkOptions, choir: &Arc<Choir>) -> Self {
        let options = LinkOptions { part: Part::Node, ..options };
        let store = store(&address, options);
        store.track(Arc::new(Voice::new(Arc::clone(choir), number)));
        Self { number, address, store, options, importing: OnceLock::new(), asked: AtomicU64::new(0) }
    }

    /// Asked so it answers for a slot that it hasn't yet.
    pub(super) fn importing(&self) -> &RedisStore {
        self.asked.store(clock::millis(), Relaxed);
        self.importing
            .get_or_init(|| store(&self.address, LinkOptions { part: Part::Importing, ..self.options }))
    }

    /// Whether a slot is on its way to it, as far as anybody has asked.
    pub(super) fn is_importing(&self) -> bool {
        let asked = self.asked.load(Relaxed);
        asked > 0 && clock::millis().saturating_sub(asked) < MIGRATION
    }

    /// Whether this is where it is.
    pub(super) fn is_at(&self, host: &str, port: u16) -> bool {
        self.address.node() == Some((host, port))
    }

    pub(super) fn close(&self) {
        self.store.close();
        if let Some(importing) = self.importing.get() {
            importing.close();
        }
    }
}

/// What waits is kept for the whole cluster (`steward.rs`), not here.
fn store(address: &Address, options: LinkOptions) -> RedisStore {
    RedisStore::new(address.clone(), options, Arc::new(Kept::new(1, "*".to_owned())))
}
