//! The canonical encoding of arguments: what keys are hashed from.
//!
//! Equal arguments give equal bytes on every machine and in every build. No encoding is a prefix of
//! another, so what follows one can't be taken for a part of it: `("ab", "c")` and `("a", "bc")` differ.
//! A value is a tag and what the tag announces; `END` is no value's tag. Numbers are little-endian.
//!
//! ```text
//! unit                 UNIT                  `()` and unit structs
//! option               NONE | SOME value
//! bool                 FALSE | TRUE
//! integer              BYTE 1 | WORD 8 | WIDE 16 | NEGATIVE 8 | NEGATIVE_WIDE 16     the first that it fits
//! float                FLOAT 8               as f64; one zero, one NaN
//! char                 CHAR 4
//! string, bytes        STR text | BYTES text     text: length 1 (255: length 8 follows), content
//! sequence, tuple      LIST value.. END
//! map, struct          MAP (key value).. END     ordered by the keys' bytes
//! enum variant         UNIT_VARIANT text | NEWTYPE_VARIANT text value
//!                      TUPLE_VARIANT text value.. END | STRUCT_VARIANT text (key value).. END
//! newtype struct       its value
//! ```
//!
//! A struct is the map of its fields: `#[serde(flatten)]` turns one into the other, and fields that
//! move or are reordered must not move keys. Keys live in servers that old and new processes share:
//! a change of these bytes is a breaking change.

mod buf;
mod entries;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};

use serde::ser::{self, Error as _, Serialize, Serializer};

pub(crate) use self::buf::Buf;
use self::entries::Entries;

mod tag {
    pub(super) const END: u8 = 0x00;
    pub(super) const UNIT: u8 = 0x01;
    pub(super) const NONE: u8 = 0x02;
    pub(super) const SOME: u8 = 0x03;
    pub(super) const FALSE: u8 = 0x04;
    pub(super) const TRUE: u8 = 0x05;
    /// Most `Vec<u8>` serialise as a sequence of integers: nine bytes for each would be dear.
    pub(super) const BYTE: u8 = 0x06;
    pub(super) const WORD: u8 = 0x07;
    pub(super) const WIDE: u8 = 0x08;
    pub(super) const NEGATIVE: u8 = 0x09;
    pub(super) const NEGATIVE_WIDE: u8 = 0x0a;
    pub(super) const FLOAT: u8 = 0x0b;
    pub(super) const CHAR: u8 = 0x0c;
    pub(super) const STR: u8 = 0x0d;
    pub(super) const BYTES: u8 = 0x0e;
    pub(super) const LIST: u8 = 0x0f;
    pub(super) const MAP: u8 = 0x10;
    pub(super) const UNIT_VARIANT: u8 = 0x11;
    pub(super) const NEWTYPE_VARIANT: u8 = 0x12;
    pub(super) const TUPLE_VARIANT: u8 = 0x13;
    pub(super) const STRUCT_VARIANT: u8 = 0x14;
}

/// Appends the encoding of `args`. After an error, what `out` holds is of no use.
pub(crate) fn encode<A: Serialize + ?Sized>(args: &A, out: &mut Buf) -> Result<(), Unencodable> {
    let mut encoder = Encoder { out, failed: false };
    encoder.nested(args)?;
    if encoder.failed {
        return Err(Unencodable::custom("a part of it failed to serialise"));
    }
    Ok(())
}

/// An argument refused to be serialised.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unencodable(String);

impl ser::Error for Unencodable {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Done = Result<(), Unencodable>;
type Name = &'static str;

struct Encoder<'b> {
    out: &'b mut Buf,
    /// An element failed. Whoever serialises its container may have ignored that; the key must not.
    failed: bool,
}

impl Encoder<'_> {
    #[inline]
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unencodable> {
        let result = value.serialize(&mut *self);
        self.failed |= result.is_err();
        result
    }

    #[inline]
    fn end(&mut self) {
        self.out.push(&[tag::END]);
    }
}

macro_rules! integers {
    ($($method:ident($int:ty) => $wider:ident,)*) => {
        $(
            #[inline]
            fn $method(self, value: $int) -> Done {
                self.$wider(value.into())
            }
        )*
    };
}

impl<'a, 'b> Serializer for &'a mut Encoder<'b> {
    type Ok = ();
    type Error = Unencodable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Entries<'a, 'b>;
    type SerializeStruct = Entries<'a, 'b>;
    type SerializeStructVariant = Entries<'a, 'b>;

    integers! {
        serialize_u8(u8) => serialize_u64,
        serialize_u16(u16) => serialize_u64,
        serialize_u32(u32) => serialize_u64,
        serialize_i8(i8) => serialize_i64,
        serialize_i16(i16) => serialize_i64,
        serialize_i32(i32) => serialize_i64,
        serialize_f32(f32) => serialize_f64,
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Done {
        match u8::try_from(value) {
            Ok(byte) => self.out.push_tagged(tag::BYTE, [byte]),
            Err(_) => self.out.push_tagged(tag::WORD, value.to_le_bytes()),
        }
        Ok(())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Done {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value)?,
            Err(_) => self.out.push_tagged(tag::NEGATIVE, value.to_le_bytes()),
        }
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Done {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value)?,
            Err(_) => self.out.push_tagged(tag::WIDE, value.to_le_bytes()),
        }
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Done {
        match (u128::try_from(value), i64::try_from(value)) {
            (Ok(value), _) => self.serialize_u128(value)?,
            (_, Ok(value)) => self.serialize_i64(value)?,
            _ => self.out.push_tagged(tag::NEGATIVE_WIDE, value.to_le_bytes()),
        }
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Done {
        const NAN: u64 = 0x7ff8_0000_0000_0000;
        // -0.0 + 0.0 is 0.0.
        let bits = if value.is_nan() { NAN } else { (value + 0.0).to_bits() };
        self.out.push_tagged(tag::FLOAT, bits.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Done {
        self.out.push(&[if value { tag::TRUE } else { tag::FALSE }]);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Done {
        self.out.push_tagged(tag::CHAR, u32::from(value).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Done {
        self.out.push_text(tag::STR, value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.out.push_text(tag::BYTES, value);
        Ok(())
    }

    /// The provided method panics where a `Display` fails, and allocates.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Done {
        let mut text = Buf::new();
        write!(text, "{value}").map_err(|_| Unencodable::custom("its `Display` failed"))?;
        self.out.push_text(tag::STR, text.as_slice());
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Done {
        self.out.push(&[tag::NONE]);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        self.out.push(&[tag::SOME]);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.out.push(&[tag::UNIT]);
        Ok(())
    }

    fn serialize_unit_struct(self, _: Name) -> Done {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: Name, value: &T) -> Done {
        value.serialize(self)
    }

    // Variants go by name: another one before them doesn't change keys.

    fn serialize_unit_variant(self, _: Name, _: u32, variant: Name) -> Done {
        self.out.push_text(tag::UNIT_VARIANT, variant.as_bytes());
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: Name,
        _: u32,
        variant: Name,
        value: &T,
    ) -> Done {
        self.out.push_text(tag::NEWTYPE_VARIANT, variant.as_bytes());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unencodable> {
        self.out.push(&[tag::LIST]);
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self, Unencodable> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: Name, _: usize) -> Result<Self, Unencodable> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(self, _: Name, _: u32, variant: Name, _: usize) -> Result<Self, Unencodable> {
        self.out.push_text(tag::TUPLE_VARIANT, variant.as_bytes());
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'a, 'b>, Unencodable> {
        self.out.push(&[tag::MAP]);
        Ok(Entries::new(self, len.unwrap_or_default()))
    }

    fn serialize_struct(self, _: Name, len: usize) -> Result<Entries<'a, 'b>, Unencodable> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: Name,
        _: u32,
        variant: Name,
        len: usize,
    ) -> Result<Entries<'a, 'b>, Unencodable> {
        self.out.push_text(tag::STRUCT_VARIANT, variant.as_bytes());
        Ok(Entries::new(self, len))
    }

    /// The forms made for machines: exact where those made for people may round (`ByteSize`), and
    /// free of `Display`, whose text may change between versions. (Known to lose: the scope of a
    /// `SocketAddrV6`, serde issue 2618.)
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! list {
    ($($kind:ident::$method:ident,)*) => {
        $(
            impl ser::$kind for &mut Encoder<'_> {
                type Ok = ();
                type Error = Unencodable;

                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                    self.nested(value)
                }

                #[inline]
                fn end(self) -> Done {
                    Encoder::end(self);
                    Ok(())
                }
            }
        )*
    };
}

list! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}
