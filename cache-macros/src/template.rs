//! Templates of keys and patterns: `"order:{self.tenant}:{id}"`.

use proc_macro2::Span;
use std::ops::Range;
use syn::LitStr;

/// Text with places to fill in.
pub(crate) struct Template {
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) enum Piece {
    Text(String),
    Place(Place),
}

/// `{root.field.0}`
pub(crate) struct Place {
    pub(crate) root: String,
    pub(crate) fields: Vec<String>,
    pub(crate) span: Span,
}

impl Template {
    pub(crate) fn parse(literal: &LitStr) -> syn::Result<Self> {
        let text = literal.value();
        let error = |range, message: String| Err(syn::Error::new(within(literal, range), message));
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            let rest = &text[at + next.len_utf8()..];
            if (next == '{' || next == '}') && rest.starts_with(next) {
                plain.push(next);
                at += 2;
            } else if next == '}' {
                return error(at..at + 1, "`}` closes nothing: write `}}` for a brace".to_owned());
            } else if next == '{' {
                let Some(end) = rest.find('}') else {
                    return error(
                        at..text.len(),
                        "this `{` is not closed: write `{name}`, or `{{` for a brace".to_owned(),
                    );
                };
                let range = at..at + end + 2;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                } else if let Some(Piece::Place(before)) = pieces.last() {
                    let before = before.written();
                    let this = &text[range.clone()];
                    return error(
                        range.clone(),
                        format!(
                            "no text between `{before}` and `{this}`: two different pairs could read alike; write `{before}:{this}`"
                        ),
                    );
                }
                pieces.push(Piece::Place(Place::parse(&rest[..end], within(literal, range.clone()))?));
                at = range.end;
            } else {
                plain.push(next);
                at += next.len_utf8();
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// The glob that fits every key of this template: `users:*:*`.
    pub(crate) fn glob(&self) -> String {
        let mut glob = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Place(_) => glob.push('*'),
                Piece::Text(text) => {
                    for c in text.chars() {
                        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
                            glob.push('\\');
                        }
                        glob.push(c);
                    }
                }
            }
        }
        glob
    }

    /// Whether the text, read as a glob, closes what it opens; the error says what to write.
    pub(crate) fn closed(&self) -> Result<(), &'static str> {
        const OPEN: &str = "this `[` is not closed: write `[ab]`, or `\\\\[` for a bracket";
        for piece in &self.pieces {
            let Piece::Text(text) = piece else { continue };
            let mut class = false;
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' if chars.next().is_none() => {
                        return Err("a `\\` at the end escapes nothing: write `\\\\\\\\` for a backslash");
                    }
                    '[' => class = true,
                    ']' => class = false,
                    _ => {}
                }
            }
            if class {
                return Err(OPEN);
            }
        }
        Ok(())
    }
}

impl Place {
    fn parse(inside: &str, span: Span) -> syn::Result<Self> {
        let error = |message: String| Err(syn::Error::new(span, message));
        if inside.trim().is_empty() {
            return error("an empty placeholder: name an argument, such as `{id}`".to_owned());
        }
        let mut parts = inside.split('.').map(str::to_owned);
        let root = parts.next().unwrap_or_default();
        let fields: Vec<String> = parts.collect();
        let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let name = |part: &str| {
            part.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic())
                && part.chars().all(|c| c == '_' || c.is_alphanumeric())
        };
        let field = |part: &String| !part.is_empty() && (number(part) || name(part));
        if !name(&root) || !fields.iter().all(field) {
            return error(format!(
                "`{{{inside}}}` is neither an argument nor a field of one: write `{{id}}` or `{{user.id}}`, or use a `key_builder`"
            ));
        }
        Ok(Self { root, fields, span })
    }

    /// As it stands in the template.
    pub(crate) fn written(&self) -> String {
        let mut written = format!("{{{}", self.root);
        for field in &self.fields {
            written.push('.');
            written.push_str(field);
        }
        written.push('}');
        written
    }
}

/// The place inside the literal, where the compiler tells (nightly), else the literal.
fn within(literal: &LitStr, range: Range<usize>) -> Span {
    let token = literal.token();
    let source = token.to_string();
    let value = literal.value();
    source
        .find('"')
        .filter(|quote| source[quote + 1..].starts_with(&value))
        .map(|quote| quote + 1)
        .and_then(|start| token.subspan(range.start + start..range.end + start))
        .unwrap_or_else(|| literal.span())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> syn::Result<Template> {
        Template::parse(&LitStr::new(text, Span::call_site()))
    }

    fn shown(text: &str) -> String {
        let template = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let pieces = template.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => format!("'{text}'"),
            Piece::Place(place) => place.written(),
        });
        pieces.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn places_and_text_are_told_apart() {
        for (text, pieces) in [
            ("users", "'users'"),
            ("user:{id}", "'user:' {id}"),
            ("{self.tenant}:{id}", "{self.tenant} ':' {id}"),
            ("a:{pair.0}:{user.name.first}", "'a:' {pair.0} ':' {user.name.first}"),
            ("{{{id}}}", "'{' {id} '}'"),
            ("ключ:{ид}", "'ключ:' {ид}"),
        ] {
            assert_eq!(shown(text), pieces, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, says) in [
            ("user:{id", "not closed"),
            ("user:{", "not closed"),
            ("user:id}", "closes nothing"),
            ("user:{}", "empty placeholder"),
            ("user:{ }", "empty placeholder"),
            ("user:{a}{b}", "write `{a}:{b}`"),
            ("user:{id:?}", "neither an argument"),
            ("user:{id + 1}", "neither an argument"),
            ("user:{0}", "neither an argument"),
            ("user:{user.}", "neither an argument"),
        ] {
            let error = parse(text).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(says)), "{text}: {error:?}");
        }
    }

    #[test]
    fn the_glob_of_a_key_escapes_its_text() {
        let glob = |text| parse(text).map(|template| template.glob()).unwrap_or_default();
        assert_eq!(glob("users:{a}:{b}"), "users:*:*");
        assert_eq!(glob("a*[b]:{id}"), "a\\*\\[b\\]:*");
    }

    #[test]
    fn globs_must_be_closed() {
        let closed = |text| parse(text).is_ok_and(|template| template.closed().is_ok());
        for text in ["user:*", "user:[ab]:*", "a\\[b", "a]b", "user:{id}:[0-9]"] {
            assert!(closed(text), "{text}");
        }
        for text in ["user:[ab", "[", "user:\\", "[{id}]", "[a\\]"] {
            assert!(!closed(text), "{text}");
        }
    }
}
