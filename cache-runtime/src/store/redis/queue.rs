//! A queue of writes on a server: a stream per shard, with one consumer group, and what stands beside them.
//!
//! | key | |
//! |---|---|
//! | `base:s0`, `base:s1`, .. | streams; the id of a write is its number and `-0`, but of a replayed one, which has its own in a field |
//! | `base:meta` | `shards`, `last` number, `count` of writes, `term` (the last one's number), `retries` |
//! | `base:pending` | by the key of an entry: the mark of the last write that stored it, with its copy |
//! | `base:own` | by shard: until when it is whose, for which lease, in which term |
//! | `base:workers` | workers, by when their leases end |
//! | `base:dead` | dead letters |
//!
//! A worker's commands are scripts (`scripts.rs`) that look first whether the shard is its own: so one that
//! was paused takes nothing out of its order. A lease ends by the server's clock, for who wants to take the
//! shard; who still stands as its owner may go on.
//!
//! `synced.rs` waits for the disk, `doorbell.rs` for something to read, `check.rs` refuses servers that forget.

mod append;
mod check;
mod done;
mod doorbell;
mod keys;
mod replies;
mod scripts;
mod synced;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use redis::{Pipeline, Value, cmd};
use tracing::warn;

use self::doorbell::{BEGIN, Doorbell};
use self::keys::{Keys, MOST_SHARDS};
pub(super) use self::scripts::DROP;
use self::scripts::{AGAIN, FIGURES, LEAVE, READ, RECOVER, REPLAY, TEND};
use self::synced::Synced;
use super::abilities;
use super::link::{Link, Part};
use super::script::Script;
use super::wire::{bytes_of, count_of, millis};
use crate::error::{CacheError, StoreError};
use crate::store::Reply;
use crate::store::queue::{
    Appended, Buried, Checking, Delivery, Figures, Letter, Limits, NewWrite, Queue, Tenure, Term, shard_of,
};

/// How often the number of shards may turn out to be another one while one thing is done.
const TRIES: usize = 4;
/// How long a server may take to say what it is like.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest lease: the server's clock in milliseconds plus this is still a number of 13 digits.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

pub(super) struct RedisQueue {
    link: Arc<Link>,
    keys: Keys,
    /// How many shards there are, if that isn't what this program says; 0: it is.
    shards: AtomicU32,
    /// That was said.
    warned: AtomicBool,
    synced: Arc<Synced>,
    doorbell: Doorbell,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").field("base", &self.keys.base).finish_non_exhaustive()
    }
}

/// Who has a shard, as it stands in the hash behind the end of the lease.
fn holder(worker: &str, term: Term) -> String {
    format!("{} {worker}", term.number)
}

impl RedisQueue {
    pub(super) fn new(base: &str, link: Arc<Link>) -> Self {
        Self {
            link,
            keys: Keys::new(base),
            shards: AtomicU32::new(0),
            warned: AtomicBool::new(false),
            synced: Arc::default(),
            doorbell: Doorbell::default(),
        }
    }

    /// Whether the entries are in other slots, where no script of the queue reaches them.
    fn is_apart(&self) -> bool {
        self.link.options.part != Part::Whole
    }

    /// Gives up its own connections.
    pub(super) fn close(&self) {
        self.synced.close();
        self.doorbell.close();
    }

    fn shards(&self, limits: Limits) -> u32 {
        match self.shards.load(Relaxed) {
            0 => limits.shards,
            known => known,
        }
    }

    /// Whether a script was told a wrong number of shards: the right one is known then.
    fn is_other(&self, reply: &Value, limits: Limits) -> Result<bool, StoreError> {
        let Some(shards) = self.link.expect(replies::other_shards(reply))? else { return Ok(false) };
        if shards == 0 || shards as usize > MOST_SHARDS {
            return Err(StoreError::Refused(format!(
                "the queue has {shards} shards, and this version knows of {MOST_SHARDS} at most"
            )));
        }
        self.shards.store(shards, Relaxed);
        if shards != limits.shards && limits.shards > 0 && !self.warned.swap(true, Relaxed) {
            warn!(target: "cache_aside", queue = self.keys.base, shards, ignored = limits.shards, "the queue was made with another number of shards, which stays until all of its keys are removed");
        }
        Ok(true)
    }

    fn unsettled() -> StoreError {
        StoreError::Unavailable("the number of shards changes all the time".to_owned())
    }

    async fn run(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, StoreError> {
        script.run(&self.link, keys, args).await
    }

    /// For who must own the shard: none if it doesn't.
    async fn own(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Option<Value>, StoreError> {
        let reply = self.run(script, keys, args).await?;
        Ok((reply != Value::Nil).then_some(reply))
    }

    /// The same, whose reply is a number.
    async fn count(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Option<u64>, StoreError> {
        self.own(script, keys, args).await?.map(|reply| self.link.expect(count_of(&reply))).transpose()
    }
}

impl Queue for RedisQueue {
    fn check(&self, synced: bool) -> Checking<'_> {
        Box::pin(async move {
            let checked = check::check(&self.link, synced.then_some(&*self.synced));
            tokio::time::timeout(PATIENCE, checked).await.unwrap_or_else(|_| {
                Err(CacheError::Timeout("the server doesn't say what it is like".to_owned()))
            })
        })
    }

    fn reach(&self) -> Reply<'_, ()> {
        Box::pin(async move { self.link.connection().await.map(drop) })
    }

    fn append<'a>(&'a self, write: &'a NewWrite<'a>, limits: Limits) -> Reply<'a, Appended> {
        Box::pin(self.append_to(write, limits))
    }

    fn tend<'a>(
        &'a self,
        worker: &'a str,
        lease: Duration,
        release: &'a [Term],
        limits: Limits,
    ) -> Reply<'a, Tenure> {
        Box::pin(async move {
            self.doorbell.is_alive(worker);
            let lease = millis(lease.min(LONGEST)).to_string();
            let release: Vec<String> =
                release.iter().flat_map(|term| [term.shard.to_string(), term.number.to_string()]).collect();
            for _ in 0..TRIES {
                let shards = self.shards(limits);
                let Keys { own, workers, meta, .. } = &self.keys;
                let keys = self.keys.and_streams(&[own, workers, meta], shards);
                let shards = shards.to_string();
                let mut args = vec![shards.as_bytes(), worker.as_bytes(), lease.as_bytes()];
                args.extend(release.iter().map(String::as_bytes));
                let reply = self.run(&TEND, &keys, &args).await?;
                if !self.is_other(&reply, limits)? {
                    return self.link.expect(replies::tenure(reply));
                }
            }
            Err(Self::unsettled())
        })
    }

    fn leave<'a>(&'a self, worker: &'a str) -> Reply<'a, ()> {
        Box::pin(async move {
            self.doorbell.forget(worker);
            let reply = self.run(&LEAVE, &[&self.keys.own, &self.keys.workers], &[worker.as_bytes()]).await?;
            self.link.expect((reply == Value::Int(1)).then_some(()))
        })
    }

    fn forget(&self, worker: &str) {
        self.doorbell.forget(worker);
    }

    fn recover<'a>(&'a self, worker: &'a str, term: Term) -> Reply<'a, Option<Vec<Delivery>>> {
        Box::pin(async move {
            let (shard, holder) = (term.shard.to_string(), holder(worker, term));
            let keys = [&self.keys.own, self.keys.stream(term.shard)];
            let mut found = Vec::<Delivery>::new();
            loop {
                let after = found.last().map_or("-", |last| &last.id);
                let args = [&shard, &holder, worker, after].map(str::as_bytes);
                let Some(reply) = self.own(&RECOVER, &keys, &args).await? else { return Ok(None) };
                let (page, has_more) = self.link.expect(replies::page(reply))?;
                let is_over = !has_more || page.is_empty();
                found.extend(page);
                if is_over {
                    break;
                }
            }
            self.doorbell.came(worker, term, &found, BEGIN);
            Ok(Some(found))
        })
    }

    fn read<'a>(&'a self, worker: &'a str, term: Term, most: usize) -> Reply<'a, Option<Vec<Delivery>>> {
        Box::pin(async move {
            let (shard, holder) = (term.shard.to_string(), holder(worker, term));
            // What isn't known to have come could come twice, and behind what was sent later.
            let Some(seen) = self.doorbell.seen(worker, term) else { return Ok(None) };
            let many = most.to_string();
            let keys = [&self.keys.own, self.keys.stream(term.shard)];
            let args = [&shard, &holder, worker, &many, &seen].map(str::as_bytes);
            // Cancel: what this one was to bring comes with the next read of this term.
            let Some(reply) = self.own(&READ, &keys, &args).await? else { return Ok(None) };
            let found = self.link.expect(replies::deliveries(reply))?;
            self.doorbell.came(worker, term, &found, &seen);
            Ok(Some(found))
        })
    }

    fn again<'a>(&'a self, worker: &'a str, term: Term, id: &'a str, retry: bool) -> Reply<'a, bool> {
        Box::pin(async move {
            let (shard, holder) = (term.shard.to_string(), holder(worker, term));
            let keys = [&self.keys.own, self.keys.stream(term.shard), &self.keys.meta];
            let retry = if retry { "1" } else { "0" };
            let args = [&shard[..], &holder, worker, id, retry].map(str::as_bytes);
            Ok(self.count(&AGAIN, &keys, &args).await?.is_some())
        })
    }

    fn settle<'a>(&'a self, worker: &'a str, term: Term, done: &'a [Delivery]) -> Reply<'a, bool> {
        Box::pin(async move { Ok(self.settle_them(worker, term, done).await?.is_some()) })
    }

    fn bury<'a>(
        &'a self,
        worker: &'a str,
        term: Term,
        dead: &'a Delivery,
        cause: &'a str,
        limits: Limits,
    ) -> Reply<'a, Buried> {
        Box::pin(async move { Ok(self.bury_it(worker, term, dead, cause, limits).await?.0) })
    }

    fn arrivals<'a>(&'a self, worker: &'a str, shards: &'a [u32], patience: Duration) -> Reply<'a, ()> {
        Box::pin(async move {
            let streams: Vec<_> = shards.iter().map(|shard| (*shard, self.keys.stream(*shard))).collect();
            if streams.is_empty() {
                tokio::time::sleep(patience).await;
                return Ok(());
            }
            self.doorbell.wait(&self.link, worker, &streams, patience).await
        })
    }

    fn pending<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let reply = self.link.send(cmd("HGET").arg(&self.keys.pending).arg(key), true).await?;
            // A mark of another form isn't ours.
            Ok(self.link.expect(bytes_of(reply))?.as_ref().and_then(replies::copy))
        })
    }

    fn figures(&self) -> Reply<'_, Figures> {
        Box::pin(async move {
            let limits = Limits { shards: 0, capacity: 0, letters: 0 };
            for _ in 0..TRIES {
                let shards = self.shards(limits);
                let Keys { meta, workers, dead, .. } = &self.keys;
                let keys = self.keys.and_streams(&[meta, workers, dead], shards);
                let shards = shards.to_string();
                let args = [shards.as_bytes()];
                // It writes nothing, so it may be sent twice.
                let reply = match self.link.send(&FIGURES.call(&self.link, &keys, &args), true).await {
                    Err(error) if abilities::wants_whole(&self.link, &error) => {
                        self.link.send(&FIGURES.whole_call(&keys, &args), true).await?
                    }
                    answered => answered?,
                };
                if !self.is_other(&reply, limits)? {
                    return self.link.expect(replies::figures(reply));
                }
            }
            Err(Self::unsettled())
        })
    }

    fn letters(&self, most: usize) -> Reply<'_, Vec<Letter>> {
        Box::pin(async move {
            if most == 0 {
                return Ok(Vec::new());
            }
            let mut both = Pipeline::with_capacity(2);
            both.cmd("TIME")
                .cmd("XRANGE")
                .arg(&self.keys.dead)
                .arg("-")
                .arg("+")
                .arg("COUNT")
                .arg(most.min(i32::MAX as usize));
            let [time, found] = self.link.ask_many(&both).await?;
            self.link.expect(replies::letters(time?, found?))
        })
    }

    fn replay<'a>(&'a self, letter: &'a Letter, limits: Limits) -> Reply<'a, bool> {
        Box::pin(async move {
            for _ in 0..TRIES {
                let shards = self.shards(limits);
                let shard = shard_of(&letter.order_key, shards).to_string();
                let keys = self.keys.and_streams(&[&self.keys.meta, &self.keys.dead], shards);
                let shards = shards.to_string();
                let reply =
                    self.run(&REPLAY, &keys, &[&shards, &shard, &letter.id].map(String::as_bytes)).await?;
                if !self.is_other(&reply, limits)? {
                    return self.link.expect(replies::outcome(&reply)).map(|done| done == 1);
                }
            }
            Err(Self::unsettled())
        })
    }

    fn discard<'a>(&'a self, letter: &'a str) -> Reply<'a, bool> {
        Box::pin(async move {
            let reply = self.link.send(cmd("XDEL").arg(&self.keys.dead).arg(letter), false).await?;
            Ok(self.link.expect(count_of(&reply))? == 1)
        })
    }
}
