//! `#[cache_put(..)]`: its grammar and what it means.

use crate::args::CacheArgs;
use crate::check;
use crate::errors::Errors;
use crate::item::FnItem;
use crate::list::{each, option_name};
use crate::site::{Helpers, Site};
use crate::target::{Target, Typed};
use proc_macro2::{Ident, Span, TokenStream};
use syn::ext::IdentExt;
use syn::{Expr, Path, Token};

/// What `#[cache_put(..)]` says.
#[derive(Default)]
pub(crate) struct PutArgs {
    targets: Vec<Target>,
    /// The options, which are those of `#[cache]`.
    cache: CacheArgs,
    broken: bool,
}

/// What it means for this function.
pub(crate) struct Put {
    pub(crate) krate: Option<Path>,
    pub(crate) place: Place,
}

/// Where the value goes.
pub(crate) enum Place {
    /// Into the entry of a cached function.
    Typed(Box<Typed>),
    /// Under a key that stands here.
    Key(Box<Site>),
}

const OPTIONS: [(&str, &str); 5] = [
    ("key", "key = \"user:{id}\""),
    ("key_builder", "key_builder = |id| format!(\"user:{id}\")"),
    ("ttl", "ttl = 300"),
    ("cache", "cache = &self.cache"),
    ("crate", "crate = ::cache_aside"),
];

impl PutArgs {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let before = errors.is_empty();
        each(tokens, errors, |input, errors| {
            if input.peek(Ident::peek_any) && input.peek2(Token![=]) {
                let name = option_name(input, &OPTIONS)?;
                return args.cache.option(&name, input, errors);
            }
            let message = "a target is a cached function with its arguments: `get_user(id)`";
            if let Some(all) = Target::all(input) {
                let all = all?;
                let message =
                    format!("one value has one entry: write `{}(..)` with its arguments", all.name());
                return Err(syn::Error::new(all.name().span(), message));
            }
            let target: Expr = input.parse().map_err(|error| syn::Error::new(error.span(), message))?;
            let shown = target.clone();
            let typed = Target::of(target).unwrap_or_else(|| {
                let message = format!("{message}; a key of your own is `key = \"user:{{id}}\"`");
                Err(syn::Error::new_spanned(shown, message))
            });
            args.targets.push(typed?);
            Ok(())
        });
        args.broken = before && !errors.is_empty();
        args.cache.broken = args.broken;
        args
    }
}

impl Put {
    pub(crate) fn resolve(args: PutArgs, item: &FnItem, errors: &mut Errors) -> Option<Self> {
        let PutArgs { mut targets, mut cache, broken } = args;
        let has_key = cache.key.is_some() || cache.key_builder.is_some();
        if item.returns().is_none() {
            let name = &item.sig.ident;
            errors.at(name, format!("`{name}` returns nothing to store: add a return type"));
        }
        if let Some(second) = targets.get(1) {
            errors.at(second.name(), "one value, one entry: stack another `#[cache_put(..)]` for this one");
        }
        let Some(target) = (!targets.is_empty()).then(|| targets.swap_remove(0)) else {
            if !has_key {
                if !broken {
                    errors.span(
                        Span::call_site(),
                        "`#[cache_put]` needs a target: write `#[cache_put(get_user(id))]`, or a `key`",
                    );
                }
                return None;
            }
            check::cache(&cache, item, errors);
            let krate = cache.krate.take().map(|arg| arg.value);
            let mut site = Site::resolve(cache, item, errors)?;
            (site.krate, site.helpers) = (krate.clone(), Helpers::None);
            return Some(Self { krate, place: Place::Key(Box::new(site)) });
        };
        let names = [
            cache.key.as_ref().map(|arg| &arg.name),
            cache.key_builder.as_ref().map(|arg| &arg.name),
            cache.ttl.as_ref().map(|arg| &arg.name),
            cache.cache.as_ref().map(|arg| &arg.name),
        ];
        for name in names.into_iter().flatten() {
            errors.at(name, format!("`{name}` is the target's own: remove it here"));
        }
        let typed = target.resolve(item, errors)?;
        if let Some(value) = &typed.value {
            errors.at(
                value,
                "the key must be known before the body runs, and there is no `value` yet: name arguments, or forget the entry instead, by `#[cache_invalidate(..)]`",
            );
        }
        let krate = cache.krate.map(|arg| arg.value);
        Some(Self { krate, place: Place::Typed(Box::new(typed)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn mistakes(tokens: TokenStream, item: TokenStream) -> Vec<String> {
        let mut errors = Errors::default();
        let args = PutArgs::parse(tokens, &mut errors);
        let item = syn::parse2(item).unwrap_or_else(|error| panic!("{error}"));
        let put = Put::resolve(args, &item, &mut errors);
        assert!(put.is_some() || !errors.is_empty());
        errors.finish().err().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn a_target_or_a_key() {
        for args in [
            quote!(get_user(id)),
            quote!(self.get_user(id), crate = ::elsewhere),
            quote!(key = "user:{id}", ttl = "10m", cache = &self.cache),
            quote!(key_builder = |id| format!("user:{id}"), ttl = |value| value.life),
        ] {
            let shown = args.to_string();
            let found = mistakes(
                args,
                quote!(
                    async fn f(&self, id: u8) -> Result<User, E> {}
                ),
            );
            assert_eq!(found, Vec::<String>::new(), "{shown}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (args, says) in [
            (quote!(), "needs a target"),
            (quote!(ttl = 5), "needs a target"),
            (quote!("user:{id}"), "`key = \"user:{id}\"`"),
            (quote!(get_user), "`get_user(..)`"),
            (quote!(get_user::*), "one entry"),
            (quote!(get_user(id), get_name(id)), "stack"),
            (quote!(get_user(id), ttl = 5), "`ttl` is the target's own"),
            (quote!(get_user(id), cache = cache), "`cache` is the target's own"),
            (quote!(get_user(value.id)), "before the body runs"),
            (quote!(key = "user:{id}", ttl = 0), "zero `ttl`"),
            (quote!(key = "user:{id}", key_builder = |id| id), "keep one"),
            (quote!(key = "user:{ip}"), "did you mean `id`"),
            (quote!(key = "user:{id}", unless = |value| value), "unknown option `unless`"),
        ] {
            let shown = args.to_string();
            let found = mistakes(
                args,
                quote!(
                    async fn f(id: u8) -> u8 {}
                ),
            );
            assert_eq!(found.len(), 1, "{shown}: {found:?}");
            assert!(found[0].contains(says), "{shown}: {found:?}");
        }
        let found = mistakes(
            quote!(get_user(id)),
            quote!(
                async fn f(id: u8) {}
            ),
        );
        assert!(found.len() == 1 && found[0].contains("add a return type"), "{found:?}");
    }
}
