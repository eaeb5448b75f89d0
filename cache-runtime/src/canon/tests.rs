use std::collections::{BTreeMap, HashMap};
use std::fmt;

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
