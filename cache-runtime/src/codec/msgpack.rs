//! MessagePack with the names of fields, so that types may grow as they may in JSON.
//!
//! It calls itself human-readable, as JSON does: within tagged enums and flattened structs serde forgets
//! whether a format is, and types such as `IpAddr` would be written in one way and read in the other.

use std::io::Write;

use rmp_serde::decode::Error;
use rmp_serde::{Deserializer, Serializer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::none::SomeNull;
use super::shallow::{Shallow, TOO_DEEP};
use crate::error::CacheError;

/// As deep as JSON is read.
const DEEPEST: u8 = 127;

/// A `None`, and whatever else has nothing to say.
const NIL: &[u8] = &[0xc0];

pub(super) fn encode<V: Serialize + ?Sized>(value: &V, out: impl Write) -> Result<(), CacheError> {
    let mut serializer = Serializer::new(out).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|error| CacheError::Serialize(error.into()))
}

pub(super) fn decode<V: DeserializeOwned>(payload: &[u8], is_none: bool) -> Result<V, CacheError> {
    if payload == NIL && !is_none {
        return V::deserialize(SomeNull::new()).map_err(|error| blind(&error));
    }
    let mut rest = Deserializer::from_read_ref(payload).with_human_readable();
    let value =
        V::deserialize(Shallow::new(&mut rest, DEEPEST, payload.len())).map_err(|error| blind(&error))?;
    // A bool is one byte, so only where there is none there is nothing to begin with.
    match bool::deserialize(&mut rest) {
        Err(Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CacheError::Decode("msgpack: more than one value".to_owned())),
    }
}

/// What a user is told: of which kind the error is, but not what is there, for a value may be a secret.
fn blind(error: &Error) -> CacheError {
    let kind = match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "it ends too early",
        Error::Utf8Error(_) => "a text that is no text",
        Error::Syntax(text) if text == TOO_DEEP => TOO_DEEP,
        _ => "another type",
    };
    CacheError::Decode(format!("msgpack: {kind}"))
}
