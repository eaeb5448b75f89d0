//! What there is to say of a queue.

use std::time::Duration;

use crate::store::queue::Figures;

/// What there is to say of a queue, in all processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Writes that wait or are being carried out.
    pub pending: u64,
    /// How long ago the oldest of them was sent; nothing if there are none.
    pub oldest: Option<Duration>,
    /// How often a write was tried again since the queue was made.
    pub retries: u64,
    /// Writes that were given up.
    pub dead_letters: u64,
    /// Workers that have given a sign of life within a lease.
    pub workers: u64,
}

impl From<Figures> for QueueStats {
    fn from(figures: Figures) -> Self {
        let Figures { pending, oldest, letters, retries, workers } = figures;
        Self { pending, oldest, retries, dead_letters: letters, workers }
    }
}
