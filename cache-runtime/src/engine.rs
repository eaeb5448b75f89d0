//! The decision per call. Nothing here knows a user's type: values are bytes.
//!
//! ```text
//! read      GET                       hit: done
//! join      the flight of the key     another's load may answer
//! acquire   a lease, if nothing is there; a dead value is replaced by the lease
//! load      the caller's own function (call.rs), the lease extended meanwhile
//! fill      compare-and-set on the lease: whatever happened to it refuses the fill
//! ```

use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, error, warn};

use crate::cache::{Cache, Core};
use crate::clock;
use crate::error::StoreError;
use crate::events::Books;
use crate::flight::{Landing, Member, Seat, Turn};
use crate::key::Identity;
use crate::lead::{Hold, Lead};
use crate::policy::SingleFlight;
use crate::record::{self, Found, Kind, Prefix, Value};
use crate::site::Site;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// With the namespace.
    pub(crate) key: String,
    /// Whose entry it is; all zero for entries of no function.
    pub(crate) identity: Identity,
    /// The type of the value.
    pub(crate) fingerprint: u64,
    pub(crate) version: u32,
    pub(crate) flight: SingleFlight,
    pub(crate) site: Option<&'static Site>,
}

/// The identity of what `Cache::get_or_set` stores.
pub(crate) const UNNAMED: Identity = [0; 16];

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Decode this.
    Hit(Hit),
    /// Run the function.
    Load(Lead),
}

/// A payload to decode.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) payload: Bytes,
    pub(crate) is_none: bool,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A record in the store.
    Store(Prefix),
    /// Plain JSON in the store.
    Plain,
    /// Another caller's load.
    Flight,
}

/// What stands under the key, as far as this call is concerned.
#[derive(Debug)]
enum Sight {
    Hit(Hit),
    Absent,
    /// A value that may be replaced.
    Dead(Prefix),
    /// Somebody loads, or puts.
    Busy(Prefix),
    /// Something that isn't to be touched: fenced, newer than this program, or foreign.
    HandsOff,
    /// The store doesn't answer.
    Dark,
}

/// One call's way through the cache.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    cache: &'a Cache,
    ask: Ask,
    sight: Option<Sight>,
    refresh: bool,
    missed: bool,
}

impl<'a> Pass<'a> {
    /// With `refresh`, it loads and stores whatever is there.
    pub(crate) fn new(cache: &'a Cache, ask: Ask, refresh: bool) -> Self {
        Self { cache, ask, sight: None, refresh, missed: false }
    }

    fn core(&self) -> &Core {
        self.cache.core()
    }

    pub(crate) fn books(&self) -> Books<'_> {
        self.core().books(self.ask.site)
    }

    /// The next step. After a `Hit` that doesn't decode, call [`Pass::reject`] and ask again.
    ///
    /// Cancel safe: leases and seats are held by guards.
    pub(crate) async fn next(&mut self) -> Step {
        if self.refresh {
            return Step::Load(self.lead_refresh().await);
        }
        loop {
            let sight = match self.sight.take() {
                Some(sight) => sight,
                None => self.look().await,
            };
            match sight {
                Sight::Hit(hit) => return Step::Hit(hit),
                Sight::HandsOff => {
                    self.miss();
                    return Step::Load(self.alone());
                }
                sight => {
                    self.miss();
                    if self.ask.flight == SingleFlight::Off {
                        return self.lead(None, sight, None).await;
                    }
                    if let Some(step) = self.fly(sight).await {
                        return step;
                    }
                }
            }
        }
    }

    /// The look at the store without any load: for `cached`.
    pub(crate) async fn peek(&mut self) -> Result<Option<Hit>, StoreError> {
        let bytes = self.core().store.get(&self.ask.key).await?;
        Ok(match self.judge(bytes) {
            Sight::Hit(hit) => Some(hit),
            _ => None,
        })
    }

    /// The value of this hit was decoded.
    pub(crate) fn accept(&self, hit: &Hit) {
        let books = self.books();
        match hit.origin {
            Origin::Store(_) => books.count(|book| &book.hits),
            Origin::Plain => books.count(|book| &book.plain_hits),
            Origin::Flight => books.count(|book| &book.coalesced),
        }
        debug!(target: "cache_aside", key = %self.ask.key, from = ?hit.origin.name(), "hit");
    }

    /// The payload of this hit didn't decode: a value of another type is dead, foreign data is left alone.
    pub(crate) fn reject(&mut self, hit: &Hit) {
        self.sight = Some(match hit.origin {
            Origin::Store(prefix) => Sight::Dead(prefix),
            Origin::Plain => {
                self.core().warn_once(
                    &self.ask.key,
                    "holds something that isn't ours and doesn't decode: left alone",
                );
                Sight::HandsOff
            }
            Origin::Flight => Sight::HandsOff,
        });
    }

    fn miss(&mut self) {
        if !self.missed {
            self.missed = true;
            self.books().count(|book| &book.misses);
            debug!(target: "cache_aside", key = %self.ask.key, "miss");
        }
    }

    async fn look(&self) -> Sight {
        match self.core().store.get(&self.ask.key).await {
            Ok(bytes) => self.judge(bytes),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &StoreError) -> Sight {
        self.books().count(|book| &book.store_errors);
        if let StoreError::WrongType(_) = error {
            self.core().warn_once(&self.ask.key, "holds a data structure that isn't ours: left alone");
            return Sight::HandsOff;
        }
        debug!(target: "cache_aside", key = %self.ask.key, %error, "the store failed");
        Sight::Dark
    }

    fn judge(&self, bytes: Option<Bytes>) -> Sight {
        let Some(bytes) = bytes else { return Sight::Absent };
        match record::read(bytes) {
            Found::Value(value) => self.judge_value(value),
            Found::Lease(prefix) | Found::Put(prefix) => Sight::Busy(prefix),
            Found::Torn(prefix) => Sight::Dead(prefix),
            Found::Fence | Found::Newer => Sight::HandsOff,
            Found::Plain(payload) => {
                let is_none = payload == b"null"[..];
                Sight::Hit(Hit { payload, is_none, origin: Origin::Plain })
            }
        }
    }

    fn judge_value(&self, value: Value) -> Sight {
        let Value { prefix, head, payload } = value;
        if head.identity != self.ask.identity && head.identity != UNNAMED && self.ask.identity != UNNAMED {
            error!(target: "cache_aside", key = %self.ask.key, "the entry belongs to another function or to other arguments: not used");
            return Sight::Dead(prefix);
        }
        if head.version > self.ask.version {
            return Sight::HandsOff;
        }
        if head.version < self.ask.version || head.fingerprint != self.ask.fingerprint {
            return Sight::Dead(prefix);
        }
        let is_none = head.flags & record::FLAG_NONE != 0;
        Sight::Hit(Hit { payload, is_none, origin: Origin::Store(prefix) })
    }

    /// Joins the flight of the key. Nothing: read again.
    async fn fly(&mut self, sight: Sight) -> Option<Step> {
        let mut member: Member = self.core().flights.join(&self.ask.key);
        loop {
            match member.turn() {
                Turn::Lead { seat, orphan } => {
                    return Some(self.lead(Some(member.sit(seat)), sight, orphan).await);
                }
                Turn::Take(bytes) => {
                    if let Found::Value(Value { head, payload, .. }) = record::read(bytes) {
                        let is_none = head.flags & record::FLAG_NONE != 0;
                        return Some(Step::Hit(Hit { payload, is_none, origin: Origin::Flight }));
                    }
                    return Some(Step::Load(self.alone()));
                }
                Turn::Read => return None,
                Turn::Alone => return Some(Step::Load(self.alone())),
                Turn::Recursion => {
                    if self.ask.site.is_none_or(Site::first_warning) {
                        warn!(target: "cache_aside", key = %self.ask.key, "the function calls itself with the same arguments: the inner call is not cached");
                    }
                    self.books().count(|book| &book.bypassed);
                    return Some(Step::Load(self.alone()));
                }
                // Cancel: the member leaves the queue.
                Turn::Wait => member.wait(self.core().options.lease).await,
            }
        }
    }

    /// Gets the lease, or finds that no load is needed.
    async fn lead(&mut self, seat: Option<Seat>, mut sight: Sight, orphan: Option<Prefix>) -> Step {
        let deadline = clock::millis() + self.core().options.load_deadline_millis();
        let mut pause = self.core().options.poll.0;
        loop {
            if let Some(seat) = &seat {
                seat.touch();
            }
            sight = match sight {
                Sight::Dark | Sight::HandsOff => return Step::Load(self.with_seat(seat, None)),
                Sight::Hit(hit) => {
                    if let Some(seat) = seat {
                        seat.land(Landing::Found);
                    }
                    return Step::Hit(hit);
                }
                Sight::Busy(prefix) if Some(prefix) == orphan => Sight::Dead(prefix),
                Sight::Busy(_)
                    if self.ask.flight != SingleFlight::Fleet
                        || clock::millis() >= deadline
                        || !clock::has_timers() =>
                {
                    return Step::Load(self.with_seat(seat, None));
                }
                // The look that saw the lease may be older than the seat; acquiring looks again.
                Sight::Busy(_) | Sight::Absent => {
                    let hold = self.hold();
                    match self
                        .core()
                        .store
                        .acquire(&self.ask.key, hold.token(), self.core().options.lease)
                        .await
                    {
                        Ok(None) => return Step::Load(self.with_seat(seat, Some(hold))),
                        Ok(there) => {
                            hold.disarm();
                            match self.judge(there) {
                                Sight::Busy(prefix) if Some(prefix) != orphan => {
                                    clock::sleep_jittered(pause).await;
                                    pause = (pause * 2).min(self.core().options.poll.1);
                                    Sight::Busy(prefix)
                                }
                                sight => sight,
                            }
                        }
                        // The lease may have been taken although the reply was lost: the hold releases it.
                        Err(error) => self.failed(&error),
                    }
                }
                Sight::Dead(seen) => {
                    let hold = self.hold();
                    let lease = self.core().options.lease;
                    match self.core().store.swap(&self.ask.key, seen, hold.token(), Some(lease)).await {
                        Ok(true) => return Step::Load(self.with_seat(seat, Some(hold))),
                        Ok(false) => {
                            hold.disarm();
                            Sight::Absent
                        }
                        Err(error) => self.failed(&error),
                    }
                }
            };
        }
    }

    /// The right to fill for a load that doesn't ask what is there.
    async fn lead_refresh(&mut self) -> Lead {
        self.books().count(|book| &book.refreshes);
        for _ in 0..3 {
            let hold = match self.look().await {
                Sight::Dark | Sight::HandsOff => break,
                Sight::Absent => {
                    let hold = self.hold();
                    match self
                        .core()
                        .store
                        .acquire(&self.ask.key, hold.token(), self.core().options.lease)
                        .await
                    {
                        Ok(None) => Some(hold),
                        Ok(Some(_)) => {
                            hold.disarm();
                            None
                        }
                        Err(_) => None,
                    }
                }
                Sight::Hit(Hit { origin: Origin::Store(seen), .. }) => self.claim(seen).await,
                Sight::Busy(seen) | Sight::Dead(seen) => {
                    let hold = self.hold();
                    match self
                        .core()
                        .store
                        .swap(&self.ask.key, seen, hold.token(), Some(self.core().options.lease))
                        .await
                    {
                        Ok(true) => Some(hold),
                        Ok(false) => {
                            hold.disarm();
                            None
                        }
                        Err(_) => None,
                    }
                }
                Sight::Hit(_) => {
                    // Plain JSON has no prefix to compare; an old value must not outlive this refresh.
                    let _ = self.core().store.remove(&self.ask.key).await;
                    None
                }
            };
            if let Some(hold) = hold {
                return self.with_seat(None, Some(hold));
            }
        }
        self.alone()
    }

    /// Marks the value as being refreshed by this call; it stays readable.
    async fn claim(&self, seen: Prefix) -> Option<Hold> {
        let mine = record::fresh(Kind::Value);
        match self.core().store.stamp(&self.ask.key, seen, record::claim(mine, 0)).await {
            Ok(true) => Some(Hold::claim(self.cache.clone(), self.ask.key.clone(), mine)),
            _ => None,
        }
    }

    fn hold(&self) -> Hold {
        Hold::lease(self.cache.clone(), self.ask.key.clone())
    }

    fn with_seat(&self, seat: Option<Seat>, hold: Option<Hold>) -> Lead {
        if let (Some(seat), Some(hold)) = (&seat, &hold) {
            seat.hold(hold.prefix());
        }
        Lead::new(self.cache.clone(), self.ask.clone(), seat, hold)
    }

    fn alone(&self) -> Lead {
        self.with_seat(None, None)
    }
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Plain => "plain JSON",
            Self::Flight => "another caller's load",
        }
    }
}

/// The life of a lease that outlasts a late renewal.
pub(crate) fn renew_after(lease: Duration) -> Duration {
    lease / 3
}
