//! One load: the right to fill, kept alive while the function runs, and given up by `Drop`.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::cache::Cache;
use crate::clock;
use crate::codec;
use crate::commands::Commands;
use crate::deferred;
use crate::entry::{Entry, encode_record};
use crate::error::{CacheError, StoreError};
use crate::flight::{Landing, Seat};
use crate::hold::Hold;
use crate::policy::{Fate, Life, Named};
use crate::record;
use crate::recursion::{self, Loading, Within};
use crate::sight::{Age, Ask, Hit, Sight};
use crate::tagged::{Filled, fill, name};
use crate::tags::Captured;

/// A load that is about to run, runs, or ran.
#[derive(Debug)]
pub(crate) struct Lead {
    cache: Cache,
    ask: Ask,
    seat: Option<Seat>,
    hold: Option<Hold>,
    /// The value past its time to live that may be answered if the load fails.
    stale: Option<Hit>,
    patience: Option<Duration>,
    /// Nobody may read what was there before it, whatever becomes of its fill.
    by_hand: bool,
    /// It was polled inside a transaction, and may have seen what isn't committed: nobody else gets it.
    is_uncommitted: bool,
    begun: Option<Instant>,
    took: Duration,
    care: Care,
    settled: bool,
}

/// What goes on beside the load.
#[derive(Default)]
struct Care {
    timer: Option<Pin<Box<Sleep>>>,
    extension: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    over: bool,
}

impl std::fmt::Debug for Care {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Care").field("over", &self.over).finish_non_exhaustive()
    }
}

impl Lead {
    pub(crate) fn new(cache: Cache, ask: Ask, seat: Option<Seat>, hold: Option<Hold>) -> Self {
        Self {
            cache,
            ask,
            seat,
            hold,
            stale: None,
            patience: None,
            by_hand: false,
            is_uncommitted: false,
            begun: None,
            took: Duration::ZERO,
            care: Care::default(),
            settled: false,
        }
    }

    /// With a value that may be answered if the load fails, or isn't done in time.
    pub(crate) fn or_stale(mut self, stale: Option<(Hit, Option<Duration>)>) -> Self {
        (self.stale, self.patience) = stale.map_or((None, None), |(hit, patience)| (Some(hit), patience));
        self
    }

    /// A refresh by hand: once it has returned, the value before it is over.
    pub(crate) fn by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }

    /// From here on whatever becomes of it may be older than the question of who joins.
    pub(crate) fn open(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.begin();
        }
    }

    /// Nothing of what it loads may be stored: the hold is given back.
    pub(crate) fn unstored(mut self: Box<Self>) -> Box<Self> {
        self.hold = None;
        self
    }

    /// Its caller has an answer that isn't stored: the others look for theirs.
    pub(crate) fn cede(mut self) {
        self.settled = true;
        self.hold = None;
        if let Some(seat) = self.seat.take() {
            seat.land(Landing::Alone);
        }
    }

    /// How long its caller waits for the load, and what it takes after that.
    pub(crate) fn patience(&self) -> Option<(Duration, Hit)> {
        self.patience.zip(self.stale.clone())
    }

    /// Polls the function, and takes care of the lease and the flight meanwhile.
    ///
    /// Cancel safe: dropping the lead hands over.
    pub(crate) async fn drive<F: Future>(&mut self, mut load: Pin<&mut F>) -> F::Output {
        self.begin();
        let out = std::future::poll_fn(|cx| {
            let polled = {
                let _within = self.enter();
                load.as_mut().poll(cx)
            };
            if polled.is_pending() {
                self.tend(cx);
            }
            polled
        })
        .await;
        self.end();
        out
    }

    /// As [`drive`](Self::drive); a panic of the function is given back.
    pub(crate) async fn drive_caught<F: Future + ?Sized>(
        &mut self,
        mut load: Pin<&mut F>,
    ) -> Result<F::Output, Box<dyn Any + Send>> {
        self.begin();
        let out = std::future::poll_fn(|cx| {
            // After a panic the function isn't polled again, and nobody else sees its state.
            let polled = {
                let _within = self.enter();
                catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(cx)))
            };
            match polled {
                Ok(Poll::Ready(out)) => Poll::Ready(Ok(out)),
                Ok(Poll::Pending) => {
                    self.tend(cx);
                    Poll::Pending
                }
                Err(panic) => Poll::Ready(Err(panic)),
            }
        })
        .await;
        self.end();
        out
    }

    /// Before the function is polled. What is generic over it does no more than that: it is compiled for each.
    fn enter(&mut self) -> Within {
        self.is_uncommitted |= deferred::is_inside();
        recursion::enter(Loading {
            flight: self.seat.as_ref().map(Seat::address),
            lease: self.hold.as_ref().map(Hold::prefix),
        })
    }

    fn begin(&mut self) {
        self.cache.core().books(self.ask.site).count(|book| &book.loads);
        self.begun = Some(Instant::now());
        self.open();
    }

    fn end(&mut self) {
        self.took = self.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        self.cache.core().books(self.ask.site).loaded_in(self.took);
    }

    /// Stamps the flight, extends the lease each third of it, and ends sharing at the load deadline.
    fn tend(&mut self, cx: &mut Context<'_>) {
        if self.care.over || (self.seat.is_none() && self.hold.is_none()) || !clock::has_timers() {
            return;
        }
        if let Some(seat) = &self.seat {
            seat.touch();
        }
        let deadline = self.cache.core().options.load_deadline;
        if self.care.extension.as_mut().is_some_and(|extension| extension.as_mut().poll(cx).is_ready()) {
            self.care.extension = None;
        }
        let lease = self.cache.core().options.lease;
        let next = |hold: &Option<Hold>| hold.as_ref().map_or(lease / 3, Hold::next_care);
        let hold = &self.hold;
        let timer = self.care.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(next(hold))));
        while timer.as_mut().poll(cx).is_ready() {
            if self.begun.is_some_and(|begun| begun.elapsed() >= deadline) {
                self.care = Care { over: true, ..Care::default() };
                if let Some(seat) = &mut self.seat {
                    seat.part();
                }
                return;
            }
            if let Some(hold) = &mut self.hold {
                let mut extension = hold.prolong();
                if extension.as_mut().poll(cx).is_pending() {
                    self.care.extension = Some(extension);
                }
                if let Some(seat) = &self.seat {
                    seat.hold(hold.prefix());
                }
            }
            timer.as_mut().reset(Instant::now() + next(&self.hold));
        }
    }

    /// The function returned an error: nothing is stored, the lease is free at once.
    pub(crate) fn fail(mut self) {
        self.cache.core().books(self.ask.site).count(|book| &book.load_errors);
        self.settled = true;
        self.hold = None;
        if let Some(seat) = self.seat.take() {
            seat.land(Landing::Alone);
        }
    }

    /// The function failed, or ran too long without a caller: says so to all who would load next.
    /// The value that may be answered instead, if the store says that nobody invalidated it meanwhile.
    ///
    /// Cancel safe: the next call tries at once.
    pub(crate) async fn fail_over(mut self) -> Option<Hit> {
        let cache = self.cache.clone();
        let books = cache.core().books(self.ask.site);
        books.count(|book| &book.load_errors);
        self.settled = true;
        let stale = self.stale.take();
        let mut rests = false;
        let answer = match self.hold.take() {
            // There is no value; the lease is free at once.
            Some(hold) if hold.is_lease() && stale.is_none() => None,
            Some(hold) => {
                let is_claim = !hold.is_lease();
                match hold.rest().await {
                    Ok(is_there) => {
                        rests = is_there && is_claim;
                        match stale.filter(|_| is_there) {
                            // That it is there doesn't say that its tags are what they were.
                            Some(hit) if hit.is_tagged => Box::pin(self.look()).await,
                            stale => stale,
                        }
                    }
                    // Out of memory, say: the value may be there all the same.
                    Err(StoreError::Refused(_)) if stale.is_some() => self.look().await,
                    Err(_) => None,
                }
            }
            None if stale.is_none() => None,
            None => self.look().await,
        };
        let now = Instant::now();
        let answer = answer.filter(|hit| hit.end().is_none_or(|end| now < end));
        if let Some(seat) = self.seat.take() {
            // Where it rests, or there is a newer one, the others find what to answer with; else each
            // fails for itself, not one after the other.
            let is_newer = answer.as_ref().is_some_and(|hit| hit.age != Age::Stale);
            seat.land(if rests || is_newer { Landing::Found } else { Landing::Alone });
        }
        answer
    }

    /// What is there now.
    async fn look(&mut self) -> Option<Hit> {
        match Commands::new(&self.cache, self.ask.clone()).look_aged().await {
            Sight::Hit(hit) | Sight::Stale(hit, _) => Some(hit),
            _ => None,
        }
    }

    /// Whether anybody but its caller wants what it ends with.
    pub(crate) fn is_wanted(&self) -> bool {
        self.hold.is_some() || self.by_hand || self.seat.as_ref().is_some_and(Seat::has_followers)
    }

    /// What is to be stored of what the function returned; nothing if nobody wants it.
    pub(crate) fn encode<V: Serialize>(&self, value: &V, fate: Fate) -> Option<Result<Entry, CacheError>> {
        if !self.is_wanted() || self.is_uncommitted {
            return None;
        }
        let is_none = codec::is_none(value);
        Some(encode_record(&self.cache, &self.ask, value, is_none, self.took, fate))
    }

    /// Stores what was encoded, and lets the others have it. It doesn't hold the value.
    ///
    /// Cancel safe: a fill that was sent may or may not arrive; either is right.
    pub(crate) async fn fill(mut self, encoded: Option<Result<Entry, CacheError>>) {
        self.settled = true;
        match encoded {
            None => {}
            Some(Ok(entry)) => Box::pin(self.store(entry)).await,
            Some(Err(error)) => Box::pin(self.refuse(&error)).await,
        }
    }

    async fn store(mut self, Entry { mut record, life, tags }: Entry) {
        let cache = self.cache.clone();
        let core = cache.core();
        let (mut accepted, mut refused) = (false, self.hold.is_none());
        let mut captured = self.hold.as_mut().and_then(Hold::take_captured).filter(|_| life != Life::Over);
        let mut stays = true;
        if let Some(captured) = &mut captured {
            match Box::pin(self.name(captured, tags)).await {
                Ok(is_same) => stays = is_same,
                Err(error) => return Box::pin(self.refuse(&error)).await,
            }
            record = record::tagged(&record, captured.versions());
        }
        refused |= !stays;
        if let Some(seat) = &self.seat {
            seat.seal();
        }
        if let (Some(hold), Life::For(life), true) = (&mut self.hold, life, stays) {
            // Cancel: the hold releases the lease, the seat hands over; a stored value stays.
            let filled = match &captured {
                None => {
                    let swap = core.store.swap(&self.ask.key, hold.prefix(), record.clone(), life);
                    core.timed(swap).await.map(|is_stored| Filled { is_stored, is_valid: true })
                }
                Some(captured) => {
                    let fill = fill(core, &self.ask.key, hold.prefix(), record.clone(), life, captured);
                    Box::pin(fill).await
                }
            };
            match filled {
                Ok(Filled { is_stored: true, is_valid }) => {
                    hold.disarm();
                    self.hold = None;
                    accepted = is_valid;
                    debug!(target: "cache_aside", key = %self.ask.key, ttl = ?life, is_valid, "fill");
                }
                Ok(Filled { is_stored: false, .. }) => {
                    refused = true;
                    debug!(target: "cache_aside", key = %self.ask.key, "fill refused: the key was invalidated meanwhile");
                }
                Err(error) => {
                    core.books(self.ask.site).count(|book| &book.store_errors);
                    debug!(target: "cache_aside", key = %self.ask.key, %error, "fill failed");
                    if !hold.is_lease() && !self.by_hand {
                        match error {
                            // Out of memory, say: the older value may stay, its claim ends by itself.
                            StoreError::Refused(_) => hold.disarm(),
                            // The fill may have arrived; if not, the older value goes. Nobody waits for that.
                            _ => hold.arm(),
                        }
                        self.hold = None;
                    }
                }
            }
        }
        if !accepted {
            core.books(self.ask.site).count(|book| &book.fills_refused);
            self.give_up().await;
            if self.by_hand && refused {
                // Another load may have claimed the value: if it fails, the value must not stay.
                let _ = core.timed(core.store.remove(&self.ask.key)).await;
            }
        }
        if let Some(seat) = self.seat.take() {
            seat.land(Landing::Value { record, accepted });
        }
    }

    /// Captures the tags that the result names. False: one may have been invalidated meanwhile.
    async fn name(&mut self, captured: &mut Captured, tags: Option<Box<Named>>) -> Result<bool, CacheError> {
        let core = self.cache.core();
        match name(core, captured, Named::texts(tags)?).await {
            Err(CacheError::Timeout(_) | CacheError::Unavailable(_) | CacheError::Server(_)) => {
                core.books(self.ask.site).count(|book| &book.store_errors);
                Ok(false)
            }
            named => named,
        }
    }

    /// The value isn't stored: neither the lease stays, nor the older value that was to be refreshed.
    ///
    /// A lease goes in the background; an older value before anybody can take it for the newest.
    async fn give_up(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        if !hold.is_lease() {
            hold.remove().await;
        }
    }

    /// The value can't be stored: its caller has it, the others load for themselves.
    async fn refuse(mut self, error: &CacheError) {
        self.cache.core().books(self.ask.site).count(|book| &book.fills_refused);
        if self.ask.site.is_none_or(crate::site::Site::first_warning) {
            warn!(target: "cache_aside", key = %self.ask.key, %error, "the value isn't stored");
        }
        self.give_up().await;
        if let Some(seat) = self.seat.take() {
            seat.land(Landing::Alone);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.settled && std::thread::panicking() {
            self.cache.core().books(self.ask.site).count(|book| &book.load_errors);
        }
    }
}
