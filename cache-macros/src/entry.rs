//! The order of the verbs, and what is left of a function when one of them fails.

use crate::args::CacheArgs;
use crate::check;
use crate::errors::Errors;
use crate::expand;
use crate::invalidate::{InvalidateArgs, Invalidation};
use crate::item::{FnItem, Macro};
use crate::put::{Put, PutArgs};
use crate::site::Site;
use proc_macro2::TokenStream;

pub(crate) fn cache(args: TokenStream, item: &TokenStream) -> TokenStream {
    decorate(Macro::Cache, item, |item, errors| {
        let args = CacheArgs::parse(args, errors);
        check::function(Macro::Cache, item, errors);
        check::cache(&args, item, errors);
        let site = Site::resolve(args, item, errors)?;
        errors.is_empty().then(|| expand::cache(&site, item))
    })
}

pub(crate) fn cache_invalidate(args: TokenStream, item: &TokenStream) -> TokenStream {
    decorate(Macro::Invalidate, item, |item, errors| {
        let args = InvalidateArgs::parse(args, errors);
        check::function(Macro::Invalidate, item, errors);
        let invalidation = Invalidation::resolve(args, item, errors);
        errors.is_empty().then(|| expand::invalidate(&invalidation, item))
    })
}

pub(crate) fn cache_put(args: TokenStream, item: &TokenStream) -> TokenStream {
    decorate(Macro::Put, item, |item, errors| {
        let args = PutArgs::parse(args, errors);
        check::function(Macro::Put, item, errors);
        let put = Put::resolve(args, item, errors)?;
        errors.is_empty().then(|| expand::put(&put, item))
    })
}

/// After a mistake the function stays as it was written, so that callers and the IDE go on.
fn decorate(
    speaker: Macro,
    tokens: &TokenStream,
    work: impl FnOnce(&FnItem, &mut Errors) -> Option<TokenStream>,
) -> TokenStream {
    let item: FnItem = match syn::parse2(tokens.clone()) {
        Ok(item) => item,
        Err(error) => return expand::broken(&not_a_function(speaker, tokens, error), tokens),
    };
    let mut errors = Errors::default();
    let expansion = work(&item, &mut errors);
    match (errors.finish(), expansion) {
        (Ok(()), Some(expansion)) => expansion,
        (Ok(()), None) => item.plain(),
        (Err(error), _) => expand::broken(&error, &item.plain()),
    }
}

fn not_a_function(speaker: Macro, tokens: &TokenStream, error: syn::Error) -> syn::Error {
    match syn::parse2(tokens.clone()) {
        // A trait's method without a body: the grammar has said so.
        Ok(syn::Item::Fn(_) | syn::Item::Verbatim(_)) | Err(_) => error,
        Ok(other) => syn::Error::new_spanned(other, format!("{speaker} goes on an async function")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    /// The function that callers need is there, whatever was wrong with the attribute.
    #[test]
    fn mistakes_keep_the_function() {
        let item = quote!(
            pub async fn f(id: u64) -> u64 {
                id
            }
        );
        for args in [quote!(ttl = ), quote!(ttl = 0), quote!(key = "{"), quote!(,), quote!(skip(), skip(x))] {
            let shown = args.to_string();
            let made = cache(args, &item).to_string();
            assert!(made.contains("compile_error"), "{shown}: {made}");
            assert!(made.ends_with(&item.to_string()), "{shown}: {made}");
        }
        let made = cache_invalidate(quote!(), &item).to_string();
        assert!(made.contains("compile_error") && made.ends_with(&item.to_string()), "{made}");
    }

    #[test]
    fn two_mistakes_are_two_errors() {
        let made = cache(
            quote!(tll = 5, skip(dv)),
            &quote!(
                async fn f(db: u64) -> u64 {
                    1
                }
            ),
        )
        .to_string();
        assert_eq!(made.matches("compile_error").count(), 2, "{made}");
    }

    #[test]
    fn other_items_are_refused_and_kept() {
        let item = quote!(
            struct User;
        );
        let made = cache(quote!(), &item).to_string();
        assert!(made.contains("goes on an async function") && made.ends_with(&item.to_string()), "{made}");
        let method = quote!(
            async fn f(&self) -> u8;
        );
        let made = cache(quote!(), &method).to_string();
        assert!(made.contains("has no body") && made.ends_with(&method.to_string()), "{made}");
    }
}
