//! What can go wrong, for users and between the rooms.

use std::error::Error as StdError;

/// An error of the cache itself.
///
/// Decorated functions never return it: a call that the cache can't answer runs the function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A setting is missing or has a value that can't be used.
    #[error("{0}")]
    Settings(String),
    /// The store can't be reached.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// The store didn't answer in time.
    #[error("the store didn't answer in time: {0}")]
    Timeout(String),
    /// A value, or an argument that is part of a key, can't be encoded.
    #[error("a value, or an argument that is part of a key, can't be encoded")]
    Serialize(#[source] Box<dyn StdError + Send + Sync>),
    /// Bytes don't decode as the type that was asked for. The text says where, never what is there.
    #[error("can't be decoded: {0}")]
    Decode(String),
    /// A key is longer than 4 KiB.
    #[error("the key has {bytes} bytes; at most {max} are allowed")]
    KeyTooLong {
        /// Length of the key.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value is larger than the cache stores.
    #[error("the value has more than {max} bytes, the largest that is stored")]
    ValueTooLarge {
        /// The limit.
        max: usize,
    },
    /// A queue of writes has no room, and had none for as long as [`patience`](crate::WriteBehindBuilder::patience)
    /// says. The write wasn't queued.
    #[error(
        "the queue `{queue}` holds {capacity} writes, as many as it may: look at its `stats` and `dead_letters` for \
         what holds it up, run more workers, or give it a larger `capacity`"
    )]
    QueueFull {
        /// The name of the queue.
        queue: String,
        /// The limit.
        capacity: u64,
    },
    /// The operation needs Redis or Valkey, and the embedded store is in use.
    #[error(
        "this needs a Redis or Valkey server, and the embedded store is in use: set REDIS_URL or REDIS_HOST"
    )]
    NotRedis,
    /// The server refused the command.
    #[error("the server refused: {0}")]
    Server(String),
}

/// What a store answers instead of a result. Texts hold keys and replies, never values or credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// No connection, or it broke.
    #[error("{0}")]
    Unavailable(String),
    /// No answer in time.
    #[error("{0}")]
    Timeout(String),
    /// The key holds something that this operation isn't for.
    #[error("{0}")]
    WrongType(String),
    /// An error reply.
    #[error("{0}")]
    Refused(String),
}

impl From<StoreError> for CacheError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(text) => Self::Unavailable(text),
            StoreError::Timeout(text) => Self::Timeout(text),
            StoreError::WrongType(text) | StoreError::Refused(text) => Self::Server(text),
        }
    }
}
