//! Mistakes, each of which the model must find: else it proves nothing.

/// One mistake in an otherwise right protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// All loads of a process have one token, so an old load fills under the lease of a new one.
    TokenPerProcess,
    /// A fill doesn't ask whether its lease is still there.
    FillWithoutCompare,
    /// Who joins while the fill is on its way may take the value, though it was invalidated since.
    NoSeal,
    /// An invalidation removes values only, so the load that began before it keeps its lease.
    InvalidateLeavesLease,
    /// Who joined while a load ran takes its value, though the store refused it.
    FollowerTakesRefusedFill,
    /// A refresh claims nothing, and fills if there is any value.
    RefreshWithoutClaim,
    /// A lease is released by a bare `DEL`, which removes another's lease or value.
    ReleaseWithoutCompare,
    /// A lease is put without `NX`, over another's.
    AcquireOverwrites,
    /// A leader that goes away doesn't say so.
    SeatIsNotHandedOn,
}
