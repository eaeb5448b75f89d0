//! Which commands went over the wire.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many commands are kept word by word, so that a soak doesn't fill the memory.
const KEPT: usize = 10_000;
/// So many bytes of each word are kept.
const WORD: usize = 256;

/// The commands that a proxy or a scripted server has seen, by all connections, in order of arrival.
///
/// A client's own greeting (`HELLO`, `CLIENT SETINFO`, ...) is among them: `reset` after connecting.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: Vec<Vec<String>>,
    counts: BTreeMap<String, u64>,
}

/// What these words mean: the script that takes a lease on an old server is `SET` with `NX` and `GET`, and what is
/// asked to learn whether there are scripts is no script of anybody's.
pub(super) fn meant(words: Vec<String>) -> Vec<String> {
    match &words[..] {
        [name, code, _, key, value, life] if name == "EVAL" && code.contains("'NX') then return false") => {
            ["SET", key, value, "PX", life, "NX", "GET"].map(str::to_owned).to_vec()
        }
        [name, code, _]
            if (name == "EVALSHA" && *code == "0".repeat(40)) || (name == "EVAL" && code == "return 1") =>
        {
            vec![format!("{name} (probe)"), code.clone()]
        }
        _ => words,
    }
}

impl Seen {
    /// The names, in capitals: `["GET", "SET"]`.
    pub fn commands(&self) -> Vec<String> {
        self.requests().into_iter().map(|mut words| words.swap_remove(0)).collect()
    }

    /// The words, the name in capitals. Long words are cut and bytes that are no text replaced.
    ///
    /// # Panics
    ///
    /// After more than 10,000 commands since the last reset: only the counts are kept beyond.
    #[track_caller]
    pub fn requests(&self) -> Vec<Vec<String>> {
        let inner = self.inner();
        let came: u64 = inner.counts.values().sum();
        assert!(came <= KEPT as u64, "too many commands: `reset` before");
        inner.kept.clone()
    }

    /// How often this command came. No bound here.
    pub fn count(&self, name: &str) -> u64 {
        self.inner().counts.get(&name.to_ascii_uppercase()).copied().unwrap_or(0)
    }

    /// How often which command came. No bound here.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.inner().counts.clone()
    }

    /// Forgets what has been seen.
    pub fn reset(&self) {
        *self.inner() = Inner::default();
    }

    pub(super) fn record(&self, words: &[Vec<u8>]) {
        let cut = |word: &Vec<u8>| String::from_utf8_lossy(&word[..word.len().min(WORD)]).into_owned();
        let mut words: Vec<String> = words.iter().map(cut).collect();
        let Some(name) = words.first_mut() else { return };
        name.make_ascii_uppercase();
        let words = meant(words);
        let mut inner = self.inner();
        *inner.counts.entry(words[0].clone()).or_default() += 1;
        if inner.kept.len() < KEPT {
            inner.kept.push(words);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
