//! Each mistake, and the promise that it breaks. What is printed is the shortest way to the harm.

use super::promises::{I2, I3};
use super::server::Key::{self, Argument, Result};
use super::{Tags, world};
use crate::finds;

/// One mistake in an otherwise right protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The tags aren't read once more with the fill.
    NoReread,
    /// The version of an argument's tag is read when the function has returned.
    CaptureAfterLoad,
    /// Versions are counters: an invalidation counts on, what is missing begins at 1.
    Counters,
    /// An invalidation deletes the tag, then the epoch.
    TagBeforeEpoch,
    /// Nobody asks whether the epoch is as it was.
    NoEpoch,
    /// The epoch is asked for before the tag of the result.
    EpochAskedFirst,
    /// A tag that isn't there is taken for the one that was captured.
    MissingIsValid,
    /// A client that didn't hear sends the same creation of a version again.
    CreationSentAgain,
}

fn breaks(flaw: Flaw, tags: Tags, properties: &[&'static str]) {
    finds(flaw, Tags { flaw: Some(flaw), ..tags }, properties);
}

fn small(tags: &[Key], readers: &[u8], faults: u8) -> Tags {
    world(tags, readers, &tags[..1], faults)
}

/// Who asks after the invalidation, and waits for the load that began before, gets what the tag has
/// outlived.
#[test]
fn a_fill_that_does_not_read_the_tags_is_caught() {
    breaks(Flaw::NoReread, small(&[Argument], &[0, 0], 0), &[I3]);
}

/// The old value gets the version that the invalidation made.
#[test]
fn a_version_read_after_the_load_is_caught() {
    breaks(Flaw::CaptureAfterLoad, small(&[Argument], &[0, 1], 0), &[I2, I3]);
}

/// The tag is evicted while the function runs, and the invalidation counts from the beginning.
#[test]
fn counters_are_caught() {
    breaks(Flaw::Counters, small(&[Argument], &[0, 1], 1), &[I2, I3]);
}

/// Between the two the tag is made anew, and the epoch looks as it did.
#[test]
fn a_tag_deleted_before_the_epoch_is_caught() {
    breaks(Flaw::TagBeforeEpoch, small(&[Result], &[0, 1], 0), &[I2, I3]);
}

/// Nothing tells that the tag was another when the load began.
#[test]
fn a_result_without_epoch_is_caught() {
    breaks(Flaw::NoEpoch, small(&[Result], &[0, 1], 0), &[I2, I3]);
}

/// The invalidation comes between the two.
#[test]
fn an_epoch_asked_for_first_is_caught() {
    breaks(Flaw::EpochAskedFirst, small(&[Result], &[0, 1], 0), &[I2, I3]);
}

/// To invalidate is to delete.
#[test]
fn a_missing_version_taken_for_valid_is_caught() {
    breaks(Flaw::MissingIsValid, small(&[Argument], &[0, 1], 0), &[I2, I3]);
}

/// The second one arrives after the invalidation, and what was captured is true again.
#[test]
fn a_creation_sent_again_is_caught() {
    breaks(Flaw::CreationSentAgain, small(&[Argument], &[0, 1], 1), &[I2]);
    breaks(Flaw::CreationSentAgain, small(&[Argument], &[0, 1, 1], 1), &[I3]);
}
