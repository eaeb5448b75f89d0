//! The server: an entry, the versions of tags and of the epoch, and commands that are atomic.

use super::mutants::Flaw;
use crate::store::{Id, Version};

/// What stands in the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// A tag that the arguments name.
    Argument,
    /// A tag that only the result names.
    Result,
    /// It goes before or with any tag.
    Epoch,
    Entry,
}

impl Key {
    /// The tags.
    pub(super) const TAGS: [Self; 2] = [Self::Argument, Self::Result];
    pub(super) const ALL: [Self; 4] = [Self::Argument, Self::Result, Self::Epoch, Self::Entry];
}

/// The version of a tag or of the epoch: drawn at random, so two are never the same.
pub(super) type Number = u8;
/// One for each key but the entry; nothing: it isn't there, or wasn't asked for.
pub(super) type Numbers = [Option<Number>; 3];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(super) id: Id,
    pub(super) version: Version,
    /// Captured before the load, or checked to be as old as that.
    pub(super) tags: Numbers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Absent,
    Lease(Id),
    Value(Entry),
}

/// What a process asks of the server. Each is atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Command {
    /// `GET` of the entry.
    Get,
    /// `SET NX GET` of a lease.
    Acquire { mine: Id },
    /// Compare-and-set of a lease in the place of a value that isn't valid.
    Replace { seen: Id, mine: Id },
    /// Compare-and-set of the value in the place of its lease.
    Fill { entry: Entry },
    /// Compare-and-delete of a lease.
    Release { held: Id },
    /// `GET` of a tag or of the epoch.
    Read(Key),
    /// `SET NX GET` of it.
    Create(Key, Number),
    /// `DEL` of it: half an invalidation.
    Delete(Key),
    /// `DEL` of the epoch and the tag.
    Invalidate(Key),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reply {
    Saw(Cell),
    Is(Option<Number>),
    Did(bool),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) cell: Cell,
    pub(super) numbers: Numbers,
}

impl Server {
    /// Carries it out.
    pub(super) fn apply(&mut self, command: Command, flaw: Option<Flaw>) -> Reply {
        let is_leased = |held: Id| self.cell == Cell::Lease(held);
        let (done, after) = match command {
            Command::Get => return Reply::Saw(self.cell),
            Command::Acquire { mine } => {
                let there = self.cell;
                if there == Cell::Absent {
                    self.cell = Cell::Lease(mine);
                }
                return Reply::Saw(there);
            }
            Command::Replace { seen, mine } => {
                (matches!(self.cell, Cell::Value(entry) if entry.id == seen), Cell::Lease(mine))
            }
            Command::Fill { entry } => (is_leased(entry.id), Cell::Value(entry)),
            Command::Release { held } => (is_leased(held), Cell::Absent),
            Command::Read(key) => return Reply::Is(self.numbers[key as usize]),
            Command::Create(key, mine) => {
                let mine = if flaw == Some(Flaw::Counters) { 1 } else { mine };
                return Reply::Is(Some(*self.numbers[key as usize].get_or_insert(mine)));
            }
            Command::Delete(key) => {
                self.forget(key, flaw);
                return Reply::Did(true);
            }
            Command::Invalidate(tag) => {
                self.forget(Key::Epoch, flaw);
                self.forget(tag, flaw);
                return Reply::Did(true);
            }
        };
        if done {
            self.cell = after;
        }
        Reply::Did(done)
    }

    fn forget(&mut self, key: Key, flaw: Option<Flaw>) {
        let number = &mut self.numbers[key as usize];
        *number = match flaw {
            Some(Flaw::Counters) => Some(number.unwrap_or(0) + 1),
            _ => None,
        };
    }

    /// An eviction, an expiry, a flush.
    pub(super) fn evict(&mut self, key: Key) {
        match key {
            Key::Entry => self.cell = Cell::Absent,
            key => self.numbers[key as usize] = None,
        }
    }

    pub(super) fn has(&self, key: Key) -> bool {
        match key {
            Key::Entry => self.cell != Cell::Absent,
            key => self.numbers[key as usize].is_some(),
        }
    }
}
