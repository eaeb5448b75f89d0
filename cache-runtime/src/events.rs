//! What happened, counted: per decorated function and per cache.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $counter:ident,)*) => {
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
            $(pub(crate) $name: $counter,)*
            load_nanos: Counter,
        }

        impl Counters {
            pub(crate) const fn new() -> Self {
                Self { $($name: $counter::new(),)* load_nanos: Counter::new() }
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
    near_hits: Striped,
    /// Answered from the store.
    hits: Counter,
    /// Answered from plain JSON that `set` or another program wrote.
    plain_hits: Counter,
    /// Nothing usable was in the cache.
    misses: Counter,
    /// Times that a function ran for the cache.
    loads: Counter,
    /// Loads that ended in `Err` or a panic.
    load_errors: Counter,
    /// Misses that were answered by another caller's load.
    coalesced: Counter,
    /// Misses, and refreshes by hand, that were answered by what a queued write has stored: nothing was loaded.
    pending_hits: Counter,
    /// Loads that renewed an entry before its end, or by hand.
    refreshes: Counter,
    /// Answered with a value past its time to live.
    stale_served: Counter,
    /// Loaded values that weren't stored: the key was invalidated meanwhile, or the value was refused.
    fills_refused: Counter,
    /// Operations that the store failed to do.
    store_errors: Counter,
    /// Calls that went past the cache.
    bypassed: Counter,
    /// Invalidations asked for.
    invalidations: Counter,
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
pub(crate) trait Tally {
    fn add(&self, more: u64);
    fn get(&self) -> u64;
}

/// One that is counted at most once per round trip.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Tally for Counter {
    #[inline]
    fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One that threads count all the time. The first few have a stripe each that nobody else writes, so
/// that they neither pass a line back and forth nor pay for an atomic addition: either would cost more
/// than what is counted. The others share stripes. It takes no room until then.
#[derive(Debug)]
pub(crate) struct Striped(OnceLock<Box<Stripes>>);

#[derive(Debug, Default)]
struct Stripes {
    owned: [Stripe; STRIPES],
    shared: [Stripe; STRIPES],
}

/// Two kilobytes for each function that counts so.
const STRIPES: usize = 8;

/// Two lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Striped {
    const fn new() -> Self {
        Self(OnceLock::new())
    }
}

impl Tally for Striped {
    #[inline]
    fn add(&self, more: u64) {
        let stripes = self.0.get_or_init(Box::default);
        let number = number();
        if let Some(Stripe(count)) = stripes.owned.get(number) {
            count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
        } else {
            stripes.shared[number % STRIPES].0.fetch_add(more, Relaxed);
        }
    }

    fn get(&self) -> u64 {
        let count = |stripe: &Stripe| stripe.0.load(Relaxed);
        self.0.get().map_or(0, |stripes| stripes.owned.iter().chain(&stripes.shared).map(count).sum())
    }
}

/// A number that no other living thread has, if it is below `STRIPES`.
struct Number(usize);

/// The numbers below `STRIPES` that no thread has.
static FREE: Mutex<[bool; STRIPES]> = Mutex::new([true; STRIPES]);

impl Number {
    fn take() -> Self {
        static OTHERS: AtomicUsize = AtomicUsize::new(0);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = free.iter().position(|free| *free);
        Self(
            number
                .inspect(|number| free[*number] = false)
                .unwrap_or_else(|| STRIPES + OTHERS.fetch_add(1, Relaxed)),
        )
    }
}

impl Drop for Number {
    /// Who takes it next sees what this thread has counted: both hold the lock.
    fn drop(&mut self) {
        if let Some(free) = FREE.lock().unwrap_or_else(PoisonError::into_inner).get_mut(self.0) {
            *free = true;
        }
    }
}

/// This thread's number.
#[inline]
fn number() -> usize {
    thread_local! {
        static NUMBER: Number = Number::take();
    }
    // A thread that is at its end has given its own back.
    NUMBER.try_with(|number| number.0).unwrap_or(STRIPES)
}

/// The two books that every event is entered in: the function's and the cache's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Books<'a> {
    pub(crate) function: Option<&'a Counters>,
    pub(crate) cache: &'a Counters,
}

impl Books<'_> {
    /// Enters one event.
    #[inline]
    pub(crate) fn count<T: Tally>(&self, which: impl Fn(&Counters) -> &T) {
        self.count_many(1, which);
    }

    /// Enters this many events.
    #[inline]
    pub(crate) fn count_many<T: Tally>(&self, how_many: u64, which: impl Fn(&Counters) -> &T) {
        if let Some(function) = self.function {
            which(function).add(how_many);
        }
        which(self.cache).add(how_many);
    }

    /// Enters the time of one load.
    pub(crate) fn loaded_in(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.count_many(nanos, |book| &book.load_nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_s_count_is_lost() {
        static BOOK: Counters = Counters::new();
        assert_eq!(BOOK.snapshot(0).near_hits, 0);
        std::thread::scope(|scope| {
            for _ in 0..=2 * STRIPES {
                scope.spawn(|| {
                    let books = Books { function: Some(&BOOK), cache: &BOOK };
                    (0..1000).for_each(|_| books.count(|book| &book.near_hits));
                });
            }
        });
        assert_eq!(BOOK.snapshot(0).near_hits, 2 * 1000 * (2 * STRIPES as u64 + 1));
    }

    #[test]
    fn a_function_that_has_no_near_hits_pays_no_room_for_them() {
        assert!(size_of::<Counters>() <= 128, "{}", size_of::<Counters>());
    }
}
