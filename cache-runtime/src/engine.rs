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

use tracing::{debug, warn};

use crate::ahead::Ticket;
use crate::cache::Cache;
use crate::clock;
use crate::commands::Commands;
use crate::events::Books;
use crate::fallback::Fallback;
use crate::flight::{Landing, Seat, Turn};
use crate::hold::Hold;
use crate::lead::Lead;
use crate::pending::Queued;
use crate::policy::SingleFlight;
use crate::record::{self, Claim, Prefix};
use crate::recursion;
use crate::shared::Core;
use crate::sight::{Age, Ask, Hit, Origin, Sight};
use crate::site::Site;

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
    commands: Commands<'a>,
    sight: Option<Sight>,
    refresh: bool,
    missed: bool,
    /// What is queued was asked for, and didn't decode.
    unreadable: bool,
    fallback: Fallback,
}

impl<'a> Pass<'a> {
    /// With `refresh`, it loads and stores whatever is there.
    pub(crate) fn new(cache: &'a Cache, ask: Ask, refresh: bool) -> Self {
        let (commands, fallback) = (Commands::new(cache, ask), Fallback::default());
        Self { commands, sight: None, refresh, missed: false, unreadable: false, fallback }
    }

    fn core(&self) -> &'a Core {
        self.commands.core()
    }

    fn books(&self) -> Books<'a> {
        self.commands.books()
    }

    fn ask(&self) -> &Ask {
        &self.commands.ask
    }

    /// The next step. After a `Hit` that doesn't decode, call [`Pass::reject`] and ask again.
    ///
    /// Cancel safe: leases and seats are held by guards.
    pub(crate) async fn next(&mut self) -> Step {
        if self.refresh {
            return Box::pin(self.step_of_refresh()).await;
        }
        loop {
            let sight = match self.sight.take() {
                Some(sight) => sight,
                None => self.commands.look().await,
            };
            self.fallback.note(&sight, &self.commands.ask);
            match sight {
                Sight::Hit(hit) => return Step::Hit(hit),
                Sight::Stale(hit, claim) if self.fallback.suffices(claim) => return Step::Hit(hit),
                // Boxed: a hit doesn't carry the room that a miss needs.
                sight => {
                    if let Some(step) = Box::pin(self.step_of_miss(sight)).await {
                        return step;
                    }
                }
            }
        }
    }

    async fn step_of_refresh(&mut self) -> Step {
        let lead = self.lead_refresh().await;
        self.ask_queue(lead).await
    }

    /// Nothing: read again.
    async fn step_of_miss(&mut self, sight: Sight) -> Option<Step> {
        let step = match sight {
            Sight::HandsOff => {
                self.miss();
                Step::Load(self.alone())
            }
            // The body of a put reads what it is about to store: who is loading may be waiting for it.
            Sight::Busy(token) if record::is_put(&token) && recursion::is_holding(&token) => {
                self.miss();
                Step::Load(self.alone())
            }
            sight if self.ask().flight == SingleFlight::Off => {
                self.miss();
                self.lead(None, sight, None).await
            }
            sight => self.fly(sight).await?,
        };
        Some(match step {
            Step::Load(lead) => self.ask_queue(lead).await,
            hit @ Step::Hit(_) => hit,
        })
    }

    /// What is queued is newer than what the function would read.
    async fn ask_queue(&mut self, lead: Box<Lead>) -> Step {
        if self.ask().queue().is_none() {
            return Step::Load(lead);
        }
        if self.unreadable {
            return Step::Load(lead.unstored());
        }
        // Boxed: other functions don't carry the room for it.
        match Box::pin(self.commands.queued(lead)).await {
            Queued::Nothing(lead) => Step::Load(lead),
            Queued::Answer(hit) => Step::Hit(hit),
            Queued::Unreadable(lead) | Queued::Unknown(lead) => Step::Load(lead.unstored()),
        }
    }

    /// What there is after the load was waited for so long: the stale value, unless it was
    /// invalidated, or already something newer.
    pub(crate) async fn settle_for(&mut self, waited: Duration, stale: Hit) -> Option<Hit> {
        if waited.is_zero() {
            return Some(stale);
        }
        self.commands.renew();
        match self.commands.look().await {
            Sight::Hit(hit) | Sight::Stale(hit, _) => Some(hit),
            _ => None,
        }
    }

    /// The right to load in the background, if there aren't too many such loads.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.core().background.ticket()
    }

    /// The right to renew in the background what was found, if this process doesn't do so already.
    pub(crate) fn renewal(&self) -> Option<Ticket> {
        let core = self.core();
        core.background.renewal(self.ask().subject(), core.options.lease)
    }

    /// The function failed, and a stale value was the answer.
    pub(crate) fn count_stale(&self) {
        self.books().count(|book| &book.stale_served);
    }

    pub(crate) fn into_ask(self) -> Ask {
        self.commands.ask
    }

    /// The right to renew the value of this hit in the background, or why there is none.
    ///
    /// Cancel safe: a claim ends by itself.
    pub(crate) async fn lead_ahead(&mut self, hit: &Hit) -> Result<Box<Lead>, Sight> {
        let hold = self.commands.claim(hit).await?;
        self.books().count(|book| &book.refreshes);
        let lead = self.with_seat(None, Some(hold));
        if self.ask().queue().is_none() {
            return Ok(lead);
        }
        // Where nothing could be stored, nothing is loaded; dropping the lead gives the claim back.
        match Box::pin(self.commands.queued(lead)).await {
            Queued::Nothing(lead) => Ok(lead),
            Queued::Answer(hit) => Err(Sight::Hit(hit)),
            Queued::Unreadable(_) => Err(Sight::HandsOff),
            Queued::Unknown(_) => Err(Sight::Dark),
        }
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
            Origin::Queue => books.count(|book| &book.pending_hits),
        }
        debug!(target: "cache_aside", key = %self.ask().key, from = hit.origin.name(), "hit");
    }

    /// The payload of this hit didn't decode: a value of another type is dead, foreign data is left alone.
    pub(crate) fn reject(&mut self, hit: &Hit) {
        self.sight = Some(match hit.origin {
            Origin::Store(prefix) => Sight::Dead(prefix),
            Origin::Plain => {
                self.core().warn_once(
                    &self.ask().key,
                    "holds something that isn't ours and doesn't decode: left alone",
                );
                Sight::HandsOff
            }
            Origin::Flight => Sight::HandsOff,
            Origin::Queue => {
                self.unreadable = true;
                Sight::HandsOff
            }
        });
    }

    fn miss(&mut self) {
        if !self.missed {
            self.missed = true;
            self.books().count(|book| &book.misses);
            debug!(target: "cache_aside", key = %self.ask().key, "miss");
        }
    }

    /// Joins the flight of the key. Nothing: read again.
    async fn fly(&mut self, mut sight: Sight) -> Option<Step> {
        let mut waited = false;
        let Some(mut member) = self.core().flights.join(self.ask().subject()) else {
            self.books().count(|book| &book.bypassed);
            self.core()
                .warn_once("*", "too many keys are being loaded at once: some calls go past the cache");
            return Some(Step::Load(self.alone()));
        };
        loop {
            let turn = member.turn();
            if !matches!(turn, Turn::Recursion) {
                self.miss();
            }
            match turn {
                Turn::Lead { seat, orphan } => {
                    let seat = member.sit(seat);
                    if waited && matches!(sight, Sight::Stale(..)) {
                        // It may have been invalidated meanwhile.
                        sight = self.commands.look().await;
                    }
                    return Some(self.lead(Some(seat), sight, orphan).await);
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
                    if self.ask().site.is_none_or(Site::first_warning) {
                        warn!(target: "cache_aside", key = %self.ask().key, "the function calls itself with the same arguments: the inner call is not cached");
                    }
                    self.books().count(|book| &book.bypassed);
                    return Some(Step::Load(self.alone()));
                }
                Turn::Wait => {
                    let left = self.fallback.left();
                    if left.is_some_and(|left| left.is_zero()) {
                        // After a wait it is looked at again.
                        return self.fallback.at_once().map(Step::Hit);
                    }
                    self.fallback.wait();
                    waited = true;
                    // Cancel: the member leaves the queue.
                    member.wait(self.core().options.lease, left).await;
                    self.commands.renew();
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
            self.fallback.note(&sight, &self.commands.ask);
            let leased = match sight {
                Sight::Dark | Sight::HandsOff => return Step::Load(self.with_seat(seat, None)),
                Sight::Hit(hit) => {
                    if let Some(seat) = seat {
                        seat.land(Landing::Found);
                    }
                    return Step::Hit(hit);
                }
                Sight::Stale(hit, claim) if self.fallback.suffices(claim) => {
                    if let Some(seat) = seat.filter(|_| claim == Claim::Resting) {
                        seat.land(Landing::Found);
                    }
                    return Step::Hit(hit);
                }
                Sight::Stale(hit, Claim::Held) if hit.prefix() != orphan => {
                    Err(Sight::Stale(hit, Claim::Held))
                }
                Sight::Stale(hit, _) => self.commands.claim(&hit).await,
                Sight::Busy(prefix) if Some(prefix) == orphan => self.commands.replace(prefix).await,
                // The look that saw the lease may be older than the seat; acquiring looks again.
                Sight::Busy(_) | Sight::Absent | Sight::Undated => self.commands.acquire().await,
                Sight::Dead(seen) | Sight::Stranger(seen) => self.commands.replace(seen).await,
            };
            sight = match leased {
                Ok(hold) => return Step::Load(self.with_seat(seat, Some(hold))),
                Err(sight) => sight,
            };
            // Another process loads.
            let Some(theirs) = sight.loader().filter(|theirs| Some(*theirs) != orphan) else { continue };
            let nobody_waits = self.ask().flight != SingleFlight::Fleet
                || !clock::has_timers()
                || recursion::is_holding(&theirs);
            if nobody_waits || clock::millis() >= deadline {
                self.fallback.note(&sight, &self.commands.ask);
                return Step::Load(self.with_seat(seat, None));
            }
            self.commands.renew();
            self.commands.doze(theirs, pause, self.fallback.left()).await;
            pause = (pause * 2).min(options.poll.1);
            self.commands.renew();
            self.fallback.wait();
            if let Sight::Stale(..) = sight {
                sight = self.commands.look().await;
            }
        }
    }

    /// The right to fill for a load that doesn't ask what is there.
    async fn lead_refresh(&mut self) -> Box<Lead> {
        self.books().count(|book| &book.refreshes);
        // What is there may change between the look and the claim, but hardly thrice.
        for _ in 0..3 {
            let hold = match self.commands.look_aged().await {
                Sight::Dark | Sight::HandsOff => return self.alone(),
                Sight::Absent => self.commands.acquire().await.ok(),
                Sight::Hit(hit) | Sight::Stale(hit, _) if hit.prefix().is_some() => {
                    self.commands.claim(&hit).await.ok()
                }
                Sight::Busy(seen) | Sight::Dead(seen) | Sight::Stranger(seen) => {
                    self.commands.replace(seen).await.ok()
                }
                Sight::Hit(_) | Sight::Stale(..) | Sight::Undated => {
                    // Plain JSON has no prefix to compare; an old value must not outlive this refresh.
                    self.commands.remove().await;
                    None
                }
            };
            if hold.is_some() {
                return Box::new(self.with_seat(None, hold).by_hand());
            }
        }
        Box::new(self.alone().by_hand())
    }

    fn with_seat(&mut self, seat: Option<Seat>, hold: Option<Hold>) -> Box<Lead> {
        if let (Some(seat), Some(hold)) = (&seat, &hold) {
            seat.hold(hold.prefix());
        }
        let lead = Lead::new(self.commands.cache.clone(), self.ask().clone(), seat, hold);
        Box::new(lead.or_stale(self.fallback.take()))
    }

    fn alone(&mut self) -> Box<Lead> {
        self.with_seat(None, None)
    }
}
