//! What must hold of any bytes in the store, whoever wrote them: for the tests below and for `fuzz/`.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{
    FLAG_NONE, FLAG_TAGS, FLAGS, FORMAT, Found, HEADER, Head, Kind, MAGIC, PREFIX, Prefix, Value, begin,
    finish, read, tagged,
};
use crate::codec::{self, Codec};

/// Reads the bytes as they are, as the rest of a record of each kind, and as the payload of a value.
///
/// # Panics
/// If anything that must hold doesn't.
pub fn hostile(bytes: &[u8]) {
    record(bytes);
    for kind in [Kind::Value, Kind::Lease, Kind::Fence, Kind::Put] {
        record(&[&MAGIC[..], &[FORMAT, kind as u8], bytes].concat());
    }
    let (whole, found) = value(bytes);
    let Found::Value(found) = found else { panic!("{found:?} is no value") };
    assert_eq!(found.payload, bytes);
    // One number from the bytes says where to cut and where to flip: it shrinks as they do.
    let salt = bytes.iter().fold(bytes.len(), |salt, byte| salt.wrapping_mul(31) + usize::from(*byte));
    record(&whole[..salt % whole.len()]);
    let mut flipped = whole.to_vec();
    flipped[salt / 8 % whole.len()] ^= 1 << (salt % 8);
    record(&flipped);
}

/// A value of this payload, and what it is read as.
fn value(payload: &[u8]) -> (Bytes, Found) {
    let mut prefix: Prefix = [7; PREFIX];
    prefix[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], FORMAT, Kind::Value as u8]);
    let mut record = begin(prefix, &Head::default());
    record.extend_from_slice(payload);
    let record = finish(record);
    (record.clone(), read(record))
}

/// Reads them as a record.
fn record(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let found = read(shared.clone());
    match found {
        Found::Value(value) => whole(&shared, &value),
        Found::Plain(ref rest) => {
            assert!(!bytes.starts_with(&MAGIC) || bytes.len() < PREFIX);
            assert_eq!(rest.as_ptr_range(), shared.as_ptr_range(), "a copy");
            payload(rest);
        }
        Found::Torn(prefix) | Found::Lease(prefix) | Found::Put(prefix) => {
            assert_eq!(prefix, bytes[..PREFIX]);
        }
        Found::Fence => assert_eq!(bytes[3], Kind::Fence as u8),
        Found::Newer => assert!(bytes[2] > FORMAT),
    }
}

/// A value's parts are those bytes, all of them, and nothing beyond.
fn whole(bytes: &Bytes, value: &Value) {
    assert_eq!(value.prefix, bytes[..PREFIX]);
    // Where it lies, so also: nothing was copied, whatever lengths the header claims.
    assert_eq!(value.payload.as_ptr_range().start, bytes[HEADER..].as_ptr());
    let tags: Vec<_> = value.tags.iter().collect();
    assert_eq!(tags.is_empty(), value.head.flags & FLAG_TAGS == 0);
    let mut again = begin(value.prefix, &value.head);
    again.extend_from_slice(&value.payload);
    // The claim isn't the writer's choice.
    again[PREFIX..PREFIX + 8].copy_from_slice(&bytes[PREFIX..PREFIX + 8]);
    let mut again = finish(again);
    if !tags.is_empty() {
        again = tagged(&again, tags.into_iter());
    }
    assert_eq!(again, bytes, "written again it is another");
    payload(&value.payload);
}

/// A type with a bit of everything.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Point(f64, i8),
    Named { text: String, rest: Option<Vec<Shape>> },
    Map(BTreeMap<u64, Option<()>>),
}

/// Decodes them as several types; what decodes is the same when it is written and decoded again.
fn payload(bytes: &[u8]) {
    // Those that this program has.
    for codec in (0..=u8::MAX).filter_map(Codec::of) {
        for is_none in [false, true] {
            same::<serde_json::Value>(codec, bytes, is_none);
            same::<Shape>(codec, bytes, is_none);
            same::<Vec<Shape>>(codec, bytes, is_none);
            same::<Option<Option<u8>>>(codec, bytes, is_none);
            same::<(u128, String, char)>(codec, bytes, is_none);
            same::<()>(codec, bytes, is_none);
        }
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(codec: Codec, bytes: &[u8], is_none: bool) {
    if let Ok(value) = codec.decode::<T>(bytes, is_none) {
        let mut written = Vec::new();
        codec.encode(&value, &mut written, usize::MAX).expect("what was read can be written");
        let again: T = codec.decode(&written, codec::is_none(&value)).expect("and read again");
        assert_eq!(again, value);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn heads() -> impl Strategy<Value = Head> {
        any::<(u8, u8, u32, u64, [u8; 16], u32, u64, u64)>().prop_map(
            |(flags, codec, version, fingerprint, identity, load_ms, life_ms, grace_ms)| Head {
                flags,
                codec,
                version,
                fingerprint,
                identity,
                load_ms,
                life_ms,
                grace_ms,
            },
        )
    }

    /// A valid record of a value with these tags.
    fn records() -> impl Strategy<Value = Vec<u8>> {
        let tags = vec((".{0,20}", any::<[u8; 16]>()), 0..4);
        (heads(), tags, vec(any::<u8>(), 0..300)).prop_map(|(mut head, tags, payload)| {
            head.flags &= !FLAG_TAGS;
            let mut record = begin(super::super::fresh(Kind::Value), &head);
            record.extend_from_slice(&payload);
            let record = finish(record);
            if tags.is_empty() {
                return record.to_vec();
            }
            let tags = tags.iter().map(|(text, version)| (text.as_str(), *version));
            tagged(&record, tags).to_vec()
        })
    }

    /// What MessagePack is made of: sequences, maps and texts, long and short, numbers, and some that lie.
    const MSGPACK: [&[u8]; 23] = [
        b"\x90",
        b"\x91",
        b"\x92",
        b"\x81",
        b"\x82",
        b"\xc0",
        b"\x07",
        b"\xa4Unit",
        b"\xa5Point",
        b"\xa3Map",
        b"\xa5Named",
        b"\xa4text",
        b"\xa4rest",
        b"\xcb\x7f\xf8\0\0\0\0\0\0",
        b"\xd1\x80\0",
        b"\xc4\x10",
        b"\xdd",
        b"\xdf\xff",
        b"\xd5\x05",
        b"\xc1",
        b"\xdb\0\0\0\x01a",
        b"\xcf",
        b"\xc4\x100123456789abcdef",
    ];

    fn is_value(bytes: &[u8]) -> bool {
        matches!(read(Bytes::copy_from_slice(bytes)), Found::Value(_))
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(record in records()) {
            prop_assert!(is_value(&record));
            super::record(&record);
        }

        #[test]
        fn no_truncation_is_a_value(record in records(), part in 0.0..1.0) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let cut = &record[..(record.len() as f64 * part) as usize];
            prop_assert!(!is_value(cut));
            super::record(cut);
        }

        #[test]
        fn what_follows_makes_no_value(record in records(), more in vec(any::<u8>(), 1..50)) {
            let longer = [record, more].concat();
            prop_assert!(!is_value(&longer));
            super::record(&longer);
        }

        #[test]
        fn a_flipped_bit_reaches_no_further(mut record in records(), at: prop::sample::Index, bit in 0..8_u32) {
            let at = at.index(record.len());
            record[at] ^= 1_u8 << bit;
            super::record(&record);
            // Flipped in the magic, the format, the kind, the length or what says that there are tags: no value.
            let is_of_tags = at == FLAGS && 1 << bit == FLAG_TAGS;
            if at < 4 || is_of_tags || (HEADER - 4..HEADER).contains(&at) {
                prop_assert!(!is_value(&record));
            }
        }

        #[test]
        fn a_length_that_lies_makes_no_value(mut record in records(), length: u32) {
            let truth = record[HEADER - 4..HEADER].to_vec();
            record[HEADER - 4..HEADER].copy_from_slice(&length.to_le_bytes());
            super::record(&record);
            // Tags and payload could share what is there in another way only if bytes of one read as the other.
            prop_assert_eq!(is_value(&record), truth == length.to_le_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
            hostile(&bytes);
        }

        /// Of signs that JSON is made of, so that more than the first of them is looked at.
        #[test]
        fn no_json_makes_it_panic(text in r#"([\[\]{},:"\\]|null|true|Unit|Map|"text"|-?[0-9.eE]{1,6}| ){0,40}"#) {
            hostile(text.as_bytes());
        }

        /// The same of MessagePack.
        #[test]
        fn no_msgpack_makes_it_panic(words in vec(prop::sample::select(&MSGPACK), 0..40)) {
            hostile(&words.concat());
        }
    }

    /// Types that hold themselves, and what is skipped, are read by recursion: it must have an end.
    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        #[derive(Debug, Deserialize)]
        struct Nest(#[expect(dead_code, reason = "it is only decoded")] Vec<Nest>);
        #[derive(Debug, Deserialize)]
        struct Skips {}
        for text in ["[", "{\"a\":", "[[{\"a\":[", "{\"Named\":{\"text\":\"\",\"rest\":["] {
            let deep = text.repeat(200_000).into_bytes();
            hostile(&deep);
            assert!(Codec::Json.decode::<Nest>(&deep, false).is_err());
            assert!(Codec::Json.decode::<Skips>(&[b"{\"a\":", &deep[..]].concat(), false).is_err());
        }
        // Closed, too.
        let closed = ["[".repeat(200_000), "]".repeat(200_000)].concat();
        assert!(Codec::Json.decode::<Nest>(closed.as_bytes(), false).is_err());
        assert!(Codec::Json.decode::<Nest>(b"[[[[]]]]", false).is_ok());
    }

    /// The hexdump of `docs/wire-format.md` is what this program would read.
    #[test]
    fn the_page_on_the_wire_format_shows_a_record() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire-format.md");
        let page = std::fs::read_to_string(page).unwrap();
        let lines = page.lines().filter_map(|line| line.strip_prefix("000000")?.split_once(": "));
        let hex: String = lines.map(|(_, line)| line.split("  ").next().unwrap().replace(' ', "")).collect();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Bytes = (0..hex.len()).step_by(2).map(byte).collect();
        let Found::Value(value) = read(bytes.clone()) else { panic!("it is no value") };
        super::record(&bytes);
        assert_eq!(value.payload, &br#"{"id":1,"name":"Ada"}"#[..]);
        let Head { flags, version, load_ms, life_ms, grace_ms, .. } = value.head;
        assert_eq!((flags, version, load_ms, life_ms, grace_ms), (0, 2, 12, 600_000, 0));
        assert_eq!((HEADER, bytes.len()), (82, 103), "the page says so");
    }

    /// `SEEDS=overwrite cargo test -p cache-runtime seeds` writes them anew when the layout has changed.
    #[test]
    fn the_seeds_of_the_fuzzer_are_what_they_are_called() {
        let head = Head { flags: FLAG_NONE, version: 7, fingerprint: 8, ..Head::default() };
        let record = |kind: Kind, head: &Head, payload: &[u8]| {
            let mut prefix: Prefix = [0x11; PREFIX];
            prefix[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], FORMAT, kind as u8]);
            let mut record = begin(prefix, head);
            record.extend_from_slice(payload);
            finish(record).to_vec()
        };
        let value = record(Kind::Value, &Head::default(), br#"{"Named":{"text":"a","rest":["Unit"]}}"#);
        let tagged = tagged(&value, [("user:1", [0x22; 16]), ("users", [0x33; 16])].into_iter()).to_vec();
        let head_of_msgpack = Head { codec: 1, ..Head::default() };
        let msgpack = b"\x81\xa5Named\x82\xa4text\xa1a\xa4rest\x91\xa4Unit";
        let mut newer = value.clone();
        newer[2] = FORMAT + 1;
        let seeds = [
            ("value", value.clone()),
            ("value_msgpack", record(Kind::Value, &head_of_msgpack, msgpack)),
            ("value_tagged", tagged),
            ("value_none", record(Kind::Value, &head, b"null")),
            ("lease", record(Kind::Lease, &head, b"")[..PREFIX].to_vec()),
            ("fence", record(Kind::Fence, &head, b"")[..PREFIX].to_vec()),
            ("put", record(Kind::Put, &head, b"")[..PREFIX].to_vec()),
            ("torn", value[..HEADER + 3].to_vec()),
            ("newer", newer),
            ("plain", br#"[{"Map":{"1":null}},{"Point":[-1.5e3,3]},"Unit"]"#.to_vec()),
        ];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/record");
        for (name, bytes) in seeds {
            let found = format!("{:?}", read(Bytes::copy_from_slice(&bytes))).to_lowercase();
            let kind = name.split('_').next().unwrap();
            assert!(found.starts_with(kind), "{name} is {found}");
            if std::env::var_os("SEEDS").is_some() {
                std::fs::write(folder.join(name), &bytes).unwrap();
            }
            let there = std::fs::read(folder.join(name)).unwrap_or_default();
            assert_eq!(there, bytes, "the seed `{name}` is of another layout: run this with SEEDS=overwrite");
            super::record(&bytes);
        }
    }
}
