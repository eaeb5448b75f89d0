//! Each mistake, and the promise that it breaks. What is printed is the shortest way to the harm.

use super::{I1, I3, Puts, puts};
use crate::finds;

/// One mistake in an otherwise right protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// What was written is stored without more ado.
    NoToken,
    /// The token is placed when the body has written.
    TokenAfterBody,
    /// Who finds another's token, a lease or a value overwrites it.
    SetOnConflict,
    /// Who finds nothing stores all the same.
    SetWhereNothingIs,
    /// The last of two puts wins, as by hand.
    SetOverAToken,
    /// Who finds something else leaves it there.
    LeftAlone,
    /// A put that failed removes its token, and nothing else.
    ReleasesItsOwn,
    /// A token of which nobody knows when it was placed is as good as another.
    LostTokenCounts,
}

fn breaks(flaw: Flaw, puts: Puts) {
    finds(flaw, Puts { flaw: Some(flaw), ..puts }, &[I1]);
    finds(flaw, Puts { flaw: Some(flaw), readers: puts.readers + 1, ..puts }, &[I3]);
}

/// The one that wrote first stores last.
#[test]
fn a_put_without_token_is_caught() {
    breaks(Flaw::NoToken, puts(2, 0, 0));
}

/// The other put has come and gone by then.
#[test]
fn a_token_after_the_body_is_caught() {
    breaks(Flaw::TokenAfterBody, puts(2, 0, 0));
}

/// So it has here.
#[test]
fn a_put_that_sets_on_conflict_is_caught() {
    breaks(Flaw::SetOnConflict, puts(2, 0, 0));
}

/// The newer value was deleted, or its life is over.
#[test]
fn a_put_that_sets_where_nothing_is_is_caught() {
    breaks(Flaw::SetWhereNothingIs, puts(2, 0, 0));
}

/// The one that wrote first stores over the token of the other, who has written and will find it gone; a
/// third finds its value there.
#[test]
fn a_put_that_sets_over_a_token_is_caught() {
    breaks(Flaw::SetOverAToken, puts(3, 0, 0));
}

/// The token's life is over, and a call has stored what it read before the write.
#[test]
fn a_conflict_that_is_left_alone_is_caught() {
    breaks(Flaw::LeftAlone, puts(1, 1, 0));
}

/// The same, and the body failed after its write.
#[test]
fn a_failed_put_that_releases_its_own_token_is_caught() {
    breaks(Flaw::ReleasesItsOwn, puts(1, 1, 0));
}

/// It arrives after another put has stored a newer value and that is gone.
#[test]
fn a_token_whose_reply_was_lost_is_no_evidence() {
    breaks(Flaw::LostTokenCounts, puts(2, 0, 2));
}
