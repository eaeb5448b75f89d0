//! The flight of one process, as `cache-runtime/src/flight.rs` has it: its rules, without its locks.

use crate::flaw::Flaw;
use crate::store::{Id, Version};

/// The queue of the key in one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flight {
    /// Loads begun, and landings.
    pub(crate) loads: u8,
    pub(crate) landings: u8,
    pub(crate) sealed: bool,
    /// Somebody leads: the reader with the seat.
    pub(crate) led: bool,
    pub(crate) lease: Option<Id>,
    pub(crate) orphan: Option<Id>,
    /// The last landing: which load, and how.
    pub(crate) landed: Option<(u8, Landing)>,
}

/// How a leader's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Landing {
    Value { version: Version, accepted: bool },
    Found,
    Alone,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member {
    loads: u8,
    seen: u8,
    sealed: bool,
}

/// What a member is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Lead { orphan: Option<Id> },
    Take(Version),
    Read,
    Alone,
    Wait,
}

impl Flight {
    pub(crate) fn join(&self) -> Member {
        Member { loads: self.loads, seen: self.landings, sealed: self.sealed }
    }

    /// Whether this member has something to do.
    pub(crate) fn calls(&self, member: Member) -> bool {
        self.landings > member.seen || !self.led
    }

    pub(crate) fn turn(&mut self, member: &mut Member, flaw: Option<Flaw>) -> Turn {
        if self.landings > member.seen {
            member.seen = self.landings;
            if let Some(turn) = self.landed.and_then(|(load, landing)| member.may(load, landing, flaw)) {
                return turn;
            }
            member.sealed = false;
        }
        if self.led {
            return Turn::Wait;
        }
        self.led = true;
        self.sealed = false;
        Turn::Lead { orphan: self.orphan }
    }

    /// The leader's load begins; gives its number.
    pub(crate) fn begin(&mut self, lease: Option<Id>) -> u8 {
        if lease.is_some() {
            self.lease = lease;
            self.orphan = None;
        }
        self.loads += 1;
        self.loads
    }

    pub(crate) fn land(&mut self, load: u8, landing: Landing) {
        self.landings += 1;
        self.landed = Some((load, landing));
        self.led = false;
        self.lease = None;
    }

    /// The leader is gone, or given up: another may lead, and take over its lease.
    pub(crate) fn vacate(&mut self) {
        self.led = false;
        self.orphan = self.lease.take().or(self.orphan);
    }
}

impl Member {
    fn may(self, load: u8, landing: Landing, flaw: Option<Flaw>) -> Option<Turn> {
        match landing {
            Landing::Alone => Some(Turn::Alone),
            Landing::Found => Some(Turn::Read),
            Landing::Value { version, accepted } => {
                let before_it_began = self.loads < load;
                let before_the_seal = self.loads == load && !self.sealed;
                let accepted = accepted || flaw == Some(Flaw::FollowerTakesRefusedFill);
                (before_it_began || (before_the_seal && accepted)).then_some(Turn::Take(version))
            }
        }
    }
}
