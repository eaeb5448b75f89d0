//! Keys: `[namespace:][prefix:]function:{hash}`, templates, and keys built by hand.
//!
//! A key is text; beside it stand 128 bits that name whose entry it is. They are kept in the
//! record, so that two calls that arrive at one key are told apart: a miss, never another's value.

use std::fmt::{Display, Write};

use serde::Serialize;

use crate::canon::{self, Buf};
use crate::error::CacheError;
use crate::site::{At, Shape, hashed_stem, type_digest};
use crate::tags::OF_FUNCTION;

/// The longest key in bytes, namespace included.
pub(crate) const LONGEST: usize = 4096;

/// 128 bits that name whose entry it is.
pub(crate) type Identity = [u8; 16];

/// The key of one call, not yet spelled out.
#[derive(Debug)]
pub struct Key {
    /// The canonical encoding of what it is made of.
    words: Buf,
    /// So many of them stand before it: what tells near values apart that share an entry.
    beside: usize,
    text: Text,
}

/// What its text is.
#[derive(Debug)]
enum Text {
    /// A hash of the words.
    Hash,
    Explicit(String),
    Fault(KeyFault),
}

impl Key {
    /// Made where it stays: it is too large to be moved about on a near hit.
    #[allow(clippy::new_without_default)] // there is no key yet
    #[inline]
    pub fn new() -> Self {
        Self { words: Buf::new(), beside: 0, text: Text::Hash }
    }

    /// To make it with.
    #[inline]
    pub(crate) fn maker(&mut self) -> KeyMaker<'_> {
        KeyMaker(self)
    }

    /// What tells this call from others of its function, and its instances from one another.
    #[inline]
    pub(crate) fn arguments(&self) -> Option<&[u8]> {
        match self.text {
            Text::Hash | Text::Explicit(_) => Some(self.words.as_slice()),
            Text::Fault(_) => None,
        }
    }

    /// Spells it out, without the namespace.
    pub(crate) fn name(self, at: &At) -> Result<NamedKey, KeyFault> {
        let text = match self.text {
            Text::Hash => None,
            Text::Explicit(text) if text.is_empty() => return Err(KeyFault::Empty),
            Text::Explicit(text) => Some(text),
            Text::Fault(fault) => return Err(fault),
        };
        let place = at.place();
        let words = self.words.as_slice().get(self.beside..).unwrap_or_default();
        let hash = blake3::keyed_hash(&place.0, words);
        let text = text.unwrap_or_else(|| {
            let prefix = match at.site.shape {
                Shape::Hashed(prefix) => prefix,
                Shape::Template(_) | Shape::Built => None,
            };
            let mut text = hashed_stem(prefix, at.site.name);
            push_hex(&mut text, &place.0[..4]);
            push_hex(&mut text, &hash.as_bytes()[..12]);
            text
        });
        Ok(NamedKey { text, identity: identity(&hash.as_bytes()[12..28]) })
    }

    /// The words, of which one may have no place in a key.
    #[inline]
    fn encode<A: Serialize + ?Sized>(&mut self, args: &A) {
        if let Err(error) = canon::encode(args, &mut self.words) {
            self.fault(&error);
        }
    }

    #[cold]
    fn fault(&mut self, error: &dyn Display) {
        self.text = Text::Fault(KeyFault::Argument(error.to_string()));
    }
}

/// A key and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedKey {
    pub(crate) text: String,
    pub(crate) identity: Identity,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFault {
    #[error("an argument says: {0}")]
    Argument(String),
    #[error("the key is empty")]
    Empty,
}

impl From<KeyFault> for CacheError {
    fn from(fault: KeyFault) -> Self {
        Self::Serialize(Box::new(fault))
    }
}

/// A part of a template.
#[derive(Clone, Copy)]
pub enum Piece<'a> {
    /// Taken as it stands.
    Text(&'static str),
    /// An interpolated value, to be escaped.
    Value(&'a dyn Display),
    /// What [`render`] made.
    Rendered(&'a str),
}

impl std::fmt::Debug for Piece<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values are arguments, which no log shows.
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(text).finish(),
            Self::Value(_) | Self::Rendered(_) => f.write_str("Value"),
        }
    }
}

/// Makes the key of one call.
#[derive(Debug)]
pub struct KeyMaker<'k>(&'k mut Key);

impl KeyMaker<'_> {
    /// First: tags that the key doesn't imply. A near value answers only calls that name the same.
    pub fn beside(&mut self, tags: &[&[Piece<'_>]]) {
        for pieces in tags {
            match tag(pieces) {
                Ok(tag) => self.0.encode(&tag),
                Err(fault) => self.0.fault(&fault),
            }
        }
        self.0.beside = self.0.words.as_slice().len();
    }

    /// From the kept arguments and the type parameters that count.
    #[inline]
    pub fn hashed<A: Serialize + ?Sized>(self, types: &[&'static str], args: &A) {
        for name in types {
            self.0.words.push(&type_digest(name));
        }
        self.0.encode(args);
    }

    /// From a template.
    pub fn template(self, pieces: &[Piece<'_>]) {
        let Ok(text) = join(pieces) else {
            self.0.fault(&"its `Display` failed");
            return;
        };
        // `{a}-{b}` gives one text for ("x-y", "z") and ("x", "y-z"): the values one by one tell them apart.
        let values: Vec<String> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Text(_) => None,
                Piece::Value(value) => Some(value.to_string()),
                Piece::Rendered(value) => Some((*value).to_owned()),
            })
            .collect();
        self.explicit(text, &values);
    }

    /// As built by hand.
    pub fn built(self, key: impl Into<String>) {
        let text = key.into();
        let named = text.clone();
        self.explicit(text, &named);
    }

    fn explicit<A: Serialize + ?Sized>(self, text: String, named: &A) {
        self.0.text = Text::Explicit(text);
        self.0.encode(named);
    }
}

/// The glob that fits every hashed key of the function and no key of another.
pub(crate) fn all_of(at: &At) -> String {
    match at.site.shape {
        Shape::Hashed(prefix) => {
            let mut glob = hashed_stem(prefix, at.site.name);
            push_hex(&mut glob, &at.place().0[..4]);
            glob.push('*');
            glob
        }
        Shape::Template(_) | Shape::Built => at.site.glob(),
    }
}

/// The tag that all entries of a function with tags have.
pub(crate) fn tag_of(at: &At) -> String {
    let mut text = String::from(OF_FUNCTION);
    push_hex(&mut text, &at.place().0[..8]);
    text
}

/// Text and values put together, the values escaped.
pub(crate) fn join(pieces: &[Piece<'_>]) -> Result<String, std::fmt::Error> {
    let mut out = String::with_capacity(48);
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Value(value) => write!(Escaping(&mut out), "{value}")?,
            Piece::Rendered(value) => out.push_str(value),
        }
    }
    Ok(out)
}

/// The text of one tag.
pub(crate) fn tag(pieces: &[Piece<'_>]) -> Result<String, KeyFault> {
    join(pieces).map_err(|_| KeyFault::Argument("its `Display` failed".to_owned()))
}

/// A value rendered and escaped now, for a template that is put together later.
pub fn render(value: &dyn Display) -> String {
    let mut out = String::new();
    // A `Display` that fails has no text; an empty one keeps the template's other parts.
    let _ = write!(Escaping(&mut out), "{value}");
    out
}

/// Percent-encodes what could forge a key, choose a cluster slot or widen a pattern.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for char in text.chars() {
            let special = matches!(char, '%' | ':' | '*' | '?' | '[' | ']' | '{' | '}' | '\\');
            if special || char.is_whitespace() || char.is_control() {
                let mut bytes = [0; 4];
                for byte in char.encode_utf8(&mut bytes).bytes() {
                    self.0.push_str(percent_encoding::percent_encode_byte(byte));
                }
            } else {
                self.0.push(char);
            }
        }
        Ok(())
    }
}

/// Whose an entry is that no function made.
pub(crate) fn by_hand(key: &str) -> Identity {
    let hash = blake3::derive_key("cache-aside entry by hand", key.as_bytes());
    identity(&hash[..16])
}

fn identity(bytes: &[u8]) -> Identity {
    *bytes.first_chunk().expect("16 bytes of a hash of 32")
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_can_not_forge_keys_or_widen_patterns() {
        let pieces = [Piece::Text("user:"), Piece::Value(&"a:*?[]{}\\% \n\u{a0}é"), Piece::Text(":*")];
        assert_eq!(join(&pieces).unwrap(), "user:a%3A%2A%3F%5B%5D%7B%7D%5C%25%20%0A%C2%A0é:*");
    }

    #[test]
    fn rendering_first_gives_the_same_text() {
        let rendered = render(&"a b");
        let later = join(&[Piece::Text("k:"), Piece::Rendered(&rendered)]).unwrap();
        assert_eq!(later, join(&[Piece::Text("k:"), Piece::Value(&"a b")]).unwrap());
    }

    proptest! {
        #[test]
        fn colon_separated_templates_are_injective(a: String, b: String, c: String, d: String) {
            let key = |x: &String, y: &String| join(&[Piece::Value(x), Piece::Text(":"), Piece::Value(y)]).unwrap();
            prop_assert_eq!(key(&a, &b) == key(&c, &d), a == c && b == d);
        }
    }
}
