//! A queue of writes on a cluster.
//!
//! All keys of a queue are in one slot, so its scripts are steps as on any server. Entries are in slots of their
//! own. So an append removes them, before it is sent and after the reply, in the place of storing them: whoever
//! would load one asks the queue, which has the copy. They are removed once more when they aren't pending any
//! more. While one can't be removed nothing is appended, for others would go on reading it. What can't be removed
//! afterwards is kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::fleet::Fleet;
use super::route::route;
use super::slot::slot_of;
use crate::error::{CacheError, StoreError};
use crate::recovery::Target;
use crate::store::Reply;
use crate::store::queue::{
    Appended, Buried, Checking, Delivery, Figures, Letter, Limits, NewWrite, Queue, Tenure, Term,
};

pub(super) struct ClusterQueue {
    base: String,
    fleet: Arc<Fleet>,
}

impl fmt::Debug for ClusterQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterQueue").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ClusterQueue {
    pub(super) fn new(base: &str, fleet: Arc<Fleet>) -> Self {
        Self { base: base.to_owned(), fleet }
    }

    /// Removes an entry.
    async fn drop_entry(&self, key: &str) -> Result<(), StoreError> {
        let removed = async { route!(&self.fleet, key, |store| store.drop_entry(key)) };
        timeout(self.fleet.options.budget, removed)
            .await
            .unwrap_or_else(|_| Err(StoreError::Timeout("no answer within the budget".to_owned())))
    }

    /// Removes these entries; what can't be removed now is kept.
    async fn drop_entries(&self, keys: impl Iterator<Item = &str>) {
        let each = keys.map(|key| async move {
            if self.drop_entry(key).await.is_err() {
                self.fleet.kept.keep(Target::Key(key.to_owned()), None);
                self.fleet.call();
            }
        });
        join_all(each).await;
    }
}

/// An operation of the queue where its keys are.
macro_rules! queued {
    ($self:ident, |$queue:ident| $operation:expr) => {
        Box::pin(async move {
            route!(&$self.fleet, &$self.base, |store| async {
                let $queue = store.own_queue(&$self.base);
                $operation.await
            })
        })
    };
}

impl Queue for ClusterQueue {
    fn check(&self, synced: bool) -> Checking<'_> {
        Box::pin(async move {
            let node = self.fleet.owner(slot_of(self.base.as_bytes())).await.map_err(CacheError::from)?;
            node.store.own_queue(&self.base).check(synced).await
        })
    }

    fn reach(&self) -> Reply<'_, ()> {
        queued!(self, |queue| queue.reach())
    }

    fn append<'a>(&'a self, write: &'a NewWrite<'a>, limits: Limits) -> Reply<'a, Appended> {
        Box::pin(async move {
            let keys = || write.entries.iter().map(|entry| entry.key.as_str());
            // Before: a load that began before the append finds its lease gone, and isn't stored.
            join_all(keys().map(|key| self.drop_entry(key))).await.into_iter().collect::<Result<(), _>>()?;
            let appended = route!(&self.fleet, &self.base, |store| async {
                store.own_queue(&self.base).append(write, limits).await
            });
            // Whatever came of it: an append whose reply was lost may have been carried out.
            self.drop_entries(keys()).await;
            appended
        })
    }

    fn tend<'a>(
        &'a self,
        worker: &'a str,
        lease: Duration,
        release: &'a [Term],
        limits: Limits,
    ) -> Reply<'a, Tenure> {
        queued!(self, |queue| queue.tend(worker, lease, release, limits))
    }

    fn leave<'a>(&'a self, worker: &'a str) -> Reply<'a, ()> {
        queued!(self, |queue| queue.leave(worker))
    }

    fn forget(&self, worker: &str) {
        for node in self.fleet.known() {
            node.store.own_queue(&self.base).forget(worker);
        }
    }

    fn recover<'a>(&'a self, worker: &'a str, term: Term) -> Reply<'a, Option<Vec<Delivery>>> {
        queued!(self, |queue| queue.recover(worker, term))
    }

    fn read<'a>(&'a self, worker: &'a str, term: Term, most: usize) -> Reply<'a, Option<Vec<Delivery>>> {
        queued!(self, |queue| queue.read(worker, term, most))
    }

    fn again<'a>(&'a self, worker: &'a str, term: Term, id: &'a str, retry: bool) -> Reply<'a, bool> {
        queued!(self, |queue| queue.again(worker, term, id, retry))
    }

    fn settle<'a>(&'a self, worker: &'a str, term: Term, done: &'a [Delivery]) -> Reply<'a, bool> {
        Box::pin(async move {
            let over = route!(&self.fleet, &self.base, |store| async {
                store.own_queue(&self.base).settle_them(worker, term, done).await
            })?;
            let Some(over) = over else { return Ok(false) };
            self.drop_entries(over.into_iter()).await;
            Ok(true)
        })
    }

    fn bury<'a>(
        &'a self,
        worker: &'a str,
        term: Term,
        dead: &'a Delivery,
        cause: &'a str,
        limits: Limits,
    ) -> Reply<'a, Buried> {
        Box::pin(async move {
            let (buried, over) = route!(&self.fleet, &self.base, |store| async {
                store.own_queue(&self.base).bury_it(worker, term, dead, cause, limits).await
            })?;
            self.drop_entries(over.into_iter()).await;
            Ok(buried)
        })
    }

    fn arrivals<'a>(&'a self, worker: &'a str, shards: &'a [u32], patience: Duration) -> Reply<'a, ()> {
        queued!(self, |queue| queue.arrivals(worker, shards, patience))
    }

    fn pending<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        queued!(self, |queue| queue.pending(key))
    }

    fn figures(&self) -> Reply<'_, Figures> {
        queued!(self, |queue| queue.figures())
    }

    fn letters(&self, most: usize) -> Reply<'_, Vec<Letter>> {
        queued!(self, |queue| queue.letters(most))
    }

    fn replay<'a>(&'a self, letter: &'a Letter, limits: Limits) -> Reply<'a, bool> {
        queued!(self, |queue| queue.replay(letter, limits))
    }

    fn discard<'a>(&'a self, letter: &'a str) -> Reply<'a, bool> {
        queued!(self, |queue| queue.discard(letter))
    }
}
