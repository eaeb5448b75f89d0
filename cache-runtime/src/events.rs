//! What happened, counted: per decorated function and per cache.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often what happened, in this process.
        ///
        /// A call that asks the cache is a near hit, a hit, a plain hit, a miss or bypassed; one whose
        /// `when` is false doesn't ask. The other numbers say more about misses, and about what went
        /// on behind the calls.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Invalidations of a cache that wait for its store to come back; 0 for a function.
            pub pending_invalidations: u64,
            /// Time spent in loads, all together.
            pub load_time: Duration,
        }

        /// The counters behind [`Stats`].
        #[derive(Debug)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            load_nanos: Counter,
        }

        impl Counters {
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)* load_nanos: Counter::new() }
            }

            /// One call went past the cache, because there is none.
            pub(crate) fn bypass(&self) {
                self.bypassed.add(1);
            }

            /// The numbers now, with those that aren't counted but looked at.
            pub(crate) fn snapshot(&self, pending_invalidations: u64) -> Stats {
                Stats {
                    $($name: self.$name.get(),)*
                    pending_invalidations,
                    load_time: Duration::from_nanos(self.load_nanos.get()),
                }
            }
        }
    };
}

counters! {
    /// Answered from decoded values kept in this process.
    near_hits,
    /// Answered from the store.
    hits,
    /// Answered from plain JSON that `set` or another program wrote.
    plain_hits,
    /// Nothing usable was in the cache.
    misses,
    /// Times that a function ran for the cache.
    loads,
    /// Loads that ended in `Err` or a panic.
    load_errors,
    /// Misses that were answered by another caller's load.
    coalesced,
    /// Loads that renewed an entry before its end, or by hand.
    refreshes,
    /// Answered with a value past its time to live.
    stale_served,
    /// Loaded values that weren't stored: the key was invalidated meanwhile, or the value was refused.
    fills_refused,
    /// Operations that the store failed to do.
    store_errors,
    /// Calls that went past the cache.
    bypassed,
    /// Invalidations asked for.
    invalidations,
}

impl Stats {
    /// The share of look-ups that the cache answered, from 0 to 1; 0 before the first look-up.
    ///
    /// ```
    /// # use cache_runtime::Stats;
    /// assert_eq!(Stats::default().hit_rate(), 0.0);
    /// ```
    #[allow(clippy::cast_precision_loss)]
    pub fn hit_rate(&self) -> f64 {
        let hits = self.near_hits + self.hits + self.plain_hits;
        let all = hits + self.misses;
        if all == 0 { 0.0 } else { hits as f64 / all as f64 }
    }
}

/// A number that only grows.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The two books that every event is entered in: the function's and the cache's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Books<'a> {
    pub(crate) function: Option<&'a Counters>,
    pub(crate) cache: &'a Counters,
}

impl Books<'_> {
    /// Enters one event.
    pub(crate) fn count(&self, which: impl Fn(&Counters) -> &Counter) {
        self.count_many(1, which);
    }

    /// Enters this many events.
    pub(crate) fn count_many(&self, how_many: u64, which: impl Fn(&Counters) -> &Counter) {
        for book in self.function.into_iter().chain([self.cache]) {
            which(book).add(how_many);
        }
    }

    /// Enters the time of one load.
    pub(crate) fn loaded_in(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.count_many(nanos, |book| &book.load_nanos);
    }
}
