//! Loads without a caller: the keys that this process renews in the background.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::flight::Subject;

/// How many such loads a cache has at once; beyond it values are renewed when they have ended.
const MOST: usize = 1000;

/// What is being loaded in the background.
#[derive(Debug, Default)]
pub(crate) struct Background(Mutex<HashSet<Arc<Subject>>>);

impl Background {
    /// The right to load this in the background, for as long as the ticket lives. None: it is being
    /// loaded already, there are too many such loads, or there is no runtime to load on.
    pub(crate) fn ticket(self: &Arc<Self>, subject: Subject) -> Option<Ticket> {
        Handle::try_current().ok()?;
        let subject = Arc::new(subject);
        let mut loading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = loading.len() < MOST && loading.insert(Arc::clone(&subject));
        new.then(|| Ticket { background: Arc::clone(self), subject })
    }
}

/// One load in the background.
#[derive(Debug)]
pub(crate) struct Ticket {
    background: Arc<Background>,
    subject: Arc<Subject>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.background.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: usize) -> Subject {
        Subject { key: number.to_string(), identity: [0; 16], fingerprint: 0, version: 0 }
    }

    #[tokio::test]
    async fn one_load_per_key_and_not_too_many() {
        let background = Arc::new(Background::default());
        let ticket = background.ticket(subject(0)).expect("the first");
        assert!(background.ticket(subject(0)).is_none());
        drop(ticket);
        let many: Vec<_> = (0..MOST).map(|number| background.ticket(subject(number))).collect();
        assert!(many.iter().all(Option::is_some));
        assert!(background.ticket(subject(MOST)).is_none());
        drop(many);
        assert!(background.ticket(subject(MOST)).is_some());
    }

    #[test]
    fn without_a_runtime_there_is_none() {
        assert!(Arc::new(Background::default()).ticket(subject(0)).is_none());
    }
}
