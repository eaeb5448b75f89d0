//! Each mistake, and the promise that it breaks: a model that holds for them all would prove nothing.
//! What is printed is the shortest way to the harm.

use crate::ageing::{Age, Options};
use crate::flaw::Flaw;
use crate::options::split;
use crate::promises::{DEAD, I1, I3, I6, I7, I10, LIFE, RIGHT};
use crate::protocol::Protocol;
use crate::world::Kind::{self, Call, Refresh};
use crate::{ageing, breaks, world};

const TWO: [(u8, Kind); 2] = [(0, Call), (1, Call)];

/// A world that refreshes ahead.
fn ahead(readers: &[(u8, Kind)], writers: usize, faults: u8) -> Protocol {
    ageing(Options::AHEAD, Age::Due, readers, writers, faults)
}

/// A world that answers with stale values to errors.
fn stale(readers: &[(u8, Kind)], writers: usize, faults: u8) -> Protocol {
    ageing(Options::GRACE, Age::Stale, readers, writers, faults)
}

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

/// Another refresh took its right, and failed: the old value is still there when both have returned.
#[test]
fn a_refused_refresh_that_leaves_the_value_is_caught() {
    let protocol = world(&[(0, Refresh), (1, Refresh)], 1, 0);
    breaks(Flaw::RefusedRefreshLeavesValue, Protocol { fails: true, ..protocol }, &[I1]);
}

/// Ahead, two refresh at once as well.
#[test]
fn a_refresh_ahead_without_claim_is_caught() {
    breaks(Flaw::RefreshWithoutClaim, ahead(&TWO, 1, 0), &[I1, I6, I10, RIGHT]);
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

/// Whoever saw the value before may claim it once more, and either may fill.
#[test]
fn a_claim_that_keeps_the_id_is_caught() {
    breaks(Flaw::ClaimKeepsId, ahead(&TWO, 0, 0), &[I6, RIGHT]);
}

/// The value was filled between the two commands of a look, and is loaded again.
#[test]
fn a_claim_that_does_not_ask_for_the_life_is_caught() {
    breaks(Flaw::ClaimWithoutAskingForTheLife, split(stale(&TWO, 0, 0)), &[I6]);
}

/// The value was filled between the two commands of a look: its life is taken for that of the old one.
#[test]
fn a_life_that_is_asked_for_last_is_caught() {
    breaks(Flaw::LifeAskedLast, split(stale(&TWO, 0, 0)), &[LIFE]);
}

/// The refresher was killed, and the others wait for its load.
#[test]
fn a_claim_for_ever_is_caught() {
    breaks(Flaw::ClaimForEver, stale(&TWO, 0, 1), &[I7]);
}

/// The refresher that began before fills after.
#[test]
fn an_invalidation_that_leaves_the_claim_is_caught() {
    breaks(Flaw::InvalidateLeavesClaim, ahead(&TWO, 1, 0), &[I1, I3]);
}

/// What was invalidated while the load ran comes back when it fails, also in the place of what is newer.
#[test]
fn a_rest_without_compare_is_caught() {
    breaks(Flaw::RestWithoutCompare, stale(&TWO, 1, 0), &[I1, I10, DEAD]);
}

/// The value was invalidated while the load ran.
#[test]
fn a_stale_answer_to_an_error_without_asking_is_caught() {
    breaks(Flaw::ErrorAnswersUnasked, stale(&TWO, 1, 0), &[DEAD]);
}

/// The value was invalidated while its caller waited.
#[test]
fn a_stale_answer_to_a_timeout_without_asking_is_caught() {
    breaks(Flaw::TimeoutAnswersUnasked, ageing(Options::TIMEOUT, Age::Stale, &TWO, 1, 0), &[DEAD]);
}

/// The lease that the claim becomes gives a load its right back that an invalidation took.
#[test]
fn a_claim_that_becomes_a_lease_without_compare_is_caught() {
    breaks(Flaw::ConvertWithoutCompare, stale(&TWO, 1, 0), &[I1, I3, DEAD]);
}

/// The refresh began before the invalidation after which its process is asked.
#[test]
fn a_miss_that_joins_a_refresh_in_the_background_is_caught() {
    breaks(Flaw::MissJoinsRefresh, ahead(&[(0, Call), (0, Call)], 1, 0), &[I3]);
}
