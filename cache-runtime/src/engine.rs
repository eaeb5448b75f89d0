//! The decision per call. Nothing here knows a user's type: values are bytes.
//!
//! ```text
//! read      GET                       hit: done; with PTTL for functions that ask how old a value is
//! join      the flight of the key     another's load may answer
//! acquire   a lease, if nothing is there; a dead value is replaced by the lease, a stale one is claimed
//! load      the caller's own function (call.rs), the lease or claim extended meanwhile
//! fill      compare-and-set on the lease or claim: whatever happened to it refuses the fill
//! ```

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::ahead::Ticket;
use crate::cache::Cache;
use crate::clock;
use crate::error::StoreError;
use crate::events::Books;
use crate::flight::{Landing, Seat, Turn};
use crate::hold::Hold;
use crate::lead::Lead;
use crate::policy::SingleFlight;
use crate::record::{Claim, Prefix};
use crate::recursion;
use crate::shared::Core;
use crate::sight::{Age, Ask, Hit, Origin, Sight};
use crate::site::Site;
use crate::store::Reply;

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Decode this.
    Hit(Hit),
    /// Run the function.
    Load(Box<Lead>),
}

/// One call's way through the cache.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    cache: &'a Cache,
    ask: Ask,
    sight: Option<Sight>,
    /// What is left of the store's budget.
    left: Duration,
    refresh: bool,
    missed: bool,
    /// The value past its time to live that may be answered if nothing newer is to be had.
    stale: Option<Hit>,
    /// Until when something newer is waited for, by `clock::millis`; and whether it was.
    patience: Option<u64>,
    waited: bool,
}

impl<'a> Pass<'a> {
    /// With `refresh`, it loads and stores whatever is there.
    pub(crate) fn new(cache: &'a Cache, ask: Ask, refresh: bool) -> Self {
        let left = cache.core().options.budget;
        Self {
            cache,
            ask,
            sight: None,
            left,
            refresh,
            missed: false,
            stale: None,
            patience: None,
            waited: false,
        }
    }

    /// With the lifetime of the cache, so that a reply doesn't borrow the pass.
    fn core(&self) -> &'a Core {
        self.cache.core()
    }

    fn books(&self) -> Books<'a> {
        self.core().books(self.ask.site)
    }

    /// The next step. After a `Hit` that doesn't decode, call [`Pass::reject`] and ask again.
    ///
    /// Cancel safe: leases and seats are held by guards.
    pub(crate) async fn next(&mut self) -> Step {
        if self.refresh {
            return Step::Load(Box::pin(self.lead_refresh()).await);
        }
        loop {
            let sight = match self.sight.take() {
                Some(sight) => sight,
                None => self.look().await,
            };
            self.note(&sight);
            match sight {
                Sight::Hit(hit) => return Step::Hit(hit),
                Sight::Stale(hit, claim) if self.contents_itself(claim) => return Step::Hit(hit),
                Sight::HandsOff => {
                    self.miss();
                    return Step::Load(self.alone());
                }
                sight => {
                    if self.ask.flight == SingleFlight::Off {
                        self.miss();
                        return Box::pin(self.lead(None, sight, None)).await;
                    }
                    // Boxed: a hit doesn't carry the room that a miss needs.
                    if let Some(step) = Box::pin(self.fly(sight)).await {
                        return step;
                    }
                }
            }
        }
    }

    /// The look at the store without any load: for `cached`.
    pub(crate) async fn peek(&self) -> Result<Option<Hit>, StoreError> {
        let core = self.core();
        let mut sight = Sight::Undated;
        if !self.ask.asks_age() {
            sight = Sight::of(core.timed(core.store.get(&self.ask.key)).await?, &self.ask, core);
        }
        if let Sight::Undated = sight {
            sight = Sight::of_aged(core.timed(core.store.get_aged(&self.ask.key)).await?, &self.ask, core);
        }
        Ok(if let Sight::Hit(hit) = sight { Some(hit) } else { None })
    }

    /// Remembers the stale value as long as it is the last that was seen: what was invalidated since
    /// answers nobody.
    fn note(&mut self, sight: &Sight) {
        match sight {
            Sight::Stale(hit, _) if self.ask.takes_stale() => {
                self.stale = Some(hit.clone());
                if let (None, Some(timeout)) = (self.patience, self.ask.site.and_then(|site| site.timeout)) {
                    let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                    self.patience = Some(clock::millis().saturating_add(timeout));
                }
            }
            // It was there when the store was last asked.
            Sight::Dark => {}
            _ => self.stale = None,
        }
    }

    /// Whether a stale value is good enough by now: a load failed a moment ago, or something newer was
    /// waited for as long as it may be.
    fn contents_itself(&self, claim: Claim) -> bool {
        self.stale.is_some() && (claim == Claim::Resting || (self.waited && self.is_out_of_patience()))
    }

    /// How much longer something newer is waited for, where a stale value could be answered.
    fn patience_left(&self) -> Option<Duration> {
        let until = self.patience.filter(|_| self.stale.is_some())?;
        Some(Duration::from_millis(until.saturating_sub(clock::millis())))
    }

    fn is_out_of_patience(&self) -> bool {
        self.patience_left().is_some_and(|left| left.is_zero())
    }

    /// How long the caller of this load waits for it before it takes the stale value: see
    /// [`Pass::settle_for`].
    pub(crate) fn patience(&self, lead: &Lead) -> Option<Duration> {
        lead.stale()?;
        let left = self.patience?.saturating_sub(clock::millis());
        clock::has_timers().then_some(Duration::from_millis(left))
    }

    /// What there is after the load was waited for so long: the stale value, unless it was
    /// invalidated, or already something newer.
    pub(crate) async fn settle_for(&mut self, waited: Duration, stale: Hit) -> Option<Hit> {
        if waited.is_zero() {
            return Some(stale);
        }
        self.left = self.core().options.budget;
        match self.look().await {
            Sight::Hit(hit) | Sight::Stale(hit, _) => Some(hit),
            Sight::Dark => Some(stale),
            _ => None,
        }
    }

    /// The right to load in the background, if there isn't such a load already, or too many.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.core().background.ticket(self.ask.subject())
    }

    pub(crate) fn into_ask(self) -> Ask {
        self.ask
    }

    /// The right to renew the value of this hit in the background, if nobody else has it.
    ///
    /// Cancel safe: a claim ends by itself.
    pub(crate) async fn lead_ahead(&mut self, hit: &Hit) -> Option<Box<Lead>> {
        let hold = self.claim(hit).await.ok()?;
        self.books().count(|book| &book.refreshes);
        Some(self.with_seat(None, Some(hold)))
    }

    /// Whether a newer version of the program stored what is there.
    pub(crate) async fn is_newer(&self) -> Result<bool, StoreError> {
        let core = self.core();
        let bytes = core.timed(core.store.get(&self.ask.key)).await?;
        Ok(matches!(Sight::of(bytes, &self.ask, core), Sight::HandsOff))
    }

    /// The value of this hit was decoded.
    pub(crate) fn accept(&self, hit: &Hit) {
        let books = self.books();
        if hit.age == Age::Stale {
            books.count(|book| &book.stale_served);
        }
        match hit.origin {
            Origin::Store(_) if self.missed && hit.age == Age::Stale => {}
            // It was counted as a miss before somebody else's load answered it.
            Origin::Store(_) | Origin::Plain if self.missed => books.count(|book| &book.coalesced),
            Origin::Store(_) => books.count(|book| &book.hits),
            Origin::Plain => books.count(|book| &book.plain_hits),
            Origin::Flight => books.count(|book| &book.coalesced),
        }
        debug!(target: "cache_aside", key = %self.ask.key, from = hit.origin.name(), "hit");
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

    /// Asks the store, out of what is left of the budget.
    async fn spend<T>(left: &mut Duration, core: &Core, operation: Reply<'_, T>) -> Result<T, StoreError> {
        if !core.store.is_remote() {
            return operation.await;
        }
        if left.is_zero() {
            // Not the server's fault: nothing was asked.
            return Err(StoreError::Timeout("the budget is spent".to_owned()));
        }
        let begun = Instant::now();
        let answer = core.timed_by(*left, operation).await;
        *left = left.saturating_sub(begun.elapsed());
        answer
    }

    async fn look(&mut self) -> Sight {
        let core = self.core();
        if self.refresh || self.ask.asks_age() {
            return self.look_aged().await;
        }
        match Self::spend(&mut self.left, core, core.store.get(&self.ask.key)).await {
            Ok(bytes) => self.settled(Sight::of(bytes, &self.ask, core)).await,
            Err(error) => self.failed(&error),
        }
    }

    async fn look_aged(&mut self) -> Sight {
        let sight = self.date().await;
        self.settled(sight).await
    }

    async fn date(&mut self) -> Sight {
        let core = self.core();
        match Self::spend(&mut self.left, core, core.store.get_aged(&self.ask.key)).await {
            Ok(aged) => Sight::of_aged(aged, &self.ask, core),
            Err(error) => self.failed(&error),
        }
    }

    /// Looks at a stranger's entry again: if it is still there, the key is shared; if not, replies and
    /// questions have got out of step.
    async fn settled(&mut self, sight: Sight) -> Sight {
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

    fn failed(&self, error: &StoreError) -> Sight {
        self.books().count(|book| &book.store_errors);
        if let StoreError::WrongType(_) = error {
            self.core().warn_once(&self.ask.key, "holds a data structure that isn't ours: left alone");
            return Sight::HandsOff;
        }
        debug!(target: "cache_aside", key = %self.ask.key, %error, "the store failed");
        Sight::Dark
    }

    /// Joins the flight of the key. Nothing: read again.
    async fn fly(&mut self, sight: Sight) -> Option<Step> {
        let mut member = self.core().flights.join(self.ask.subject());
        loop {
            let turn = member.turn();
            if !matches!(turn, Turn::Recursion) {
                self.miss();
            }
            match turn {
                Turn::Lead { seat, orphan } => {
                    return Some(self.lead(Some(member.sit(seat)), sight, orphan).await);
                }
                Turn::Take(record) => {
                    return Some(match Hit::from_flight(record) {
                        Some(hit) => Step::Hit(hit),
                        None => Step::Load(self.alone()),
                    });
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
                Turn::Wait => {
                    let left = self.patience_left();
                    if left.is_some_and(|left| left.is_zero()) {
                        // After a wait it is looked at again.
                        return self.stale.take().filter(|_| !self.waited).map(Step::Hit);
                    }
                    self.waited = true;
                    // Cancel: the member leaves the queue.
                    member.wait(self.core().options.lease, left).await;
                }
            }
        }
    }

    /// Gets the lease, or finds that no load is needed.
    async fn lead(&mut self, seat: Option<Seat>, mut sight: Sight, orphan: Option<Prefix>) -> Step {
        let options = &self.core().options;
        let deadline = clock::millis().saturating_add(options.load_deadline_millis());
        let mut pause = options.poll.0;
        loop {
            if let Some(seat) = &seat {
                seat.touch();
            }
            self.note(&sight);
            let leased = match sight {
                Sight::Dark | Sight::HandsOff => return Step::Load(self.with_seat(seat, None)),
                Sight::Hit(hit) => {
                    if let Some(seat) = seat {
                        seat.land(Landing::Found);
                    }
                    return Step::Hit(hit);
                }
                Sight::Stale(hit, claim) if self.contents_itself(claim) => {
                    if let Some(seat) = seat.filter(|_| claim == Claim::Resting) {
                        seat.land(Landing::Found);
                    }
                    return Step::Hit(hit);
                }
                Sight::Stale(hit, Claim::Held) if hit.prefix() != orphan => {
                    Err(Sight::Stale(hit, Claim::Held))
                }
                Sight::Stale(hit, _) => self.claim(&hit).await,
                Sight::Busy(prefix) if Some(prefix) == orphan => self.replace(prefix).await,
                // The look that saw the lease may be older than the seat; acquiring looks again.
                Sight::Busy(_) | Sight::Absent | Sight::Undated => self.acquire().await,
                Sight::Dead(seen) | Sight::Stranger(seen) => self.replace(seen).await,
            };
            sight = match leased {
                Ok(hold) => return Step::Load(self.with_seat(seat, Some(hold))),
                Err(sight) => sight,
            };
            // Another process loads.
            let theirs = match &sight {
                Sight::Busy(prefix) => Some(*prefix),
                Sight::Stale(hit, Claim::Held) => hit.prefix(),
                _ => None,
            };
            let Some(theirs) = theirs.filter(|theirs| Some(*theirs) != orphan) else { continue };
            let nobody_waits = self.ask.flight != SingleFlight::Fleet
                || !clock::has_timers()
                || recursion::is_holding(&theirs);
            if nobody_waits || clock::millis() >= deadline {
                self.note(&sight);
                return Step::Load(self.with_seat(seat, None));
            }
            let nap = self.patience_left().map_or(pause, |left| pause.min(left));
            clock::sleep_jittered(nap).await;
            pause = (pause * 2).min(options.poll.1);
            self.left = options.budget;
            self.waited = true;
            if let Sight::Stale(..) = sight {
                sight = self.look().await;
            }
        }
    }

    /// Puts a lease where nothing is, or says what is there.
    async fn acquire(&mut self) -> Result<Hold, Sight> {
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
    fn not_leased(&self, mut hold: Hold, error: &StoreError) -> Sight {
        if let StoreError::Refused(_) | StoreError::WrongType(_) = error {
            hold.disarm();
        }
        self.failed(error)
    }

    /// Puts a lease in the place of what was seen; if that is gone, there is nothing to say but "look".
    async fn replace(&mut self, seen: Prefix) -> Result<Hold, Sight> {
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

    /// The right to fill for a load that doesn't ask what is there.
    async fn lead_refresh(&mut self) -> Box<Lead> {
        self.books().count(|book| &book.refreshes);
        // What is there may change between the look and the claim, but hardly thrice.
        for _ in 0..3 {
            let hold = match self.look().await {
                Sight::Dark | Sight::HandsOff => break,
                Sight::Absent => self.acquire().await.ok(),
                Sight::Hit(hit) | Sight::Stale(hit, _) if hit.prefix().is_some() => {
                    self.claim(&hit).await.ok()
                }
                Sight::Busy(seen) | Sight::Dead(seen) | Sight::Stranger(seen) => {
                    self.replace(seen).await.ok()
                }
                Sight::Hit(_) | Sight::Stale(..) | Sight::Undated => {
                    // Plain JSON has no prefix to compare; an old value must not outlive this refresh.
                    let core = self.core();
                    let _ = Self::spend(&mut self.left, core, core.store.remove(&self.ask.key)).await;
                    None
                }
            };
            if hold.is_some() {
                return self.with_seat(None, hold);
            }
        }
        self.alone()
    }

    /// Marks the value as being renewed by this call; it stays readable.
    async fn claim(&mut self, hit: &Hit) -> Result<Hold, Sight> {
        let Some(seen) = hit.prefix() else { return Err(Sight::Absent) };
        let core = self.core();
        let mut hold = Hold::claim(self.cache.clone(), self.ask.key.clone(), hit.end);
        let operation = core.store.stamp(&self.ask.key, seen, hold.token());
        match Self::spend(&mut self.left, core, operation).await {
            Ok(true) => Ok(hold),
            Ok(false) => {
                hold.disarm();
                Err(self.look().await)
            }
            Err(error) => Err(self.not_leased(hold, &error)),
        }
    }

    fn hold(&self) -> Hold {
        Hold::lease(self.cache.clone(), self.ask.key.clone())
    }

    fn with_seat(&mut self, seat: Option<Seat>, hold: Option<Hold>) -> Box<Lead> {
        if let (Some(seat), Some(hold)) = (&seat, &hold) {
            seat.hold(hold.prefix());
        }
        let lead = Lead::new(self.cache.clone(), self.ask.clone(), seat, hold);
        Box::new(lead.or_stale(self.stale.take()))
    }

    fn alone(&mut self) -> Box<Lead> {
        self.with_seat(None, None)
    }
}
