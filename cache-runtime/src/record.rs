//! The record: what one entry looks like in the store.
//!
//! ```text
//! magic 2 | format 1 | kind 1 | id 16          the prefix: all that compare-and-set compares
//! claim 8                                      how much of the life is left when a claim ends, ms (0: none);
//!                                              the top bit: the claim rests, after a load that failed
//! flags 1 | codec 1 | version 4 | type 8 | identity 16 | load 4 | life 8 | grace 8 | length 4
//! payload
//! count 2 | count x (length 2 | text | version 16)       tags, if a flag says that there are some
//! ```
//!
//! Times are milliseconds. `life` is how long the value is fresh (0: for ever), `grace` for how much
//! longer it is kept; the key expires after both. Numbers are little-endian. The id is new for every load: a token used twice within a process
//! would let an old load fill. The first byte is above 0x7f, so no JSON text looks like a record.
//!
//! An unknown codec makes a value that can't be used, not a torn one: its version still counts.
//!
//! To a program that doesn't know of tags a record that has some is longer than it says, so it is torn:
//! never a hit, and replaced as what is dead.

use std::time::Duration;

use bytes::Bytes;

#[cfg(any(test, fuzzing))]
pub(crate) mod check;
mod tags;

pub(crate) use self::tags::{Tags, Version, tagged};

/// The part of a record that compare-and-set compares.
pub(crate) type Prefix = [u8; PREFIX];

/// Length of the prefix.
pub(crate) const PREFIX: usize = 20;

const MAGIC: [u8; 2] = [0xCA, 0x5E];
const FORMAT: u8 = 1;
/// Length of a value's header, without tags.
pub(crate) const HEADER: usize = PREFIX + 8 + 1 + 1 + 4 + 8 + 16 + 4 + 8 + 8 + 4;
const FLAGS: usize = PREFIX + 8;
const GRACE: usize = HEADER - 12;

/// What kind of record stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Value = 1,
    Lease = 2,
    Fence = 3,
    Put = 4,
}

/// The value is a `None`.
pub(crate) const FLAG_NONE: u8 = 1;
/// Behind the payload stand tags.
const FLAG_TAGS: u8 = 2;

/// Everything in a value's header that its writer chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) flags: u8,
    /// How the payload is encoded (`Codec`); a newer program may know more ways than this one.
    pub(crate) codec: u8,
    pub(crate) version: u32,
    pub(crate) fingerprint: u64,
    pub(crate) identity: [u8; 16],
    pub(crate) load_ms: u32,
    pub(crate) life_ms: u64,
    pub(crate) grace_ms: u64,
}

impl Head {
    /// Whether the value is a `None`.
    pub(crate) fn is_none(&self) -> bool {
        self.flags & FLAG_NONE != 0
    }
}

/// Who is at work on a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nobody, or nobody any more.
    None,
    /// Somebody loads a newer one.
    Held,
    /// A load failed a moment ago: the next one waits a little.
    Resting,
}

/// The bit of the claim that says so.
const RESTING: u64 = 1 << 63;

/// A value found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) prefix: Prefix,
    claim: u64,
    pub(crate) head: Head,
    pub(crate) payload: Bytes,
    pub(crate) tags: Tags,
}

impl Value {
    /// Who is at work on it while so much of the key's life is left. A claim that would hold for longer
    /// than any is meant to is none: somebody gave the key a longer life.
    pub(crate) fn claim(&self, left: Duration, longest: Duration) -> Claim {
        let until = Duration::from_millis(self.claim & !RESTING);
        match self.claim {
            0 => Claim::None,
            _ if left <= until || left.saturating_sub(until) > longest => Claim::None,
            claim if claim & RESTING == 0 => Claim::Held,
            _ => Claim::Resting,
        }
    }

    /// How much longer it is kept than it is fresh.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.head.grace_ms)
    }
}

/// What bytes in the store are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Value(Value),
    Lease(Prefix),
    Fence,
    Put(Prefix),
    /// Starts like a record of ours, but is cut, of another format, or contradicts itself.
    Torn(Prefix),
    /// Of a format that a newer program writes.
    Newer,
    /// No record of ours: plain JSON, or somebody else's.
    Plain(Bytes),
}

/// A prefix of this kind with an id that nobody used before.
pub(crate) fn fresh(kind: Kind) -> Prefix {
    let mut prefix = [0; PREFIX];
    prefix[..2].copy_from_slice(&MAGIC);
    prefix[2] = FORMAT;
    prefix[3] = kind as u8;
    prefix[4..].copy_from_slice(&fastrand::u128(..).to_le_bytes());
    prefix
}

/// The start of a value's record: a buffer that the payload is written behind. `finish` sets its length.
pub(crate) fn begin(prefix: Prefix, head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + 180);
    out.extend_from_slice(&prefix);
    out.extend_from_slice(&0u64.to_le_bytes());
    out.push(head.flags);
    out.push(head.codec);
    out.extend_from_slice(&head.version.to_le_bytes());
    out.extend_from_slice(&head.fingerprint.to_le_bytes());
    out.extend_from_slice(&head.identity);
    out.extend_from_slice(&head.load_ms.to_le_bytes());
    out.extend_from_slice(&head.life_ms.to_le_bytes());
    out.extend_from_slice(&head.grace_ms.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out
}

/// Ends a record that `begin` began: what stands behind the header is the payload.
pub(crate) fn finish(mut record: Vec<u8>) -> Bytes {
    let length = u32::try_from(record.len() - HEADER).expect("the encoder bounds payloads below 4 GiB");
    record[HEADER - 4..HEADER].copy_from_slice(&length.to_le_bytes());
    // Boxed: the embedded store keeps it, and counts its length.
    Bytes::from(record.into_boxed_slice())
}

/// The same value under an id that nobody used before, and claimed by nobody.
pub(crate) fn renewed(record: &[u8]) -> Bytes {
    let mut out = record.to_vec();
    let head = claimed(fresh(Kind::Value), Claim::None, Duration::ZERO);
    if let Some(old) = out.get_mut(..head.len()) {
        old.copy_from_slice(&head);
    }
    Bytes::from(out.into_boxed_slice())
}

/// A lease, fence or put token: a bare prefix.
pub(crate) fn token(prefix: Prefix) -> Bytes {
    Bytes::copy_from_slice(&prefix)
}

/// The head that says who is at work on a value, until so much of the key's life is left.
pub(crate) fn claimed(prefix: Prefix, claim: Claim, until_left: Duration) -> Bytes {
    // Nothing left is no claim at all, so one that holds to the end ends a millisecond earlier.
    let until = u64::try_from(until_left.as_millis()).unwrap_or(u64::MAX).clamp(1, !RESTING);
    let claim = match claim {
        Claim::None => 0,
        Claim::Held => until,
        Claim::Resting => until | RESTING,
    };
    let mut head = Vec::with_capacity(PREFIX + 8);
    head.extend_from_slice(&prefix);
    head.extend_from_slice(&claim.to_le_bytes());
    Bytes::from(head)
}

/// The lease that a claim of this prefix becomes when its value is about to end: of the same load.
pub(crate) fn lease_of(mut claim: Prefix) -> Prefix {
    claim[3] = Kind::Lease as u8;
    claim
}

/// Whether this is a put's token.
pub(crate) fn is_put(prefix: &Prefix) -> bool {
    prefix[3] == Kind::Put as u8
}

/// How much longer than it is fresh the value is kept whose first bytes these are.
pub(crate) fn grace(bytes: &[u8]) -> Duration {
    let grace = bytes.get(GRACE..).and_then(|rest| rest.first_chunk()).filter(|_| begins_value(bytes));
    Duration::from_millis(grace.map_or(0, |grace| u64::from_le_bytes(*grace)))
}

/// Whether the value whose first bytes these are has tags.
pub(crate) fn has_tags(bytes: &[u8]) -> bool {
    begins_value(bytes) && bytes.get(FLAGS).is_some_and(|flags| flags & FLAG_TAGS != 0)
}

fn begins_value(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) && bytes.get(2..4) == Some(&[FORMAT, Kind::Value as u8])
}

/// Whether these bytes begin as a record of ours, of whatever kind; plain JSON doesn't.
pub(crate) fn is_record(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Whether these bytes begin as a record of ours that holds a value.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    !bytes.starts_with(&MAGIC) || bytes.get(3) == Some(&(Kind::Value as u8))
}

/// Says what these bytes are. Never panics, whatever they are, and never copies the payload.
pub(crate) fn read(bytes: Bytes) -> Found {
    if !bytes.starts_with(&MAGIC) {
        return Found::Plain(bytes);
    }
    let Some(prefix) = bytes.first_chunk::<PREFIX>().copied() else {
        return Found::Plain(bytes);
    };
    if prefix[2] != FORMAT {
        return if prefix[2] > FORMAT { Found::Newer } else { Found::Torn(prefix) };
    }
    match prefix[3] {
        k if k == Kind::Value as u8 => value(prefix, &bytes).map_or(Found::Torn(prefix), Found::Value),
        k if k == Kind::Lease as u8 => Found::Lease(prefix),
        k if k == Kind::Fence as u8 => Found::Fence,
        k if k == Kind::Put as u8 => Found::Put(prefix),
        _ => Found::Torn(prefix),
    }
}

fn value(prefix: Prefix, bytes: &Bytes) -> Option<Value> {
    let mut rest = Reader(bytes.get(PREFIX..)?);
    let claim = u64::from_le_bytes(rest.take()?);
    let [flags, codec] = rest.take::<2>()?;
    let head = Head {
        flags,
        codec,
        version: u32::from_le_bytes(rest.take()?),
        fingerprint: u64::from_le_bytes(rest.take()?),
        identity: rest.take()?,
        load_ms: u32::from_le_bytes(rest.take()?),
        life_ms: u64::from_le_bytes(rest.take()?),
        grace_ms: u64::from_le_bytes(rest.take()?),
    };
    let length = usize::try_from(u32::from_le_bytes(rest.take()?)).ok()?;
    let end = HEADER.checked_add(length).filter(|end| *end <= bytes.len())?;
    let tags = bytes.slice(end..);
    // What doesn't agree with what is there was cut on the way, or written by somebody else.
    let tags = match flags & FLAG_TAGS {
        0 => tags.is_empty().then_some(Tags(tags)),
        _ => Tags::read(tags),
    };
    Some(Value { prefix, claim, head, payload: bytes.slice(HEADER..end), tags: tags? })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            flags: FLAG_NONE,
            codec: 0,
            version: 7,
            fingerprint: 8,
            identity: [9; 16],
            load_ms: 10,
            life_ms: 12,
            grace_ms: 11,
        }
    }

    pub(super) fn sample() -> Bytes {
        let mut record = begin(fresh(Kind::Value), &head());
        record.extend_from_slice(br#"{"a":1}"#);
        finish(record)
    }

    #[test]
    fn a_value_reads_back() {
        let Found::Value(value) = read(sample()) else { panic!("not a value") };
        assert_eq!(value.head, head());
        assert_eq!(&value.payload[..], br#"{"a":1}"#);
    }

    #[test]
    fn an_untagged_header_costs_at_most_96_bytes() {
        const { assert!(HEADER <= 96) };
    }

    #[test]
    fn the_wire_format_is_golden() {
        let mut prefix = fresh(Kind::Value);
        prefix[4..].copy_from_slice(&[0x11; 16]);
        let mut record = begin(prefix, &head());
        record.extend_from_slice(b"42");
        assert_eq!(
            hex(&finish(record)),
            concat!(
                "ca5e0101",
                "11111111111111111111111111111111", // prefix
                "0000000000000000",
                "01",
                "00",
                "07000000",
                "0800000000000000",
                "09090909090909090909090909090909",
                "0a000000",
                "0c00000000000000",
                "0b00000000000000",
                "02000000",
                "3432",
            )
        );
    }

    pub(super) fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    #[test]
    fn a_claim_holds_until_so_much_is_left() {
        let ms = Duration::from_millis;
        let record = sample();
        let with = |claim| {
            let mut whole = record.to_vec();
            let prefix = *whole.first_chunk().unwrap();
            let head = claimed(prefix, claim, ms(100));
            whole[..head.len()].copy_from_slice(&head);
            let Found::Value(value) = read(Bytes::from(whole)) else { panic!("not a value") };
            [value.claim(ms(101), ms(9)), value.claim(ms(100), ms(9)), value.claim(ms(110), ms(9))]
        };
        assert_eq!(with(Claim::None), [Claim::None; 3]);
        assert_eq!(with(Claim::Held), [Claim::Held, Claim::None, Claim::None]);
        assert_eq!(with(Claim::Resting), [Claim::Resting, Claim::None, Claim::None]);
        assert_eq!(grace(&record), ms(11));
        assert_eq!(grace(&record[..HEADER]), ms(11));
        assert_eq!(grace(&token(fresh(Kind::Lease))), ms(0));
        let Found::Lease(_) = read(token(lease_of(fresh(Kind::Value)))) else { panic!("not a lease") };
    }

    #[test]
    fn ids_are_never_used_twice() {
        assert_ne!(fresh(Kind::Lease), fresh(Kind::Lease));
    }

    #[test]
    fn every_truncation_is_torn_or_foreign() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(matches!(read(whole.slice(..end)), Found::Torn(_) | Found::Plain(_)), "cut at {end}");
        }
    }
}
