//! Each codec gives back what it was given, whatever serde makes of the type.

mod deep;
mod shapes;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use self::shapes::{Id, Leaf, Nothing, Outside, Whole, wholes};
use super::*;

const BOTH: [Codec; 2] = [Codec::Json, Codec::Msgpack];

fn encoded<V: Serialize + ?Sized>(codec: Codec, value: &V) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(value, &mut out, 8 << 20).unwrap_or_else(|error| panic!("{codec:?}: {error:?}"));
    out
}

fn round<V: Serialize + DeserializeOwned>(codec: Codec, value: &V) -> V {
    let payload = encoded(codec, value);
    let back = codec.decode(&payload, is_none(value));
    back.unwrap_or_else(|error| panic!("{codec:?}: {error}: {}", payload.escape_ascii()))
}

fn same<V: Serialize + DeserializeOwned + PartialEq + Debug>(value: &V) {
    for codec in BOTH {
        assert_eq!(&round(codec, value), value, "{codec:?}");
    }
}

fn text_of<V: DeserializeOwned>(codec: Codec, payload: &[u8]) -> String {
    match codec.decode::<V>(payload, false) {
        Err(CacheError::Decode(text)) => text,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("{codec:?} decodes {}", payload.escape_ascii()),
    }
}

#[test]
fn none_unit_and_nested_options_come_back_as_they_were() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[allow(clippy::option_option)] // the very thing
    struct Wrapped(Option<Option<u8>>);
    same(&None::<u8>);
    same(&Some(3));
    same(&Some(()));
    same(&None::<()>);
    same(&Some(None::<u8>));
    same(&Some(Some(1)));
    same(&());
    same(&None::<Option<()>>);
    same(&Some(None::<()>));
    same(&None::<Vec<u8>>);
    same(&Some(Vec::<u8>::new()));
    same(&Wrapped(None));
    same(&Wrapped(Some(None)));
    same(&Wrapped(Some(Some(1))));
    same(&Some(Wrapped(None)));
    same(&Some(Nothing));
    same(&None::<Nothing>);
}

#[test]
fn what_deep_inside_is_as_a_none_comes_back_as_one() {
    for codec in BOTH {
        assert_eq!(round(codec, &vec![Some(None::<u8>), None, Some(Some(1))]), [None, None, Some(Some(1))]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_shape_comes_back(whole in wholes()) {
        same(&whole);
        same(&Some(whole.clone()));
        same(&vec![whole.clone(), whole]);
    }

    #[test]
    fn a_number_is_read_as_a_wider_one(number: u32) {
        for codec in BOTH {
            prop_assert_eq!(codec.decode::<u64>(&encoded(codec, &number), false).unwrap(), u64::from(number));
            prop_assert_eq!(codec.decode::<i64>(&encoded(codec, &number), false).unwrap(), i64::from(number));
        }
    }

    #[test]
    fn a_truncated_payload_is_an_error(whole in wholes(), part in 0.0..1.0) {
        for codec in BOTH {
            let payload = encoded(codec, &whole);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let cut = &payload[..(payload.len() as f64 * part) as usize];
            text_of::<Whole>(codec, cut);
            text_of::<serde::de::IgnoredAny>(codec, cut);
        }
    }

    #[test]
    fn what_follows_a_payload_is_an_error(whole in wholes(), more in vec(any::<u8>(), 1..20)) {
        for codec in BOTH {
            let longer = [encoded(codec, &whole), more.clone()].concat();
            if codec != Codec::Json || !more.iter().all(u8::is_ascii_whitespace) {
                text_of::<Whole>(codec, &longer);
            }
        }
    }
}

/// Old and new programs, both ways round.
#[test]
fn types_grow_and_shrink() {
    #[derive(Serialize, Deserialize)]
    struct Old {
        id: u64,
        gone: Vec<String>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        #[serde(default)]
        count: u8,
        note: Option<String>,
        id: u64,
        #[serde(skip)]
        local: u8,
    }
    #[derive(Deserialize)]
    struct Least {
        id: u64,
    }
    #[derive(Deserialize)]
    struct Strict {
        #[expect(dead_code, reason = "it isn't there")]
        note: String,
    }
    #[derive(Serialize, Deserialize)]
    enum Event {
        Made { id: u64, by: String },
    }
    #[derive(Deserialize)]
    enum Grown {
        Made {
            id: u64,
            #[serde(default)]
            at: u64,
        },
        Gone,
    }
    for codec in BOTH {
        let old = encoded(codec, &Old { id: 7, gone: vec!["a".into(), "b".into()] });
        let new = codec.decode::<New>(&old, false).unwrap();
        assert_eq!(new, New { count: 0, note: None, id: 7, local: 0 });
        let newer = encoded(codec, &New { count: 1, note: Some("n".into()), id: 8, local: 9 });
        assert_eq!(codec.decode::<Least>(&newer, false).unwrap().id, 8);
        text_of::<Strict>(codec, &old);
        text_of::<Old>(codec, &newer);
        let made = encoded(codec, &Event::Made { id: 1, by: "x".into() });
        let Grown::Made { id, at } = codec.decode(&made, false).unwrap() else { panic!("another variant") };
        assert_eq!((id, at), (1, 0));
    }
}

#[test]
fn floats_come_back_bit_by_bit() {
    let mut bits = 0x3ff0_0000_0000_0001_u64;
    for _ in 0..20_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let float = f64::from_bits(bits);
        if float.is_finite() {
            assert_eq!(round(Codec::Json, &float).to_bits(), bits);
        }
        assert_eq!(round(Codec::Msgpack, &float).to_bits(), bits);
    }
}

#[test]
fn what_json_can_not_write_msgpack_can() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        // It doesn't come back as another.
        text_of::<f64>(Codec::Json, &encoded(Codec::Json, &float));
        assert_eq!(round(Codec::Msgpack, &float).to_bits(), float.to_bits());
        #[allow(clippy::cast_possible_truncation)]
        let float = float as f32;
        assert_eq!(round(Codec::Msgpack, &vec![Some(float)])[0].unwrap().to_bits(), float.to_bits());
    }
    let map = HashMap::from([((1_u8, "a".to_owned()), Id(1)), ((2, String::new()), Id(2))]);
    let error = Codec::Json.encode(&map, &mut Vec::new(), 100).unwrap_err();
    assert!(matches!(error, CacheError::Serialize(_)), "{error:?}");
    assert_eq!(round(Codec::Msgpack, &map), map);
}

#[test]
fn too_much_is_refused_before_it_takes_the_memory() {
    for codec in BOTH {
        for value in [vec!["x".repeat(1000)], vec!["xx".to_owned(); 1000]] {
            let mut out = Vec::new();
            let error = codec.encode(&value, &mut out, 100).unwrap_err();
            assert!(matches!(error, CacheError::ValueTooLarge { max: 100 }), "{codec:?}: {error:?}");
            assert!(out.len() <= 100);
        }
        let mut out = Vec::new();
        codec.encode(&[0_u8; 0], &mut out, 2).unwrap();
        assert!(matches!(codec.encode(&"ab", &mut out, 2), Err(CacheError::ValueTooLarge { .. })));
    }
}

#[test]
fn a_value_that_refuses_says_why() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    for codec in BOTH {
        let CacheError::Serialize(cause) = codec.encode(&Refuses, &mut Vec::new(), 100).unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(cause.to_string(), "not today");
    }
}

#[test]
fn an_error_says_nothing_of_the_value() {
    for codec in BOTH {
        let secret = encoded(codec, &BTreeMap::from([("password", "hunter2")]));
        for text in [
            text_of::<u8>(codec, &secret),
            text_of::<BTreeMap<String, u8>>(codec, &secret),
            text_of::<Outside>(codec, &secret),
            text_of::<Vec<Id>>(codec, &secret[..secret.len() - 1]),
            text_of::<bool>(codec, &encoded(codec, "hunter2")),
        ] {
            assert!(!text.contains("hunter2") && !text.contains("password"), "{text}");
        }
    }
    let texts = [
        text_of::<u8>(Codec::Msgpack, &[]),
        text_of::<String>(Codec::Msgpack, &[0xa2, b'a']),
        text_of::<String>(Codec::Msgpack, &[0xa1, 0xff]),
        text_of::<String>(Codec::Msgpack, &[1]),
        text_of::<u8>(Codec::Msgpack, &[1, 2]),
    ];
    assert_eq!(
        texts,
        [
            "msgpack: it ends too early",
            "msgpack: it ends too early",
            "msgpack: a text that is no text",
            "msgpack: another type",
            "msgpack: more than one value",
        ]
    );
}

#[test]
fn names_of_fields_and_variants_are_in_it() {
    let payload = encoded(
        Codec::Msgpack,
        &Outside::Struct { leaf: Leaf { id: 1, name: String::new(), nick: None, blob: vec![9] }, rest: None },
    );
    assert_eq!(
        payload.escape_ascii().to_string(),
        r"\x81\xa6Struct\x82\xa4leaf\x83\xa2id\x01\xa4name\xa0\xa4blob\xc4\x01\t\xa4rest\xc0",
    );
}

/// A length is believed as far as there are bytes.
#[test]
fn lengths_that_lie_are_errors() {
    for head in [0xc6, 0xdb, 0xdd, 0xdf, 0xc9] {
        let lie = [head, 0xff, 0xff, 0xff, 0xff, 0x01, 0x01];
        text_of::<Vec<u64>>(Codec::Msgpack, &lie);
        text_of::<BTreeMap<u8, u8>>(Codec::Msgpack, &lie);
        text_of::<HashMap<u8, u64>>(Codec::Msgpack, &lie);
        text_of::<String>(Codec::Msgpack, &lie);
        text_of::<serde::de::IgnoredAny>(Codec::Msgpack, &lie);
        text_of::<serde_json::Value>(Codec::Msgpack, &lie);
    }
}

/// Memory is taken for as many elements at most as there are bytes, for serde takes it before it has one.
#[test]
fn a_length_is_believed_as_far_as_there_are_bytes() {
    #[derive(Debug, PartialEq)]
    struct Hint(Option<usize>);
    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Ask)
        }
    }
    struct Ask;
    impl<'de> Visitor<'de> for Ask {
        type Value = Hint;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("something with a length")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Hint, A::Error> {
            let hint = elements.size_hint();
            while elements.next_element::<u8>().is_ok_and(|there| there.is_some()) {}
            HINT.set(hint);
            Ok(Hint(hint))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Hint, A::Error> {
            let hint = entries.size_hint();
            while entries.next_entry::<u8, u8>().is_ok_and(|there| there.is_some()) {}
            HINT.set(hint);
            Ok(Hint(hint))
        }
    }
    thread_local! {
        static HINT: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
    }
    assert_eq!(Codec::Msgpack.decode::<Hint>(&[0x93, 1, 2, 3], false).unwrap(), Hint(Some(3)));
    assert_eq!(Codec::Msgpack.decode::<Hint>(&[0x81, 1, 2], false).unwrap(), Hint(Some(1)));
    for head in [0xdd, 0xdf] {
        text_of::<Hint>(Codec::Msgpack, &[head, 0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert_eq!(HINT.take(), Some(7));
    }
}
