//! The tags that stand behind a payload.

use bytes::Bytes;

use super::{FLAG_TAGS, FLAGS, Reader};

/// What a tag was when the load began. Drawn at random, so what is gone never comes back.
pub(crate) type Version = [u8; 16];

/// The tags of a value, and what they were when its load began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tags(pub(super) Bytes);

impl Tags {
    /// Nothing: these bytes aren't tags.
    pub(super) fn read(bytes: Bytes) -> Option<Self> {
        let mut rest = Reader(&bytes);
        let count = u16::from_le_bytes(rest.take()?);
        for _ in 0..count {
            rest.tag()?;
        }
        (count > 0 && rest.0.is_empty()).then_some(Self(bytes))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Version)> {
        let mut rest = Reader(self.0.get(2..).unwrap_or_default());
        std::iter::from_fn(move || rest.tag())
    }
}

/// The same record with tags.
pub(crate) fn tagged<'a>(record: &[u8], tags: impl ExactSizeIterator<Item = (&'a str, Version)>) -> Bytes {
    let count = u16::try_from(tags.len()).expect("the tags stand in the source of a program");
    let mut out = Vec::with_capacity(record.len() + 2 + tags.len() * 64);
    out.extend_from_slice(record);
    out[FLAGS] |= FLAG_TAGS;
    out.extend_from_slice(&count.to_le_bytes());
    for (text, version) in tags {
        let length = u16::try_from(text.len()).expect("a tag is part of a key, and those are shorter");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(&version);
    }
    Bytes::from(out.into_boxed_slice())
}

impl<'a> Reader<'a> {
    fn tag(&mut self) -> Option<(&'a str, Version)> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some((str::from_utf8(text).ok()?, self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hex, sample};
    use super::super::{Found, HEADER, Kind, fresh, has_tags, read, token};
    use super::*;

    #[test]
    fn tags_stand_behind_a_record_that_is_else_the_same() {
        let plain = sample();
        let tags = [("user:1", [0x22; 16]), ("", [0x33; 16])];
        let whole = tagged(&plain, tags.into_iter());
        let Found::Value(value) = read(whole.clone()) else { panic!("not a value") };
        assert_eq!(&value.payload[..], br#"{"a":1}"#);
        assert!(value.tags.iter().eq(tags));
        assert!(has_tags(&whole[..HEADER]) && !has_tags(&plain) && !has_tags(&token(fresh(Kind::Lease))));
        assert_eq!(whole[FLAGS], plain[FLAGS] | FLAG_TAGS);
        assert_eq!(whole[..FLAGS], plain[..FLAGS]);
        assert_eq!(whole[FLAGS + 1..plain.len()], plain[FLAGS + 1..]);
        let golden = ["0200", "0600", "757365723a31", &"22".repeat(16), "0000", &"33".repeat(16)].concat();
        assert_eq!(hex(&whole[plain.len()..]), golden);
        // What an older program makes of it: without the flag it is longer than it says.
        let mut unknown = whole.to_vec();
        unknown[FLAGS] = plain[FLAGS];
        assert!(matches!(read(unknown.into()), Found::Torn(_)));
        for end in 0..whole.len() {
            assert!(!matches!(read(whole.slice(..end)), Found::Value(_)), "cut at {end}");
        }
    }
}
