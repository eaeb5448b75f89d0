//! Whether a value is a `None`: neither codec writes that so that it could be told from `Some(())`.

use std::fmt::Display;
use std::marker::PhantomData;

use serde::de::{Deserializer, Visitor};
use serde::ser::Impossible;
use serde::{Serialize, Serializer, forward_to_deserialize_any};

/// Whether serde takes this value for a `None`; serde says so whatever its type is called.
pub(crate) fn is_none<V: Serialize + ?Sized>(value: &V) -> bool {
    value.serialize(AskNone).is_ok()
}

/// The payload `null`, or what a codec has for it, of a value that isn't `None`: what serde asks for first as an
/// option is a `Some`, of something that has nothing to say.
pub(super) struct SomeNull<E> {
    is_some: bool,
    error: PhantomData<E>,
}

impl<E> SomeNull<E> {
    pub(super) fn new() -> Self {
        Self { is_some: true, error: PhantomData }
    }
}

impl<'de, E: serde::de::Error> Deserializer<'de> for SomeNull<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        if self.is_some { visitor.visit_some(Self { is_some: false, ..self }) } else { visitor.visit_none() }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, E> {
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
