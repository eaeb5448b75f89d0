//! Loads without a caller: how many there are, and which keys this process renews in the background.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock;
use crate::flight::Subject;

/// How many such loads a cache has at once; beyond it values are renewed when they have ended, and
/// callers wait for their loads themselves.
const MOST: usize = 1000;

/// What is being loaded in the background.
#[derive(Debug, Default)]
pub(crate) struct Background {
    loads: AtomicUsize,
    /// When each renewal was last polled, by `clock::millis`.
    renewals: Mutex<HashMap<Arc<Subject>, Arc<AtomicU64>>>,
}

impl Background {
    /// The right to load in the background, for as long as the ticket lives. None: there are too many such
    /// loads, or there is no runtime to load on.
    pub(crate) fn ticket(self: &Arc<Self>) -> Option<Ticket> {
        Handle::try_current().ok()?;
        let ticket = Ticket { background: Arc::clone(self), renewal: None };
        // Its `Drop` gives the place back.
        (self.loads.fetch_add(1, Relaxed) < MOST).then_some(ticket)
    }

    /// The right to renew this in the background, unless that is being done, by a task that was polled
    /// within the last `lease`.
    pub(crate) fn renewal(self: &Arc<Self>, subject: Subject, lease: Duration) -> Option<Ticket> {
        let mut ticket = self.ticket()?;
        let (subject, stamp) = (Arc::new(subject), Arc::new(AtomicU64::new(clock::millis())));
        let mut renewals = self.renewals();
        if let Some(other) = renewals.get(&subject) {
            let idle = clock::millis().saturating_sub(other.load(Relaxed));
            if u128::from(idle) < lease.as_millis() {
                drop(renewals);
                return None;
            }
        }
        renewals.insert(Arc::clone(&subject), Arc::clone(&stamp));
        drop(renewals);
        ticket.renewal = Some((subject, stamp));
        Some(ticket)
    }

    fn renewals(&self) -> MutexGuard<'_, HashMap<Arc<Subject>, Arc<AtomicU64>>> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One load in the background.
#[derive(Debug)]
pub(crate) struct Ticket {
    background: Arc<Background>,
    renewal: Option<(Arc<Subject>, Arc<AtomicU64>)>,
}

impl Ticket {
    /// Says that the task is alive.
    pub(crate) fn touch(&self) {
        if let Some((_, stamp)) = &self.renewal {
            stamp.store(clock::millis(), Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.background.loads.fetch_sub(1, Relaxed);
        if let Some((subject, stamp)) = &self.renewal {
            let mut renewals = self.background.renewals();
            // Another may have taken its place.
            if renewals.get(subject).is_some_and(|there| Arc::ptr_eq(there, stamp)) {
                renewals.remove(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    fn subject(number: usize) -> Subject {
        Subject { key: number.to_string(), identity: [0; 16], fingerprint: 0, version: 0 }
    }

    #[tokio::test]
    async fn one_renewal_per_key_and_not_too_many() {
        let background = Arc::new(Background::default());
        let ticket = background.renewal(subject(0), LEASE).expect("the first");
        assert!(background.renewal(subject(0), LEASE).is_none());
        drop(ticket);
        let mut many: Vec<_> = (0..MOST).map(|number| background.renewal(subject(number), LEASE)).collect();
        assert!(many.iter().all(Option::is_some));
        assert!(background.renewal(subject(MOST), LEASE).is_none() && background.ticket().is_none());
        many.pop();
        assert!(background.ticket().is_some());
        drop(many);
        assert!(background.renewal(subject(0), LEASE).is_some());
        assert!(background.renewals().is_empty() && background.loads.load(Relaxed) == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_polled_is_taken_over() {
        let background = Arc::new(Background::default());
        let idle = background.renewal(subject(0), LEASE).expect("the first");
        tokio::time::advance(LEASE / 2).await;
        idle.touch();
        tokio::time::advance(LEASE / 2).await;
        assert!(background.renewal(subject(0), LEASE).is_none());
        tokio::time::advance(LEASE / 2).await;
        let next = background.renewal(subject(0), LEASE).expect("the first isn't polled");
        drop(idle);
        assert!(background.renewal(subject(0), LEASE).is_none(), "the second one's place is its own");
        drop(next);
        assert!(background.renewals().is_empty());
    }

    #[test]
    fn without_a_runtime_there_is_none() {
        assert!(Arc::new(Background::default()).ticket().is_none());
    }
}
