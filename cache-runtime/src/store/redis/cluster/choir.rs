//! The connections that tell what changes, one for each primary, as one keeper hears them.
//!
//! Each tells of the keys that were read over it. When one ends, only what is in the slots of its node is
//! forgotten; and what is in a slot is forgotten when that gets another owner. So whatever is kept was read
//! over a connection that still tells, but for what was read and isn't kept yet: its ticket was made before the
//! read, so it is dirty.
//!
//! A sign of life counts for all that is kept, so it is the oldest one of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::slot::{SlotMap, slot_of};
use crate::store::Keeper;

pub(super) struct Choir {
    keeper: OnceLock<Arc<dyn Keeper>>,
    // std mutex: never held across an await. The keeper is told under it, so in order.
    state: Mutex<State>,
}

struct State {
    map: Arc<SlotMap>,
    /// When each was last heard, by node.
    heard: BTreeMap<usize, u64>,
    /// The nodes that don't tell.
    mute: BTreeSet<usize>,
    /// What the keeper was told last.
    told: u64,
}

impl Choir {
    pub(super) fn new() -> Self {
        let map = Arc::new(SlotMap::empty());
        let state = State { map, heard: BTreeMap::new(), mute: BTreeSet::new(), told: 0 };
        Self { keeper: OnceLock::new(), state: Mutex::new(state) }
    }

    pub(super) fn tell(&self, keeper: Arc<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
    }

    fn with(&self, act: impl FnOnce(&dyn Keeper, MutexGuard<'_, State>)) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = self.keeper.get() {
            act(&**keeper, state);
        }
    }

    /// These slots have other owners now: so it is from when this has returned. Whoever reads finds the new
    /// owners already.
    pub(super) fn moved(&self, map: &Arc<SlotMap>, slots: &BTreeSet<u16>) {
        self.with(|keeper, mut state| {
            state.map = Arc::clone(map);
            if !slots.is_empty() {
                keeper.forget_those(&|key| slots.contains(&slot_of(key)));
            }
        });
    }
}

impl State {
    /// Tells how old the oldest sign of life is.
    fn tell(&mut self, keeper: &dyn Keeper) {
        let Some(oldest) = self.heard.values().min().copied() else { return };
        if self.mute.is_empty() && oldest > self.told {
            keeper.alive(oldest);
            self.told = oldest;
        }
    }

    /// Begins anew: with all that tell, or with nobody.
    fn begin(&mut self, keeper: &dyn Keeper) {
        if !self.mute.is_empty() {
            return keeper.without_tracking();
        }
        match self.heard.values().min().copied() {
            Some(oldest) => {
                keeper.connected(oldest);
                self.told = oldest;
            }
            None => keeper.disconnected(),
        }
    }
}

/// The connection of one node.
pub(super) struct Voice {
    choir: Arc<Choir>,
    node: usize,
}

impl Voice {
    pub(super) fn new(choir: Arc<Choir>, node: usize) -> Self {
        Self { choir, node }
    }
}

impl Keeper for Voice {
    fn forget(&self, key: &[u8]) {
        // Not under the lock: nothing else depends on it.
        if let Some(keeper) = self.choir.keeper.get() {
            keeper.forget(key);
        }
    }

    fn forget_all(&self) {
        self.choir.with(|keeper, _state| keeper.forget_all());
    }

    fn forget_those(&self, those: &dyn Fn(&[u8]) -> bool) {
        self.choir.with(|keeper, _state| keeper.forget_those(those));
    }

    fn connected(&self, sent: u64) {
        self.choir.with(|keeper, mut state| {
            let is_first = state.heard.is_empty();
            state.heard.insert(self.node, sent);
            // One that was asked longer ago than the keeper was told: that can't be taken back.
            if is_first || sent < state.told {
                state.begin(keeper);
            } else {
                state.tell(keeper);
            }
        });
    }

    fn alive(&self, sent: u64) {
        self.choir.with(|keeper, mut state| {
            if let Some(heard) = state.heard.get_mut(&self.node) {
                *heard = sent.max(*heard);
                state.tell(keeper);
            }
        });
    }

    fn disconnected(&self) {
        self.choir.with(|keeper, mut state| {
            let (map, node) = (Arc::clone(&state.map), self.node);
            let spoke = state.heard.remove(&node).is_some();
            if !state.mute.remove(&node) && !spoke {
                return;
            }
            keeper.forget_those(&|key| map.is_of(slot_of(key), node));
            if !spoke && state.mute.is_empty() || state.heard.is_empty() {
                // The last one that didn't tell, or that did.
                state.begin(keeper);
            } else {
                state.tell(keeper);
            }
        });
    }

    fn without_tracking(&self) {
        self.choir.with(|keeper, mut state| {
            if state.mute.insert(self.node) && state.mute.len() == 1 {
                state.begin(keeper);
            }
        });
    }

    fn sweep(&self) {
        if let Some(keeper) = self.choir.keeper.get() {
            keeper.sweep();
        }
    }
}
