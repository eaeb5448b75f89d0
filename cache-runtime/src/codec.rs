//! Values to bytes and back.
//!
//! The payload is JSON. JSON writes `None`, `Some(())` and `Some(None)` alike, so whether a value is
//! a `None` stands in the record's header; serde itself says which values are, whatever their type
//! is called.

use std::fmt::Display;
use std::io::{self, Write};

use bytes::Bytes;
use serde::de::value::UnitDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::ser::Impossible;
use serde::{Serialize, Serializer, forward_to_deserialize_any};

use crate::error::CacheError;

/// Encodes `value` behind what `out` holds.
///
/// # Errors
/// `Serialize` if the value can't be encoded, `ValueTooLarge` beyond `max` bytes of payload.
pub(crate) fn encode<V: Serialize + ?Sized>(
    value: &V,
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(), CacheError> {
    let mut bounded = Bounded { out, left: max, overflown: false };
    match serde_json::to_writer(&mut bounded, value) {
        Ok(()) => Ok(()),
        Err(_) if bounded.overflown => Err(CacheError::ValueTooLarge { max }),
        Err(error) => Err(CacheError::Serialize(Box::new(error))),
    }
}

/// Decodes a payload whose header says whether it is a `None`.
pub(crate) fn decode<V: DeserializeOwned>(payload: &[u8], is_none: bool) -> Result<V, serde_json::Error> {
    if payload == b"null" && !is_none {
        return V::deserialize(SomeNull);
    }
    serde_json::from_slice(payload)
}

/// What a user is told: where, but not what, for a value may be a secret.
pub(crate) fn blind(error: &serde_json::Error) -> CacheError {
    let (kind, line, column) = (error.classify(), error.line(), error.column());
    CacheError::Decode(format!("{kind:?} error at line {line}, column {column}").to_lowercase())
}

/// Whether serde takes this value for a `None`.
pub(crate) fn is_none<V: Serialize + ?Sized>(value: &V) -> bool {
    value.serialize(AskNone).is_ok()
}

/// A buffer that refuses what is too much before it takes the memory.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
    overflown: bool,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.overflown = true;
            return Err(io::Error::other("too large"));
        };
        self.left = left;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The payload `null` of a value that isn't `None`: what serde asks for as an option is a `Some`.
struct SomeNull;

impl<'de> Deserializer<'de> for SomeNull {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(UnitDeserializer::new())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Succeeds for `None` and nothing else.
struct AskNone;

/// Any other answer.
#[derive(Debug, thiserror::Error)]
#[error("a value")]
struct NotNone;

impl serde::ser::Error for NotNone {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! not_none {
    ($($name:ident($($arg:ty),*);)*) => { $(
        fn $name(self, $(_: $arg),*) -> Result<(), NotNone> { Err(NotNone) }
    )* };
    (many $($name:ident($($arg:ty),*) -> $many:ident;)*) => { $(
        fn $name(self, $(_: $arg),*) -> Result<Self::$many, NotNone> { Err(NotNone) }
    )* };
}

impl Serializer for AskNone {
    type Ok = ();
    type Error = NotNone;
    type SerializeSeq = Impossible<(), NotNone>;
    type SerializeTuple = Impossible<(), NotNone>;
    type SerializeTupleStruct = Impossible<(), NotNone>;
    type SerializeTupleVariant = Impossible<(), NotNone>;
    type SerializeMap = Impossible<(), NotNone>;
    type SerializeStruct = Impossible<(), NotNone>;
    type SerializeStructVariant = Impossible<(), NotNone>;

    fn serialize_none(self) -> Result<(), NotNone> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), NotNone> {
        Err(NotNone)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotNone> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotNone> {
        Err(NotNone)
    }

    not_none! {
        serialize_bool(bool);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64); serialize_i128(i128);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_u128(u128);
        serialize_f32(f32); serialize_f64(f64); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_unit(); serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }
    not_none! { many
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
}

/// Plain JSON, as any program reads it.
pub(crate) fn to_json<V: Serialize + ?Sized>(value: &V, max: usize) -> Result<Bytes, CacheError> {
    let mut out = Vec::with_capacity(128);
    encode(value, &mut out, max)?;
    Ok(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<V: Serialize + DeserializeOwned>(value: &V) -> V {
        let json = to_json(value, 1000).unwrap();
        decode(&json, is_none(value)).unwrap()
    }

    #[test]
    fn none_unit_and_nested_options_come_back_as_they_were() {
        assert_eq!(round(&None::<u8>), None);
        assert_eq!(round(&Some(3)), Some(3));
        assert_eq!(round(&Some(())), Some(()));
        assert_eq!(round(&None::<()>), None);
        assert_eq!(round(&Some(None::<u8>)), Some(None));
        assert_eq!(round(&Some(Some(1))), Some(Some(1)));
        round(&());
    }

    #[test]
    fn an_enum_and_a_map_are_read_as_ever() {
        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        enum Shape {
            Point,
            Circle { r: f64 },
            Wrapped(Option<u8>),
        }
        for shape in [Shape::Point, Shape::Circle { r: 1.5 }, Shape::Wrapped(None)] {
            assert_eq!(round(&shape), shape);
        }
        assert_eq!(round(&std::collections::BTreeMap::from([(1, "a".to_owned())])).len(), 1);
    }

    #[test]
    fn floats_come_back_bit_by_bit() {
        let mut bits = 0x3ff0_0000_0000_0001_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let float = f64::from_bits(bits);
            if float.is_finite() {
                assert_eq!(round(&float).to_bits(), bits);
            }
        }
    }

    #[test]
    fn too_much_is_refused_before_it_takes_the_memory() {
        let mut out = Vec::new();
        let error = encode(&"x".repeat(1000), &mut out, 100).unwrap_err();
        assert!(matches!(error, CacheError::ValueTooLarge { max: 100 }));
        assert!(out.len() <= 100);
    }

    #[test]
    fn a_number_that_json_can_not_write_does_not_come_back_as_another() {
        let json = to_json(&f64::NAN, 100).unwrap();
        assert!(decode::<f64>(&json, false).is_err());
    }
}
