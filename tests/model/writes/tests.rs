//! The worlds that are searched, and the mistakes that must be found.

use super::{APPLIED, BURIED, FORWARD, Flaw, ORDER, OUTLIVES, READS, STORED, Seq, Writes};
use crate::{finds, holds};

fn world(sends: Seq, workers: usize, readers: usize) -> Writes {
    Writes { flaw: None, sends, workers, readers, turns: 0, buries: 0, vanishes: 0, pasts: 0 }
}

#[test]
fn writes_of_two_workers_who_lose_the_office() {
    holds("writes, two workers, three turns", Writes { turns: 3, vanishes: 1, ..world(2, 2, 1) });
}

#[test]
fn writes_with_readers_of_an_entry_that_goes() {
    holds("writes, two readers, two vanish", Writes { vanishes: 2, ..world(3, 1, 2) });
}

#[test]
fn writes_that_become_dead_letters() {
    holds("writes, two dead letters", Writes { turns: 2, buries: 2, vanishes: 1, ..world(2, 2, 1) });
}

#[test]
fn writes_in_a_row_of_two_workers() {
    holds("four writes, two workers, three turns", Writes { turns: 3, ..world(4, 2, 0) });
}

#[test]
fn writes_beside_one_past_the_queue() {
    holds("writes, one past the queue", Writes { turns: 1, vanishes: 1, pasts: 1, ..world(2, 2, 2) });
}

#[test]
#[ignore = "a minute: `cargo test --test model -- --ignored --test-threads 1`"]
fn larger_worlds_of_writes() {
    holds("three writes, three turns", Writes { turns: 3, vanishes: 1, ..world(3, 2, 1) });
    holds("three writes, two dead letters", Writes { turns: 2, buries: 2, vanishes: 1, ..world(3, 2, 1) });
}

fn breaks(flaw: Flaw, model: Writes, properties: &[&'static str]) {
    finds(flaw, Writes { flaw: Some(flaw), ..model }, properties);
}

/// Two senders: the appends in one order, the entries in the other.
#[test]
fn an_entry_apart_from_its_append_is_caught() {
    breaks(Flaw::EntryApart, world(2, 1, 1), &[STORED, READS]);
}

/// A load that began before the write fills after it.
#[test]
fn an_append_that_spares_leases_is_caught() {
    breaks(Flaw::AppendSparesLeases, Writes { vanishes: 1, ..world(1, 1, 2) }, &[STORED, READS]);
}

/// The write came between the question and the lease, and its entry is gone again.
#[test]
fn asking_before_the_lease_is_caught() {
    breaks(Flaw::AskBeforeLease, Writes { vanishes: 2, ..world(1, 1, 1) }, &[STORED]);
}

/// A newer write's entry is overwritten by the copy of the one before it.
#[test]
fn a_restore_without_compare_is_caught() {
    breaks(Flaw::RestoreWithoutCompare, Writes { vanishes: 1, ..world(2, 1, 2) }, &[STORED, READS]);
}

/// The mark of the write that is still queued is gone with that of the one before it.
#[test]
fn settling_for_all_is_caught() {
    breaks(Flaw::SettleUnmarksAll, Writes { vanishes: 1, ..world(2, 1, 1) }, &[READS]);
}

/// The worker stops between the two.
#[test]
fn settling_first_is_caught() {
    breaks(Flaw::SettleFirst, world(1, 1, 0), &[APPLIED]);
}

/// What the worker before had read is left behind.
#[test]
fn reading_without_recovering_is_caught() {
    breaks(Flaw::ReadWithoutRecover, Writes { turns: 1, ..world(2, 2, 0) }, &[ORDER]);
}

/// A worker that was paused takes the next write from under the one in office.
#[test]
fn reading_out_of_office_is_caught() {
    breaks(Flaw::ReadOutOfOffice, Writes { turns: 1, ..world(3, 2, 0) }, &[ORDER]);
}

/// What another worker had read meanwhile is left behind.
#[test]
fn an_office_without_terms_is_caught() {
    breaks(Flaw::NoTerms, Writes { turns: 2, ..world(2, 2, 0) }, &[ORDER]);
}

/// A worker that was paused in the middle of a write is overtaken.
#[test]
fn a_handler_that_does_not_compare_is_caught() {
    breaks(Flaw::ApplyWithoutCompare, Writes { turns: 1, ..world(2, 2, 0) }, &[FORWARD]);
}

/// The cache goes on saying what the database never will.
#[test]
fn an_entry_left_by_a_dead_letter_is_caught() {
    breaks(Flaw::BuryLeavesEntry, Writes { buries: 1, ..world(1, 1, 1) }, &[BURIED]);
}

/// The row was changed past the queue after the write was applied; the reader didn't know that it was.
#[test]
fn a_copy_that_outlives_its_write_is_caught() {
    breaks(Flaw::SettleKeepsCopy, Writes { pasts: 1, ..world(1, 1, 1) }, &[OUTLIVES]);
}
