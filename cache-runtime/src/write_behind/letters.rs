//! Writes that were given up.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::CacheError;
use crate::store::queue::Letter;

/// A write that was given up: its handler failed too often, or its payload couldn't be decoded.
///
/// It stays until somebody [replays](crate::WriteBehind::replay) or
/// [discards](crate::WriteBehind::discard) it.
#[derive(Clone)]
pub struct DeadLetter {
    letter: Letter,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload, whose it is, and a cause that may quote either are nobody's business.
        f.debug_struct("DeadLetter")
            .field("kind", &self.letter.kind)
            .field("seq", &self.letter.seq)
            .field("attempts", &self.letter.attempts)
            .finish_non_exhaustive()
    }
}

impl DeadLetter {
    pub(super) fn new(letter: Letter) -> Self {
        Self { letter }
    }

    pub(super) fn letter(&self) -> &Letter {
        &self.letter
    }

    /// What was sent.
    ///
    /// # Errors
    /// [`CacheError::Decode`] if it isn't a `T`. The text says where, never what is there.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, CacheError> {
        serde_json::from_slice(&self.letter.payload).map_err(|error| codec::blind(&error))
    }

    /// What was sent, as JSON.
    pub fn payload_json(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.letter.payload)
    }

    /// The kind that it was sent with.
    pub fn kind(&self) -> &str {
        &self.letter.kind
    }

    /// The order key that it was sent with, as text.
    pub fn order_key(&self) -> &str {
        &self.letter.order_key
    }

    /// Its number, which it keeps when it is replayed.
    pub fn seq(&self) -> u64 {
        self.letter.seq
    }

    /// Why it was given up: what the handler returned the last time, at most a kilobyte of it, or
    /// `panicked: ..`, `not done within ..`, `no handler for kind ..`, `the payload: ..`.
    pub fn cause(&self) -> &str {
        &self.letter.cause
    }

    /// How often it was tried.
    pub fn attempts(&self) -> u32 {
        self.letter.attempts
    }

    /// How long ago it was sent, by the clock of the store.
    pub fn age(&self) -> Duration {
        self.letter.age
    }
}
