//! The rules: what may not stand together, and what must be said.

mod owned;
mod stale;

use crate::args::{Arg, CacheArgs};
use crate::errors::Errors;
use crate::item::{FnItem, Macro, Shape};
use crate::values::{Builder, Life};
use syn::{GenericArgument, PathArguments, Safety, Type, TypeImplTrait, visit};

/// Rules that every decorated function keeps.
pub(crate) fn function(speaker: Macro, item: &FnItem, errors: &mut Errors) {
    let sig = &item.sig;
    if let Some(token) = &sig.constness {
        errors.at(token, format!("remove `const`: {speaker} awaits, which a `const fn` cannot"));
    } else if matches!(item.shape, Shape::Not) {
        errors.at(sig.fn_token, format!("add `async`: {speaker} wraps an async function"));
    }
    if let Safety::Unsafe(token) = &sig.safety {
        errors.at(token, format!("{speaker} cannot keep what an `unsafe fn` asks of its callers: decorate a safe function that calls it"));
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, format!("remove `extern`: {speaker} wraps a plain async function"));
    }
    if let Some(dots) = &sig.variadic {
        errors.at(dots, format!("{speaker} cannot pass variadic arguments on"));
    }
    if let Some(opaque) = item.returns().and_then(find_opaque) {
        errors.at(opaque, format!("{speaker} needs the name of the type: write it instead of `impl`"));
    }
    attributes(speaker, item, errors);
}

fn attributes(speaker: Macro, item: &FnItem, errors: &mut Errors) {
    for attr in &item.attrs {
        match (speaker, Macro::of(attr)) {
            (Macro::Cache, Some(Macro::Cache)) => {
                errors.at(attr, "`#[cache]` is given twice: keep one");
            }
            (Macro::Cache, Some(Macro::Invalidate)) | (Macro::Invalidate, Some(Macro::Cache)) => {
                errors.at(attr, "`#[cache]` and `#[cache_invalidate]` on one function: a hit would skip the write; split it into one that reads and one that writes");
            }
            (Macro::Cache, Some(Macro::Put)) | (Macro::Put, Some(Macro::Cache)) => {
                errors.at(attr, "`#[cache]` and `#[cache_put]` on one function: a hit would skip the write; split it into one that reads and one that writes");
            }
            // Writers' attributes stack: the inner one wraps what the outer one made.
            (Macro::Invalidate | Macro::Put, _) | (_, None) => {}
        }
    }
}

/// Rules of `#[cache]` alone.
pub(crate) fn cache(args: &CacheArgs, item: &FnItem, errors: &mut Errors) {
    returns(item, errors);
    lives(args, errors);
    key(args, errors);
    stale::times(args, errors);
    owned::owned(args, item, errors);
    if let (Some(arg), Shape::Boxed(_)) = (&args.helpers, &item.shape) {
        errors.at(
            &arg.name,
            "remove `helpers`: an `#[async_trait]` method never has any, a trait impl has no room for them",
        );
    }
}

fn returns(item: &FnItem, errors: &mut Errors) {
    match item.returns() {
        None => errors
            .at(&item.sig.ident, format!("`{}` returns nothing to cache: add a return type", item.sig.ident)),
        Some(ty @ Type::Tuple(tuple)) if tuple.elems.is_empty() => {
            errors.at(ty, "`()` holds nothing to cache: return a value");
        }
        Some(ty @ Type::Never(_)) => errors.at(ty, "`!` is never there to be cached: return a value"),
        Some(ty) => {
            if let Some(borrow) = find_borrow(ty) {
                errors.at(
                    borrow,
                    "a cached value outlives the call: return an owned type, such as `String` for `&str` or `Vec<T>` for `&[T]`",
                );
            }
        }
    }
}

fn lives(args: &CacheArgs, errors: &mut Errors) {
    if let Some(Arg { value: Life::Fixed(time, span), .. }) = &args.ttl
        && time.is_zero()
    {
        errors.span(*span, "zero `ttl` caches nothing: write a longer time, or remove the attribute");
    }
    let Some(none_ttl) = &args.none_ttl else {
        return;
    };
    if let Life::Fixed(time, span) = &none_ttl.value
        && time.is_zero()
    {
        errors.span(*span, "zero `none_ttl`: write `cache_none = false`, so that `None` is not cached");
    }
    if args.cache_none.as_ref().is_some_and(|keep| !keep.value) {
        errors.at(&none_ttl.name, "`none_ttl` has no effect beside `cache_none = false`: keep one");
    }
}

fn key(args: &CacheArgs, errors: &mut Errors) {
    if let (Some(_), Some(builder)) = (&args.key, &args.key_builder) {
        errors.at(&builder.name, "`key` and `key_builder` both make the key: keep one");
        return;
    }
    if let Some(prefix) = &args.key_prefix {
        let text = prefix.value.value();
        let bad = |c: char| c.is_whitespace() || c.is_control() || "*?[]{}\\%".contains(c);
        if let Some(key) = &args.key {
            let key = key.value.value();
            errors.at(
                &prefix.name,
                format!("`key` is the whole key: write the prefix into it, `key = \"{text}:{key}\"`"),
            );
        } else if args.key_builder.is_some() {
            errors
                .at(&prefix.name, format!("`key_builder` makes the whole key: let it begin with `{text}:`"));
        } else if text.is_empty() {
            errors.at(&prefix.value, "an empty `key_prefix`: write `key_prefix = \"user\"`, or remove it");
        } else if let Some(c) = text.chars().find(|c| bad(*c)) {
            errors.at(
                &prefix.value,
                format!(
                    "`{}` cannot stand in a `key_prefix`: use letters, digits, `_`, `-`, `.` and `:`",
                    c.escape_debug()
                ),
            );
        }
    }
    if let Some(skip) = &args.skip {
        let name = match (&args.key, &args.key_builder) {
            (Some(_), _) => "key",
            (_, Some(Arg { value: Builder::Closure(_), .. })) => "key_builder",
            // A path takes all arguments that are not skipped.
            _ => return,
        };
        errors.at(
            &skip.name,
            format!("`skip` has no effect: `{name}` already says all that counts; remove it"),
        );
    }
}

/// A reference in what is stored. Only the first parameter of a type is looked into: a later one may
/// be the error of a `Result`, which borrows as it likes.
fn find_borrow(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Reference(_) => Some(ty),
        Type::Group(group) => find_borrow(&group.elem),
        Type::Paren(paren) => find_borrow(&paren.elem),
        Type::Array(array) => find_borrow(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(find_borrow),
        Type::Path(path) => match &path.path.segments.last()?.arguments {
            PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
                GenericArgument::Type(first) => find_borrow(first).filter(|borrow| !is_static(borrow)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn is_static(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference) if reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static"))
}

fn find_opaque(ty: &Type) -> Option<&TypeImplTrait> {
    struct Find<'a>(Option<&'a TypeImplTrait>);
    impl<'ast> visit::Visit<'ast> for Find<'ast> {
        fn visit_type_impl_trait(&mut self, opaque: &'ast TypeImplTrait) {
            self.0.get_or_insert(opaque);
        }
    }
    let mut find = Find(None);
    visit::Visit::visit_type(&mut find, ty);
    find.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::TokenStream;
    use quote::quote;

    fn mistakes(args: TokenStream, item: TokenStream) -> Vec<String> {
        let mut errors = Errors::default();
        let args = CacheArgs::parse(args, &mut errors);
        let item = syn::parse2(item).unwrap_or_else(|error| panic!("{error}"));
        function(Macro::Cache, &item, &mut errors);
        cache(&args, &item, &mut errors);
        let errors = errors.finish().err().into_iter().flatten();
        errors.map(|error| error.to_string()).collect()
    }

    #[test]
    fn functions_that_cannot_be_cached() {
        for (item, says) in [
            (
                quote!(
                    fn f() -> u8 {}
                ),
                "add `async`",
            ),
            (
                quote!(
                    const fn f() -> u8 {}
                ),
                "remove `const`",
            ),
            (
                quote!(
                    async fn f() {}
                ),
                "add a return type",
            ),
            (
                quote!(
                    async fn f() -> () {}
                ),
                "holds nothing",
            ),
            (
                quote!(
                    async fn f() -> ! {}
                ),
                "never there",
            ),
            (
                quote!(
                    async fn f(s: &str) -> &str {}
                ),
                "return an owned type",
            ),
            (
                quote!(
                    async fn f() -> Option<impl Sized> {}
                ),
                "instead of `impl`",
            ),
            (
                quote!(
                    async unsafe fn f() -> u8 {}
                ),
                "`unsafe fn`",
            ),
            (
                quote!(
                    async extern "C" fn f() -> u8 {}
                ),
                "remove `extern`",
            ),
            (
                quote!(
                    #[cache]
                    async fn f() -> u8 {}
                ),
                "given twice",
            ),
            (
                quote!(
                    #[cache_invalidate("a")]
                    async fn f() -> u8 {}
                ),
                "split it",
            ),
        ] {
            let shown = item.to_string();
            let found = mistakes(TokenStream::new(), item);
            assert_eq!(found.len(), 1, "{shown}: {found:?}");
            assert!(found[0].contains(says), "{shown}: {found:?}");
        }
    }

    #[test]
    fn errors_may_borrow() {
        for item in [
            quote!(
                async fn f() -> Result<u8, &str> {}
            ),
            quote!(
                async fn f() -> Fallible<&'static str> {}
            ),
            quote!(
                async fn f(s: &str) -> Cow<'_, str> {}
            ),
        ] {
            assert_eq!(mistakes(TokenStream::new(), item), Vec::<String>::new());
        }
    }

    #[test]
    fn options_that_cannot_stand_together() {
        for (args, says) in [
            (quote!(ttl = 0), "zero `ttl`"),
            (quote!(ttl = "0s"), "zero `ttl`"),
            (quote!(none_ttl = 0), "`cache_none = false`"),
            (quote!(none_ttl = 5, cache_none = false), "no effect"),
            (quote!(key = "a", key_builder = |id| id), "keep one"),
            (quote!(key = "a:{id}", key_prefix = "p"), "`key = \"p:a:{id}\"`"),
            (quote!(key_builder = build, key_prefix = "p"), "begin with `p:`"),
            (quote!(key = "a", skip(db)), "`skip` has no effect: `key`"),
            (quote!(key_builder = |id| id, skip(db)), "`skip` has no effect: `key_builder`"),
            (quote!(key_prefix = ""), "empty `key_prefix`"),
            (quote!(key_prefix = "a b"), "` ` cannot stand"),
            (quote!(key_prefix = "user*"), "`*` cannot stand"),
            (quote!(key_prefix = "a\n"), "`\\n` cannot stand"),
        ] {
            let shown = args.to_string();
            let found = mistakes(
                args,
                quote!(
                    async fn f(id: u8, db: u8) -> u8 {}
                ),
            );
            assert_eq!(found.len(), 1, "{shown}: {found:?}");
            assert!(found[0].contains(says), "{shown}: {found:?}");
        }
        let fine = mistakes(
            quote!(key_builder = build, skip(db)),
            quote!(
                async fn f(id: u8, db: u8) -> u8 {}
            ),
        );
        assert_eq!(fine, Vec::<String>::new());
    }
}
