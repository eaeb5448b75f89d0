//! Worlds of functions that refresh ahead, answer with stale values, or do both. They fail whenever
//! they like.

use crate::ageing::Age::{Due, Stale};
use crate::ageing::Options;
use crate::protocol::Protocol;
use crate::world::Kind::{Call, Refresh};
use crate::{ageing, holds};

const AHEAD: Options = Options::AHEAD;
const GRACE: Options = Options::GRACE;
const TIMEOUT: Options = Options::TIMEOUT;
const ALL: Options = Options::ALL;

/// Other clients' commands come between the two of a look.
pub(crate) fn split(protocol: Protocol) -> Protocol {
    Protocol { split: true, ..protocol }
}

#[test]
fn refreshes_ahead_and_one_fault_during_a_write() {
    let name = "refreshes_ahead_and_one_fault_during_a_write";
    holds(name, ageing(AHEAD, Due, &[(0, Call), (1, Call)], 1, 1));
}

#[test]
fn refreshes_ahead_and_two_faults() {
    holds("refreshes_ahead_and_two_faults", ageing(AHEAD, Due, &[(0, Call), (1, Call)], 0, 2));
}

#[test]
fn refreshes_ahead_by_three() {
    holds("refreshes_ahead_by_three", ageing(AHEAD, Due, &[(0, Call), (0, Call), (1, Call)], 0, 0));
}

#[test]
fn a_refresh_ahead_and_one_by_hand() {
    holds("a_refresh_ahead_and_one_by_hand", ageing(AHEAD, Due, &[(0, Call), (1, Refresh)], 1, 1));
}

#[test]
fn stale_values_and_one_fault_during_a_write() {
    let name = "stale_values_and_one_fault_during_a_write";
    holds(name, ageing(GRACE, Stale, &[(0, Call), (1, Call)], 1, 1));
}

#[test]
fn stale_values_in_one_process() {
    holds("stale_values_in_one_process", ageing(GRACE, Stale, &[(0, Call), (0, Call)], 1, 1));
}

#[test]
fn stale_values_during_two_writes() {
    holds("stale_values_during_two_writes", ageing(GRACE, Stale, &[(0, Call), (1, Call)], 2, 0));
}

#[test]
fn a_stale_value_and_a_refresh_by_hand() {
    holds("a_stale_value_and_a_refresh_by_hand", ageing(GRACE, Stale, &[(0, Call), (1, Refresh)], 1, 1));
}

#[test]
fn impatience_in_one_process() {
    holds("impatience_in_one_process", ageing(TIMEOUT, Stale, &[(0, Call), (0, Call)], 1, 1));
}

#[test]
fn impatience_and_one_fault() {
    holds("impatience_and_one_fault", ageing(TIMEOUT, Stale, &[(0, Call), (1, Call)], 0, 1));
}

#[test]
fn impatience_during_a_write() {
    holds("impatience_during_a_write", ageing(TIMEOUT, Stale, &[(0, Call), (1, Call)], 1, 0));
}

#[test]
fn impatience_of_three() {
    holds("impatience_of_three", ageing(TIMEOUT, Stale, &[(0, Call), (0, Call), (1, Call)], 0, 0));
}

#[test]
fn all_options_and_looks_in_two_halves() {
    let name = "all_options_and_looks_in_two_halves";
    holds(name, split(ageing(ALL, Due, &[(0, Call), (1, Call)], 1, 0)));
    holds(name, split(ageing(ALL, Due, &[(0, Call), (1, Call)], 0, 1)));
}

#[test]
#[ignore = "eight minutes: `cargo test --test model -- --ignored --test-threads 1`"]
fn larger_worlds_of_options() {
    holds("all options, one process", ageing(ALL, Due, &[(0, Call), (0, Call)], 1, 1));
    holds("all options, a refresh by hand", ageing(ALL, Due, &[(0, Call), (1, Refresh)], 1, 1));
    holds("all options, two writes", ageing(ALL, Due, &[(0, Call), (1, Call)], 2, 0));
    holds("all options, three calls", ageing(ALL, Due, &[(0, Call), (0, Call), (1, Call)], 0, 0));
    holds("all options, one fault", ageing(ALL, Due, &[(0, Call), (1, Call)], 1, 1));
    holds("refreshes ahead, two writes, one fault", ageing(AHEAD, Due, &[(0, Call), (1, Call)], 2, 1));
    holds("three refreshes ahead", ageing(AHEAD, Due, &[(0, Call), (0, Call), (1, Call)], 1, 0));
    holds("stale values, two faults", ageing(GRACE, Stale, &[(0, Call), (1, Call)], 0, 2));
    holds("stale values, two writes, one fault", ageing(GRACE, Stale, &[(0, Call), (1, Call)], 2, 1));
    holds("impatience, two writes", ageing(TIMEOUT, Stale, &[(0, Call), (1, Call)], 2, 0));
    holds("impatience, one fault", ageing(TIMEOUT, Stale, &[(0, Call), (1, Call)], 1, 1));
}
