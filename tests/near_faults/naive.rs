//! Values that are kept for a time and without a word of the server, with the mistakes that are made
//! most: what the checker must find, or it proves nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use fastrand::Rng;

use crate::history::now;
use crate::ours::DELTA;
use crate::truth::Truth;
use crate::worker::{Read, Subject};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: it keeps less than Delta, counted from the question, and forgets what it writes.
    None,
    /// It keeps for longer.
    TooLong,
    /// It keeps what it has written itself.
    OwnKept,
}

#[derive(Debug)]
pub(crate) struct Naive {
    flaw: Flaw,
    kept: Mutex<BTreeMap<usize, Kept>>,
    near_hits: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    version: u64,
    until: u64,
    /// How often it was forgotten.
    forgotten: u64,
}

impl Naive {
    pub(crate) fn with(flaw: Flaw) -> Self {
        Self { flaw, kept: Mutex::default(), near_hits: AtomicU64::new(0) }
    }

    fn life(&self) -> u64 {
        let life = if self.flaw == Flaw::TooLong { DELTA * 10 } else { DELTA / 2 };
        u64::try_from(life.as_nanos()).expect("a moment")
    }

    fn kept<T>(&self, key: usize, of: impl FnOnce(&mut Kept) -> T) -> T {
        of(self.kept.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}

impl Subject for Naive {
    const KEYS: usize = 4;

    fn pace(&self) -> u64 {
        300_000
    }

    async fn read(&self, key: usize, truth: &Truth, _rng: &mut Rng) -> Option<Read> {
        let since = now();
        let (hit, seen) =
            self.kept(key, |kept| ((since < kept.until).then_some(kept.version), kept.forgotten));
        if let Some(version) = hit {
            self.near_hits.fetch_add(1, Relaxed);
            return Some(Read { version, since });
        }
        let version = truth.version(key).await;
        self.kept(key, |kept| {
            if kept.forgotten == seen {
                (kept.version, kept.until) = (version, since + self.life());
            }
        });
        Some(Read { version, since })
    }

    async fn write(&self, key: usize, truth: &Truth, _rng: &mut Rng) -> Option<u64> {
        let version = truth.write(key).await;
        if self.flaw != Flaw::OwnKept {
            self.kept(key, |kept| (kept.until, kept.forgotten) = (0, kept.forgotten + 1));
        }
        Some(version)
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        vec![("near_hits", self.near_hits.load(Relaxed))]
    }
}
