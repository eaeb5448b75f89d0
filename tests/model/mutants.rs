//! Each mistake, and the promise that it breaks: a model that holds for them all would prove nothing.
//! What is printed is the shortest way to the harm.

use crate::flaw::Flaw;
use crate::protocol::{I1, I3, I6, I7, I10};
use crate::world::Kind::{Call, Refresh};
use crate::{breaks, world};

/// Two loads at once in one process need one that isn't shared any more when the other begins.
#[test]
fn a_token_per_process_is_caught() {
    breaks(Flaw::TokenPerProcess, world(&[(0, Call), (0, Call)], 1, 1), &[I1]);
}

/// The load of one process ends after the other's process has loaded what was written since.
#[test]
fn a_fill_without_compare_is_caught() {
    breaks(Flaw::FillWithoutCompare, world(&[(0, Call), (1, Call)], 1, 0), &[I1, I3, I10]);
}

/// The fill is accepted, then the value invalidated, and the reply is still on its way: who asks now
/// must not wait for it.
#[test]
fn a_flight_without_seal_is_caught() {
    breaks(Flaw::NoSeal, world(&[(0, Call), (0, Call)], 1, 0), &[I3]);
}

/// With the lease there the load that began before fills after.
#[test]
fn an_invalidation_that_leaves_the_lease_is_caught() {
    breaks(Flaw::InvalidateLeavesLease, world(&[(0, Call), (1, Call)], 1, 0), &[I1, I3]);
}

/// Who asks after the invalidation, and waits for the load that began before, gets what was refused.
#[test]
fn a_follower_that_takes_a_refused_fill_is_caught() {
    breaks(Flaw::FollowerTakesRefusedFill, world(&[(0, Call), (0, Call)], 1, 0), &[I3]);
}

/// The value that is there at the end isn't the one that was to be refreshed, but a newer one.
#[test]
fn a_refresh_without_claim_is_caught() {
    breaks(Flaw::RefreshWithoutClaim, world(&[(0, Refresh), (1, Call)], 1, 0), &[I1, I10]);
}

/// A release that comes late removes the lease of the next load.
#[test]
fn a_release_without_compare_is_caught() {
    breaks(Flaw::ReleaseWithoutCompare, world(&[(0, Call), (0, Call), (1, Call)], 0, 1), &[I6]);
}

/// Each process believes that it alone loads.
#[test]
fn a_lease_put_over_another_is_caught() {
    breaks(Flaw::AcquireOverwrites, world(&[(0, Call), (1, Call)], 0, 0), &[I6]);
}

/// The others wait for a leader who has gone.
#[test]
fn a_seat_that_is_not_handed_on_is_caught() {
    breaks(Flaw::SeatIsNotHandedOn, world(&[(0, Call), (0, Call)], 0, 1), &[I7]);
}
