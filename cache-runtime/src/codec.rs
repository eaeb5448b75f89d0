//! Values to bytes and back.
//!
//! A payload is JSON, or MessagePack where a function says so; which of them stands in the record's header,
//! so that whoever reads it needn't be told. Both write `None`, `Some(())` and `Some(None)` alike, so whether
//! a value is a `None` stands there, too (`none.rs`).

#[cfg(feature = "msgpack")]
mod msgpack;
mod none;
#[cfg(feature = "msgpack")]
mod shallow;

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::none::SomeNull;
pub(crate) use self::none::is_none;
use crate::error::CacheError;

/// How a payload is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Codec {
    /// Text that every other program reads.
    #[default]
    Json,
    /// Shorter, and quicker to decode.
    #[cfg(feature = "msgpack")]
    Msgpack,
}

impl Codec {
    /// What it is called in a record.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Json => 0,
            #[cfg(feature = "msgpack")]
            Self::Msgpack => 1,
        }
    }

    /// The one of this name; nothing if this program has none.
    pub(crate) fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Json),
            #[cfg(feature = "msgpack")]
            1 => Some(Self::Msgpack),
            _ => None,
        }
    }

    /// Encodes `value` behind what `out` holds.
    ///
    /// # Errors
    /// `Serialize` if the value can't be encoded, `ValueTooLarge` beyond `max` bytes of payload.
    pub(crate) fn encode<V: Serialize + ?Sized>(
        self,
        value: &V,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), CacheError> {
        let mut bounded = Bounded { out, left: max, overflown: false };
        let encoded = match self {
            Self::Json => serde_json::to_writer(&mut bounded, value)
                .map_err(|error| CacheError::Serialize(error.into())),
            #[cfg(feature = "msgpack")]
            Self::Msgpack => msgpack::encode(value, &mut bounded),
        };
        if bounded.overflown { Err(CacheError::ValueTooLarge { max }) } else { encoded }
    }

    /// Decodes a payload whose header says whether it is a `None`.
    ///
    /// # Errors
    /// `Decode`, if it is no value of this type.
    pub(crate) fn decode<V: DeserializeOwned>(self, payload: &[u8], is_none: bool) -> Result<V, CacheError> {
        match self {
            Self::Json if payload == b"null" && !is_none => {
                V::deserialize(SomeNull::new()).map_err(|error| blind(&error))
            }
            Self::Json => serde_json::from_slice(payload).map_err(|error| blind(&error)),
            #[cfg(feature = "msgpack")]
            Self::Msgpack => msgpack::decode(payload, is_none),
        }
    }
}

/// What a user is told: where, but not what, for a value may be a secret.
pub(crate) fn blind(error: &serde_json::Error) -> CacheError {
    let (kind, line, column) = (error.classify(), error.line(), error.column());
    CacheError::Decode(format!("{kind:?} error at line {line}, column {column}").to_lowercase())
}

/// Plain JSON, as any program reads it.
pub(crate) fn to_json<V: Serialize + ?Sized>(value: &V, max: usize) -> Result<Bytes, CacheError> {
    let mut out = Vec::with_capacity(128);
    Codec::Json.encode(value, &mut out, max)?;
    Ok(Bytes::from(out))
}

/// A buffer that refuses what is too much before it takes the memory.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
    overflown: bool,
}

impl Bounded<'_> {
    #[cold]
    fn overflow(&mut self) -> io::Error {
        self.overflown = true;
        io::Error::other("too large")
    }
}

impl Write for Bounded<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    // What codecs call, often for a byte or two: without it there would be a loop around each.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len()) else { return Err(self.overflow()) };
        self.left = left;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
