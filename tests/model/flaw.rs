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
    /// A refresh, by hand or ahead, claims nothing, and fills if there is any value.
    RefreshWithoutClaim,
    /// A refresh by hand whose fill is refused leaves what is there, though that may be older.
    RefusedRefreshLeavesValue,
    /// A lease is released by a bare `DEL`, which removes another's lease or value.
    ReleaseWithoutCompare,
    /// A lease is put without `NX`, over another's.
    AcquireOverwrites,
    /// A leader that goes away doesn't say so.
    SeatIsNotHandedOn,
    /// A claim is written beside the id that was there, so all who saw that id hold it.
    ClaimKeepsId,
    /// A claim on a value isn't refused when that is younger than it was taken for.
    ClaimWithoutAskingForTheLife,
    /// Nothing ends the claim of a process that was killed.
    ClaimForEver,
    /// An invalidation removes the value, but leaves the refresher its right to fill.
    InvalidateLeavesClaim,
    /// A failed load puts the old value back, resting, whatever is there.
    RestWithoutCompare,
    /// A call whose load failed answers with the stale value that it saw, there or not.
    ErrorAnswersUnasked,
    /// A call whose patience ends does.
    TimeoutAnswersUnasked,
    /// A claim on a value that is about to end becomes a lease by a bare `SET`.
    ConvertWithoutCompare,
    /// A call that has to wait takes what a refresh in the background of its process brings.
    MissJoinsRefresh,
    /// How much of a value's life is left is asked for after the value.
    LifeAskedLast,
}
