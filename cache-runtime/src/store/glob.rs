//! Globs as Redis reads them (`stringmatchlen` in its util.c), over bytes and case-sensitive.
//!
//! `*` any bytes, `?` one byte, `[a-c]` one of these, `[^a-c]` one of the others, `\x` the byte x.
//! What looks like a mistake has a meaning too, and it is kept: a class that isn't closed ends
//! with the pattern, `[]` fits nothing, `[a-]` is a range up to `]`, a last `\` is itself.

/// How far a `*` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As far as it likes.
    Any,
    /// To the next `:`, as the values of a template do, whose own are escaped. So `user:*` fits what
    /// `user:{id}` makes, and `user:1:posts` doesn't.
    Value,
}

impl Reach {
    /// Whether `text` fits `pattern`. Takes at most the product of their lengths in steps, whatever
    /// the pattern: only the last `*` is ever taken back.
    pub(crate) fn fits(self, pattern: &[u8], text: &[u8]) -> bool {
        let ends = |rest: &[u8]| self == Self::Any || !rest.contains(&b':');
        if text.is_empty() {
            // Redis compares nothing with an empty key, but has a short cut for `*`.
            return pattern.is_empty() || pattern == b"*";
        }
        let (mut at, mut from) = (0, 0);
        let mut star = None;
        while from < text.len() {
            if pattern.get(at) == Some(&b'*') {
                at += 1;
                if at == pattern.len() {
                    return ends(&text[from..]);
                }
                star = Some((at, from));
            } else if let Some(next) = step(pattern, at, text[from]) {
                (at, from) = (next, from + 1);
            } else if let Some((after, seen)) = star.filter(|&(_, seen)| ends(&text[seen..=seen])) {
                // Where a star doesn't pass a `:`, an earlier one that took more would not help.
                (at, from) = (after, seen + 1);
                star = Some((at, from));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|&byte| byte == b'*')
    }
}

/// Whether the text holds anything that a glob gives a meaning.
pub(crate) fn has_meta(pattern: &str) -> bool {
    pattern.contains(META)
}

/// A glob that only this text fits.
pub(crate) fn escape_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if META.contains(&char) {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

/// Whether one key could fit both globs. In doubt yes: the key that fits both may be no text, and a
/// `*` is taken to fit a class that nothing fits.
pub(crate) fn may_share(a: &str, b: &str) -> bool {
    let (a, b) = (pieces(a.as_bytes()), pieces(b.as_bytes()));
    // `row[j]`: some text fits what of `a` is behind us, and the first `j` pieces of `b`.
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    for mine in &a {
        let mut next = vec![false; row.len()];
        for (j, theirs) in b.iter().enumerate() {
            if !row[j] {
                continue;
            }
            match (mine, theirs) {
                // A `*` ends here, or takes one more of whatever the other has.
                (Piece::Star, _) | (_, Piece::Star) => (next[j], row[j + 1]) = (true, true),
                (Piece::One(mine), Piece::One(theirs)) => next[j + 1] |= meet(mine, theirs),
                (Piece::End, Piece::End) => next[j + 1] = true,
                _ => {}
            }
        }
        row = next;
    }
    row[b.len()]
}

const META: [char; 4] = ['*', '?', '[', '\\'];

/// Where the pattern goes on behind the piece at `at` (not a `*`), if that piece takes `byte`.
fn step(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match (pattern.get(at)?, pattern.get(at + 1)) {
        (b'?', _) => Some(at + 1),
        (b'[', _) => {
            let (takes, next) = class(pattern, at + 1, byte);
            takes.then_some(next)
        }
        (b'\\', Some(&literal)) => (literal == byte).then_some(at + 2),
        (&literal, _) => (literal == byte).then_some(at + 1),
    }
}

/// Whether the class whose inside begins at `at` takes `byte`, and where the pattern goes on.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> (bool, usize) {
    let not = pattern.get(at) == Some(&b'^');
    at += usize::from(not);
    let mut takes = false;
    loop {
        match pattern[at..] {
            [] => return (takes != not, at),
            [b']', ..] => return (takes != not, at + 1),
            [b'\\', literal, ..] => {
                takes |= literal == byte;
                at += 2;
            }
            [one, b'-', other, ..] => {
                // Signed, as C's `char` is on the machines where Redis mostly runs.
                let [one, other, byte] = [one, other, byte].map(u8::cast_signed);
                takes |= (one.min(other)..=one.max(other)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                takes |= literal == byte;
                at += 1;
            }
        }
    }
}

/// A glob taken apart. `One` takes exactly one byte, out of a set.
enum Piece {
    Star,
    One(Set),
    End,
}

type Set = [u64; 4];

fn pieces(pattern: &[u8]) -> Vec<Piece> {
    let mut out = Vec::with_capacity(pattern.len() + 1);
    let mut at = 0;
    while at < pattern.len() {
        let (piece, next) = match (pattern[at], pattern.get(at + 1)) {
            (b'*', _) => (Piece::Star, at + 1),
            (b'?', _) => (Piece::One([u64::MAX; 4]), at + 1),
            (b'[', _) => {
                let takes = |&byte: &u8| class(pattern, at + 1, byte).0;
                let one = Piece::One(set((0..=u8::MAX).filter(takes)));
                (one, class(pattern, at + 1, 0).1)
            }
            (b'\\', Some(&literal)) => (Piece::One(set([literal])), at + 2),
            (literal, _) => (Piece::One(set([literal])), at + 1),
        };
        out.push(piece);
        at = next;
    }
    out.push(Piece::End);
    out
}

fn set(bytes: impl IntoIterator<Item = u8>) -> Set {
    let mut out = [0; 4];
    for byte in bytes {
        out[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
    out
}

fn meet(a: &Set, b: &Set) -> bool {
    a.iter().zip(b).any(|(a, b)| a & b != 0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Pattern, texts that fit, texts that don't. Taken from redis-server 7.0.15.
    const CASES: &[(&str, &[&str], &[&str])] = &[
        ("", &[""], &["a"]),
        ("*", &["", "a", "\u{e9}"], &[]),
        // Only a lone `*` fits the empty key.
        ("**", &["a", "ab"], &[""]),
        ("a*", &["a", "ab", "a*"], &["", "ba"]),
        ("*a", &["a", "ba", "aa"], &["ab"]),
        ("a*b*c", &["abc", "aXbbYc", "abcbc"], &["ab", "acb", "abcd"]),
        ("*ab", &["aab", "abab"], &["aba"]),
        ("?", &["a", "*"], &["", "ab", "\u{e9}"]),
        ("??", &["ab", "\u{e9}"], &["a"]),
        ("User", &["User"], &["user"]),
        ("[abc]x", &["ax", "cx"], &["dx", "x"]),
        ("[^a]", &["b", "^"], &["a", ""]),
        ("[a^]", &["a", "^"], &["b"]),
        ("[a-c]", &["a", "b", "c"], &["d", "-"]),
        ("[c-a]", &["a", "b", "c"], &["d", "-"]),
        ("[^a-c]", &["d", "-"], &["b"]),
        ("[-a]", &["-", "a"], &["b"]),
        // A range up to `]`, in a class that never ends.
        ("[a-]", &["a", "]", "^"], &["-", "b"]),
        ("[a-]x]", &["a", "x"], &["ax]"]),
        ("[]", &[], &["", "]", "[]"]),
        ("[]a]", &[], &["]", "a", "]a]", "a]"]),
        ("[^]", &["a", "]"], &["", "ab"]),
        ("[\\]]", &["]"], &["\\", "\\]"]),
        ("[\\^a]", &["^", "a"], &["b", "\\"]),
        ("[\\a-z]", &["a", "-", "z"], &["b", "\\"]),
        ("[a-\\]]", &["a]", "\\]"], &["a", "]"]),
        ("[a", &["a"], &["[a", "[", ""]),
        ("[^a", &["b"], &["a"]),
        ("[a-", &["a", "-"], &["b"]),
        ("[", &[], &["[", ""]),
        ("[^", &["a", "["], &[""]),
        ("[\\", &["\\"], &["[", "a"]),
        ("[*?]", &["*", "?"], &["a"]),
        ("]", &["]"], &["a"]),
        ("\\*", &["*"], &["a", "\\"]),
        ("\\[a]", &["[a]"], &["a"]),
        ("\\a", &["a"], &["\\a"]),
        ("a\\", &["a\\"], &["a"]),
        ("\\\\", &["\\"], &["\\\\"]),
        ("*\\", &["\\", "a\\"], &["a"]),
        // Ranges compare signed bytes, so bytes over 0x7f come before `a`.
        ("[a-\u{e9}]?", &["a\u{7f}"], &["b\u{7f}"]),
    ];

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Reach::Any.fits(pattern, text)
    }

    #[test]
    fn patterns_fit_as_in_redis() {
        for (pattern, fit, others) in CASES {
            for text in *fit {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} fits {text}");
            }
            for text in *others {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} leaves {text}");
            }
        }
    }

    #[test]
    fn a_value_s_star_ends_at_a_colon() {
        let fits = |pattern: &str, text: &str| Reach::Value.fits(pattern.as_bytes(), text.as_bytes());
        assert!(fits("user:*", "user:1") && fits("user:*", "user:") && !fits("user:*", "user:1:posts"));
        assert!(fits("a:*:*", "a:1:2") && !fits("a:*:*", "a:1") && !fits("a:*:*", "a:1:2:3"));
        // Every text of up to six letters, against the meaning said the slow way.
        let texts = (0..7).flat_map(|length| (0..3_usize.pow(length)).map(move |number| (length, number)));
        let spell = |(length, mut number): (u32, usize)| {
            (0..length).map(|_| (b"ab:"[number % 3], number /= 3).0).collect::<Vec<u8>>()
        };
        for text in texts.map(spell) {
            for pattern in ["a*", "*a*b", "*a:*", "*:*b*", "a*a*:b", "**b", "*ab*"] {
                let slow = !text.is_empty() && said_slowly(pattern.as_bytes(), &text);
                assert_eq!(Reach::Value.fits(pattern.as_bytes(), &text), slow, "{pattern} {text:?}");
            }
        }
    }

    fn said_slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => {
                let goes_on =
                    text.first().is_some_and(|&byte| byte != b':') && said_slowly(pattern, &text[1..]);
                said_slowly(rest, text) || goes_on
            }
            ([letter, rest @ ..], [first, text @ ..]) => letter == first && said_slowly(rest, text),
            _ => false,
        }
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let (stars, text) = ("a*".repeat(2000) + "b", "a".repeat(4096));
        let begun = Instant::now();
        assert!(!matches(stars.as_bytes(), text.as_bytes()));
        assert!(!may_share(&stars, &text));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn an_escaped_text_fits_only_itself() {
        assert!(!has_meta("user:{1}^a-b]"));
        for text in ["a*b", "?", "[a]", "\\", "\\*", "user:1", "\u{e9}*"] {
            let glob = escape_literal(text);
            assert!(matches(glob.as_bytes(), text.as_bytes()), "{glob}");
            assert_eq!(has_meta(text), glob != text);
            for other in ["a", "axb", "x", "aXb", "\\\\", "user:2"] {
                assert!(!matches(glob.as_bytes(), other.as_bytes()), "{glob} {other}");
            }
        }
    }

    #[test]
    fn globs_share_a_key_or_not() {
        for (a, b, shared) in [
            ("user:*", "user:get_user:*", true),
            ("user:*", "users:*", false),
            ("user:*:a", "user:*:b", false),
            ("*:a", "user:*", true),
            ("*a*", "*b*", true),
            ("a*c", "ab", false),
            ("user:1", "user:1", true),
            ("user:1", "user:2", false),
            ("user:?", "user:10", false),
            ("user:[0-4]", "user:[5-9]", false),
            ("user:[0-5]", "user:[^0-4]", true),
            ("user:\\*", "user:*", true),
            ("user:\\*", "user:1", false),
            ("*", "*", true),
            ("", "*", true),
            ("", "?", false),
            ("a**", "*a", true),
        ] {
            assert_eq!(may_share(a, b), shared, "{a} {b}");
            assert_eq!(may_share(b, a), shared, "{b} {a}");
        }
    }

    #[test]
    fn globs_that_both_fit_a_text_share_a_key() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut word = |letters: &str, most: usize| -> String {
            let letters: Vec<char> = letters.chars().collect();
            (0..random.usize(..=most)).map(|_| letters[random.usize(..letters.len())]).collect()
        };
        for _ in 0..100_000 {
            let (a, b) = (word("ab*?[]^-\\", 6), word("ab*?[]^-\\", 6));
            let text = word("ab]-", 4);
            let fits = |glob: &str| matches(glob.as_bytes(), text.as_bytes());
            assert!(may_share(&a, &b) || !(fits(&a) && fits(&b)), "{a} {b} {text}");
        }
    }
}
