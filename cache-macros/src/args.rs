//! The grammar of `#[cache(..)]`: what was written, with the names it was written under.

use crate::duration;
use crate::errors::{Errors, hint};
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprClosure, ExprLit, ExprPath, Lit, LitStr, Path, Token};

/// A value and the name that it was given.
pub(crate) struct Arg<T> {
    pub(crate) name: Ident,
    pub(crate) value: T,
}

/// What `#[cache(..)]` says.
#[derive(Default)]
pub(crate) struct CacheArgs {
    pub(crate) ttl: Option<Arg<Life>>,
    pub(crate) key_prefix: Option<Arg<LitStr>>,
    pub(crate) key: Option<Arg<LitStr>>,
    pub(crate) key_builder: Option<Arg<Builder>>,
    pub(crate) skip: Option<Arg<Vec<Ident>>>,
    pub(crate) none_ttl: Option<Arg<Life>>,
    pub(crate) cache_none: Option<Arg<bool>>,
    pub(crate) jitter: Option<Arg<Jitter>>,
    pub(crate) when: Option<Arg<Expr>>,
    pub(crate) unless: Option<Arg<ExprClosure>>,
    pub(crate) single_flight: Option<Arg<Flight>>,
    pub(crate) version: Option<Arg<u32>>,
    pub(crate) helpers: Option<Arg<HelpersArg>>,
    pub(crate) cache: Option<Arg<Expr>>,
    pub(crate) krate: Option<Arg<Path>>,
    /// Something could not be read, so what seems to be missing may be there.
    pub(crate) broken: bool,
}

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

pub(crate) enum Flight {
    Fleet,
    Process,
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelpersArg {
    Method,
    None,
}

/// Each option and how it is written.
const OPTIONS: [(&str, &str); 15] = [
    ("ttl", "ttl = 300"),
    ("key_prefix", "key_prefix = \"user\""),
    ("key", "key = \"user:{id}\""),
    ("key_builder", "key_builder = |id| format!(\"user:{id}\")"),
    ("skip", "skip(db)"),
    ("none_ttl", "none_ttl = 30"),
    ("cache_none", "cache_none = false"),
    ("jitter", "jitter = \"10%\""),
    ("when", "when = id > 0"),
    ("unless", "unless = |value| value.is_empty()"),
    ("single_flight", "single_flight = \"process\""),
    ("version", "version = 2"),
    ("helpers", "helpers = \"none\""),
    ("cache", "cache = &self.cache"),
    ("crate", "crate = ::cache_aside"),
];

impl CacheArgs {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let before = errors.is_empty();
        each(tokens, errors, |input, errors| {
            let name = option_name(input, &OPTIONS)?;
            args.option(&name, input, errors)
        });
        args.broken = before && !errors.is_empty();
        args
    }

    fn option(
        &mut self,
        name: &Ident,
        input: ParseStream<'_>,
        errors: &mut Errors,
    ) -> syn::Result<()> {
        let mut slot = Slot { name, errors };
        match name.to_string().as_str() {
            "skip" => {
                let names = skip(name, input)?;
                slot.set_once(&mut self.skip, names);
                return Ok(());
            }
            "crate" => {
                let path = value(name, input, &OPTIONS)?;
                slot.set_once(&mut self.krate, path);
                return Ok(());
            }
            _ => {}
        }
        let expr: Expr = value(name, input, &OPTIONS)?;
        match name.to_string().as_str() {
            "ttl" => slot.set_once(&mut self.ttl, life(expr, "ttl")?),
            "none_ttl" => slot.set_once(&mut self.none_ttl, life(expr, "none_ttl")?),
            "key_prefix" => slot.set_once(
                &mut self.key_prefix,
                text(&expr, "write a text: `key_prefix = \"user\"`")?,
            ),
            "key" => slot.set_once(
                &mut self.key,
                text(
                    &expr,
                    "write a template: `key = \"user:{id}\"`, or use `key_builder`",
                )?,
            ),
            "key_builder" => slot.set_once(&mut self.key_builder, builder(expr)?),
            "cache_none" => slot.set_once(&mut self.cache_none, boolean(&expr)?),
            "jitter" => slot.set_once(&mut self.jitter, jitter(&expr)?),
            "when" => slot.set_once(&mut self.when, condition(expr)?),
            "unless" => slot.set_once(&mut self.unless, closure(expr)?),
            "single_flight" => slot.set_once(&mut self.single_flight, flight(&expr)?),
            "version" => slot.set_once(&mut self.version, version(&expr)?),
            "helpers" => slot.set_once(&mut self.helpers, helpers(&expr)?),
            _ => slot.set_once(&mut self.cache, expr),
        }
        Ok(())
    }
}

/// Where a named value goes.
pub(crate) struct Slot<'a> {
    pub(crate) name: &'a Ident,
    pub(crate) errors: &'a mut Errors,
}

impl Slot<'_> {
    pub(crate) fn set_once<T>(&mut self, slot: &mut Option<Arg<T>>, value: T) {
        if slot.is_some() {
            self.errors.at(
                self.name,
                format!("`{}` is given twice: keep one", self.name),
            );
        } else {
            *slot = Some(Arg {
                name: self.name.clone(),
                value,
            });
        }
    }
}

/// Runs `one` on each entry of a list; after a mistake goes on behind the next comma.
pub(crate) fn each(
    tokens: TokenStream,
    errors: &mut Errors,
    mut one: impl FnMut(ParseStream<'_>, &mut Errors) -> syn::Result<()>,
) {
    let list = |input: ParseStream<'_>| {
        while !input.is_empty() {
            match one(input, errors) {
                Ok(()) if input.is_empty() => {}
                Ok(()) if input.peek(Token![,]) => {
                    input.parse::<Token![,]>()?;
                }
                Ok(()) => {
                    errors.push(input.error("expected a `,` before this"));
                    // An option that only lacks its comma is still read.
                    if !input.peek(syn::Ident::peek_any) {
                        skip_to_comma(input)?;
                    }
                }
                Err(error) => {
                    errors.push(error);
                    skip_to_comma(input)?;
                }
            }
        }
        Ok(())
    };
    // syn adds an "unexpected token" to what has been reported already.
    if let Err(error) = list.parse2(tokens)
        && errors.is_empty()
    {
        errors.push(error);
    }
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    input.parse::<Option<Token![,]>>()?;
    Ok(())
}

/// The name of an option that exists.
pub(crate) fn option_name(input: ParseStream<'_>, options: &[(&str, &str)]) -> syn::Result<Ident> {
    let Ok(name) = input.call(Ident::parse_any) else {
        let (_, example) = options[0];
        return Err(input.error(format!("every option has a name: write `{example}`")));
    };
    let known = options.iter().map(|(known, _)| *known);
    if known.clone().all(|known| name != known) {
        let hint = hint(&name.to_string(), known, "the options are");
        return Err(syn::Error::new(
            name.span(),
            format!("unknown option `{name}`{hint}"),
        ));
    }
    Ok(name)
}

/// `= value`, where the value may be missing while it is being typed.
pub(crate) fn value<T: Parse>(
    name: &Ident,
    input: ParseStream<'_>,
    options: &[(&str, &str)],
) -> syn::Result<T> {
    let example = options
        .iter()
        .find(|(known, _)| name == known)
        .map_or("", |(_, example)| example);
    let missing = |span| {
        Err(syn::Error::new(
            span,
            format!("`{name}` needs a value: write `{example}`"),
        ))
    };
    let Ok(equals) = input.parse::<Token![=]>() else {
        return missing(name.span());
    };
    if input.is_empty() || input.peek(Token![,]) {
        return missing(equals.span);
    }
    input.parse()
}

fn skip(name: &Ident, input: ParseStream<'_>) -> syn::Result<Vec<Ident>> {
    if !input.peek(syn::token::Paren) {
        return Err(syn::Error::new(
            name.span(),
            "`skip` takes a list: write `skip(db)`",
        ));
    }
    let list = input.parse::<Group>()?.stream();
    if list.is_empty() {
        return Err(syn::Error::new(
            name.span(),
            "`skip` names no argument: write `skip(db)`, or remove it",
        ));
    }
    let names = |list: ParseStream<'_>| {
        Punctuated::<Ident, Token![,]>::parse_terminated_with(list, Ident::parse_any)
    };
    let names = names.parse2(list).map_err(|error| {
        syn::Error::new(
            error.span(),
            "`skip` takes names of arguments: write `skip(db)`",
        )
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

fn boolean(expr: &Expr) -> syn::Result<bool> {
    match literal(expr) {
        Some(Lit::Bool(boolean)) => Ok(boolean.value),
        _ => wrong(
            expr,
            "write `cache_none = false`, so that `None` is not cached",
        ),
    }
}

fn life(expr: Expr, name: &str) -> syn::Result<Life> {
    let seconds = format!(
        "write whole seconds, such as `{name} = 300`, or a time, such as `{name} = \"250ms\"`"
    );
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
    tokens
        .to_token_stream()
        .into_iter()
        .next()
        .map_or_else(Span::call_site, |token| token.span())
}

fn unwrap(expr: Expr) -> Expr {
    match expr {
        Expr::Group(group) => unwrap(*group.expr),
        expr => expr,
    }
}

fn builder(expr: Expr) -> syn::Result<Builder> {
    match unwrap(expr) {
        Expr::Closure(closure) => Ok(Builder::Closure(closure)),
        Expr::Path(path) => Ok(Builder::Path(path)),
        expr => wrong(
            &expr,
            "write a closure, `|id| format!(\"user:{id}\")`, or the name of a function; for a template there is `key`",
        ),
    }
}

fn condition(expr: Expr) -> syn::Result<Expr> {
    match unwrap(expr) {
        expr @ Expr::Closure(_) => wrong(
            &expr,
            "no closure here: `when` sees the arguments, such as `when = id > 0`",
        ),
        expr => Ok(expr),
    }
}

fn closure(expr: Expr) -> syn::Result<ExprClosure> {
    match unwrap(expr) {
        Expr::Closure(closure) => Ok(closure),
        expr => wrong(
            &expr,
            "write a closure over the result: `unless = |value| value.is_empty()`",
        ),
    }
}

fn jitter(expr: &Expr) -> syn::Result<Jitter> {
    let forms =
        "write seconds, a time or a share of the `ttl`: `jitter = 60`, `\"30s\"` or `\"10%\"`";
    let time = match literal(expr) {
        Some(Lit::Int(int)) => int
            .base10_parse()
            .map(Duration::from_secs)
            .or_else(|_| wrong(expr, forms))?,
        Some(Lit::Str(text)) => match text.value().strip_suffix('%') {
            Some(share) => {
                return match share.parse() {
                    Ok(share @ 1..=100) => Ok(Jitter::Percent(share)),
                    _ => wrong(expr, "write a whole share from `\"1%\"` to `\"100%\"`"),
                };
            }
            None => duration::parse(&text.value()).or_else(|message| wrong(expr, &message))?,
        },
        _ => return wrong(expr, forms),
    };
    if time.is_zero() {
        return wrong(expr, "zero `jitter` adds nothing: remove it");
    }
    Ok(Jitter::UpTo(time))
}

fn version(expr: &Expr) -> syn::Result<u32> {
    match literal(expr) {
        Some(Lit::Int(int)) => int
            .base10_parse()
            .or_else(|_| wrong(expr, "`version` is at most 4294967295")),
        _ => wrong(expr, "write a whole number: `version = 2`"),
    }
}

fn flight(expr: &Expr) -> syn::Result<Flight> {
    one_of(
        expr,
        [
            ("fleet", Flight::Fleet),
            ("process", Flight::Process),
            ("off", Flight::Off),
        ],
    )
}

fn helpers(expr: &Expr) -> syn::Result<HelpersArg> {
    one_of(
        expr,
        [("method", HelpersArg::Method), ("none", HelpersArg::None)],
    )
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
    wrong(
        expr,
        &format!("unknown value `\"{word}\"`: write one of {choice}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn parse(tokens: TokenStream) -> (CacheArgs, Vec<String>) {
        let mut errors = Errors::default();
        let args = CacheArgs::parse(tokens, &mut errors);
        let messages = errors.finish().err().into_iter().flatten();
        (args, messages.map(|error| error.to_string()).collect())
    }

    #[test]
    fn options_come_in_any_order() {
        let (args, errors) = parse(quote! {
            skip(db, self), version = 3, key_prefix = "user", ttl = "10m", crate = ::elsewhere,
            unless = |value| value.is_empty(), when = id > 0, cache = &self.cache,
        });
        assert_eq!(errors, Vec::<String>::new());
        assert!(
            matches!(&args.ttl, Some(Arg { value: Life::Fixed(time, _), .. }) if time.as_secs() == 600)
        );
        assert_eq!(args.skip.map(|skip| skip.value.len()), Some(2));
        assert_eq!(args.version.map(|version| version.value), Some(3));
        assert!(
            args.when.is_some()
                && args.unless.is_some()
                && args.cache.is_some()
                && args.krate.is_some()
        );
        assert!(!args.broken);
    }

    #[test]
    fn a_closure_keeps_its_commas() {
        let (args, errors) = parse(quote!(
            key_builder = |a, b| format!("{a}{b}"),
            ttl = |value| value.life,
            jitter = 60
        ));
        assert_eq!(errors, Vec::<String>::new());
        assert!(
            matches!(&args.key_builder, Some(Arg { value: Builder::Closure(closure), .. }) if closure.inputs.len() == 2)
        );
        assert!(matches!(
            args.ttl,
            Some(Arg {
                value: Life::After(_),
                ..
            })
        ));
        assert!(args.jitter.is_some());
    }

    #[test]
    fn every_mistake_is_reported_and_the_rest_is_read() {
        let (args, errors) = parse(quote!(tll = 5, jitter = "200%", key = 3, version = 1, ttl = ));
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors[0].contains("did you mean `ttl`"));
        assert!(errors[3].contains("write `ttl = 300`"));
        assert!(args.version.is_some() && args.broken);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (tokens, says) in [
            (quote!(ttl), "`ttl` needs a value: write `ttl = 300`"),
            (quote!(ttl(5)), "`ttl` needs a value"),
            (quote!(ttl = 1.5), "whole seconds"),
            (quote!(ttl = -1), "whole seconds"),
            (quote!(ttl = "10"), "no unit"),
            (quote!(300), "write `ttl = 300`"),
            (quote!(skip = db), "write `skip(db)`"),
            (quote!(skip()), "names no argument"),
            (quote!(skip("db")), "names of arguments"),
            (quote!(ttl = 5 key = "a"), "expected a `,`"),
            (quote!(ttl = 5, ttl = 6), "`ttl` is given twice"),
            (quote!(jitter = 0), "adds nothing"),
            (quote!(jitter = "0%"), "from `\"1%\"`"),
            (quote!(single_flight = "none"), "`\"process\"`"),
            (quote!(helpers = "yes"), "`\"method\"`"),
            (quote!(when = |id| id > 0), "no closure"),
            (quote!(unless = true), "write a closure"),
            (quote!(key_builder = "a:{id}"), "write a closure"),
            (quote!(version = "2"), "whole number"),
            (quote!(cache_none = 0), "`cache_none = false`"),
            (quote!(refresh_ahead = 5), "unknown option `refresh_ahead`"),
        ] {
            let shown = tokens.to_string();
            let (_, errors) = parse(tokens);
            assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
            assert!(errors[0].contains(says), "{shown}: {errors:?}");
        }
    }
}
