//! The forms of the values: seconds or a text, a closure or a path, one of a few words.

use crate::duration;
use crate::errors::Errors;
use proc_macro2::{Group, Ident, Span};
use quote::ToTokens;
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprClosure, ExprLit, ExprPath, Lit, LitStr, Token};

/// A time to live.
pub(crate) enum Life {
    Fixed(Duration, Span),
    /// An expression over the arguments, evaluated before the body.
    Before(Expr),
    /// A closure over the result.
    After(ExprClosure),
}

pub(crate) enum Builder {
    Closure(ExprClosure),
    Path(ExprPath),
}

pub(crate) enum Jitter {
    UpTo(Duration),
    Percent(u8),
}

/// How long before its end an entry is refreshed.
pub(crate) enum Ahead {
    UpTo(Fixed),
    Percent(u8),
}

/// A time that stands in the attribute.
pub(crate) struct Fixed {
    pub(crate) time: Duration,
    pub(crate) span: Span,
}

pub(crate) enum Flight {
    Fleet,
    Process,
    Off,
}

/// How values are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Codec {
    Json,
    Msgpack,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelpersArg {
    Method,
    None,
}

pub(crate) fn skip(name: &Ident, input: ParseStream<'_>) -> syn::Result<Vec<Ident>> {
    if !input.peek(syn::token::Paren) {
        return Err(syn::Error::new(name.span(), "`skip` takes a list: write `skip(db)`"));
    }
    let list = input.parse::<Group>()?.stream();
    if list.is_empty() {
        return Err(syn::Error::new(name.span(), "`skip` names no argument: write `skip(db)`, or remove it"));
    }
    let names =
        |list: ParseStream<'_>| Punctuated::<Ident, Token![,]>::parse_terminated_with(list, Ident::parse_any);
    let names = names.parse2(list).map_err(|error| {
        syn::Error::new(error.span(), "`skip` takes names of arguments: write `skip(db)`")
    })?;
    Ok(names.into_iter().collect())
}

/// The literal that an expression is, also one that a `macro_rules!` passed on.
fn literal(expr: &Expr) -> Option<&Lit> {
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

fn wrong<T>(expr: &Expr, message: &str) -> syn::Result<T> {
    Err(syn::Error::new_spanned(expr, message))
}

pub(crate) fn text(expr: &Expr, message: &str) -> syn::Result<LitStr> {
    match literal(expr) {
        Some(Lit::Str(text)) => Ok(text.clone()),
        _ => wrong(expr, message),
    }
}

/// A list of tags; what is wrong with one of them is left out.
pub(crate) fn tags(expr: &Expr, errors: &mut Errors) -> syn::Result<Vec<LitStr>> {
    let list = match expr {
        Expr::Array(array) => &array.elems,
        Expr::Group(group) => return tags(&group.expr, errors),
        _ => return wrong(expr, "write a list of tags: `tags = [\"user:{id}\", \"users\"]`"),
    };
    if list.is_empty() {
        return wrong(expr, "`tags` names none: write `tags = [\"user:{id}\"]`, or remove it");
    }
    let mut known = Vec::new();
    for tag in list {
        known.extend(errors.ok(tag_text(tag, &known)));
    }
    Ok(known)
}

fn tag_text(tag: &Expr, known: &[LitStr]) -> syn::Result<LitStr> {
    let literal = text(tag, "a tag is a text in quotes: `\"user:{id}\"`")?;
    let value = literal.value();
    if value.is_empty() {
        return wrong(tag, "an empty tag: write `\"users\"` or `\"user:{id}\"`");
    }
    if value.contains('*') {
        return wrong(
            tag,
            "a tag is no pattern, so `*` means nothing: give what is to be invalidated together one tag, such as `\"users\"`",
        );
    }
    if known.iter().any(|known| known.value() == value) {
        return wrong(tag, &format!("the tag `{value}` is given twice: keep one"));
    }
    Ok(literal)
}

pub(crate) fn boolean(expr: &Expr) -> syn::Result<bool> {
    match literal(expr) {
        Some(Lit::Bool(boolean)) => Ok(boolean.value),
        _ => wrong(expr, "write `cache_none = false`, so that `None` is not cached"),
    }
}

pub(crate) fn life(expr: Expr, name: &str) -> syn::Result<Life> {
    let seconds =
        format!("write whole seconds, such as `{name} = 300`, or a time, such as `{name} = \"250ms\"`");
    let span = first_span(&expr);
    match literal(&expr) {
        Some(Lit::Int(int)) => match int.base10_parse() {
            Ok(secs) => Ok(Life::Fixed(Duration::from_secs(secs), span)),
            Err(_) => wrong(&expr, &seconds),
        },
        Some(Lit::Str(text)) => match duration::parse(&text.value()) {
            Ok(time) => Ok(Life::Fixed(time, span)),
            Err(message) => wrong(&expr, &message),
        },
        Some(_) => wrong(&expr, &seconds),
        None if negative(&expr) => wrong(&expr, &seconds),
        None => Ok(match unwrap(expr) {
            Expr::Closure(closure) => Life::After(closure),
            expr => Life::Before(expr),
        }),
    }
}

/// `-5`: a literal with a sign, which no time has.
fn negative(expr: &Expr) -> bool {
    matches!(expr, Expr::Unary(unary) if literal(&unary.expr).is_some())
}

fn first_span(tokens: impl ToTokens) -> Span {
    tokens.to_token_stream().into_iter().next().map_or_else(Span::call_site, |token| token.span())
}

fn unwrap(expr: Expr) -> Expr {
    match expr {
        Expr::Group(group) => unwrap(*group.expr),
        expr => expr,
    }
}

pub(crate) fn builder(expr: Expr) -> syn::Result<Builder> {
    match unwrap(expr) {
        Expr::Closure(closure) => Ok(Builder::Closure(closure)),
        Expr::Path(path) => Ok(Builder::Path(path)),
        expr => wrong(
            &expr,
            "write a closure, `|id| format!(\"user:{id}\")`, or the name of a function; for a template there is `key`",
        ),
    }
}

pub(crate) fn condition(expr: Expr) -> syn::Result<Expr> {
    match unwrap(expr) {
        expr @ Expr::Closure(_) => {
            wrong(&expr, "no closure here: `when` sees the arguments, such as `when = id > 0`")
        }
        expr => Ok(expr),
    }
}

pub(crate) fn closure(expr: Expr) -> syn::Result<ExprClosure> {
    match unwrap(expr) {
        Expr::Closure(closure) => Ok(closure),
        expr => wrong(&expr, "write a closure over the result: `unless = |value| value.is_empty()`"),
    }
}

/// A time that is known before the program runs.
pub(crate) fn fixed(expr: Expr, name: &str, example: &str) -> syn::Result<Fixed> {
    let tokens = expr.to_token_stream();
    match life(expr, name)? {
        Life::Fixed(time, span) => Ok(Fixed { time, span }),
        Life::Before(_) | Life::After(_) => Err(syn::Error::new_spanned(
            tokens,
            format!("`{name}` takes a fixed time: write `{name} = \"{example}\"`, or whole seconds"),
        )),
    }
}

pub(crate) fn jitter(expr: &Expr) -> syn::Result<Jitter> {
    let forms = "write seconds, a time or a share of the `ttl`: `jitter = 60`, `\"30s\"` or `\"10%\"`";
    match amount(expr, forms, 100)? {
        Amount::Share(share) => Ok(Jitter::Percent(share)),
        Amount::Time(time) if time.is_zero() => wrong(expr, "zero `jitter` adds nothing: remove it"),
        Amount::Time(time) => Ok(Jitter::UpTo(time)),
    }
}

pub(crate) fn ahead(expr: &Expr) -> syn::Result<Ahead> {
    let forms = "write seconds, a time or a share of the `ttl`: `refresh_ahead = 60`, `\"30s\"` or `\"20%\"`";
    match amount(expr, forms, 99)? {
        Amount::Share(share) => Ok(Ahead::Percent(share)),
        Amount::Time(time) if time.is_zero() => {
            wrong(expr, "zero `refresh_ahead` refreshes nothing: write a longer time, or remove it")
        }
        Amount::Time(time) => Ok(Ahead::UpTo(Fixed { time, span: first_span(expr) })),
    }
}

enum Amount {
    Time(Duration),
    /// In per cent.
    Share(u8),
}

fn amount(expr: &Expr, forms: &str, most: u8) -> syn::Result<Amount> {
    match literal(expr) {
        Some(Lit::Int(int)) => match int.base10_parse() {
            Ok(secs) => Ok(Amount::Time(Duration::from_secs(secs))),
            Err(_) => wrong(expr, forms),
        },
        Some(Lit::Str(text)) => match text.value().strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(share) if (1..=most).contains(&share) => Ok(Amount::Share(share)),
                _ => wrong(expr, &format!("write a whole share from `\"1%\"` to `\"{most}%\"`")),
            },
            None => match duration::parse(&text.value()) {
                Ok(time) => Ok(Amount::Time(time)),
                Err(message) => wrong(expr, &message),
            },
        },
        _ => wrong(expr, forms),
    }
}

/// Whether values are kept in this process, too, and for how long at most.
pub(crate) struct Near {
    pub(crate) most: Option<Duration>,
}

pub(crate) fn near(expr: &Expr) -> syn::Result<Near> {
    let forms = "write `near = true`, or a life of its own, such as `near = \"5s\"`";
    match literal(expr) {
        Some(Lit::Bool(yes)) if yes.value => Ok(Near { most: None }),
        Some(Lit::Str(text)) => match duration::parse(&text.value()) {
            Ok(time) if time.is_zero() => wrong(expr, "zero `near` keeps nothing: remove it"),
            Ok(time) => Ok(Near { most: Some(time) }),
            Err(message) => wrong(expr, &message),
        },
        _ => wrong(expr, forms),
    }
}

/// The name of a queue of writes, by the rule of the runtime's `WriteBehind::queue`.
pub(crate) fn queue(expr: &Expr) -> syn::Result<LitStr> {
    const LONGEST: usize = 64;
    let example = "`pending = \"user_writes\"`";
    let name = text(expr, &format!("write the name of a queue in quotes: {example}"))?;
    let value = name.value();
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if value.is_empty() {
        return wrong(expr, &format!("`pending` names no queue: write {example}, or remove it"));
    }
    if !value.chars().all(fits) {
        let shown = value.escape_debug();
        let message = format!(
            "`{shown}` is no name of a queue: use ASCII letters, digits, `_`, `-` and `.`, such as {example}"
        );
        return wrong(expr, &message);
    }
    if value.len() > LONGEST {
        return wrong(
            expr,
            &format!(
                "the name of a queue has at most {LONGEST} bytes, and this one has {}: shorten it",
                value.len()
            ),
        );
    }
    Ok(name)
}

pub(crate) fn version(expr: &Expr) -> syn::Result<u32> {
    match literal(expr) {
        Some(Lit::Int(int)) => int.base10_parse().or_else(|_| wrong(expr, "`version` is at most 4294967295")),
        _ => wrong(expr, "write a whole number: `version = 2`"),
    }
}

pub(crate) fn flight(expr: &Expr) -> syn::Result<Flight> {
    one_of(expr, [("fleet", Flight::Fleet), ("process", Flight::Process), ("off", Flight::Off)])
}

/// `has_msgpack`: the runtime was built with it.
pub(crate) fn codec(expr: &Expr, has_msgpack: bool) -> syn::Result<Codec> {
    match one_of(expr, [("json", Codec::Json), ("msgpack", Codec::Msgpack)])? {
        Codec::Msgpack if !has_msgpack => wrong(
            expr,
            "`codec = \"msgpack\"` needs the feature `msgpack`: write `cache-aside = { version = \"0.1\", features = [\"msgpack\"] }` in Cargo.toml",
        ),
        codec => Ok(codec),
    }
}

pub(crate) fn helpers(expr: &Expr) -> syn::Result<HelpersArg> {
    one_of(expr, [("method", HelpersArg::Method), ("none", HelpersArg::None)])
}

/// One of a few words in quotes.
pub(crate) fn one_of<T, const N: usize>(expr: &Expr, words: [(&str, T); N]) -> syn::Result<T> {
    let known = words.each_ref().map(|(word, _)| *word);
    let choice = known.map(|word| format!("`\"{word}\"`")).join(", ");
    let word = text(expr, &format!("write one of {choice}"))?.value();
    for (known, meaning) in words {
        if known == word {
            return Ok(meaning);
        }
    }
    wrong(expr, &format!("unknown value `\"{word}\"`: write one of {choice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msgpack_needs_its_feature() {
        let read = |text, has_msgpack| codec(&syn::parse_str(text).unwrap(), has_msgpack);
        for has_msgpack in [false, true] {
            assert_eq!(read("\"json\"", has_msgpack).unwrap(), Codec::Json);
        }
        assert_eq!(read("\"msgpack\"", true).unwrap(), Codec::Msgpack);
        let message = read("\"msgpack\"", false).unwrap_err().to_string();
        assert!(message.contains("features = [\"msgpack\"]"), "{message}");
        // What is to be written is of this release.
        let release = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        assert!(message.contains(&format!("version = \"{release}\"")), "{message}");
    }
}
