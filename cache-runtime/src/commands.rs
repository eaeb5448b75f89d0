//! What one call asks of the store, and what the answers are to it.
//!
//! All commands before the load share one budget, so a server that answers slowly costs a call no
//! more than that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;

use crate::cache::Cache;
use crate::clock;
use crate::error::StoreError;
use crate::events::Books;
use crate::hold::Hold;
use crate::near::Ticket;
use crate::reads::{Answers, one_by_one};
use crate::record::{self, Found, Prefix, Value};
use crate::shared::{self, Core};
use crate::sight::{Ask, Hit, Sight};
use crate::store::{Aged, Reply, Tracked};

/// The commands of one call.
#[derive(Debug)]
pub(crate) struct Commands<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) ask: Ask,
    /// What is left of the store's budget.
    pub(crate) left: Duration,
}

impl<'a> Commands<'a> {
    pub(crate) fn new(cache: &'a Cache, ask: Ask) -> Self {
        Self { cache, ask, left: cache.core().options.budget }
    }

    /// With the lifetime of the cache, so that a reply doesn't borrow the call.
    pub(crate) fn core(&self) -> &'a Core {
        self.cache.core()
    }

    pub(crate) fn books(&self) -> Books<'a> {
        self.core().books(self.ask.site)
    }

    /// Gives the commands to come a budget of their own: the call has waited for something else.
    pub(crate) fn renew(&mut self) {
        self.left = self.core().options.budget;
    }

    /// Asks the store, out of what is left of the budget.
    pub(crate) async fn spend<T>(
        left: &mut Duration,
        core: &Core,
        operation: Reply<'_, T>,
    ) -> Result<T, StoreError> {
        Self::within(left, core, |left| core.timed_by(left, operation)).await
    }

    /// Asks the store, which is told how much is left of the budget.
    pub(crate) async fn within<T, F: Future<Output = Result<T, StoreError>>>(
        left: &mut Duration,
        core: &Core,
        ask: impl FnOnce(Duration) -> F,
    ) -> Result<T, StoreError> {
        if !core.store.is_remote() {
            return ask(*left).await;
        }
        if left.is_zero() {
            // Not the server's fault: nothing was asked.
            return Err(StoreError::Timeout("the budget is spent".to_owned()));
        }
        let begun = Instant::now();
        let answer = ask(*left).await;
        *left = left.saturating_sub(begun.elapsed());
        answer
    }

    /// What stands under the key.
    pub(crate) async fn look(&mut self) -> Sight {
        let core = self.core();
        if self.ask.is_tagged() {
            let is_aged = self.ask.asks_age();
            let sight = Box::pin(self.judge(is_aged)).await;
            return Box::pin(self.settled(sight)).await;
        }
        if self.ask.asks_age() {
            // Boxed: other functions don't carry the room for it.
            return Box::pin(self.look_aged()).await;
        }
        match Self::within(&mut self.left, core, |left| read(self.cache, &self.ask, left)).await {
            Ok(bytes) => match Sight::of(bytes, &self.ask, core) {
                sight @ (Sight::Undated | Sight::Stranger(_)) => Box::pin(self.settled(sight)).await,
                sight => sight,
            },
            Err(error) => self.failed(&error),
        }
    }

    /// What stands under the key, and how old it is.
    pub(crate) async fn look_aged(&mut self) -> Sight {
        let sight = self.date().await;
        self.settled(sight).await
    }

    async fn date(&mut self) -> Sight {
        if !self.ask.is_tagged() {
            match self.date_untagged().await {
                Sight::Undated => {}
                sight => return sight,
            }
        }
        Box::pin(self.judge(true)).await
    }

    async fn date_untagged(&mut self) -> Sight {
        let core = self.core();
        if let Some(near) = self.ask.site.and_then(|site| site.near) {
            return match Self::within(&mut self.left, core, |left| {
                Box::pin(read_near(self.cache, &self.ask, left))
            })
            .await
            {
                Ok((aged, ticket)) => {
                    Sight::of_aged(aged, &self.ask, core).keeping(ticket.as_ref(), near.most)
                }
                Err(error) => self.failed(&error),
            };
        }
        match Self::within(&mut self.left, core, |left| read_aged(self.cache, &self.ask, left)).await {
            Ok(aged) => Sight::of_aged(aged, &self.ask, core),
            Err(error) => self.failed(&error),
        }
    }

    /// Looks at a stranger's entry again: if it is still there, the key is shared; if not, replies and
    /// questions have got out of step.
    pub(crate) async fn settled(&mut self, sight: Sight) -> Sight {
        let sight = match sight {
            Sight::Undated => Box::pin(self.date()).await,
            sight => sight,
        };
        let Sight::Stranger(seen) = sight else { return sight };
        let core = self.core();
        match Box::pin(self.date()).await {
            Sight::Stranger(again) if again == seen || core.is_shared_key(&self.ask.key) => {
                core.shared_key(&self.ask.key);
                Sight::Dead(again)
            }
            // The store doesn't answer, or the other function's entry has gone meanwhile.
            sight if matches!(sight, Sight::Dark) || core.is_shared_key(&self.ask.key) => sight,
            _ => {
                core.out_of_step(&self.ask.key);
                Sight::Dark
            }
        }
    }

    pub(crate) fn failed(&self, error: &StoreError) -> Sight {
        self.books().count(|book| &book.store_errors);
        if let StoreError::WrongType(_) = error {
            self.core().warn_once(&self.ask.key, "holds a data structure that isn't ours: left alone");
            return Sight::HandsOff;
        }
        debug!(target: "cache_aside", key = %self.ask.key, %error, "the store failed");
        Sight::Dark
    }

    /// Puts a lease where nothing is, or says what is there.
    pub(crate) async fn acquire(&mut self) -> Result<Hold, Sight> {
        if let Some(tags) = self.ask.tags.clone() {
            return Box::pin(self.acquire_tagged(tags)).await;
        }
        let (core, mut hold) = (self.core(), self.hold());
        let operation = core.store.acquire(&self.ask.key, hold.token(), core.options.lease);
        match Self::spend(&mut self.left, core, operation).await {
            Ok(None) => Ok(hold),
            Ok(there) => {
                hold.disarm();
                let sight = Sight::of(there, &self.ask, core);
                Err(self.settled(sight).await)
            }
            Err(error) => Err(self.not_leased(hold, &error)),
        }
    }

    /// The lease may be there although the reply was lost: dropping the hold releases it. A server
    /// that refused has put none.
    pub(crate) fn not_leased(&self, mut hold: Hold, error: &StoreError) -> Sight {
        if let StoreError::Refused(_) | StoreError::WrongType(_) = error {
            hold.disarm();
        }
        self.failed(error)
    }

    /// Puts a lease in the place of what was seen; if that is gone, there is nothing to say but "look".
    pub(crate) async fn replace(&mut self, seen: Prefix) -> Result<Hold, Sight> {
        if let Some(tags) = self.ask.tags.clone() {
            return Box::pin(self.replace_tagged(seen, tags)).await;
        }
        let (core, mut hold) = (self.core(), self.hold());
        let operation = core.store.swap(&self.ask.key, seen, hold.token(), Some(core.options.lease));
        match Self::spend(&mut self.left, core, operation).await {
            Ok(true) => Ok(hold),
            Ok(false) => {
                hold.disarm();
                Err(Sight::Absent)
            }
            Err(error) => Err(self.not_leased(hold, &error)),
        }
    }

    /// Waits while the load of another process holds the key under `theirs`: for `pause`, or until the
    /// store tells that the key has changed, where it does; no longer than `most`.
    ///
    /// Cancel safe.
    pub(crate) async fn doze(&mut self, theirs: Prefix, pause: Duration, most: Option<Duration>) {
        let no_longer = |pause: Duration| most.map_or(pause, |most| pause.min(most));
        let core = self.core();
        if self.ask.site.is_some_and(|site| site.near.is_some()) && core.store.is_remote() {
            // Boxed: other functions don't carry the room for it.
            let read =
                Self::within(&mut self.left, core, |left| Box::pin(read_near(self.cache, &self.ask, left)));
            if let Ok((there, Some(ticket))) = read.await {
                // Whatever became of its tags: it is looked at again in any case.
                if Sight::of_judged(there, true, &self.ask, core).loader() == Some(theirs) {
                    let _ = clock::timeout(no_longer(core.options.poll.1), ticket.until_forgotten()).await;
                }
                return;
            }
        }
        clock::sleep_jittered(no_longer(pause)).await;
    }

    /// Marks the value as being renewed by this call; it stays readable.
    pub(crate) async fn claim(&mut self, hit: &Hit) -> Result<Hold, Sight> {
        let Some(seen) = hit.prefix() else { return Err(Sight::Absent) };
        if let Some(tags) = self.ask.tags.clone() {
            return Box::pin(self.claim_tagged(hit, seen, tags)).await;
        }
        let core = self.core();
        let mut hold = Hold::claim(self.cache.clone(), self.ask.key.clone(), hit.end());
        // The life was asked for before the value: with more left it is a newer one, just filled.
        let operation = core.store.stamp(&self.ask.key, seen, hold.token(), hit.left);
        match Self::spend(&mut self.left, core, operation).await {
            Ok(true) => Ok(hold),
            Ok(false) => {
                hold.disarm();
                Err(self.look().await)
            }
            Err(error) => Err(self.not_leased(hold, &error)),
        }
    }

    /// Removes whatever is there.
    pub(crate) async fn remove(&mut self) {
        let core = self.core();
        let _ = Self::spend(&mut self.left, core, core.store.remove(&self.ask.key)).await;
    }

    pub(crate) fn hold(&self) -> Hold {
        Hold::lease(self.cache.clone(), self.ask.key.clone())
    }

    /// The value that is there and fresh, for who won't load; each command has a budget of its own.
    pub(crate) async fn peek(&self) -> Result<Option<Hit>, StoreError> {
        let core = self.core();
        let mut sight = Sight::Undated;
        if !self.ask.asks_age() {
            sight = Sight::of(core.timed(core.store.get(&self.ask.key)).await?, &self.ask, core);
        }
        if let Sight::Undated = sight {
            sight = self.peek_judged().await?;
        }
        Ok(if let Sight::Hit(hit) = sight { Some(hit) } else { None })
    }

    /// Puts a record in the place of whatever is there, unless a newer version of the program stored
    /// that. False if so.
    pub(crate) async fn put(&self, record: Bytes, life: Option<Duration>) -> Result<bool, StoreError> {
        let (core, key) = (self.core(), &self.ask.key);
        for _ in 0..3 {
            let found = core.timed(core.store.get(key)).await?.map(record::read);
            let copy = record.clone();
            let done = match (found, life) {
                // Whoever has fenced it is about to write what this value may be older than.
                (Some(Found::Newer | Found::Fence), _) => return Ok(false),
                (Some(Found::Value(there)), _) if self.ask.is_newer(&there) => return Ok(false),
                (
                    Some(
                        Found::Value(Value { prefix, .. })
                        | Found::Lease(prefix)
                        | Found::Put(prefix)
                        | Found::Torn(prefix),
                    ),
                    _,
                ) => core.timed(core.store.swap(key, prefix, copy, life)).await?,
                (None, Some(life)) => core.timed(core.store.acquire(key, copy, life)).await?.is_none(),
                // Nothing to compare with.
                (Some(Found::Plain(_)) | None, _) => {
                    core.timed(core.store.set(key, copy, life)).await?;
                    true
                }
            };
            if done {
                return Ok(true);
            }
        }
        // Others store here all the time: with nothing there, nobody reads the older of two values.
        core.timed(core.store.remove(key)).await?;
        Ok(true)
    }
}

/// The bytes under the key, by a flush that is shared where many read.
async fn read(cache: &Cache, ask: &Ask, left: Duration) -> Result<Option<Bytes>, StoreError> {
    let core = cache.core();
    let alone = || core.store.get(&ask.key);
    if !core.store.is_remote() {
        return alone().await;
    }
    let send = || {
        let cache = cache.clone();
        move |keys: Vec<String>| -> Answers<_> {
            let cache = cache.clone();
            Box::pin(async move { cache.core().store.get_each(&keys).await })
        }
    };
    let times = (left, core.options.budget);
    core.in_time(core.reads.get(&ask.key, ask.hash(), times, || ask.key.clone(), alone, send).await)
}

/// The same, with what is left of their life.
async fn read_aged(cache: &Cache, ask: &Ask, left: Duration) -> Result<Option<Aged>, StoreError> {
    let core = cache.core();
    let alone = || core.store.get_aged(&ask.key);
    if !core.store.is_remote() {
        return alone().await;
    }
    let send = || {
        let cache = cache.clone();
        move |keys: Vec<String>| -> Answers<_> {
            let cache = cache.clone();
            Box::pin(async move { cache.core().store.get_each_aged(&keys).await })
        }
    };
    let times = (left, core.options.budget);
    core.in_time(core.aged_reads.get(&ask.key, ask.hash(), times, || ask.key.clone(), alone, send).await)
}

/// What was read of a key, and the ticket under which it may be kept.
pub(crate) type NearRead = (Option<Aged>, Option<Arc<Ticket>>);

/// The same, to be kept in this process.
async fn read_near(cache: &Cache, ask: &Ask, left: Duration) -> Result<NearRead, StoreError> {
    let core = cache.core();
    if !core.store.is_remote() {
        return track(cache.clone(), ask.key.clone()).await;
    }
    let alone = || track(cache.clone(), ask.key.clone());
    let send = || {
        let cache = cache.clone();
        move |keys: Vec<String>| one_by_one(keys.into_iter().map(|key| track(cache.clone(), key)))
    };
    let (question, times) = (|| ask.key.clone(), (left, core.options.budget));
    // The store finds out by itself over which of its connections it had no answer.
    let read = core.near_reads.get(&ask.key, ask.hash(), times, question, alone, send).await;
    read.unwrap_or_else(|_| Err(shared::late()))
}

/// Whoever shares this read shares the ticket, which is made just before it is sent.
fn track(cache: Cache, key: String) -> Reply<'static, NearRead> {
    Box::pin(async move {
        let core = cache.core();
        let ticket = Arc::new(core.near.ticket(&key));
        let Tracked { found, may_keep } = core.store.get_tracked(&key).await?;
        // Under a paused clock, which near values don't go by, they would outlive their time to live.
        let may_keep = may_keep && clock::is_real();
        Ok((found, may_keep.then_some(ticket)))
    })
}
