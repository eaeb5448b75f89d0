//! What the attribute means for this function: names become arguments, defaults are settled.

use crate::args::{Arg, CacheArgs};
use crate::errors::{Errors, hint};
use crate::generics;
use crate::item::{FnItem, Shape};
use crate::names;
use crate::tags::Tags;
use crate::template::{Piece, Place, Template};
use crate::values::{Ahead, Builder, Codec, Fixed, Flight, HelpersArg, Jitter, Life, Near};
use proc_macro2::{Ident, Span};
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::{Expr, ExprClosure, ExprPath, LitStr, Pat, Path, Type};

pub(crate) struct Site {
    pub(crate) krate: Option<Path>,
    pub(crate) key: Key,
    pub(crate) helpers: Helpers,
    pub(crate) ttl: Option<Life>,
    pub(crate) none_ttl: Option<Life>,
    pub(crate) keep_none: bool,
    pub(crate) jitter: Option<Jitter>,
    pub(crate) refresh_ahead: Option<Ahead>,
    pub(crate) stale_if_error: Option<Fixed>,
    pub(crate) timeout: Option<Fixed>,
    pub(crate) flight: Option<Flight>,
    pub(crate) near: Option<Near>,
    /// Over the arguments, and over the result too; nothing: the function has no tags.
    pub(crate) tags: Option<Tags>,
    /// The queue of writes that is asked before the function runs.
    pub(crate) pending: Option<LitStr>,
    pub(crate) version: Option<u32>,
    pub(crate) codec: Option<Codec>,
    pub(crate) when: Option<Expr>,
    pub(crate) unless: Option<ExprClosure>,
    pub(crate) cache: Option<Expr>,
}

pub(crate) enum Key {
    Hashed(Hashed),
    Template { glob: String, parts: Vec<Part> },
    Closure { closure: ExprClosure, args: Vec<Ident> },
    Path { path: ExprPath, this: bool, args: Vec<Ident> },
}

/// A key over all arguments that are not skipped.
pub(crate) struct Hashed {
    pub(crate) prefix: Option<LitStr>,
    pub(crate) args: Vec<Ident>,
    /// Type parameters that count.
    pub(crate) types: Vec<Ident>,
    /// Const parameters that count.
    pub(crate) consts: Vec<Ident>,
    /// Arguments of an `impl Trait` type, which no name tells apart.
    pub(crate) opaque: Vec<Ident>,
    pub(crate) this: bool,
}

/// A piece of a template, resolved.
pub(crate) enum Part {
    Text(String),
    /// An argument, or a field of one.
    Argument {
        root: Ident,
        fields: Vec<String>,
        span: Span,
    },
    /// What the function returned, or a field of it.
    Result {
        fields: Vec<String>,
        span: Span,
    },
}

/// Where the helpers go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Helpers {
    /// On a type beside the function that has its name.
    Beside,
    /// Beside a method, its name in front.
    Method,
    None,
}

impl Site {
    pub(crate) fn resolve(args: CacheArgs, item: &FnItem, errors: &mut Errors) -> Option<Self> {
        let key = Key::resolve(&args, item, errors);
        let tags = args.tags.as_ref().map(|tags| Tags::resolve(&tags.value, item, errors));
        let helpers = match (&args.helpers, &item.shape) {
            (_, Shape::Boxed(_)) | (Some(Arg { value: HelpersArg::None, .. }), _) => Helpers::None,
            (Some(Arg { value: HelpersArg::Method, .. }), _) => Helpers::Method,
            (None, _) if item.receiver().is_some() || names::in_type(&item.sig).contains("Self") => {
                Helpers::Method
            }
            (None, _) => Helpers::Beside,
        };
        Some(Self {
            krate: value(args.krate),
            key: key?,
            helpers,
            ttl: value(args.ttl),
            none_ttl: value(args.none_ttl),
            keep_none: value(args.cache_none).unwrap_or(true),
            jitter: value(args.jitter),
            refresh_ahead: value(args.refresh_ahead),
            stale_if_error: value(args.stale_if_error),
            timeout: value(args.timeout),
            flight: value(args.single_flight),
            near: value(args.near),
            tags,
            pending: value(args.pending),
            version: value(args.version),
            codec: value(args.codec),
            when: value(args.when),
            unless: value(args.unless),
            cache: value(args.cache),
        })
    }

    /// Names that choosing the cache reads.
    pub(crate) fn cache_reads(&self) -> BTreeSet<String> {
        self.cache.as_ref().map(names::in_expr).unwrap_or_default()
    }

    /// Names that making the key reads.
    pub(crate) fn key_reads(&self) -> BTreeSet<String> {
        match &self.key {
            Key::Hashed(hashed) => hashed.args.iter().map(plain).collect(),
            Key::Template { parts, .. } => roots(parts).collect(),
            Key::Closure { closure, args } => {
                let mut reads = names::in_expr(&closure.body);
                reads.extend(args.iter().map(plain));
                reads
            }
            Key::Path { this, args, .. } => {
                let this = this.then(|| "self".to_owned());
                args.iter().map(plain).chain(this).collect()
            }
        }
    }

    /// Names that the tags read.
    pub(crate) fn tag_reads(&self) -> BTreeSet<String> {
        self.tags.as_ref().map(Tags::reads).unwrap_or_default()
    }

    /// Names that the times to live read.
    pub(crate) fn life_reads(&self) -> BTreeSet<String> {
        let mut reads = BTreeSet::new();
        for life in [&self.ttl, &self.none_ttl].into_iter().flatten() {
            match life {
                Life::Fixed(..) => {}
                Life::Before(expr) => reads.extend(names::in_expr(expr)),
                Life::After(closure) => reads.extend(names::in_expr(&closure.body)),
            }
        }
        reads
    }
}

/// Names that a template reads.
pub(crate) fn roots(parts: &[Part]) -> impl Iterator<Item = String> {
    parts.iter().filter_map(|part| match part {
        Part::Argument { root, .. } => Some(plain(root)),
        Part::Text(_) | Part::Result { .. } => None,
    })
}

impl Key {
    /// Whether calls with the same key have the same text here.
    pub(crate) fn implies(&self, part: &Part) -> bool {
        let Part::Argument { root, fields, .. } = part else { return true };
        match self {
            // A field may be skipped by its type's `Serialize`.
            Self::Hashed(hashed) => fields.is_empty() && hashed.args.contains(root),
            Self::Template { parts, .. } => parts.iter().any(|known| {
                matches!(known, Part::Argument { root: arg, fields: path, .. } if arg == root && path == fields)
            }),
            Self::Closure { .. } | Self::Path { .. } => false,
        }
    }

    fn resolve(args: &CacheArgs, item: &FnItem, errors: &mut Errors) -> Option<Self> {
        let skipped = skipped(args, item, errors);
        let kept = || {
            let kept = item.bindings().filter(|ident| !skipped.contains(&plain(ident)));
            kept.cloned().collect::<Vec<_>>()
        };
        let this = item.receiver().is_some() && !skipped.contains("self");
        if let Some(key) = &args.key {
            let template = errors.ok(Template::parse(&key.value))?;
            if template.pieces.is_empty() {
                errors.at(&key.value, "an empty `key`: write `key = \"user:{id}\"`");
            }
            let parts = fill(&template, item, Results::None, errors)?;
            return Some(Self::Template { glob: template.glob(), parts });
        }
        match args.key_builder.as_ref().map(|arg| &arg.value) {
            Some(Builder::Closure(closure)) => {
                let args = closure.inputs.iter().map(|pat| parameter(pat, item, errors));
                let args: Vec<_> = args.collect();
                Some(Self::Closure {
                    closure: closure.clone(),
                    args: args.into_iter().collect::<Option<_>>()?,
                })
            }
            Some(Builder::Path(path)) => Some(Self::Path { path: path.clone(), this, args: kept() }),
            None => {
                if let (Some(receiver), true, false) = (item.receiver(), this, args.broken) {
                    errors.at(receiver, "say what of `self` matters: `skip(self)` if nothing does, or a `key` such as `\"{self.tenant}:{id}\"`");
                }
                let counted = generics::counted(item, &skipped);
                let generics = &item.sig.generics;
                let count = |idents: Vec<&Ident>| -> Vec<Ident> {
                    idents.into_iter().filter(|ident| counted.contains(&ident.to_string())).cloned().collect()
                };
                Some(Self::Hashed(Hashed {
                    prefix: args.key_prefix.as_ref().map(|prefix| prefix.value.clone()),
                    args: kept(),
                    types: count(generics.type_params().map(|param| &param.ident).collect()),
                    consts: count(generics.const_params().map(|param| &param.ident).collect()),
                    opaque: opaque(item, &skipped),
                    this: item.receiver().is_some(),
                }))
            }
        }
    }
}

/// Whether a template may speak of what the function returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// The key is made before there is a result.
    None,
    Value,
}

/// Finds the argument behind each placeholder.
pub(crate) fn fill(
    template: &Template,
    item: &FnItem,
    results: Results,
    errors: &mut Errors,
) -> Option<Vec<Part>> {
    let parts: Vec<Option<Part>> = template
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => Some(Part::Text(text.clone())),
            Piece::Place(place) => part(place, item, results, errors),
        })
        .collect();
    parts.into_iter().collect()
}

fn part(place: &Place, item: &FnItem, results: Results, errors: &mut Errors) -> Option<Part> {
    let Place { root, fields, span } = place;
    let (fields, span) = (fields.clone(), *span);
    let argument = match root.as_str() {
        "self" => item.receiver().map(|receiver| Ident::new("self", receiver.self_token.span)),
        name => item.binding(name).cloned(),
    };
    match (root.as_str(), argument, results) {
        ("value", Some(argument), Results::Value) => {
            errors.span(
                argument.span(),
                "`{value}` in the pattern is what the function returned: rename this argument",
            );
            None
        }
        ("value", None, Results::Value) => Some(Part::Result { fields, span }),
        (_, Some(mut root), _) => {
            root.set_span(root.span().located_at(span));
            Some(Part::Argument { root, fields, span })
        }
        ("value", None, Results::None) => {
            errors.span(span, "there is no `value` yet when the key is made: name an argument");
            None
        }
        ("self", None, _) => {
            errors.span(span, format!("`{}`: this function has no `self`", place.written()));
            None
        }
        (root, None, _) => {
            let names = item.names();
            let hint = hint(root, names.iter().map(String::as_str), "the arguments are");
            errors.span(span, format!("`{}` names no argument{hint}", place.written()));
            None
        }
    }
}

fn skipped(args: &CacheArgs, item: &FnItem, errors: &mut Errors) -> BTreeSet<String> {
    let mut skipped = BTreeSet::new();
    let names = item.names();
    for ident in args.skip.iter().flat_map(|skip| &skip.value) {
        let name = plain(ident);
        if name == "self" && item.receiver().is_none() {
            errors.at(ident, "this function has no `self` to skip");
        } else if !names.contains(&name) {
            let hint = hint(&name, names.iter().map(String::as_str), "the arguments are");
            errors.at(ident, format!("`{name}` is not an argument{hint}"));
        } else if !skipped.insert(name) {
            errors.at(ident, format!("`{ident}` is skipped twice"));
        }
    }
    skipped
}

/// The argument that a parameter of a `key_builder` names.
fn parameter(pat: &Pat, item: &FnItem, errors: &mut Errors) -> Option<Ident> {
    let inner = match pat {
        Pat::Type(typed) => &*typed.pat,
        pat => pat,
    };
    let Pat::Ident(ident) = inner else {
        errors.at(pat, "a parameter of `key_builder` is the name of an argument");
        return None;
    };
    let name = plain(&ident.ident);
    let found = item.binding(&name).cloned();
    if found.is_none() {
        let names: Vec<String> = item.bindings().map(plain).collect();
        let hint = hint(&name, names.iter().map(String::as_str), "the arguments are");
        errors.at(&ident.ident, format!("`{name}` is not an argument{hint}"));
    }
    found
}

fn opaque(item: &FnItem, skipped: &BTreeSet<String>) -> Vec<Ident> {
    let params = item.params.iter().filter(|param| names::in_type(&param.ty).contains("impl"));
    let names = params.flat_map(|param| &param.bindings);
    names.filter(|ident| !skipped.contains(&plain(ident))).cloned().collect()
}

/// Whether an argument is a reference, so that `&*name` is what a reader expects by `&name`.
pub(crate) fn is_reference(item: &FnItem, name: &Ident) -> bool {
    item.params.iter().any(|param| {
        matches!(&param.pat, Pat::Ident(pat) if pat.ident == *name && pat.by_ref.is_none())
            && matches!(&param.ty, Type::Reference(_))
    })
}

pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

fn value<T>(arg: Option<Arg<T>>) -> Option<T> {
    arg.map(|arg| arg.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::TokenStream;
    use quote::quote;

    fn resolve(args: TokenStream, item: TokenStream) -> Site {
        let mut errors = Errors::default();
        let args = CacheArgs::parse(args, &mut errors);
        let item = syn::parse2(item).unwrap_or_else(|error| panic!("{error}"));
        let site = Site::resolve(args, &item, &mut errors);
        errors.finish().unwrap_or_else(|error| panic!("{error}"));
        site.expect("there was no mistake")
    }

    #[test]
    fn helpers_go_where_they_can() {
        for (args, item, helpers) in [
            (
                quote!(),
                quote!(
                    async fn f(id: u8) -> u8 {}
                ),
                Helpers::Beside,
            ),
            (
                quote!(skip(self)),
                quote!(
                    async fn f(&self) -> u8 {}
                ),
                Helpers::Method,
            ),
            (
                quote!(),
                quote!(
                    async fn f(id: u8) -> Option<Self> {}
                ),
                Helpers::Method,
            ),
            (
                quote!(helpers = "method"),
                quote!(
                    async fn f() -> u8 {}
                ),
                Helpers::Method,
            ),
            (
                quote!(skip(self), helpers = "none"),
                quote!(
                    async fn f(&self) -> u8 {}
                ),
                Helpers::None,
            ),
        ] {
            let shown = item.to_string();
            assert_eq!(resolve(args, item).helpers, helpers, "{shown}");
        }
    }

    #[test]
    fn helpers_take_what_they_read() {
        let reads = |args: TokenStream| {
            let item = quote!(
                async fn f(&self, a: u8, b: u8, c: u8) -> u8 {}
            );
            let site = resolve(args, item);
            let names = &(&site.key_reads() | &site.cache_reads()) | &site.life_reads();
            let known = names.into_iter().filter(|name| ["self", "a", "b", "c"].contains(&name.as_str()));
            known.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(reads(quote!(skip(self, b))), "a c");
        assert_eq!(reads(quote!(key = "{self.x}:{b}")), "b self");
        assert_eq!(reads(quote!(key_builder = |a| format!("{a}{c}"))), "a c");
        assert_eq!(reads(quote!(key_builder = build, skip(a))), "b c self");
        assert_eq!(reads(quote!(key = "{a}", cache = &self.cache, ttl = life(c))), "a c self");
    }
}
