//! Pending reads: a function with `pending` never brings back the row as it was before a write that is queued.
//!
//! A queue keeps a copy of each entry that was stored together with a write, from the append until the write
//! is settled (`store/queue.rs`). Whenever the engine would run the function, with whatever right to fill or
//! with none, it asks for that copy first; if there is one, it is the answer, and takes the place of the lease
//! or claim as a loaded value would. A hit asks nothing.
//!
//! ```text
//! acquire   a lease or claim, with the tags as they are then
//! open      the flight: from here on, who joins must see the fill accepted
//! ask       the queue for the copy
//!           none: load and fill, as ever; a copy: fill with that
//! ```
//!
//! It is a load like any other, whose "row" is the copy while there is one. So what guards a load guards it,
//! if two things hold: the append takes the lease or claim away in the step that makes the copy (it overwrites
//! the entry, or removes it; under a fence there is neither), and the settling takes it away in the step that
//! ends the copy, unless the entry is still what the append stored. What can come between:
//!
//! - **An append between the lease and the question.** The copy is found. The lease has gone, so it isn't
//!   stored over the entry, which is the same or newer; the caller has it all the same.
//! - **An append after the question.** What is loaded then is the old row, and its caller asked before the
//!   write was acknowledged, so that is right for him. The fill is refused: the lease has gone. So it is for
//!   those who joined since the question, which is why the flight is opened before it: they may have seen the
//!   acknowledgement, and take only what was stored.
//! - **A load that began before the append** is the same case, however long it takes: no lease comes back, a
//!   prolonged one neither, for that is compare-and-set, too.
//! - **A later write of the same entry.** It overwrites the entry and the copy in one step: who asked before it
//!   is refused as above, who asks after it gets the later copy.
//! - **Settling between the lease and the question.** No copy is found, and the database has the row. (With
//!   the lease gone too, what is loaded isn't stored.)
//! - **Settling between the question and the fill.** The caller has what the row is now. It isn't stored: in
//!   the entry stood a lease or claim, not what the append stored, so the settling removed it. Were it
//!   stored, it could be older than an invalidation: see the next one.
//! - **An invalidation while the write is pending** removes the entry, or lets its tags' versions end; the copy
//!   stays, and the next reader brings it back: the row that he would load doesn't have the write yet. If
//!   somebody changed the row past the queue, that is seen when the write is settled, and not before: then
//!   the entry isn't what the append stored but a copy under an id of its own, and goes. An invalidation
//!   between the lease and the fill refuses that, as ever.
//! - **Eviction, expiry, a fence in the place of the entry** change nothing about the copy. Where there can't be
//!   a lease (a fence, a newer value, foreign data) the copy answers, and isn't stored.
//! - **The queue is lost** with all the server's data: leases and entries are, too, and functions load.
//!
//! **What can't be known.** If the question has no answer (the budget is spent, the store is dark), the function
//! runs, since a fault of the cache never becomes its caller's; what it returns may be the old row, so it
//! isn't stored. So is it where the copy is none of this function's values: another program's, another
//! version's, torn. A background refresh then gives its claim back and loads nothing.
//!
//! A copy of plain JSON, which has no prefix that would tell it from what the append stored, answers and isn't
//! stored.

use bytes::Bytes;
use tracing::debug;

use crate::commands::Commands;
use crate::entry::Entry;
use crate::lead::Lead;
use crate::policy::Named;
use crate::record;
use crate::sight::Hit;
use crate::write_behind::PendingCopy;

/// What the queue says of a load that is about to run.
#[derive(Debug)]
pub(crate) enum Queued {
    /// No write is pending for the key: it may run.
    Nothing(Box<Lead>),
    /// This is the answer. It stands where the load would have been stored, if that was possible.
    Answer(Hit),
    /// There is something, but no value of this function.
    Unreadable(Box<Lead>),
    /// The queue can't be asked.
    Unknown(Box<Lead>),
}

impl Commands<'_> {
    /// Asks the queue of the function, before a load, for what is pending under the key.
    ///
    /// Cancel safe: dropping the lead hands over.
    pub(crate) async fn queued(&mut self, mut lead: Box<Lead>) -> Queued {
        let Some(queue) = self.ask.queue() else { return Queued::Nothing(lead) };
        let core = self.core();
        lead.open();
        let queue = core.queue(queue);
        let copy = match Self::spend(&mut self.left, core, queue.pending(&self.ask.key)).await {
            Ok(Some(copy)) => copy,
            Ok(None) => return Queued::Nothing(lead),
            Err(error) => {
                self.books().count(|book| &book.store_errors);
                debug!(target: "cache_aside", key = %self.ask.key, %error, "what is queued isn't known: what is loaded isn't stored");
                return Queued::Unknown(lead);
            }
        };
        let Some((hit, entry)) = self.read(&copy) else {
            debug!(target: "cache_aside", key = %self.ask.key, "what is queued is no value of this function: what is loaded isn't stored");
            return Queued::Unreadable(lead);
        };
        match entry {
            Some(entry) => {
                let wanted = lead.is_wanted().then_some(Ok(entry));
                lead.fill(wanted).await;
            }
            None => lead.cede(),
        }
        Queued::Answer(hit)
    }

    /// What a copy is to this call, and what is to be stored of it. Nothing: no value of this function.
    fn read(&self, copy: &Bytes) -> Option<(Hit, Option<Entry>)> {
        let PendingCopy { life, tags, body } = PendingCopy::read(copy)?;
        let hit = Hit::from_queue(body.clone(), &self.ask)?;
        let entry = record::is_record(&body).then(|| Entry {
            record: record::renewed(&body),
            life,
            tags: Some(Box::new(Named::new(tags))),
        });
        Some((hit, entry))
    }
}
