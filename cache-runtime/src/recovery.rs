//! Invalidations that the store couldn't take, kept until it can.
//!
//! While one is kept, no read is answered from the store (the store sees to that), so nobody reads
//! what was to be forgotten. The queue is bounded; when it is full it becomes the one invalidation
//! that covers all: everything in the namespace.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is to be forgotten, with the namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Key(String),
    Glob(String),
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Kept {
    state: Mutex<State>,
    most: usize,
    everything: String,
}

#[derive(Debug, Default)]
struct State {
    /// Each with a number of its own: what is kept again while it is being carried out stays.
    targets: BTreeMap<Target, u64>,
    number: u64,
}

impl Kept {
    /// At most so many; `everything` is the glob of the whole namespace.
    pub(crate) fn new(most: usize, everything: String) -> Self {
        Self { state: Mutex::default(), most, everything }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one.
    pub(crate) fn keep(&self, target: Target) {
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        let everything = Target::Glob(self.everything.clone());
        if let Some(all) = state.targets.get_mut(&everything) {
            *all = number;
            return;
        }
        state.targets.insert(target, number);
        if state.targets.len() > self.most {
            state.targets.clear();
            state.targets.insert(everything, number);
        }
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().targets.is_empty()
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.state().targets.len()
    }

    /// All that are kept, with their numbers.
    pub(crate) fn all(&self) -> Vec<(Target, u64)> {
        self.state().targets.iter().map(|(target, number)| (target.clone(), *number)).collect()
    }

    /// This one was carried out, unless it was kept again since.
    pub(crate) fn done(&self, target: &Target, number: u64) {
        let mut state = self.state();
        if state.targets.get(target) == Some(&number) {
            state.targets.remove(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Target {
        Target::Key(name.to_owned())
    }

    #[test]
    fn a_full_queue_forgets_nothing() {
        let kept = Kept::new(2, "*".to_owned());
        for name in ["a", "b", "a", "c", "d"] {
            kept.keep(key(name));
        }
        assert_eq!(
            kept.all().into_iter().map(|(target, _)| target).collect::<Vec<_>>(),
            [Target::Glob("*".to_owned())]
        );
    }

    #[test]
    fn what_is_kept_again_while_it_is_carried_out_stays() {
        let kept = Kept::new(9, "*".to_owned());
        kept.keep(key("a"));
        let (target, number) = kept.all().remove(0);
        kept.keep(key("a"));
        kept.done(&target, number);
        assert_eq!(kept.len(), 1);
        let (target, number) = kept.all().remove(0);
        kept.done(&target, number);
        assert!(kept.is_empty());
    }
}
