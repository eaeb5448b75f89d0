//! A type with what serde can make of types, and values of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The four kinds of variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Outside {
    Unit,
    Newtype(Leaf),
    Tuple(u8, String),
    Struct { leaf: Leaf, rest: Option<Box<Outside>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub(super) enum Inside {
    Unit,
    Newtype(Leaf),
    Struct { leaf: Leaf, ip: IpAddr },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
pub(super) enum Beside {
    Unit,
    Newtype(Leaf),
    Tuple(u8, IpAddr),
    Struct { leaf: Leaf },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Untagged {
    Number(i64),
    Ip(IpAddr),
    Text(String),
    Struct { leaf: Leaf },
    Tuple(u8, String),
    Unit,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Leaf {
    pub(super) id: u64,
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) nick: Option<String>,
    #[serde(with = "as_bytes")]
    pub(super) blob: Vec<u8>,
}

/// What `serde_bytes` does.
mod as_bytes {
    use std::fmt;

    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Vec<u8>, A::Error> {
                let mut all = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    all.push(byte);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Nothing;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Id(pub(super) u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Whole {
    small: (i8, u8, i16, u16, i32, u32, bool),
    large: (i64, u64, i128, u128),
    floats: (f32, f64),
    char: char,
    text: String,
    numbers: Vec<u8>,
    array: [i16; 3],
    option: Option<i32>,
    unit: (),
    nothing: Nothing,
    number: Id,
    by_text: BTreeMap<String, Option<u8>>,
    by_number: BTreeMap<i64, char>,
    outside: Vec<Outside>,
    inside: Vec<Inside>,
    beside: Vec<Beside>,
    untagged: Vec<Untagged>,
    shared: Arc<str>,
    time: Duration,
    #[serde(flatten)]
    leaf: Leaf,
    #[serde(flatten)]
    more: BTreeMap<String, Untagged>,
}

fn ips() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>()
}

fn leaves() -> impl Strategy<Value = Leaf> {
    (any::<u64>(), ".{0,40}", option::of(".{0,5}"), vec(any::<u8>(), 0..40))
        .prop_map(|(id, name, nick, blob)| Leaf { id, name, nick, blob })
}

fn outsides() -> impl Strategy<Value = Outside> {
    let shallow = prop_oneof![
        Just(Outside::Unit),
        leaves().prop_map(Outside::Newtype),
        (any::<u8>(), ".{0,5}").prop_map(|(number, text)| Outside::Tuple(number, text)),
    ];
    shallow.prop_recursive(4, 8, 1, |inner| {
        (leaves(), option::of(inner.prop_map(Box::new)))
            .prop_map(|(leaf, rest)| Outside::Struct { leaf, rest })
    })
}

fn insides() -> impl Strategy<Value = Inside> {
    prop_oneof![
        Just(Inside::Unit),
        leaves().prop_map(Inside::Newtype),
        (leaves(), ips()).prop_map(|(leaf, ip)| Inside::Struct { leaf, ip }),
    ]
}

fn besides() -> impl Strategy<Value = Beside> {
    prop_oneof![
        Just(Beside::Unit),
        leaves().prop_map(Beside::Newtype),
        (any::<u8>(), ips()).prop_map(|(number, ip)| Beside::Tuple(number, ip)),
        leaves().prop_map(|leaf| Beside::Struct { leaf }),
    ]
}

fn untagged() -> impl Strategy<Value = Untagged> {
    prop_oneof![
        any::<i64>().prop_map(Untagged::Number),
        ips().prop_map(Untagged::Ip),
        // No address.
        "[x-z]{0,40}".prop_map(Untagged::Text),
        leaves().prop_map(|leaf| Untagged::Struct { leaf }),
        (any::<u8>(), ".{0,5}").prop_map(|(number, text)| Untagged::Tuple(number, text)),
        Just(Untagged::Unit),
    ]
}

pub(super) fn wholes() -> impl Strategy<Value = Whole> {
    let finite = (any::<f32>(), any::<f64>());
    let numbers = (any::<(i8, u8, i16, u16, i32, u32, bool)>(), any::<(i64, u64, i128, u128)>(), finite);
    let texts = (any::<char>(), ".{0,300}", vec(any::<u8>(), 0..40), any::<[i16; 3]>(), any::<Option<i32>>());
    let maps = (
        btree_map(".{0,5}", any::<Option<u8>>(), 0..20),
        btree_map(any::<i64>(), any::<char>(), 0..4),
        btree_map("[A-Z]{1,5}", untagged(), 0..4),
    );
    let enums =
        (vec(outsides(), 0..3), vec(insides(), 0..3), vec(besides(), 0..3), vec(untagged(), 0..3), leaves());
    let others = (any::<u64>(), any::<Duration>());
    (numbers, texts, maps, enums, others).prop_map(|(numbers, texts, maps, enums, others)| {
        let (small, large, floats) = numbers;
        let (char, text, numbers, array, option) = texts;
        let (by_text, by_number, more) = maps;
        let (outside, inside, beside, untagged, leaf) = enums;
        let (number, time) = others;
        Whole {
            nothing: Nothing,
            number: Id(number),
            shared: text.as_str().into(),
            unit: (),
            small,
            large,
            floats,
            char,
            text,
            numbers,
            array,
            option,
            by_text,
            by_number,
            outside,
            inside,
            beside,
            untagged,
            time,
            leaf,
            more,
        }
    })
}
