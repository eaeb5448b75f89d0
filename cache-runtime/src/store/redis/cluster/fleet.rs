//! The nodes of a cluster, and which of them has a slot.
//!
//! A map of all slots says who is asked. A node that says otherwise (`MOVED`) is believed at once, for that slot,
//! and the map is asked for anew. Somebody must do that, and carry out invalidations that were kept: the
//! steward (`steward.rs`), a task on the runtime of whoever found none.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::choir::Choir;
use super::node::Node;
use super::slot::{Range, SLOTS, SlotMap, key_in};
use super::steward::Steward;
use crate::clock;
use crate::error::StoreError;
use crate::recovery::Kept;
use crate::store::Store;
use crate::store::redis::address::Address;
use crate::store::redis::link::LinkOptions;

/// How long a steward may give no sign of life: more than its longest step.
const ABSENT: u64 = 3_000;

pub(super) struct Fleet {
    pub(super) seeds: Vec<Address>,
    pub(super) options: LinkOptions,
    pub(super) kept: Arc<Kept>,
    /// What all keys begin with.
    beginning: String,
    pub(super) choir: Arc<Choir>,
    // std mutex: never held across an await
    state: Mutex<State>,
    /// Rung when the map changes, or can't be had.
    changed: Notify,
    /// Rung when the steward should look.
    pub(super) attention: Notify,
    /// The map may be wrong.
    is_doubted: AtomicBool,
    /// The number of the steward in office, and when it last gave a sign of life; 0: there is none.
    office: AtomicU64,
    alive: AtomicU64,
    /// `cluster_current_epoch` of the map.
    epoch: AtomicU64,
    /// Of the next node.
    number: AtomicUsize,
    /// Since when nobody holds the cache any more, though invalidations are kept; 0: it is held.
    closing: AtomicU64,
}

struct State {
    map: Arc<SlotMap>,
    /// All that were made and may still be asked.
    nodes: Vec<Arc<Node>>,
    view: View,
}

/// What is known of the map.
enum View {
    /// Nobody has said anything yet.
    Unknown,
    Known,
    /// There has never been one, for this reason.
    Failed(String),
    Closed,
}

impl Fleet {
    pub(super) fn new(
        seeds: Vec<Address>,
        options: LinkOptions,
        kept: Arc<Kept>,
        namespace: Option<&str>,
    ) -> Self {
        let state = State { map: Arc::new(SlotMap::empty()), nodes: Vec::new(), view: View::Unknown };
        Self {
            seeds,
            options,
            kept,
            beginning: namespace.map(|name| format!("{name}:")).unwrap_or_default(),
            choir: Arc::new(Choir::new()),
            state: Mutex::new(state),
            changed: Notify::new(),
            attention: Notify::new(),
            is_doubted: AtomicBool::new(true),
            office: AtomicU64::new(0),
            alive: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            number: AtomicUsize::new(0),
            closing: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has the slot. While there is no map yet, it is waited for.
    pub(super) async fn owner(self: &Arc<Self>, slot: u16) -> Result<Arc<Node>, StoreError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.state();
                match (&state.view, state.map.owner(slot)) {
                    (View::Closed, _) => return Err(closed()),
                    (_, Some(node)) => return Ok(Arc::clone(node)),
                    (View::Known, None) => {
                        drop(state);
                        self.doubt();
                        return Err(StoreError::Unavailable(format!(
                            "no node of the cluster has slot {slot}"
                        )));
                    }
                    (View::Failed(why), None) if !self.is_absent() => {
                        return Err(StoreError::Unavailable(why.clone()));
                    }
                    (View::Failed(_) | View::Unknown, None) => {}
                }
            }
            if self.recruit() == Some(false) {
                return Err(StoreError::Unavailable("there is no tokio runtime to connect on".to_owned()));
            }
            changed.await;
        }
    }

    /// The map as it is; none if there is none yet.
    pub(super) async fn map(self: &Arc<Self>) -> Result<Arc<SlotMap>, StoreError> {
        // Any slot will do: the map comes as a whole.
        match self.owner(0).await {
            Err(error) if !matches!(self.state().view, View::Known) => Err(error),
            _ => Ok(Arc::clone(&self.state().map)),
        }
    }

    /// Who is at this address, if the cluster is to be believed.
    pub(super) fn node_at(&self, host: &str, port: u16) -> Arc<Node> {
        self.state().node_at(self, host, port)
    }

    /// A node says that the slot is there: so the next who asks goes there.
    pub(super) fn moved(self: &Arc<Self>, slot: u16, host: &str, port: u16) -> Result<Arc<Node>, StoreError> {
        if slot >= SLOTS {
            return Err(StoreError::Unavailable("a node told of a slot that there isn't".to_owned()));
        }
        let mut state = self.state();
        if let View::Closed = state.view {
            return Err(closed());
        }
        let node = state.node_at(self, host, port);
        if state.map.is_of(slot, node.number) {
            drop(state);
        } else {
            let mut map = SlotMap::clone(&state.map);
            map.give(slot, slot, &node);
            self.change(state, map);
        }
        self.doubt();
        Ok(node)
    }

    /// A key of this slot, to ask who has it.
    pub(super) fn probe(&self, slot: u16) -> String {
        key_in(slot, &self.beginning)
    }

    /// How far the cluster was when the map was made.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// The map as a node tells it, which is at this host.
    pub(super) fn learn(&self, ranges: &[Range], host: &str, epoch: u64) {
        self.epoch.store(epoch, Relaxed);
        let mut state = self.state();
        if let View::Closed = state.view {
            return;
        }
        let mut map = SlotMap::empty();
        for Range { first, last, host: named, port } in ranges {
            let node = state.node_at(self, named.as_deref().unwrap_or(host), *port);
            map.give(*first, *last, &node);
        }
        let (primaries, uncovered) = (map.primaries(), map.uncovered());
        let is_news = !matches!(state.view, View::Known) || state.map.uncovered() != uncovered;
        state.view = View::Known;
        self.change(state, map);
        if is_news && uncovered > 0 {
            warn!(target: "cache_aside", uncovered, "slots of the cluster that no node has: functions whose keys are there run uncached");
        } else if is_news {
            info!(target: "cache_aside", primaries = primaries.len(), "the slots of the cluster are known");
        }
        for (node, slot) in primaries {
            node.store.probe(slot, || self.probe(slot));
        }
    }

    /// Puts another map in the place of the one that there is; then what was read where it isn't any more is
    /// forgotten.
    fn change(&self, mut state: MutexGuard<'_, State>, map: SlotMap) {
        let slots: BTreeSet<u16> = map.changed_since(&state.map).collect();
        let map = Arc::new(map);
        state.map = Arc::clone(&map);
        let owners: BTreeSet<usize> = map.primaries().iter().map(|(node, _)| node.number).collect();
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut state.nodes)
            .into_iter()
            .partition(|node: &Arc<Node>| owners.contains(&node.number) || node.is_importing());
        state.nodes = stay;
        // The first map is no change: nobody has read anything.
        self.choir.moved(&map, &slots);
        drop(state);
        // Under no lock: they tell the choir.
        for node in gone {
            node.close();
        }
        self.changed.notify_waiters();
    }

    /// There is no map to be had.
    pub(super) fn fail(&self, why: &str) {
        let mut state = self.state();
        if let View::Unknown | View::Failed(_) = state.view {
            if let View::Unknown = state.view {
                warn!(target: "cache_aside", why, "no node of the cluster can be reached: functions run uncached until one is");
            }
            state.view = View::Failed(why.to_owned());
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// All that may be asked for the map, those that are known first.
    pub(super) fn known(&self) -> Vec<Arc<Node>> {
        self.state().nodes.clone()
    }

    /// The map may be wrong, or invalidations wait: the steward looks at once.
    pub(super) fn doubt(self: &Arc<Self>) {
        self.is_doubted.store(true, Relaxed);
        self.call();
    }

    pub(super) fn call(self: &Arc<Self>) {
        self.recruit();
        self.attention.notify_one();
    }

    /// Whether somebody doubts the map; from now on nobody does.
    pub(super) fn take_doubt(&self) -> bool {
        self.is_doubted.swap(false, Relaxed)
    }

    /// Puts a steward on this runtime if none does its work; says whether that was possible.
    fn recruit(self: &Arc<Self>) -> Option<bool> {
        let number = {
            let state = self.state();
            if matches!(state.view, View::Closed) || !self.is_absent() {
                return None;
            }
            if Handle::try_current().is_err() {
                return Some(false);
            }
            self.beat();
            self.office.fetch_add(1, Relaxed) + 1
        };
        // Not under the lock: a runtime that is ending drops the task right here.
        Handle::current().spawn(Steward::new(Arc::clone(self), number).run());
        Some(true)
    }

    fn is_absent(&self) -> bool {
        let alive = self.alive.load(Relaxed);
        alive == 0 || clock::millis().saturating_sub(alive) > ABSENT
    }

    pub(super) fn beat(&self) {
        self.alive.store(clock::millis().max(1), Relaxed);
    }

    pub(super) fn is_in_office(&self, number: u64) -> bool {
        self.office.load(Relaxed) == number && !matches!(self.state().view, View::Closed)
    }

    /// The steward goes: the next caller puts another in its place.
    pub(super) fn vacate(&self, number: u64) {
        if self.office.load(Relaxed) == number {
            self.alive.store(0, Relaxed);
            self.changed.notify_waiters();
        }
    }

    /// Every node is to be connected to anew.
    pub(super) fn distrust(&self, why: &'static str) {
        self.known().iter().for_each(|node| node.store.distrust(why));
    }

    /// Gives up all connections for good.
    pub(super) fn close(&self) {
        let gone = {
            let mut state = self.state();
            state.view = View::Closed;
            state.map = Arc::new(SlotMap::empty());
            std::mem::take(&mut state.nodes)
        };
        for node in gone {
            node.close();
        }
        self.attention.notify_one();
        self.changed.notify_waiters();
    }

    /// The last handle of the cache is gone: closes, after what is kept was carried out.
    pub(super) fn retire(self: &Arc<Self>) {
        if self.kept.is_empty() {
            return self.close();
        }
        self.closing.store(clock::millis().max(1), Relaxed);
        self.call();
    }

    /// How long it has been closing, in milliseconds.
    pub(super) fn closing(&self) -> Option<u64> {
        match self.closing.load(Relaxed) {
            0 => None,
            since => Some(clock::millis().saturating_sub(since)),
        }
    }
}

impl State {
    fn node_at(&mut self, fleet: &Fleet, host: &str, port: u16) -> Arc<Node> {
        if let Some(node) = self.nodes.iter().find(|node| node.is_at(host, port)) {
            return Arc::clone(node);
        }
        let number = fleet.number.fetch_add(1, Relaxed);
        let address = fleet.seeds[0].at(host, port);
        let node = Arc::new(Node::new(number, address, fleet.options, &fleet.choir));
        self.nodes.push(Arc::clone(&node));
        node
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it was closed".to_owned())
}
