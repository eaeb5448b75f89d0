//! A queue whose store fails.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::error::StoreError;
use crate::store::Reply;
use crate::store::queue::{
    Appended, Buried, Checking, Delivery, Figures, Letter, Limits, NewWrite, Queue, Tenure, Term,
};

/// A queue that doesn't answer what it is told not to answer.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) dark: Mutex<HashSet<&'static str>>,
    pub(super) panics: Mutex<HashSet<&'static str>>,
    /// The last worker that was heard of.
    pub(super) worker: Mutex<String>,
    /// How long it takes to settle.
    pub(super) settles_in: Mutex<Duration>,
    pub(super) settling: AtomicUsize,
    /// What left the queue at a time.
    pub(super) batches: Mutex<Vec<Vec<u64>>>,
}

impl Faulty {
    pub(super) fn new(queue: Arc<dyn Queue>) -> Self {
        Self {
            queue,
            dark: Mutex::default(),
            panics: Mutex::default(),
            worker: Mutex::default(),
            settles_in: Mutex::default(),
            settling: AtomicUsize::new(0),
            batches: Mutex::default(),
        }
    }

    pub(super) fn set(&self, dark: &[&'static str]) {
        *self.dark.lock().unwrap() = dark.iter().copied().collect();
    }

    fn reply<'a, T: Send + 'a>(&'a self, name: &'static str, reply: Reply<'a, T>) -> Reply<'a, T> {
        Box::pin(async move {
            assert!(!self.panics.lock().unwrap().remove(name), "as told");
            if self.dark.lock().unwrap().contains(name) {
                return Err(StoreError::Unavailable("dark".to_owned()));
            }
            reply.await
        })
    }
}

impl Queue for Faulty {
    fn check(&self, synced: bool) -> Checking<'_> {
        Box::pin(async move {
            self.reply("check", Box::pin(async { Ok(()) })).await?;
            self.queue.check(synced).await
        })
    }
    fn reach(&self) -> Reply<'_, ()> {
        self.reply("reach", self.queue.reach())
    }
    fn append<'a>(&'a self, write: &'a NewWrite<'a>, limits: Limits) -> Reply<'a, Appended> {
        self.reply("append", self.queue.append(write, limits))
    }
    fn tend<'a>(
        &'a self,
        worker: &'a str,
        lease: Duration,
        release: &'a [Term],
        limits: Limits,
    ) -> Reply<'a, Tenure> {
        worker.clone_into(&mut self.worker.lock().unwrap());
        self.reply("tend", self.queue.tend(worker, lease, release, limits))
    }
    fn leave<'a>(&'a self, worker: &'a str) -> Reply<'a, ()> {
        self.reply("leave", self.queue.leave(worker))
    }
    fn recover<'a>(&'a self, worker: &'a str, term: Term) -> Reply<'a, Option<Vec<Delivery>>> {
        self.reply("recover", self.queue.recover(worker, term))
    }
    fn read<'a>(&'a self, worker: &'a str, term: Term, most: usize) -> Reply<'a, Option<Vec<Delivery>>> {
        self.reply("read", self.queue.read(worker, term, most))
    }
    fn again<'a>(&'a self, worker: &'a str, term: Term, id: &'a str, retry: bool) -> Reply<'a, bool> {
        self.reply("again", self.queue.again(worker, term, id, retry))
    }
    fn settle<'a>(&'a self, worker: &'a str, term: Term, done: &'a [Delivery]) -> Reply<'a, bool> {
        let settle = async move {
            assert_eq!(self.settling.fetch_add(1, SeqCst), 0, "one batch at a time");
            let takes = *self.settles_in.lock().unwrap();
            sleep(takes).await;
            self.settling.fetch_sub(1, SeqCst);
            self.batches.lock().unwrap().push(done.iter().map(|done| done.seq).collect());
            self.queue.settle(worker, term, done).await
        };
        self.reply("settle", Box::pin(settle))
    }
    fn bury<'a>(
        &'a self,
        worker: &'a str,
        term: Term,
        dead: &'a Delivery,
        cause: &'a str,
        limits: Limits,
    ) -> Reply<'a, Buried> {
        self.batches.lock().unwrap().push(vec![dead.seq]);
        self.reply("bury", self.queue.bury(worker, term, dead, cause, limits))
    }
    fn arrivals<'a>(&'a self, worker: &'a str, shards: &'a [u32], patience: Duration) -> Reply<'a, ()> {
        self.reply("arrivals", self.queue.arrivals(worker, shards, patience))
    }
    fn pending<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        self.reply("pending", self.queue.pending(key))
    }
    fn figures(&self) -> Reply<'_, Figures> {
        self.queue.figures()
    }
    fn letters(&self, most: usize) -> Reply<'_, Vec<Letter>> {
        self.reply("letters", self.queue.letters(most))
    }
    fn replay<'a>(&'a self, letter: &'a Letter, limits: Limits) -> Reply<'a, bool> {
        self.reply("replay", self.queue.replay(letter, limits))
    }
    fn discard<'a>(&'a self, letter: &'a str) -> Reply<'a, bool> {
        self.reply("discard", self.queue.discard(letter))
    }
}
