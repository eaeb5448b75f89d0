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

use std::fmt::{self, Display, Write as _};

use serde::ser::{self, Error as _, Serialize, Serializer};

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

/// Bytes that stay on the stack while they are few. No `Debug`: they are argument values.
pub(crate) struct Buf {
    inline: [u8; INLINE],
    /// Of all bytes. Beyond `INLINE`, they are all in `spilled`.
    len: usize,
    spilled: Vec<u8>,
}

const INLINE: usize = 128;

/// Stands for the length of a text when the length itself follows in eight bytes.
const LONG: u8 = 0xff;

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Buf {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { inline: [0; INLINE], len: 0, spilled: Vec::new() }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.inline.get(..self.len).unwrap_or(&self.spilled)
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.inline.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
        } else {
            if self.spilled.is_empty() {
                self.spill(bytes.len());
            }
            self.spilled.extend_from_slice(bytes);
        }
        self.len = end;
    }

    #[cold]
    fn spill(&mut self, more: usize) {
        self.spilled.reserve(4 * INLINE + more);
        self.spilled.extend_from_slice(&self.inline[..self.len]);
    }

    fn overwrite(&mut self, start: usize, bytes: &[u8]) {
        let all = self.inline.get_mut(..self.len).unwrap_or(&mut self.spilled);
        all[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Two pushes: an array put together from both would be stored bytewise and read back at once,
    /// which stalls the processor for longer than all the rest takes.
    #[inline]
    fn push_tagged<const N: usize>(&mut self, tag: u8, content: [u8; N]) {
        self.push(&[tag]);
        self.push(&content);
    }

    #[inline]
    fn push_text(&mut self, tag: u8, text: &[u8]) {
        if text.len() < usize::from(LONG) {
            self.push_tagged(tag, [text.len().to_le_bytes()[0]]);
        } else {
            self.push_tagged(tag, [LONG]);
            self.push(&(text.len() as u64).to_le_bytes());
        }
        self.push(text);
    }
}

impl fmt::Write for Buf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
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

/// The entries of a map or struct that is being encoded.
struct Entries<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    spans: Vec<Span>,
}

/// Where an entry's key and value begin; the value goes on to the next entry.
struct Span {
    key: usize,
    value: usize,
}

impl<'a, 'b> Entries<'a, 'b> {
    fn new(encoder: &'a mut Encoder<'b>, len: usize) -> Self {
        // `len` is a claim: it must not be able to exhaust memory.
        Self { encoder, spans: Vec::with_capacity(len.min(64)) }
    }

    #[inline]
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        let start = self.encoder.out.len;
        self.encoder.nested(key)?;
        self.spans.push(Span { key: start, value: self.encoder.out.len });
        Ok(())
    }

    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if self.spans.is_empty() {
            self.encoder.failed = true;
            return Err(Unencodable::custom("a map's value came without its key"));
        }
        self.encoder.nested(value)
    }

    /// Sorts by key alone: a multimap's values of one key may mean something by their order.
    fn close(self) {
        let Self { encoder, spans } = self;
        let out = &mut *encoder.out;
        let bytes = out.as_slice();
        let key = |span: &Span| &bytes[span.key..span.value];
        // After a failure the spans may have holes, and nobody will read the bytes.
        if !encoder.failed && !spans.is_sorted_by_key(key) {
            let ends = spans.iter().skip(1).map(|next| next.key).chain([bytes.len()]);
            let mut entries: Vec<_> = spans.iter().zip(ends).collect();
            entries.sort_by_key(|(span, _)| key(span));
            let mut sorted = Buf::new();
            for (span, end) in entries {
                sorted.push(&bytes[span.key..end]);
            }
            out.overwrite(spans[0].key, sorted.as_slice());
        }
        encoder.end();
    }
}

impl ser::SerializeMap for Entries<'_, '_> {
    type Ok = ();
    type Error = Unencodable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.value(value)
    }

    fn end(self) -> Done {
        self.close();
        Ok(())
    }
}

macro_rules! fields {
    ($($kind:ident,)*) => {
        $(
            impl ser::$kind for Entries<'_, '_> {
                type Ok = ();
                type Error = Unencodable;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(&mut self, name: Name, value: &T) -> Done {
                    self.key(name)?;
                    self.value(value)
                }

                fn end(self) -> Done {
                    self.close();
                    Ok(())
                }
            }
        )*
    };
}

fields! { SerializeStruct, SerializeStructVariant, }

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde::Serialize;
    use serde::ser::{SerializeMap as _, SerializeSeq as _};

    use super::*;

    fn bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
        let mut out = Buf::new();
        encode(value, &mut out).expect("it serialises");
        out.as_slice().to_vec()
    }

    macro_rules! serialize {
        ($($kind:ty: |$this:ident, $to:ident| $how:expr;)*) => {
            $(impl Serialize for $kind {
                fn serialize<S: Serializer>(&self, $to: S) -> Result<S::Ok, S::Error> {
                    let $this = self;
                    $how
                }
            })*
        };
    }

    #[derive(Serialize)]
    struct Page {
        size: u32,
        at: Option<u8>,
    }
    #[derive(Serialize)]
    struct Rest {
        size: u32,
    }
    #[derive(Serialize)]
    struct Moved {
        at: Option<u8>,
        #[serde(flatten)]
        rest: Rest,
    }
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Id(u64);
    #[derive(Serialize)]
    enum Kind {
        Unit,
        New(u8),
        Tuple(u8, u8),
        Struct { a: u8 },
    }

    struct Raw(&'static [u8]);
    struct Multi(&'static [(&'static str, u8)]);
    struct Fails;
    struct SloppyList;
    struct SloppyMap;
    impl Display for Fails {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    serialize! {
        Raw: |raw, to| to.serialize_bytes(raw.0);
        Multi: |multi, to| to.collect_map(multi.0.iter().copied());
        Fails: |fails, to| to.collect_str(fails);
        SloppyList: |_it, to| {
            let mut list = to.serialize_seq(Some(usize::MAX))?;
            let _ = list.serialize_element(&Fails);
            list.end()
        };
        SloppyMap: |_it, to| {
            let mut map = to.serialize_map(Some(usize::MAX))?;
            let _ = map.serialize_value(&1);
            let _ = map.serialize_key(&(2, Fails));
            let _ = map.serialize_entry(&1, &Fails);
            let _ = map.serialize_entry(&0, &0);
            map.end()
        };
    }

    #[test]
    fn equal_arguments_are_equal() {
        macro_rules! same {
            ($($one:expr, $other:expr;)*) => { $(assert_eq!(bytes(&$one), bytes(&$other));)* };
        }
        same! {
            5_i32, 5_u64;
            5_i8, 5_u128;
            500_i16, 500_i128;
            -5_i8, -5_i128;
            1.5_f32, 1.5_f64;
            0.0_f64, -0.0_f32;
            f64::NAN, -f32::from_bits(0x7fa0_0001);
            "a", &&"a".to_owned();
            "a-1", format_args!("a-{}", 1);
            (), Unit;
            7_u64, Id(7);
            (1, 2), vec![1, 2];
            Page { size: 9, at: None }, Moved { at: None, rest: Rest { size: 9 } };
            Multi(&[("b", 1), ("aa", 2)]), Multi(&[("aa", 2), ("b", 1)]);
        }
    }

    #[test]
    fn different_arguments_differ() {
        macro_rules! all {
            ($($value:expr),* $(,)?) => { [$(bytes(&$value)),*] };
        }
        let all = all! {
            (), None::<()>, Some(()), Some(None::<()>), Some(Some(())), false, true,
            0, 256, -1, u64::MAX, u128::from(u64::MAX) + 1, i64::MIN, i128::from(i64::MIN) - 1,
            0.0, f64::NAN, f64::INFINITY, 'a', "a", "", Raw(b"a"), [b'a'],
            ("ab", "c"), ("a", "bc"), ("abc",), (("ab",), "c"), [(); 0], [[(); 0]], [1, 2], [[1, 2]],
            Multi(&[]), Multi(&[("a", 1)]), Multi(&[("a", 1), ("a", 2)]), Multi(&[("a", 2), ("a", 1)]),
            Multi(&[("b", 0), ("a", 1), ("a", 2)]), Multi(&[("b", 0), ("a", 2), ("a", 1)]),
            "Unit", Kind::Unit, Kind::New(1), Kind::Tuple(1, 2), Kind::Struct { a: 1 },
            "x".repeat(254), "x".repeat(255), "x".repeat(256),
        };
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert!(!one.starts_with(other) && !other.starts_with(one), "{one:x?} {other:x?}");
            }
        }
    }

    #[test]
    fn bytes_that_shared_servers_hold() {
        fn hex(bytes: &[u8]) -> String {
            bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
        }
        macro_rules! golden {
            ($($value:expr => $hex:literal,)*) => {
                $(assert_eq!(hex(&bytes(&$value)), $hex, "{}", stringify!($value));)*
            };
        }
        golden! {
            () => "01",
            (1_u64, true) => "0f06010500",
            (-2, Some('ß')) => "0f09feffffffffffffff030cdf00000000",
            0x0102_0304_u32 => "070403020100000000",
            1_u128 << 64 => "0800000000000000000100000000000000",
            i128::MIN => "0a00000000000000000000000000000080",
            (1.5, f32::NAN) => "0f0b000000000000f83f0b000000000000f87f00",
            ("ab", "") => "0f0d0261620d0000",
            Raw(b"ab") => "0e026162",
            Page { size: 9, at: None } => "100d026174020d0473697a65060900",
            HashMap::from([(2, "b"), (1, "a")]) => "1006010d016106020d016200",
            (Kind::Unit, Kind::New(1)) => "0f1104556e697412034e6577060100",
            Kind::Tuple(1, 2) => "13055475706c650601060200",
            Kind::Struct { a: 1 } => "14065374727563740d0161060100",
            std::net::IpAddr::from([10, 0, 0, 1]) => "120256340f060a06000600060100",
        }
        assert_eq!(hex(&bytes(&"x".repeat(254))[..3]), "0dfe78");
        assert_eq!(hex(&bytes(&"x".repeat(255))[..11]), "0dffff0000000000000078");
    }

    #[test]
    fn maps_sort_whatever_the_hasher_and_the_size() {
        for size in [0, 1, 2, 9, 40, 400] {
            // Each has a hasher with a seed of its own.
            let map = || (0..size).map(|i| (i.to_string(), i)).collect::<HashMap<_, _>>();
            let ordered: BTreeMap<_, _> = map().into_iter().collect();
            assert_eq!(bytes(&(1, map(), "x")), bytes(&(1, map(), "x")));
            assert_eq!(bytes(&(1, map(), "x")), bytes(&(1, ordered, "x")));
        }
    }

    #[test]
    fn failures_are_passed_on_even_where_a_container_ignores_them() {
        fn fault<T: Serialize>(value: T) -> String {
            encode(&value, &mut Buf::new()).expect_err("it fails").to_string()
        }
        assert_eq!(fault((1, [Some(Fails)])), "its `Display` failed");
        assert_eq!(fault((1, SloppyList)), "a part of it failed to serialise");
        assert_eq!(fault((1, SloppyMap)), "a part of it failed to serialise");
    }

    #[derive(Debug, Clone, PartialEq, Serialize)]
    #[serde(untagged)]
    enum Arg {
        Unit(()),
        Int(i128),
        Text(String),
        Option(Option<Box<Arg>>),
        List(Vec<Arg>),
        Map(BTreeMap<String, Arg>),
    }

    fn args() -> impl Strategy<Value = Arg> {
        let leaf = prop_oneof![
            Just(Arg::Unit(())),
            (-2_i128..3).prop_map(Arg::Int),
            any::<i128>().prop_map(Arg::Int),
            "[a\\x00\\x0f]{0,3}".prop_map(Arg::Text),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::option::of(inner.clone().prop_map(Box::new)).prop_map(Arg::Option),
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Arg::List),
                proptest::collection::btree_map("[ab]{0,2}", inner, 0..3).prop_map(Arg::Map),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn encodings_are_equal_or_no_prefix_of_each_other(one in args(), other in args()) {
            let (a, b) = (bytes(&one), bytes(&other));
            prop_assert_eq!(one == other, a == b);
            prop_assert!(a == b || !(a.starts_with(&b) || b.starts_with(&a)));
        }
    }
}
