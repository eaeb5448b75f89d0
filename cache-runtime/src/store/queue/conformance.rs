//! What every queue does: the contract of `Queue` as tests, which each store's queue passes.

mod entries;
mod letters;
mod order;
mod tenure;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Appended, Delivery, Figures, Limits, NewEntry, NewWrite, Queue, Tenure, Term, shard_of};
use crate::store::Store;

pub(crate) use entries::*;
pub(crate) use letters::*;
pub(crate) use order::*;
pub(crate) use tenure::*;

/// Makes a test of each. `$make` is an async function that gives a store, and whatever keeps it alive.
macro_rules! queue_conformance {
    ($make:path) => {
        $crate::store::queue::conformance::queue_conformance! { $make:
            a_write_comes_back_whole numbers_grow writes_of_a_shard_come_in_their_order
            a_full_queue_changes_nothing figures_say_what_there_is arrivals_are_heard_of
            the_first_number_of_shards_stays
            a_worker_has_its_share_and_no_more who_leaves_frees_its_shards_at_once a_lease_ends
            strangers_are_refused_and_change_nothing a_term_ends_when_another_begins
            what_another_was_handed_is_recovered_in_order deliveries_are_counted_when_tried_again
            entries_are_stored_with_the_write newer_versions_go_and_fences_stay
            the_last_copy_is_pending an_entry_stays_when_its_write_is_settled
            an_entry_that_is_another_goes_when_its_write_is_settled
            an_entry_of_a_later_write_stays writes_settled_together
            a_buried_write_takes_its_entry_along letters_are_bounded_and_come_in_order
            a_letter_is_discarded_once a_replayed_letter_keeps_its_number
        }
    };
    ($make:path: $($check:ident)*) => { $(
        #[tokio::test]
        async fn $check() {
            let (store, _kept) = $make().await;
            let bench = $crate::store::queue::conformance::Bench::new(&store);
            $crate::store::queue::conformance::$check(&bench).await;
        }
    )* };
}
pub(crate) use queue_conformance;

pub(crate) const BASE: &str = "shop:@writes:{q}";
pub(crate) const LIMITS: Limits = Limits { shards: 4, capacity: 100, letters: 3 };
pub(crate) const LEASE: Duration = Duration::from_secs(600);
/// For what a store waits for by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A queue, and the cache beside it.
pub(crate) struct Bench<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) queue: Arc<dyn Queue>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(store: &'a impl Store) -> Self {
        Self { store, queue: store.queue(BASE) }
    }

    /// Appends to the shard of this order key.
    pub(crate) async fn append(&self, order_key: &str, payload: &str, entries: &[NewEntry]) -> u64 {
        match self.try_append(order_key, payload, entries, LIMITS).await {
            Appended::At(seq) => seq,
            Appended::Full => panic!("full"),
        }
    }

    pub(crate) async fn try_append(
        &self,
        order_key: &str,
        payload: &str,
        entries: &[NewEntry],
        limits: Limits,
    ) -> Appended {
        let payload = payload.as_bytes();
        let write = NewWrite { kind: "save", order_key, payload, entries, synced: false };
        self.queue.append(&write, limits).await.unwrap()
    }

    pub(crate) async fn tend(&self, worker: &str) -> Tenure {
        self.queue.tend(worker, LEASE, &[], LIMITS).await.unwrap()
    }

    /// Makes this worker the only one, and gives the term of this order key's shard.
    pub(crate) async fn term(&self, worker: &str, order_key: &str) -> Term {
        let shard = shard_of(order_key, LIMITS.shards);
        let tenure = self.tend(worker).await;
        let term = *tenure.shards.iter().find(|term| term.shard == shard).expect("it is alone");
        assert!(self.queue.recover(worker, term).await.unwrap().is_some());
        term
    }

    pub(crate) async fn read(&self, worker: &str, term: Term) -> Vec<Delivery> {
        self.queue.read(worker, term, 100).await.unwrap().expect("its own shard")
    }

    /// Reads the only write that there is.
    pub(crate) async fn read_one(&self, worker: &str, term: Term) -> Delivery {
        let mut all = self.read(worker, term).await;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub(crate) async fn settle(&self, worker: &str, term: Term, done: &[Delivery]) {
        assert!(self.queue.settle(worker, term, done).await.unwrap(), "its own shard");
    }

    pub(crate) async fn figures(&self) -> Figures {
        self.queue.figures().await.unwrap()
    }

    pub(crate) async fn pending(&self, key: &str) -> Option<String> {
        self.queue.pending(key).await.unwrap().map(text)
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Bytes> {
        self.store.get(key).await.unwrap()
    }

    pub(crate) async fn shows(&self, key: &str) -> Option<String> {
        self.get(key).await.map(text)
    }

    pub(crate) async fn set(&self, key: &str, value: impl Into<Bytes>) {
        self.store.set(key, value.into(), Some(LEASE)).await.unwrap();
    }
}

#[allow(clippy::needless_pass_by_value)] // for `map`
pub(crate) fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Plain JSON, with a copy that says what it is of.
pub(crate) fn entry(key: &str, value: impl Into<Bytes>, copy: &str) -> NewEntry {
    NewEntry {
        key: key.to_owned(),
        value: Some(value.into()),
        life: Some(LEASE),
        copy: Bytes::copy_from_slice(copy.as_bytes()),
    }
}

pub(crate) fn payloads(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| str::from_utf8(&delivery.payload).unwrap()).collect()
}

/// An order key of another shard.
pub(crate) fn other_than(order_key: &str, shards: u32) -> String {
    let is_other = |other: &String| shard_of(other, shards) != shard_of(order_key, shards);
    (0..1000).map(|n| n.to_string()).find(is_other).expect("they are spread")
}

pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(what, wait).await;
}

pub(crate) async fn in_time<T>(what: &str, step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.unwrap_or_else(|_| panic!("not in {PATIENCE:?}: {what}"))
}
