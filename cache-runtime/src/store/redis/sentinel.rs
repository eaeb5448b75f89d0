//! Where the primary is, as its sentinels say.
//!
//! They are asked each time that a main connection is made, one after the other, and the next one is asked too
//! while one doesn't answer (`ask.rs`). What one says counts only if it is of the newest configuration that was
//! heard of: a sentinel that was away, or that hears of a failover a second later, still names the old primary.
//! And whoever is named must call itself a primary (`supervisor.rs`).
//!
//! All of them are listened to, and asked every so often (`listener.rs`): so a failover ends the main connection
//! even if nothing is sent over it, or if the old primary is frozen, or cut off and of good cheer.
//!
//! A primary that is well when its replica is promoted (`SENTINEL FAILOVER`) takes writes for a second more, and
//! they are lost: the sentinels look only then whether the replica has obeyed. Invalidations among them would be
//! undone. So from their word that it is promoted now until another primary is named nothing is sent to either;
//! invalidations are kept meanwhile.

mod ask;
mod listener;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;

pub(super) use self::listener::listen;
use super::address::Address;
use super::deployment::Sentinels;
use super::link::Link;
use crate::clock;

/// After so many milliseconds in which nobody has confirmed the newest configuration an older one is believed:
/// sentinels that were made anew count from the beginning. More than they take to tell each other (2 s).
const FORGETFUL: u64 = 10_000;
/// For so many milliseconds at most nothing is sent while a replica is promoted.
const PROMOTION: u64 = 3_000;

pub(crate) struct Sentinel {
    service: String,
    /// How the primary is entered, wherever it is.
    primary: Address,
    // std mutex: never held across an await
    state: Mutex<State>,
    /// Rung when another primary was named; there is one who waits, the supervisor.
    pub(super) news: Notify,
}

struct State {
    /// Those of the URL, and those that others told of. Who answered last comes first.
    sentinels: Vec<Address>,
    /// The newest that was heard, and when, by `clock::millis`.
    named: Option<(Named, u64)>,
    /// Who was named before, by the same configuration: it is on its way out, and some sentinels name it still.
    former: Option<Named>,
    /// Until when, by `clock::millis`, a promotion may be under way.
    promotion: Option<u64>,
    /// Where the main connection of this epoch leads.
    current: Option<(u64, Address)>,
}

/// A primary, as a sentinel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    host: String,
    port: u16,
    /// The number of the configuration, which grows with each failover.
    version: u64,
}

impl State {
    fn name(&mut self, named: &Named, now: u64) {
        let former = self.named.replace((named.clone(), now)).map(|(former, _)| former);
        if let Some(former) = former.filter(|former| former != named) {
            self.promotion = None;
            self.former = (former.version == named.version).then_some(former);
        }
    }
}

impl Named {
    fn is(&self, address: &Address) -> bool {
        address.node() == Some((&self.host, self.port))
    }
}

impl Sentinel {
    pub(super) fn new(sentinels: Sentinels) -> Self {
        let Sentinels { seeds, service, primary } = sentinels;
        let state = State { sentinels: seeds, named: None, former: None, promotion: None, current: None };
        Self { service, primary, state: Mutex::new(state), news: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where side connections go: to where the main one leads.
    pub(super) fn server(&self) -> Address {
        self.state().current.as_ref().map_or_else(|| self.primary.clone(), |(_, address)| address.clone())
    }

    /// The main connection of this epoch will lead there.
    pub(super) fn lead(&self, epoch: u64, address: &Address) {
        let before = self.state().current.replace((epoch, address.clone()));
        if before.is_none_or(|(_, before)| before.node() != address.node()) {
            info!(target: "cache_aside", service = self.service, primary = address.shown(), "the sentinels name the primary");
        }
    }

    /// Whether this is an answer to go by; if it is, it is kept. `is_leaving`: the sentinel who said it is putting
    /// another in the place of this one. That is heeded once: a failover that comes to nothing keeps nobody
    /// waiting.
    fn note(&self, named: &Named, is_leaving: bool) -> bool {
        let now = clock::millis();
        let counts = self.note_at(named, now);
        if counts && is_leaving {
            self.state().promotion.get_or_insert(now + PROMOTION);
        }
        counts
    }

    fn note_at(&self, named: &Named, now: u64) -> bool {
        let mut state = self.state();
        if let Some((known, heard)) = &mut state.named
            && (&known.host, known.port) == (&named.host, named.port)
        {
            (known.version, *heard) = (known.version.max(named.version), now);
            return true;
        }
        let is_new = state.former.as_ref() != Some(named)
            && state.named.as_ref().is_none_or(|(known, _)| named.version >= known.version);
        let is_old = || state.named.as_ref().is_some_and(|(_, heard)| now.saturating_sub(*heard) > FORGETFUL);
        let counts = is_new || is_old();
        if counts {
            state.name(named, now);
        }
        counts
    }

    /// A failover was told of: to there, and no sentinel who hasn't heard of it is believed from now on.
    fn switched(&self, host: &str, port: u16) {
        let mut state = self.state();
        let version = match &state.named {
            Some((known, _)) if (known.host.as_str(), known.port) == (host, port) => known.version,
            Some((known, _)) => known.version + 1,
            None => 0,
        };
        state.name(&Named { host: host.to_owned(), port, version }, clock::millis());
    }

    /// A replica is promoted now.
    fn promoting(&self, link: &Link) {
        self.state().promotion = Some(clock::millis() + PROMOTION);
        self.check(link);
        self.news.notify_one();
    }

    /// For how long nothing is to be sent to anybody.
    pub(super) fn promotion(&self) -> Option<Duration> {
        let left = self.state().promotion?.checked_sub(clock::millis())?;
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Ends the main connection if it leads elsewhere than to who is named now, or to who isn't for long.
    pub(super) fn check(&self, link: &Link) {
        let is_promotion = self.promotion().is_some();
        let misled = {
            let state = self.state();
            let both = state.named.as_ref().zip(state.current.as_ref());
            both.filter(|((named, _), (_, current))| is_promotion || !named.is(current))
                .map(|(_, (epoch, _))| *epoch)
        };
        if let Some(epoch) = misled {
            link.lose(Some(epoch), "its sentinels put another in its place");
            self.news.notify_one();
        }
    }

    /// Others that one of them told of.
    fn add(&self, others: Vec<Address>) {
        let mut state = self.state();
        for other in others {
            if state.sentinels.iter().all(|known| known.node() != other.node()) {
                state.sentinels.push(other);
            }
        }
    }

    fn sentinels(&self) -> Vec<Address> {
        self.state().sentinels.clone()
    }

    /// This one answers: it is asked first.
    fn prefer(&self, sentinel: &Address) {
        let mut state = self.state();
        if let Some(at) = state.sentinels.iter().position(|known| known.node() == sentinel.node()) {
            state.sentinels[..=at].rotate_right(1);
        }
    }
}

/// What `step` gives, unless there are `news` first.
pub(super) async fn unless<T>(news: impl Future<Output = ()>, step: impl Future<Output = T>) -> Option<T> {
    let (mut news, mut step) = (pin!(news), pin!(step));
    poll_fn(|context| match step.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => news.as_mut().poll(context).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::deployment::Deployment;
    use super::*;
    use crate::settings::TlsFiles;

    fn at(port: u16, version: u64) -> Named {
        Named { host: "h".to_owned(), port, version }
    }

    fn sentinel() -> Sentinel {
        match Deployment::parse("redis+sentinel://s/main", &TlsFiles::default()) {
            Ok(Deployment::Sentinel(sentinels)) => Sentinel::new(sentinels),
            other => panic!("{other:?}"),
        }
    }

    fn named(sentinel: &Sentinel) -> u16 {
        sentinel.state().named.as_ref().map_or(0, |(named, _)| named.port)
    }

    #[test]
    fn a_sentinel_that_was_away_is_not_believed() {
        let sentinel = sentinel();
        assert!(sentinel.note(&at(1, 5), false) && sentinel.note(&at(2, 6), false));
        assert!(!sentinel.note(&at(1, 5), false), "it hasn't heard");
        assert!(sentinel.note(&at(2, 0), false), "it doesn't say by which configuration");
        assert_eq!(named(&sentinel), 2);
        sentinel.switched("h", 3);
        assert!(!sentinel.note(&at(2, 6), false), "it hasn't heard of what was told");
        assert!(sentinel.note(&at(3, 7), false) && sentinel.note(&at(1, 8), false));
        assert_eq!(named(&sentinel), 1);
    }

    #[test]
    fn who_is_on_its_way_out_does_not_come_back_by_the_same_configuration() {
        let sentinel = sentinel();
        assert!(sentinel.note(&at(1, 5), false) && sentinel.note(&at(2, 5), false));
        assert!(!sentinel.note(&at(1, 5), false));
        assert!(sentinel.note(&at(2, 6), false) && sentinel.note(&at(1, 7), false), "by the next one it may");
    }

    #[test]
    fn sentinels_that_were_made_anew_are_believed_after_a_while() {
        let sentinel = sentinel();
        assert!(sentinel.note(&at(2, 6), false) && !sentinel.note(&at(1, 0), false));
        let now = clock::millis();
        assert!(!sentinel.note_at(&at(1, 0), now + FORGETFUL - 1_000));
        assert!(sentinel.note_at(&at(1, 0), now + FORGETFUL + 1_000));
    }

    #[test]
    fn a_promotion_that_comes_to_nothing_keeps_nobody_waiting() {
        let sentinel = sentinel();
        assert!(sentinel.note(&at(1, 5), true) && sentinel.promotion().is_some());
        sentinel.state().promotion = Some(0);
        assert!(sentinel.note(&at(1, 5), true) && sentinel.promotion().is_none(), "it went on for too long");
        assert!(sentinel.note(&at(2, 6), false) && sentinel.note(&at(2, 6), true));
        assert!(sentinel.promotion().is_some(), "the next one");
    }
}
