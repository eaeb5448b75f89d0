//! What time does to a value: it is fresh, then due for a refresh ahead, then stale, then gone. Claims
//! and rests pass too. When is left open: any of it may come before anything else.

use crate::flaw::Flaw;
use crate::store::{Cell, Id, Version};
use crate::world::{At, World};

/// How much of a value's life is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Age {
    Fresh,
    /// Fresh, but within `refresh_ahead` of its end.
    Due,
    /// Past its time to live, within `stale_if_error`.
    Stale,
}

/// What the header of a value says of its refresher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Claim {
    /// There is none, or its time has passed.
    Free,
    Held,
    /// The load failed; nobody is to try again for a while.
    Resting,
}

/// A value in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) version: Version,
    pub(crate) age: Age,
    pub(crate) claim: Claim,
}

impl Entry {
    /// What a fill stores.
    pub(crate) fn fresh(id: Id, version: Version) -> Self {
        Self { id, version, age: Age::Fresh, claim: Claim::Free }
    }

    /// Somebody is loading what will replace it.
    pub(crate) fn is_held(self) -> bool {
        self.claim == Claim::Held
    }
}

/// The options of the function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `refresh_ahead`
    pub(crate) ahead: bool,
    /// `stale_if_error`
    pub(crate) grace: bool,
    /// `timeout`
    pub(crate) timeout: bool,
}

impl Options {
    pub(crate) const NONE: Self = Self { ahead: false, grace: false, timeout: false };
    pub(crate) const AHEAD: Self = Self { ahead: true, ..Self::NONE };
    pub(crate) const GRACE: Self = Self { grace: true, ..Self::NONE };
    pub(crate) const TIMEOUT: Self = Self { timeout: true, ..Self::GRACE };
    pub(crate) const ALL: Self = Self { ahead: true, ..Self::TIMEOUT };

    /// Whether a call has to know how much of a value's life is left.
    pub(crate) fn reads_life(self) -> bool {
        self.ahead || self.grace
    }

    /// The age after this one; nothing: the value is gone.
    fn next(self, age: Age) -> Option<Age> {
        match age {
            Age::Fresh if self.ahead => Some(Age::Due),
            Age::Fresh | Age::Due if self.grace => Some(Age::Stale),
            _ => None,
        }
    }

    /// Whether a value of this age is about to be gone.
    pub(crate) fn is_last(self, age: Age) -> bool {
        self.next(age).is_none()
    }
}

/// What time may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tick {
    /// A value gets older.
    Age,
    /// A claim whose load is gone ends, or a rest.
    Free,
    /// A lease whose load is gone ends.
    Expire,
}

/// What time may do now.
pub(crate) fn ticks(world: &World, options: Options, flaw: Option<Flaw>) -> impl Iterator<Item = Tick> {
    let (mut age, mut free, mut expire) = (false, false, false);
    match world.cell {
        Cell::Lease(id) => expire = !world.is_held(id),
        Cell::Value(entry) => {
            let is_kept = entry.is_held() && world.is_held(entry.id);
            // The load under a claim turns it into a lease before the value is gone.
            age = options.reads_life() && !(is_kept && options.is_last(entry.age));
            free = entry.claim == Claim::Resting || (entry.is_held() && !is_kept);
            free &= flaw != Some(Flaw::ClaimForEver) || !entry.is_held();
        }
        Cell::Absent | Cell::Dead(_) => {}
    }
    // Other commands come between the two of one flush, but no seconds.
    let is_halfway = world
        .readers
        .iter()
        .any(|reader| matches!(reader.at, At::Asking { reply: Some(reply), .. } if reply.is_half()));
    [(age && !is_halfway, Tick::Age), (free, Tick::Free), (expire, Tick::Expire)]
        .into_iter()
        .filter_map(|(may, tick)| may.then_some(tick))
}

impl World {
    pub(crate) fn tick(&mut self, tick: Tick, options: Options) {
        match (tick, self.cell) {
            (Tick::Age, Cell::Value(entry)) => {
                // From here on a load is due: ahead, on the stale value, or after its end.
                self.due += i8::from(entry.age == Age::Fresh);
                self.cell =
                    options.next(entry.age).map_or(Cell::Absent, |age| Cell::Value(Entry { age, ..entry }));
            }
            (Tick::Free, Cell::Value(entry)) => {
                self.cell = Cell::Value(Entry { claim: Claim::Free, ..entry });
            }
            _ => self.cell = Cell::Absent,
        }
        if self.cell == Cell::Absent {
            self.rightful = None;
        }
    }
}
