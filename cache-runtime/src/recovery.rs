//! Invalidations that the store couldn't take, kept until it can.
//!
//! While one is kept, no read is answered from the store (the store sees to that), so nobody reads
//! what was to be forgotten. The queue is bounded: when it is full, each key becomes the glob of what
//! it was made from, `user:*` for `user:{id}`. It forgets nothing, and touches nobody else's keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::Prefix;
use crate::store::{self, Reach};

/// How many times its length the queue may grow rather than forget everything in a whole database.
const LAST_RESORT: usize = 100;

/// What is to be forgotten, with the namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// What goes before any tag: so it stands first, and is never part of something else.
    Epoch(String),
    Key(String),
    Glob(String),
    /// A key that a writer has fenced, by its token.
    Fenced(String, Prefix),
    /// A glob whose `*` are values: nothing else is fitted by it.
    Made(String),
}

impl Target {
    /// The key, if it is one.
    pub(crate) fn key(&self) -> Option<String> {
        match self {
            // The epoch stands first, so it is in the first command, or in one before that of its tag.
            Self::Epoch(key) | Self::Key(key) => Some(key.clone()),
            Self::Glob(_) | Self::Made(_) | Self::Fenced(..) => None,
        }
    }
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
    targets: BTreeMap<Target, Entry>,
    number: u64,
    /// How many there may be before the queue is made less again.
    limit: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    /// What is kept again while it is being carried out has another number, and stays.
    number: u64,
    /// A glob that covers the key and all that are made like it.
    cover: Option<String>,
}

impl Kept {
    /// About so many; `everything` is the glob of the whole namespace.
    pub(crate) fn new(most: usize, everything: String) -> Self {
        Self { state: Mutex::default(), most, everything }
    }

    /// Another one, empty, for the same cache.
    pub(crate) fn alike(&self) -> Self {
        Self::new(self.most, self.everything.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one. `cover` is a glob that covers it and all that are made like it.
    pub(crate) fn keep(&self, target: Target, cover: Option<String>) {
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        if let Some(cover) = &cover
            && let Some(covering) = state.targets.get_mut(&Target::Glob(cover.clone()))
        {
            covering.number = number;
            return;
        }
        state.targets.insert(target, Entry { number, cover });
        if state.targets.len() > self.most.max(state.limit) {
            self.collapse(&mut state);
            // What can't be made less isn't tried again for each that is added.
            state.limit = state.targets.len().saturating_mul(2);
        }
    }

    fn collapse(&self, state: &mut State) {
        let number = state.number;
        let mut kept = BTreeMap::new();
        let mut uncovered = Vec::new();
        for (target, entry) in std::mem::take(&mut state.targets) {
            match (target, entry.cover) {
                (_, Some(cover)) => drop(kept.insert(Target::Glob(cover), Entry { number, cover: None })),
                (Target::Key(key) | Target::Fenced(key, _), None) => uncovered.push(key),
                (target @ (Target::Epoch(_) | Target::Glob(_) | Target::Made(_)), None) => {
                    kept.insert(target, Entry { number, cover: None });
                }
            }
        }
        let start = uncovered.iter().map(String::as_str).reduce(common_start).unwrap_or_default();
        let glob = store::escape_literal(start) + "*";
        // Without a namespace "everything" is other people's keys too: the last resort.
        let is_last_resort = self.everything == "*";
        if !uncovered.is_empty() && (glob.len() > self.everything.len() || !is_last_resort) {
            let glob = if glob.len() > self.everything.len() { glob } else { self.everything.clone() };
            kept.insert(Target::Glob(glob), Entry { number, cover: None });
        } else {
            kept.extend(uncovered.into_iter().map(|key| (Target::Key(key), Entry { number, cover: None })));
        }
        let most = if is_last_resort { self.most.saturating_mul(LAST_RESORT) } else { self.most };
        if kept.len() > most {
            kept.retain(|target, _| matches!(target, Target::Epoch(_)));
            kept.insert(Target::Glob(self.everything.clone()), Entry { number, cover: None });
        }
        state.targets = kept;
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().targets.is_empty()
    }

    /// How many are kept; the epoch goes with the tags.
    pub(crate) fn len(&self) -> usize {
        self.state().targets.keys().filter(|target| !matches!(target, Target::Epoch(_))).count()
    }

    /// All that are kept, with their numbers.
    pub(crate) fn all(&self) -> Vec<(Target, u64)> {
        self.state().targets.iter().map(|(target, entry)| (target.clone(), entry.number)).collect()
    }

    /// Leaves those that aren't about a fence.
    pub(crate) fn retain_fenced(&self) {
        self.state().targets.retain(|target, _| matches!(target, Target::Fenced(..)));
    }

    /// So many of them, with their covers.
    pub(crate) fn first(&self, most: usize) -> Vec<(Target, Option<String>)> {
        let state = self.state();
        state.targets.iter().take(most).map(|(target, entry)| (target.clone(), entry.cover.clone())).collect()
    }

    /// Whether this key is among them.
    pub(crate) fn covers(&self, key: &str) -> bool {
        let state = self.state();
        state.targets.keys().any(|target| match target {
            Target::Epoch(known) | Target::Key(known) | Target::Fenced(known, _) => known == key,
            Target::Glob(glob) => Reach::Any.fits(glob.as_bytes(), key.as_bytes()),
            Target::Made(glob) => Reach::Value.fits(glob.as_bytes(), key.as_bytes()),
        })
    }

    /// Takes one away.
    pub(crate) fn remove(&self, target: &Target) {
        self.state().targets.remove(target);
    }

    /// This one was carried out, unless it was kept again since.
    pub(crate) fn done(&self, target: &Target, number: u64) {
        let mut state = self.state();
        if state.targets.get(target).is_some_and(|entry| entry.number == number) {
            state.targets.remove(target);
        }
        if state.targets.is_empty() {
            state.limit = 0;
        }
    }
}

/// What both begin with.
fn common_start<'a>(a: &'a str, b: &'a str) -> &'a str {
    let length: usize = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    &a[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Target {
        Target::Key(name.to_owned())
    }

    fn globs(kept: &Kept) -> Vec<Target> {
        kept.all().into_iter().map(|(target, _)| target).collect()
    }

    #[test]
    fn a_full_queue_forgets_nothing_and_touches_nobody_elses_keys() {
        let kept = Kept::new(3, "*".to_owned());
        for name in ["user:1", "user:2", "user:1", "user:3"] {
            kept.keep(key(name), Some("user:*".to_owned()));
        }
        kept.keep(Target::Glob("post:*".to_owned()), None);
        assert_eq!(globs(&kept), [Target::Glob("post:*".to_owned()), Target::Glob("user:*".to_owned())]);
        kept.keep(key("user:4"), Some("user:*".to_owned()));
        assert_eq!(kept.len(), 2, "what is covered isn't kept twice");
    }

    #[test]
    fn keys_without_a_cover_become_what_they_begin_with() {
        let kept = Kept::new(2, "*".to_owned());
        for name in ["built:[1", "built:[2", "built:[3"] {
            kept.keep(key(name), None);
        }
        assert_eq!(globs(&kept), [Target::Glob("built:\\[*".to_owned())]);
    }

    #[test]
    fn it_knows_which_keys_it_is_about() {
        let (kept, token) = (Kept::new(9, "*".to_owned()), crate::record::fresh(crate::record::Kind::Fence));
        kept.keep(key("a"), None);
        kept.keep(Target::Glob("b:?".to_owned()), None);
        kept.keep(Target::Fenced("c".to_owned(), token), None);
        let covered = ["a", "b", "b:1", "c", "d"].map(|name| kept.covers(name));
        assert_eq!(covered, [true, false, true, true, false]);
        kept.retain_fenced();
        assert_eq!(kept.first(9), [(Target::Fenced("c".to_owned(), token), None)]);
        assert!(kept.alike().is_empty());
    }

    #[test]
    fn too_many_globs_become_everything() {
        let kept = Kept::new(2, "shop:*".to_owned());
        for name in ["a", "b", "c"] {
            kept.keep(Target::Glob(format!("shop:{name}*")), None);
        }
        assert_eq!(globs(&kept), [Target::Glob("shop:*".to_owned())]);
    }

    /// A load that finds its tag gone and the epoch as it was would take the tag that it makes for the old.
    #[test]
    fn the_epoch_goes_before_whatever_may_hold_tags() {
        let kept = Kept::new(3, "shop:*".to_owned());
        let epoch = Target::Epoch("shop:@tags".to_owned());
        for tag in ["a:1", "b:1", "a:2"] {
            kept.keep(Target::Key(format!("shop:@tag:{tag}")), Some(format!("shop:@tag:{}:*", &tag[..1])));
            kept.keep(epoch.clone(), None);
        }
        let first = |kept: &Kept| globs(kept).into_iter().next();
        assert_eq!(first(&kept), Some(epoch.clone()));
        assert_eq!(
            globs(&kept)[1..],
            ["shop:@tag:a:*", "shop:@tag:b:*"].map(|glob| Target::Glob(glob.into()))
        );
        for name in ["c", "d", "e", "f"] {
            kept.keep(Target::Glob(format!("shop:{name}*")), None);
        }
        assert_eq!(globs(&kept), [epoch, Target::Glob("shop:*".to_owned())]);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn what_is_kept_again_while_it_is_carried_out_stays() {
        let kept = Kept::new(9, "*".to_owned());
        kept.keep(key("a"), None);
        let (target, number) = kept.all().remove(0);
        kept.keep(key("a"), None);
        kept.done(&target, number);
        assert_eq!(kept.len(), 1);
        let (target, number) = kept.all().remove(0);
        kept.done(&target, number);
        assert!(kept.is_empty());
    }
}
