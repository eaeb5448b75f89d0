//! The server: one key, and commands that are atomic for it.

use crate::ageing::{Age, Claim, Entry};
use crate::flaw::Flaw;

/// What the prefix of a record is known by. Two records never share one, but for a flaw.
pub(crate) type Id = u8;
/// What the database held when a load read it.
pub(crate) type Version = u8;

/// What stands under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Absent,
    /// A value of another version of the program, or torn.
    Dead(Id),
    Lease(Id),
    Value(Entry),
}

impl Cell {
    pub(crate) fn id(self) -> Option<Id> {
        match self {
            Self::Absent => None,
            Self::Dead(id) | Self::Lease(id) | Self::Value(Entry { id, .. }) => Some(id),
        }
    }

    /// What `PTTL` makes one think of what is there.
    pub(crate) fn age(self) -> Option<Age> {
        match self {
            Self::Absent => None,
            Self::Value(entry) => Some(entry.age),
            // A lease is shorter than most values' grace.
            Self::Dead(_) | Self::Lease(_) => Some(Age::Stale),
        }
    }
}

/// What a process asks of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Command {
    /// `GET`, after `PTTL` if the function has to know the life.
    Get,
    /// `SET NX GET` of a lease, after `PTTL` as well.
    Acquire { mine: Id },
    /// Compare-and-set of a lease in the place of what was seen.
    Replace { seen: Id, mine: Id },
    /// Compare-and-set of the head of a value, which stays: a new id, and whether others see a claim.
    /// Refused if there is more life left than was seen.
    Claim { seen: Entry, mine: Id, mark: Claim },
    /// Compare-and-set of the head, with the same id: the claim holds for longer.
    Extend { held: Id },
    /// The same: the load failed. (The version is for a flaw.)
    Rest { held: Id, version: Version },
    /// The same: whoever likes may claim.
    Unclaim { held: Id },
    /// Compare-and-set of a lease in the place of a claimed value that is about to end.
    Convert { held: Id, mine: Id },
    /// Compare-and-set of a value in the place of the lease or claim. (The token is for the books: what
    /// the load got its right by, which differs from what is compared in a flaw.)
    Fill { held: Id, mine: Id, version: Version, token: Id },
    /// Compare-and-delete.
    Release { held: Id },
    /// `DEL`: an invalidation.
    Delete,
}

impl Command {
    /// The ids that it names.
    pub(crate) fn ids(self) -> [Option<Id>; 2] {
        match self {
            Self::Get | Self::Delete => [None, None],
            Self::Acquire { mine } => [Some(mine), None],
            Self::Claim { seen, mine, .. } => [Some(seen.id), Some(mine)],
            Self::Replace { seen, mine } => [Some(seen), Some(mine)],
            Self::Fill { held, mine, .. } | Self::Convert { held, mine } => [Some(held), Some(mine)],
            Self::Release { held }
            | Self::Extend { held }
            | Self::Rest { held, .. }
            | Self::Unclaim { held } => [Some(held), None],
        }
    }

    /// What a guard sends when it gives up what it holds.
    pub(crate) fn is_release(self) -> Option<Id> {
        match self {
            Self::Release { held } | Self::Unclaim { held } => Some(held),
            _ => None,
        }
    }

    /// Carries it out, and gives the reply.
    pub(crate) fn apply(self, cell: &mut Cell, flaw: Option<Flaw>) -> Reply {
        let there = *cell;
        let is = |this: Flaw| flaw == Some(this);
        let holds = |id: Id| there.id() == Some(id);
        let (done, after) = match self {
            Self::Get => return Reply::Saw(there),
            Self::Acquire { mine } => {
                if there == Cell::Absent || is(Flaw::AcquireOverwrites) {
                    *cell = Cell::Lease(mine);
                    return Reply::Saw(Cell::Absent);
                }
                return Reply::Saw(there);
            }
            Self::Replace { seen, mine } => (holds(seen), Cell::Lease(mine)),
            Self::Claim { seen, mine, mark } => match there {
                Cell::Value(entry)
                    if entry.id == seen.id
                        && (entry.age >= seen.age || is(Flaw::ClaimWithoutAskingForTheLife)) =>
                {
                    let id = if is(Flaw::ClaimKeepsId) { seen.id } else { mine };
                    (true, Cell::Value(Entry { id, claim: mark, ..entry }))
                }
                _ => (false, there),
            },
            Self::Extend { held } => marked(there, held, Claim::Held),
            Self::Rest { held, version } if is(Flaw::RestWithoutCompare) => {
                let (age, claim) = (Age::Stale, Claim::Resting);
                (true, Cell::Value(Entry { id: held, version, age, claim }))
            }
            Self::Rest { held, .. } => marked(there, held, Claim::Resting),
            Self::Unclaim { held } => marked(there, held, Claim::Free),
            Self::Convert { held, mine } => {
                (holds(held) || is(Flaw::ConvertWithoutCompare), Cell::Lease(mine))
            }
            Self::Fill { held, mine, version, .. } => {
                let is_value = matches!(there, Cell::Value(..));
                let may = is(Flaw::FillWithoutCompare) || (is(Flaw::RefreshWithoutClaim) && is_value);
                (may || holds(held), Cell::Value(Entry::fresh(mine, version)))
            }
            Self::Release { held } => (holds(held) || is(Flaw::ReleaseWithoutCompare), Cell::Absent),
            Self::Delete => match there {
                Cell::Lease(_) if is(Flaw::InvalidateLeavesLease) => (false, there),
                Cell::Value(entry) if is(Flaw::InvalidateLeavesClaim) && entry.is_held() => {
                    (true, Cell::Lease(entry.id))
                }
                _ => (there != Cell::Absent, Cell::Absent),
            },
        };
        if done {
            *cell = after;
        }
        Reply::Did(done)
    }
}

/// Writes this into the head of the value, if the id is there.
fn marked(there: Cell, held: Id, claim: Claim) -> (bool, Cell) {
    match there {
        Cell::Value(entry) if entry.id == held => (true, Cell::Value(Entry { claim, ..entry })),
        _ => (false, there),
    }
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    /// The first half of a look: how much of the life is left.
    Life(Option<Age>),
    /// The first half of a look that begins at the wrong end.
    There(Cell),
    /// What was there.
    Saw(Cell),
    /// Whether it was done.
    Did(bool),
    /// Nothing: whether it was done, nobody here knows.
    Lost,
}

impl Reply {
    /// The other command of the flush is still to come.
    pub(crate) fn is_half(self) -> bool {
        matches!(self, Self::Life(_) | Self::There(_))
    }
}
