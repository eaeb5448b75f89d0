//! The server: one key, and commands that are atomic for it.

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
    Value(Id, Version),
}

impl Cell {
    pub(crate) fn id(self) -> Option<Id> {
        match self {
            Self::Absent => None,
            Self::Dead(id) | Self::Lease(id) | Self::Value(id, _) => Some(id),
        }
    }
}

/// What a process asks of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Command {
    /// `GET`.
    Get,
    /// `SET NX GET` of a lease.
    Acquire { mine: Id },
    /// Compare-and-set of a lease in the place of what was seen.
    Replace { seen: Id, mine: Id },
    /// Compare-and-set of the id of a value, which stays.
    Claim { seen: Id, mine: Id },
    /// Compare-and-set of a value in the place of the lease or claim.
    Fill { held: Id, mine: Id, version: Version },
    /// Compare-and-delete of a lease.
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
            Self::Replace { seen, mine } | Self::Claim { seen, mine } => [Some(seen), Some(mine)],
            Self::Fill { held, mine, .. } => [Some(held), Some(mine)],
            Self::Release { held } => [Some(held), None],
        }
    }

    /// Carries it out, and gives the reply.
    pub(crate) fn apply(self, cell: &mut Cell, flaw: Option<Flaw>) -> Reply {
        let there = *cell;
        let holds = |id: Id| there.id() == Some(id);
        let (done, after) = match self {
            Self::Get => return Reply::Saw(there),
            Self::Acquire { mine } => {
                if there == Cell::Absent || flaw == Some(Flaw::AcquireOverwrites) {
                    *cell = Cell::Lease(mine);
                    return Reply::Saw(Cell::Absent);
                }
                return Reply::Saw(there);
            }
            Self::Replace { seen, mine } => (holds(seen), Cell::Lease(mine)),
            Self::Claim { seen, mine } => match there {
                Cell::Value(id, version) if id == seen => (true, Cell::Value(mine, version)),
                _ => (false, there),
            },
            Self::Fill { held, mine, version } => {
                let may = match flaw {
                    Some(Flaw::FillWithoutCompare) => true,
                    Some(Flaw::RefreshWithoutClaim) => holds(held) || matches!(there, Cell::Value(..)),
                    _ => holds(held),
                };
                (may, Cell::Value(mine, version))
            }
            Self::Release { held } => {
                (holds(held) || flaw == Some(Flaw::ReleaseWithoutCompare), Cell::Absent)
            }
            Self::Delete => match there {
                Cell::Lease(_) if flaw == Some(Flaw::InvalidateLeavesLease) => (false, there),
                _ => (there != Cell::Absent, Cell::Absent),
            },
        };
        if done {
            *cell = after;
        }
        Reply::Did(done)
    }
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    /// What was there.
    Saw(Cell),
    /// Whether it was done.
    Did(bool),
    /// Nothing: whether it was done, nobody here knows.
    Lost,
}
