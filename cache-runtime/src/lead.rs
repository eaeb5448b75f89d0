//! One load: the right to fill, kept alive while the function runs, and given up by `Drop`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::cache::Cache;
use crate::clock;
use crate::codec;

use crate::error::CacheError;
use crate::flight::{Landing, Seat};
use crate::policy::{Fate, Jitter, Life};
use crate::record::{self, Head, Kind, Prefix};
use crate::recursion::{self, Loading};
use crate::sight::Ask;
use serde::Serialize;

/// Evidence in the store that this load may fill: a lease, or a claim on the value that is there.
#[derive(Debug)]
pub(crate) struct Hold {
    cache: Cache,
    key: String,
    prefix: Prefix,
    /// Nothing is to be undone: the fill took it, or it never was there.
    settled: AtomicBool,
}

impl Hold {
    /// A lease that is about to be acquired; dropping it releases it, acquired or not.
    pub(crate) fn lease(cache: Cache, key: String) -> Self {
        Self { cache, key, prefix: record::fresh(Kind::Lease), settled: AtomicBool::new(false) }
    }

    /// A claim: the value stays, so there is nothing to undo.
    pub(crate) fn claim(cache: Cache, key: String, prefix: Prefix) -> Self {
        Self { cache, key, prefix, settled: AtomicBool::new(true) }
    }

    pub(crate) fn prefix(&self) -> Prefix {
        self.prefix
    }

    pub(crate) fn token(&self) -> Bytes {
        record::token(self.prefix)
    }

    pub(crate) fn disarm(&self) {
        self.settled.store(true, Relaxed);
    }

    /// Dropping it removes what it holds, a claimed value too.
    fn arm(&self) {
        self.settled.store(false, Relaxed);
    }

    fn is_lease(&self) -> bool {
        self.prefix[3] == Kind::Lease as u8
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.settled.load(Relaxed) {
            let (cache, key, prefix) = (self.cache.clone(), std::mem::take(&mut self.key), self.prefix);
            let orphan = Orphan { cache, prefix, released: false };
            crate::background::run(async move {
                let mut orphan = orphan;
                let core = orphan.cache.core();
                match core.timed(core.store.release(&key, prefix)).await {
                    Ok(_) => orphan.released = true,
                    Err(error) => {
                        debug!(target: "cache_aside", %key, %error, "a lease wasn't released; the next call takes it over");
                    }
                }
            });
        }
    }
}

/// A lease that is being released; dropped before that is done, it is noted.
struct Orphan {
    cache: Cache,
    prefix: Prefix,
    released: bool,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if !self.released {
            self.cache.core().orphans.add(self.prefix);
        }
    }
}

/// Leases that couldn't be released, the latest last. They expire soon, so a few are enough; one
/// that is forgotten is waited for like another process'.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<VecDeque<Prefix>>);

impl Orphans {
    const MOST: usize = 1000;

    fn add(&self, prefix: Prefix) {
        let mut orphans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if orphans.len() == Self::MOST {
            orphans.pop_front();
        }
        orphans.push_back(prefix);
    }

    /// Whether this is one.
    pub(crate) fn has(&self, prefix: &Prefix) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(prefix)
    }
}

/// A load that is about to run, runs, or ran.
#[derive(Debug)]
pub(crate) struct Lead {
    cache: Cache,
    ask: Ask,
    seat: Option<Seat>,
    hold: Option<Hold>,
    begun: Option<Instant>,
    took: Duration,
    care: Care,
    settled: bool,
}

/// What goes on beside the load.
#[derive(Default)]
struct Care {
    timer: Option<Pin<Box<Sleep>>>,
    extension: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
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
            begun: None,
            took: Duration::ZERO,
            care: Care::default(),
            settled: false,
        }
    }

    /// Polls the function, and takes care of the lease and the flight meanwhile.
    ///
    /// Cancel safe: dropping the lead hands over.
    pub(crate) async fn drive<F: Future>(&mut self, mut load: Pin<&mut F>) -> F::Output {
        self.begin();
        let out = std::future::poll_fn(|cx| {
            let loading = Loading {
                flight: self.seat.as_ref().map(Seat::address),
                lease: self.hold.as_ref().map(Hold::prefix),
            };
            let polled = recursion::within(loading, || load.as_mut().poll(cx));
            if polled.is_pending() {
                self.tend(cx);
            }
            polled
        })
        .await;
        self.took = self.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        self.cache.core().books(self.ask.site).loaded_in(self.took);
        out
    }

    fn begin(&mut self) {
        self.cache.core().books(self.ask.site).count(|book| &book.loads);
        self.begun = Some(Instant::now());
        if let Some(seat) = &mut self.seat {
            seat.begin();
        }
    }

    /// Stamps the flight, extends the lease each third of it, and ends sharing at the load deadline.
    fn tend(&mut self, cx: &mut Context<'_>) {
        if self.care.over || (self.seat.is_none() && self.hold.is_none()) || !clock::has_timers() {
            return;
        }
        if let Some(seat) = &self.seat {
            seat.touch();
        }
        let (lease, deadline) = (self.cache.core().options.lease, self.cache.core().options.load_deadline);
        // A renewal that comes late, or fails once, still finds the lease.
        let every = lease / 3;
        if self.care.extension.as_mut().is_some_and(|extension| extension.as_mut().poll(cx).is_ready()) {
            self.care.extension = None;
        }
        let timer = self.care.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
        while timer.as_mut().poll(cx).is_ready() {
            if self.begun.is_some_and(|begun| begun.elapsed() >= deadline) {
                self.care = Care { over: true, ..Care::default() };
                if let Some(seat) = &mut self.seat {
                    seat.part();
                }
                return;
            }
            timer.as_mut().reset(Instant::now() + every);
            if let Some(hold) = self.hold.as_ref().filter(|hold| hold.is_lease()) {
                let (cache, key, prefix) = (self.cache.clone(), self.ask.key.clone(), hold.prefix);
                let mut extension: Pin<Box<dyn Future<Output = bool> + Send>> =
                    Box::pin(
                        async move { cache.core().store.extend(&key, prefix, lease).await.unwrap_or(false) },
                    );
                if extension.as_mut().poll(cx).is_pending() {
                    self.care.extension = Some(extension);
                }
            }
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

    /// Stores what the function returned, and lets the others have it.
    ///
    /// Cancel safe: a fill that was sent may or may not arrive; either is right.
    pub(crate) async fn fill<V: Serialize>(mut self, value: &V, fate: Fate) {
        self.settled = true;
        if self.hold.is_none() && !self.seat.as_ref().is_some_and(Seat::has_followers) {
            return;
        }
        match self.encode(value) {
            Ok((record, is_none)) => {
                let life = self.life(fate, is_none);
                Box::pin(self.store(record, life)).await;
            }
            Err(error) => Box::pin(self.refuse(&error)).await,
        }
    }

    fn life(&self, fate: Fate, is_none: bool) -> Life {
        let default = self.cache.core().options.default_ttl;
        match self.ask.site {
            Some(site) => fate.life(is_none, site.keep_none, site.jitter, default),
            None => fate.life(is_none, true, Jitter::None, default),
        }
    }

    fn encode<V: Serialize>(&self, value: &V) -> Result<(Bytes, bool), CacheError> {
        let is_none = codec::is_none(value);
        let record = encode_record(&self.cache, &self.ask, value, is_none, self.took)?;
        Ok((record, is_none))
    }

    async fn store(mut self, record: Bytes, life: Life) {
        let cache = self.cache.clone();
        let core = cache.core();
        let mut accepted = false;
        if let Some(seat) = &self.seat {
            seat.seal();
        }
        if let (Some(hold), Life::For(life)) = (&self.hold, life) {
            // Cancel: the hold releases the lease, the seat hands over; a stored value stays.
            match core.timed(core.store.swap(&self.ask.key, hold.prefix, record.clone(), life)).await {
                Ok(true) => {
                    hold.disarm();
                    accepted = true;
                    debug!(target: "cache_aside", key = %self.ask.key, ttl = ?life, "fill");
                }
                Ok(false) => {
                    debug!(target: "cache_aside", key = %self.ask.key, "fill refused: the key was invalidated meanwhile");
                }
                Err(error) => {
                    core.books(self.ask.site).count(|book| &book.store_errors);
                    debug!(target: "cache_aside", key = %self.ask.key, %error, "fill failed");
                }
            }
        }
        if !accepted {
            core.books(self.ask.site).count(|book| &book.fills_refused);
            self.give_up().await;
        }
        if let Some(seat) = self.seat.take() {
            seat.land(Landing::Value { record, accepted });
        }
    }

    /// The value isn't stored: neither the lease stays, nor the older value that was to be refreshed.
    ///
    /// A lease goes in the background; an older value before anybody can take it for the newest.
    async fn give_up(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        hold.arm();
        let core = self.cache.core();
        if !hold.is_lease() && core.timed(core.store.release(&self.ask.key, hold.prefix)).await.is_ok() {
            hold.disarm();
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

/// A record of this value, as a load or a put of `ask` stores it.
pub(crate) fn encode_record<V: Serialize + ?Sized>(
    cache: &Cache,
    ask: &Ask,
    value: &V,
    is_none: bool,
    took: Duration,
) -> Result<Bytes, CacheError> {
    let head = Head {
        flags: if is_none { record::FLAG_NONE } else { 0 },
        version: ask.version,
        fingerprint: ask.fingerprint,
        identity: ask.identity,
        load_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        grace_ms: 0,
    };
    let mut record = record::begin(record::fresh(Kind::Value), &head);
    codec::encode(value, &mut record, cache.core().options.max_value)?;
    Ok(record::finish(record))
}
