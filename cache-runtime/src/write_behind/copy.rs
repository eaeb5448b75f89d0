//! The copy of an entry that a queue keeps until the write that it was stored with is settled.
//!
//! ```text
//! format 1 | life 8 | count 2 | count x (length 2 | text) | length 4 | body
//! ```
//!
//! `life` is in milliseconds (0: it isn't to be stored at all; all ones: for ever). The texts are the tags of
//! the value, the body is an untagged record or plain JSON. Numbers are little-endian.

use std::time::Duration;

use bytes::Bytes;

use crate::policy::Life;

const FORMAT: u8 = 1;
const OVER: u64 = 0;
const NEVER: u64 = u64::MAX;

/// What is stored under a key when the entry has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingCopy {
    pub(crate) life: Life,
    /// The texts of all of its tags.
    pub(crate) tags: Vec<String>,
    /// An untagged record, or plain JSON.
    pub(crate) body: Bytes,
}

impl PendingCopy {
    pub(crate) fn write(life: Life, tags: &[String], body: &[u8]) -> Bytes {
        let life = match life {
            Life::Over => OVER,
            Life::For(None) => NEVER,
            Life::For(Some(life)) => u64::try_from(life.as_millis()).unwrap_or(NEVER),
        };
        let texts: usize = tags.iter().map(|tag| tag.len() + 2).sum();
        let mut out = Vec::with_capacity(1 + 8 + 2 + texts + 4 + body.len());
        out.push(FORMAT);
        out.extend_from_slice(&life.to_le_bytes());
        let count = u16::try_from(tags.len()).expect("values have fewer tags");
        out.extend_from_slice(&count.to_le_bytes());
        for tag in tags {
            let length = u16::try_from(tag.len()).expect("a tag is part of a key, and those are shorter");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(tag.as_bytes());
        }
        let length = u32::try_from(body.len()).expect("the encoder bounds payloads below 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(body);
        Bytes::from(out.into_boxed_slice())
    }

    /// Nothing: it is torn, or a newer program's.
    pub(crate) fn read(bytes: &Bytes) -> Option<Self> {
        let mut rest = bytes.clone();
        let [format] = take(&mut rest)?;
        if format != FORMAT {
            return None;
        }
        let life = match u64::from_le_bytes(take(&mut rest)?) {
            OVER => Life::Over,
            NEVER => Life::For(None),
            life => Life::For(Some(Duration::from_millis(life))),
        };
        let count = u16::from_le_bytes(take(&mut rest)?);
        let mut tags = Vec::new();
        for _ in 0..count {
            let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let text = rest.get(..length)?;
            tags.push(str::from_utf8(text).ok()?.to_owned());
            rest = rest.slice(length..);
        }
        let length = u32::from_le_bytes(take(&mut rest)?);
        (usize::try_from(length).ok()? == rest.len()).then_some(Self { life, tags, body: rest })
    }
}

fn take<const N: usize>(rest: &mut Bytes) -> Option<[u8; N]> {
    let head = *rest.first_chunk::<N>()?;
    *rest = rest.slice(N..);
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PendingCopy {
        let life = Life::For(Some(Duration::from_millis(1500)));
        PendingCopy {
            life,
            tags: vec!["user:1".into(), String::new()],
            body: Bytes::from_static(b"{\"a\":1}"),
        }
    }

    fn written(copy: &PendingCopy) -> Bytes {
        PendingCopy::write(copy.life, &copy.tags, &copy.body)
    }

    #[test]
    fn it_reads_back() {
        for life in [Life::Over, Life::For(None), Life::For(Some(Duration::from_millis(1)))] {
            for tags in [Vec::new(), sample().tags] {
                for body in [Bytes::new(), sample().body] {
                    let copy = PendingCopy { life, tags: tags.clone(), body };
                    assert_eq!(PendingCopy::read(&written(&copy)), Some(copy));
                }
            }
        }
    }

    #[test]
    fn what_is_torn_or_of_another_format_is_none() {
        let whole = written(&sample());
        for end in 0..whole.len() {
            assert_eq!(PendingCopy::read(&whole.slice(..end)), None, "cut at {end}");
        }
        assert_eq!(PendingCopy::read(&Bytes::from([&whole[..], b"!"].concat())), None);
        let mut newer = whole.to_vec();
        newer[0] += 1;
        assert_eq!(PendingCopy::read(&newer.into()), None);
    }
}
