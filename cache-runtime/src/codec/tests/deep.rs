//! Types that hold themselves, and what is skipped, are read by recursion: it must have an end.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
struct Nest(#[expect(dead_code, reason = "it is only decoded")] Vec<Nest>);

#[derive(Debug, Serialize, Deserialize)]
enum Chain {
    Not(Box<Chain>),
    And(Box<Chain>, u8),
    Of { it: Box<Chain> },
    End,
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

fn too_deep<V: DeserializeOwned>(payload: &[u8]) {
    assert_eq!(text_of::<V>(Codec::Msgpack, payload), "msgpack: nested too deeply");
}

/// Around the deepest end that is read.
fn around(begin: &[u8], end: &[u8], levels: usize) -> Vec<u8> {
    [begin.repeat(levels), end.to_vec()].concat()
}

const MANY: usize = 200_000;

#[test]
fn sequences_and_maps() {
    for codec in BOTH {
        let nested = |levels: usize| match codec {
            Codec::Json => ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes(),
            Codec::Msgpack => around(&[0x91], &[0x90], levels - 1),
        };
        assert!(codec.decode::<Nest>(&nested(127), false).is_ok());
        text_of::<Nest>(codec, &nested(128));
        text_of::<Nest>(codec, &nested(MANY));
    }
    too_deep::<Nest>(&[0x91].repeat(MANY));
    too_deep::<List>(&around(b"\x81\xa4next", &[0xc0], MANY));
    let long = (0..100).fold(List { next: None }, |next, _| List { next: Some(Box::new(next)) });
    for codec in BOTH {
        round(codec, &long);
    }
}

#[test]
fn what_is_skipped() {
    #[derive(Debug, Deserialize)]
    struct Skips {}
    for begin in [&b"\x91"[..], b"\x81\xa1a", b"\x81\x91", b"\x92\x01"] {
        let deep = around(begin, &[0xc0], MANY);
        too_deep::<Skips>(&[b"\x81\xa1a", &deep[..]].concat());
        too_deep::<serde::de::IgnoredAny>(&deep);
        too_deep::<serde_json::Value>(&around(b"\x81\xa1a", &[0xc0], MANY));
    }
}

#[test]
fn variants() {
    let ends = b"\xa3End";
    for begin in [&b"\x81\xa3Not"[..], b"\x81\xa2Of\x81\xa2it", b"\x81\xa3And\x92"] {
        too_deep::<Chain>(&around(begin, ends, MANY));
    }
    let chain = |levels| (0..levels).fold(Chain::End, |chain, _| Chain::Not(Box::new(chain)));
    for codec in BOTH {
        round(codec, &chain(100));
        text_of::<Chain>(codec, &encoded(codec, &chain(200)));
    }
    // No variant is a list: its value would stand behind that, and what looks shallow wouldn't be.
    for codec in BOTH {
        let lists = encoded(codec, &vec![["Not"]; MANY]);
        text_of::<Chain>(codec, &lists);
        text_of::<Vec<Chain>>(codec, &lists);
    }
}

#[test]
fn tagged_and_untagged() {
    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A {
            #[expect(dead_code, reason = "it is only decoded")]
            it: Box<Tagged>,
        },
    }
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Open {
        A(#[expect(dead_code, reason = "it is only decoded")] Vec<Open>),
    }
    too_deep::<Tagged>(&around(b"\x82\xa4kind\xa1A\xa2it", &[0xc0], MANY));
    too_deep::<Open>(&[0x91].repeat(MANY));
}
