//! Write-through: the function runs in any case, and what it returns is stored under another's key.
//!
//! ```text
//! place     a token into the key, in the place of whatever is there: before the body
//! run       the body; the token's life is extended each third of it
//! store     compare-and-set on the token
//! ```
//!
//! Who finds anything but its own token, be it another put's, a load's lease, a value or nothing, doesn't know
//! whose value is the newer one: the entry is deleted, never set. So is it where no token could be placed,
//! and where the body failed, for it may have written all the same.

mod writer;

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};

use crate::cache::Cache;
use crate::call::Call;
use crate::clock;
use crate::codec::{self, Codec};
use crate::deferred;
use crate::entry::{Entry, encode_record};
use crate::error::{CacheError, StoreError};
use crate::hold::Hold;
use crate::invalidate::{On, Plan};
use crate::policy::{Fate, Jitter, Life, Named};
use crate::record::{self, Found, Value};
use crate::recursion::{self, Loading};
use crate::shared::Core;
use crate::sight::Ask;
use crate::tagged::{fill, name};
use crate::tags::Tags;
use crate::value::Kind;
pub use writer::{End, Puts, Stored, Writes, stored, writer};

/// Runs the writer and stores what it returned as what the function that stands at `call` returns.
///
/// Cancel safe: once the body has begun, the entry is forgotten in any case but success.
pub async fn put_through<K, R, W, J>(call: Call, _kind: K, writer: W, judge: J)
where
    K: Kind<R>,
    K::Value: DeserializeOwned,
    W: Writes<Value: Serialize>,
    J: FnOnce(&K::Value) -> Fate,
{
    let put = Put::open::<K::Value>(call);
    run(put, writer, |cache, ask, value| encode_put::<K, R, _, _>(cache, ask, value, judge)).await;
}

/// Runs the writer and stores what it returned as plain JSON, which functions with the same key, and
/// [`Cache::get`], read: an entry of a function says whose it is, and this is nobody's.
///
/// Cancel safe, as [`put_through`].
pub async fn put_plain<W, J>(call: Call, writer: W, judge: J)
where
    W: Writes<Value: Serialize>,
    J: FnOnce(&W::Value) -> Fate,
{
    let put = Put::open::<W::Value>(call);
    let encode = |cache: &Cache, _: &Ask, value: &W::Value| {
        let options = &cache.core().options;
        let life = judge(value).life(codec::is_none(value), true, Jitter::None, options.default_ttl);
        let mut json = Vec::new();
        Codec::Json.encode(value, &mut json, options.max_value)?;
        Ok(Entry { record: Bytes::from(json.into_boxed_slice()), life, tags: None })
    };
    run(put, writer, encode).await;
}

/// What a put of `ask` stores of this value, if the rules don't refuse it.
pub(crate) fn encode_put<K, R, V, J>(
    cache: &Cache,
    ask: &Ask,
    value: &V,
    judge: J,
) -> Result<Entry, CacheError>
where
    K: Kind<R>,
    K::Value: DeserializeOwned,
    V: Serialize + ?Sized,
    J: FnOnce(&K::Value) -> Fate,
{
    let (options, is_none) = (&cache.core().options, codec::is_none(value));
    // The rules are asked about what readers will get: a value that doesn't decode isn't stored.
    let mut payload = Vec::new();
    ask.codec().encode(value, &mut payload, options.max_value)?;
    let read_back: K::Value = ask.codec().decode(&payload, is_none)?;
    let fate = judge(&read_back);
    drop((read_back, payload));
    encode_record(cache, ask, value, is_none, Duration::ZERO, fate)
}

async fn run<W: Writes>(
    put: Option<Put>,
    mut writer: W,
    encode: impl FnOnce(&Cache, &Ask, &W::Value) -> Result<Entry, CacheError>,
) {
    let body = writer.body();
    let Some(mut put) = put else {
        // Past the cache: there is none, or no key.
        let returned = body.await;
        if let Some(value) = writer.split(returned) {
            writer.join(value);
        }
        return;
    };
    // Boxed: nobody carries the room for these while the body runs.
    Box::pin(put.place()).await;
    let returned = put.drive(pin!(body)).await;
    let Some(value) = writer.split(returned) else {
        put.fail();
        return;
    };
    let entry = encode(&put.cache, &put.ask, &value);
    Box::pin(put.store(entry)).await;
    writer.join(value);
}

/// One put on its way.
#[derive(Debug)]
struct Put {
    cache: Cache,
    ask: Ask,
    /// The token, if it could be placed.
    hold: Option<Hold>,
    /// Forgets the entry if the put doesn't come to its end.
    guard: Plan,
    care: Care,
    /// A part of the body ran inside a transaction.
    is_uncommitted: bool,
}

/// What goes on beside the body.
#[derive(Default)]
struct Care {
    timer: Option<Pin<Box<Sleep>>>,
    extension: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl std::fmt::Debug for Care {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Care").finish_non_exhaustive()
    }
}

impl Put {
    /// Nothing where the call goes past the cache.
    fn open<V>(mut call: Call) -> Option<Self> {
        let key = call.key.clone();
        // In a transaction the entry is forgotten after the commit.
        let (cache, ask) = call.open::<V>(true).map(|(cache, ask)| (Cache::clone(&cache), ask))?;
        call.key = key;
        // Another writer's fence isn't taken away.
        let guard = Plan::new(On::Always).entry(call.on(&cache)).fenced().armed();
        Some(Self { cache, ask, hold: None, guard, care: Care::default(), is_uncommitted: false })
    }

    /// Puts the token in the place of whatever is there; without one the entry is deleted at the end.
    ///
    /// Cancel: the guard forgets the entry, and with it a token that has just been placed.
    async fn place(&mut self) {
        let cache = self.cache.clone();
        let core = cache.core();
        let (key, lease) = (&self.ask.key, core.options.lease);
        let mut hold = Hold::put(cache.clone(), key.clone());
        let until = Instant::now() + core.options.budget;
        // What is there may change between the look and the swap, but hardly thrice.
        for _ in 0..3 {
            let left = || until.saturating_duration_since(Instant::now());
            let placed = match core.timed_by(left(), core.store.acquire(key, hold.token(), lease)).await {
                Ok(None) => Ok(true),
                Ok(Some(there)) => match record::read(there) {
                    Found::Newer | Found::Fence => break,
                    // The value of a newer program goes with the others at the end; this one's isn't for it.
                    Found::Value(value) if self.ask.is_newer(&value) => break,
                    Found::Value(Value { prefix, .. })
                    | Found::Lease(prefix)
                    | Found::Put(prefix)
                    | Found::Torn(prefix) => {
                        let swap = core.store.swap(key, prefix, hold.token(), Some(lease));
                        core.timed_by(left(), swap).await
                    }
                    // Nothing to compare with.
                    Found::Plain(_) => {
                        let set = core.store.set(key, hold.token(), Some(lease));
                        core.timed_by(left(), set).await.map(|()| true)
                    }
                },
                Err(error) => Err(error),
            };
            match placed {
                Ok(true) => {
                    match capture(core, self.ask.tags.as_deref(), &mut hold, left()).await {
                        Ok(true) => self.hold = Some(hold),
                        // Dropping the hold releases the token.
                        Ok(false) => {}
                        Err(error) => self.not_placed(hold, &error),
                    }
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    self.not_placed(hold, &error);
                    return;
                }
            }
        }
        hold.disarm();
    }

    /// The token may arrive all the same, later than the body: it is evidence of nothing, and dropping
    /// the hold releases it.
    fn not_placed(&mut self, mut hold: Hold, error: &StoreError) {
        let core = self.cache.core();
        core.books(self.ask.site).count(|book| &book.store_errors);
        debug!(target: "cache_aside", key = %self.ask.key, %error, "a put has no token");
        if let StoreError::Refused(_) | StoreError::WrongType(_) = error {
            hold.disarm();
        }
        if let StoreError::WrongType(_) = error {
            core.warn_once(&self.ask.key, "holds a data structure that isn't ours: left alone");
            self.guard.disarm();
        }
    }

    /// Polls the body, and keeps the token meanwhile.
    async fn drive<F: Future>(&mut self, mut body: Pin<&mut F>) -> F::Output {
        let begun = Instant::now();
        let loading = Loading { flight: None, lease: self.hold.as_ref().map(Hold::prefix) };
        std::future::poll_fn(|cx| {
            self.is_uncommitted |= deferred::is_inside();
            let polled = {
                let _within = recursion::enter(loading);
                body.as_mut().poll(cx)
            };
            if polled.is_pending() {
                self.tend(begun, cx);
            }
            polled
        })
        .await
    }

    /// Extends the token each third of a lease, up to the load deadline: then readers stop waiting.
    fn tend(&mut self, begun: Instant, cx: &mut Context<'_>) {
        let Some(hold) = &mut self.hold else { return };
        let options = &self.cache.core().options;
        if begun.elapsed() >= options.load_deadline || !clock::has_timers() {
            return;
        }
        let Care { timer, extension } = &mut self.care;
        if extension.as_mut().is_some_and(|extension| extension.as_mut().poll(cx).is_ready()) {
            *extension = None;
        }
        let third = options.lease / 3;
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(third)));
        while timer.as_mut().poll(cx).is_ready() {
            let mut next = hold.prolong();
            *extension = next.as_mut().poll(cx).is_pending().then_some(next);
            timer.as_mut().reset(Instant::now() + third);
        }
    }

    /// The body failed: the entry is forgotten, its token with it, and nobody waits for that.
    fn fail(mut self) {
        self.hold.iter_mut().for_each(Hold::disarm);
    }

    /// Stores what was encoded if the token is still there; else, and where there is nothing to store,
    /// forgets the entry before its caller goes on.
    ///
    /// Cancel: the guard goes on in the background.
    async fn store(mut self, entry: Result<Entry, CacheError>) {
        let cache = self.cache.clone();
        let core = cache.core();
        let key = &self.ask.key;
        if !self.is_uncommitted {
            // It goes with the entry. If that can't be reached, nothing is read until it is gone.
            self.hold.iter_mut().for_each(Hold::disarm);
        }
        match (&mut self.hold, entry) {
            // What would be stored isn't committed yet.
            _ if self.is_uncommitted => {}
            (Some(hold), Ok(Entry { record, life: Life::For(life), tags })) => {
                match replace(core, key, hold, record, life, tags).await {
                    Ok(true) => {
                        debug!(target: "cache_aside", key, ttl = ?life, "put");
                        self.guard.disarm();
                        return;
                    }
                    Ok(false) => {
                        debug!(target: "cache_aside", key, "put refused: somebody else put or loaded meanwhile");
                    }
                    Err(error) => {
                        core.books(self.ask.site).count(|book| &book.store_errors);
                        debug!(target: "cache_aside", key, %error, "put failed");
                    }
                }
                core.books(self.ask.site).count(|book| &book.fills_refused);
            }
            // The rules refuse this value.
            (_, Ok(Entry { life: Life::Over, .. })) => {}
            (None, Ok(_)) => core.books(self.ask.site).count(|book| &book.fills_refused),
            (_, Err(error)) => {
                core.books(self.ask.site).count(|book| &book.fills_refused);
                if self.ask.site.is_none_or(crate::site::Site::first_warning) {
                    warn!(target: "cache_aside", key, %error, "the value isn't stored");
                }
            }
        }
        self.guard.carry_out().await;
    }
}

/// Captures the tags before the body runs: what is invalidated from then on is invalidated after it. False
/// if one is fenced.
async fn capture(
    core: &Core,
    tags: Option<&Tags>,
    hold: &mut Hold,
    left: Duration,
) -> Result<bool, StoreError> {
    let Some(tags) = tags else { return Ok(true) };
    let joint = core.timed_by(left, core.store.flush(None, tags.creations())).await?;
    if joint.is_fenced {
        return Ok(false);
    }
    let missing = || StoreError::Unavailable("the version of a tag is missing".to_owned());
    hold.capture(tags.captured(joint.versions).ok_or_else(missing)?);
    Ok(true)
}

/// Stores a record in the place of its token, if that is still there; with the tags that it has.
async fn replace(
    core: &Core,
    key: &str,
    hold: &mut Hold,
    mut record: Bytes,
    life: Option<Duration>,
    tags: Option<Box<Named>>,
) -> Result<bool, CacheError> {
    let Some(mut captured) = hold.take_captured() else {
        return Ok(core.timed(core.store.swap(key, hold.prefix(), record, life)).await?);
    };
    if !name(core, &mut captured, Named::texts(tags)?).await? {
        return Ok(false);
    }
    record = record::tagged(&record, captured.versions());
    // Under a version that is over it is a miss: no need to look.
    Ok(fill(core, key, hold.prefix(), record, life, &captured).await?.is_stored)
}
