//! A write as its handler gets it.

use std::fmt;
use std::time::Duration;

use crate::store::queue::Delivery;

/// A write that is to be carried out, as its handler gets it.
///
/// A write may be handed over more than once, so compare [`seq`](Self::seq):
///
/// ```
/// use cache_runtime::Job;
///
/// # struct Pool; struct DbError;
/// # impl std::fmt::Display for DbError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
/// # impl Pool { async fn execute(&self, _: &str, _: &[&dyn ToString]) -> Result<(), DbError> { Ok(()) } }
/// async fn rename(job: Job<String>, pool: std::sync::Arc<Pool>) -> Result<(), DbError> {
///     let sql = "UPDATE users SET name = ?, seq = ? WHERE id = ? AND seq < ?";
///     # let sql = "";
///     # let _ = async {
///     pool.execute(sql, &[&job.payload, &job.seq(), &job.order_key(), &job.seq()]).await
///     # }; Ok(())
/// }
/// ```
pub struct Job<P> {
    /// What was sent.
    pub payload: P,
    kind: String,
    order_key: String,
    seq: u64,
    attempt: u32,
    age: Duration,
}

impl<P> fmt::Debug for Job<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload and whose it is are nobody's business.
        f.debug_struct("Job")
            .field("kind", &self.kind)
            .field("seq", &self.seq)
            .field("attempt", &self.attempt)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

impl<P> Job<P> {
    pub(super) fn new(payload: P, delivery: &Delivery, age: Duration) -> Self {
        Self {
            payload,
            kind: delivery.kind.clone(),
            order_key: delivery.order_key.clone(),
            seq: delivery.seq,
            attempt: delivery.deliveries,
            age,
        }
    }

    /// The kind that it was sent with.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The order key that it was sent with, as text.
    pub fn order_key(&self) -> &str {
        &self.order_key
    }

    /// Its number, as [`send`](crate::WriteBehind::send) returned it: larger than that of every write that was
    /// queued before it. Below 2^53.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Which attempt this is, from 1. After a worker died it may be one more than there were.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long ago it was sent, by the clock of the store.
    pub fn age(&self) -> Duration {
        self.age
    }
}
