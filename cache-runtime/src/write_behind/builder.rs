//! How a queue of writes is made.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::WriteBehind;
use super::send::Shared;
use crate::cache::Cache;
use crate::error::CacheError;
use crate::global::global;
use crate::store::queue::Limits;

const MOST_SHARDS: u32 = 64;
const LONGEST_NAME: usize = 64;
/// The longest time that is waited for anything: what is longer means for ever, and no clock can add it.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// When a write counts as queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the server has it in memory. It survives the end of any client; what the server itself loses when it
    /// ends is up to its persistence (with `appendfsync everysec`, about the last second).
    #[default]
    Memory,
    /// When it is on the server's disk (`WAITAOF`, Redis and Valkey from 7.2 on, with `appendonly yes`): it
    /// survives the end of the server as well. Each `send` waits for the disk, by default up to a second. A
    /// server that can't do that is refused; so is the embedded store.
    Fsync,
}

/// What a queue goes by.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) durability: Durability,
    /// After the first attempt.
    pub(super) retries: u32,
    /// The first pause before another attempt, and the longest.
    pub(super) backoff: (Duration, Duration),
    pub(super) attempt_timeout: Duration,
    pub(super) patience: Duration,
    pub(super) coalesces: bool,
    pub(super) drain: Duration,
}

impl Options {
    pub(super) fn is_synced(&self) -> bool {
        self.durability == Durability::Fsync
    }

    /// The pause after so many attempts: doubled with each, and not all at the same moment.
    pub(super) fn pause_after(&self, attempts: u32) -> Duration {
        let (first, longest) = self.backoff;
        let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        doubled.min(longest).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Makes a [`WriteBehind`]. What isn't said has the default that its method names.
///
/// The processes of one queue should say the same; while a queue holds writes, the number of shards that was
/// said first counts.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `build`"]
pub struct WriteBehindBuilder {
    name: String,
    cache: Option<Cache>,
    options: Options,
}

impl WriteBehindBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            cache: None,
            options: Options {
                limits: Limits { shards: 8, capacity: 100_000, letters: 10_000 },
                durability: Durability::default(),
                retries: 9,
                backoff: (Duration::from_millis(100), Duration::from_secs(30)),
                attempt_timeout: Duration::from_secs(30),
                patience: Duration::from_secs(5),
                coalesces: false,
                drain: Duration::from_secs(10),
            },
        }
    }

    /// The cache whose store keeps the queue (the [global one](crate::global()), as it is when
    /// [`build`](Self::build) is called).
    pub fn cache(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Into how many parts the order keys are divided, 1 to 64 (8): so many writes are carried out at the same
    /// time, by all workers together.
    pub fn shards(mut self, shards: u32) -> Self {
        self.options.limits.shards = shards;
        self
    }

    /// How many writes may wait (100,000). When there are so many, `send` waits and then fails.
    pub fn capacity(mut self, writes: u64) -> Self {
        self.options.limits.capacity = writes;
        self
    }

    /// How many dead letters may be kept (10,000). When there are so many, a write that should become one stays
    /// in the queue and holds up its order key.
    pub fn dead_letter_capacity(mut self, letters: u64) -> Self {
        self.options.limits.letters = letters;
        self
    }

    /// When a write counts as queued ([`Durability::Memory`]).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// How often a write that failed is tried again before it becomes a dead letter (9). A worker that dies
    /// counts as a failure of what it was at.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// The first and the longest pause before a failed write is tried again (100 ms, 30 s). It doubles each
    /// time; between half of it and all of it is waited. Other order keys go on meanwhile.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.options.backoff = (first, longest);
        self
    }

    /// How long a handler may take for one write (30 s). Then it is dropped, and the write has failed.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.options.attempt_timeout = timeout;
        self
    }

    /// How long [`send`](WriteBehind::send) waits for room and for the server (5 s). The last look for room has
    /// a [`store_budget`](crate::Builder::store_budget) on top of it, if the server is slow. The other calls wait
    /// as long for the server.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.options.patience = patience;
        self
    }

    /// Whether of several writes with one order key and one kind that wait next to each other only the last is
    /// carried out (no). For writes that say all of a row: what the others said is lost. When the last one
    /// becomes a dead letter, the one before it is carried out.
    pub fn coalesce(mut self, yes: bool) -> Self {
        self.options.coalesces = yes;
        self
    }

    /// How long workers go on after their shutdown with what is queued (10 s).
    pub fn drain(mut self, most: Duration) -> Self {
        self.options.drain = most;
        self
    }

    /// Makes the queue. Whether the store will do is asked with the first `send`, or by the workers.
    ///
    /// # Errors
    /// [`CacheError::Settings`] says which value can't be used and what it should look like; or that there is
    /// no cache, as [`global`](crate::global()).
    pub fn build(self) -> Result<WriteBehind, CacheError> {
        let Self { name, cache, mut options } = self;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
            return Err(CacheError::Settings(format!(
                "the name of the queue is {name:.200?}; write 1 to {LONGEST_NAME} letters, digits, `_`, `.` or `-`, such \
                 as `user_writes`"
            )));
        }
        let Limits { shards, capacity, letters } = options.limits;
        if !(1..=MOST_SHARDS).contains(&shards) {
            return Err(CacheError::Settings(format!(
                "`shards` is {shards}; write a number from 1 to {MOST_SHARDS}"
            )));
        }
        for (option, number) in [("capacity", capacity), ("dead_letter_capacity", letters)] {
            if number == 0 {
                return Err(CacheError::Settings(format!("`{option}` is 0; write at least 1")));
            }
        }
        let (first, longest) = options.backoff;
        if first > longest {
            return Err(CacheError::Settings(
                "the first `backoff` is above the longest; write the shorter time first".to_owned(),
            ));
        }
        let positive = [
            ("backoff", first),
            ("attempt_timeout", options.attempt_timeout),
            ("patience", options.patience),
        ];
        if let Some((option, _)) = positive.iter().find(|(_, time)| *time < Duration::from_millis(1)) {
            return Err(CacheError::Settings(format!(
                "`{option}` is below a millisecond; write a longer time"
            )));
        }
        let Options { backoff, attempt_timeout, patience, drain, .. } = &mut options;
        for time in [&mut backoff.0, &mut backoff.1, attempt_timeout, patience, drain] {
            *time = LONGEST.min(*time);
        }
        let cache = cache.map_or_else(global, Ok)?;
        let queue = cache.core().queue(&name);
        let shared = Shared { name, cache, queue, options, is_checked: AtomicBool::new(false) };
        Ok(WriteBehind { shared: Arc::new(shared) })
    }
}
