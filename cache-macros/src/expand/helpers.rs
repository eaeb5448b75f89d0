//! Emits the helpers: `get_user::clear_cache(..)` beside a function, `get_user_clear_cache(..)`
//! beside a method.

mod hidden;

use self::hidden::Hidden;
use super::key::{self, Scope};
use super::{fit, judge, kind, lives, made, named, returns};
use crate::generics;
use crate::item::{FnItem, Param};
use crate::names;
use crate::site::{Helpers, Key, Site, plain};
use proc_macro2::{Ident, Punct, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::BTreeSet;
use syn::Generics;
use syn::ext::IdentExt;

/// The type that is named like the function.
pub(super) fn beside(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let FnItem { vis, sig, .. } = item;
    let name = &sig.ident;
    let cfgs = cfgs(item);
    let doc = format!("What can be done with the cache of the function `{}`.", name.unraw());
    let place = key::place(p, site, item);
    let helpers = helpers(p, site, item);
    let allow = allow();
    // What the compiler has to say of a clash, it says at the name.
    quote_spanned! {Span::mixed_site().located_at(name.span())=>
        #(#cfgs)*
        #[doc = #doc]
        #[allow(non_camel_case_types, dead_code, missing_debug_implementations, missing_copy_implementations, unreachable_pub)]
        #vis enum #name {}
        #(#cfgs)*
        #allow
        impl #name {
            #[doc(hidden)]
            fn __site() -> #p::At #place
            #(#helpers)*
        }
    }
}

/// Lints that speak of the user's own types and names in code that the user did not write.
pub(super) fn allow() -> TokenStream {
    made! {
        #[allow(
            dead_code,
            deprecated,
            unreachable_pub,
            unused_mut,
            unused_variables,
            clippy::future_not_send,
            clippy::must_use_candidate,
            clippy::needless_pass_by_value,
            clippy::too_many_arguments,
            clippy::used_underscore_binding
        )]
    }
}

/// Associated functions that bear the method's name.
pub(super) fn method(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let cfgs = cfgs(item);
    let name = key::site_name(item);
    let place = key::place(p, site, item);
    let helpers = helpers(p, site, item);
    quote_spanned! {Span::mixed_site().located_at(item.sig.ident.span())=>
        #(#cfgs)*
        #[doc(hidden)]
        fn #name() -> #p::At { #place }
        #(#helpers)*
    }
}

fn cfgs(item: &FnItem) -> Vec<&syn::Attribute> {
    item.attrs.iter().filter(|attr| attr.path().is_ident("cfg")).collect()
}

/// One helper to be.
#[derive(Clone)]
struct Helper<'a> {
    name: &'a str,
    doc: String,
    /// What its callers should know of errors; a helper without can't fail.
    errors: Option<&'a str>,
    is_async: bool,
    /// The arguments it takes, by the names that it reads.
    reads: &'a BTreeSet<String>,
    /// Whether it makes a key, which the generic parameters that count belong to.
    keyed: bool,
    /// Whether its signature speaks of the return type.
    returning: bool,
    extra: TokenStream,
    output: TokenStream,
    body: TokenStream,
    /// For other macros' code, not for users.
    hidden: Hidden,
}

fn helpers(p: &TokenStream, site: &Site, item: &FnItem) -> Vec<TokenStream> {
    let function = plain(&item.sig.ident);
    let returns = owned(returns(item));
    let (kind, fit) = (kind(p, &returns), fit(p, &returns));
    let call = key::call(p, site, item, Scope::Helper);
    let (put_call, named) = (key::put(p, site, item), named(p, site));
    let (lives, judge) = (lives(site), judge(p, site, None));
    let at = key::at(p, site, item);
    let fallible = |ty: TokenStream| made!(::core::result::Result<#ty, #p::CacheError>);
    let nothing = BTreeSet::new();
    let cache_reads = site.cache_reads();
    let key_reads = &site.key_reads() | &cache_reads;
    let put_reads = &(&site.life_reads() | &key_reads) | &site.tag_reads();
    // What most of them have in common.
    let plain = || Helper {
        name: "",
        doc: String::new(),
        errors: Some("If the cache can't be reached, or an argument has no place in a key."),
        is_async: true,
        reads: &key_reads,
        keyed: true,
        returning: false,
        extra: TokenStream::new(),
        output: TokenStream::new(),
        body: TokenStream::new(),
        hidden: Hidden::No,
    };
    let mut all = vec![
        Helper {
            name: "clear_cache",
            doc: format!(
                "Forgets what `{function}` returned for these arguments; true if there was a value."
            ),
            output: fallible(made!(bool)),
            body: made!(#call #p::clear(call).await),
            ..plain()
        },
        Helper {
            name: "cache_key",
            doc: format!("The key of what `{function}` returns for these arguments, without the namespace."),
            errors: Some("If an argument has no place in a key, or the key is too long."),
            is_async: false,
            output: fallible(made!(::std::string::String)),
            body: made!(#call #p::cache_key(&call)),
            ..plain()
        },
        Helper {
            name: "cached",
            doc: format!("What the cache holds of `{function}` for these arguments, without running it."),
            returning: true,
            output: fallible(made!(::core::option::Option<#returns>)),
            body: made!(#kind #fit #call #p::cached::<_, #returns>(call, kind).await),
            ..plain()
        },
    ];
    let put = |way: TokenStream| made!(#kind #fit #lives #named #put_call #p::#way::<_, #returns, _, _>(call, kind, value, #judge));
    let storing = Helper {
        reads: &put_reads,
        returning: true,
        extra: made!(value: &impl #p::Stores<#returns>),
        ..plain()
    };
    all.extend(storing_helpers(p, &function, storing, put));
    all.push(Helper {
        name: "cache_stats",
        doc: format!("Hits, misses and loads of `{function}` in this process."),
        errors: None,
        is_async: false,
        reads: &nothing,
        keyed: false,
        output: made!(#p::Stats),
        body: made!(#p::stats(#at)),
        ..plain()
    });
    let base = has_an_all(site).then(|| key::base(p, site, item));
    if let Some(base) = &base {
        all.push(Helper {
            name: "clear_cache_all",
            doc: format!("Forgets all that `{function}` returned, whatever the arguments."),
            errors: Some("If the cache can't be reached."),
            reads: &cache_reads,
            keyed: false,
            output: fallible(made!(())),
            body: made!(let call = #base; #p::clear_all(call).await),
            ..plain()
        });
    }
    let put = made!(#kind #fit #lives #named #put_call #p::put_through::<_, #returns, _, _>(call, kind, writer, #judge).await);
    let reads = [&key_reads, &put_reads, &cache_reads];
    let targets = hidden::Targets { entry: made!(#call call), put, all: base, reads };
    all.extend(targets.helpers(p, &returns, item.receiver().is_some()));
    let helpers = all.into_iter().map(|helper| helper.emit(site, item));
    helpers.chain([refresh(p, site, item)]).collect()
}

/// Helpers that take a value; `put` makes the call of what the runtime does with it.
fn storing_helpers<'a>(
    p: &TokenStream,
    function: &str,
    storing: Helper<'a>,
    put: impl Fn(TokenStream) -> TokenStream,
) -> [Helper<'a>; 2] {
    let call = put(made!(put));
    [
        Helper {
            name: "put_cache",
            doc: format!(
                "Stores a value as what `{function}` returns for these arguments; the last put wins."
            ),
            errors: Some("If the cache can't be reached, or the value or an argument can't be serialised."),
            output: made!(::core::result::Result<(), #p::CacheError>),
            body: made!(#call.await),
            ..storing.clone()
        },
        Helper {
            name: "cache_entry",
            doc: format!(
                "A value as what `{function}` returns for these arguments, to be stored together with a write that is queued."
            ),
            errors: Some("If the value can't be encoded, or an argument has no place in a key."),
            is_async: false,
            output: made!(::core::result::Result<#p::CacheEntry, #p::CacheError>),
            body: put(made!(cache_entry)),
            ..storing
        },
    ]
}

/// A glob that begins with a value would fit other people's keys; a function with tags needs none.
fn has_an_all(site: &Site) -> bool {
    match &site.key {
        _ if site.tags.is_some() => true,
        Key::Hashed(_) => true,
        Key::Template { glob, .. } => !glob.starts_with('*'),
        Key::Closure { .. } | Key::Path { .. } => false,
    }
}

impl Helper<'_> {
    fn emit(self, site: &Site, item: &FnItem) -> TokenStream {
        let Self { name, doc, errors, is_async, reads, keyed, returning, extra, output, body, hidden } = self;
        let is_read = |param: &&Param| param.bindings.iter().any(|name| reads.contains(&plain(name)));
        let params: Vec<_> = item.params.iter().filter(is_read).collect();
        let mut used: BTreeSet<String> = params.iter().flat_map(|param| names::in_type(&param.ty)).collect();
        if returning {
            used.extend(names::in_type(output.clone()));
            used.extend(names::in_type(&extra));
        }
        if let (true, Key::Hashed(key)) = (keyed, &site.key) {
            used.extend(key.types.iter().chain(&key.consts).map(Ident::to_string));
        }
        let this =
            item.receiver().filter(|_| hidden == Hidden::Own || reads.contains("self")).map(|receiver| {
                let this = receiver.self_token;
                quote!(&#this)
            });
        let params = params.into_iter().map(|Param { attrs, pat, ty, .. }| quote!(#(#attrs)* #pat: #ty));
        let extra = Some(extra).filter(|extra| !extra.is_empty());
        let params = this.into_iter().chain(params).chain(extra);
        let generics = generics::narrow(&item.sig.generics, &used);
        let head = Head { name, doc: &doc, errors, is_async, site, item, generics: &generics, hidden };
        head.emit(&made!(#(#params),*), &output, &body)
    }
}

/// `refresh_cache` takes what the function takes and calls it.
fn refresh(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let sig = &item.sig;
    let function = &sig.ident;
    // An argument named like the function would stand where the function is called.
    let handle = |(index, param): (usize, &Param)| {
        let handle = param.handle(index);
        if handle == *function { Ident::new("same_name", Span::mixed_site()) } else { handle }
    };
    let handles: Vec<_> = item.params.iter().enumerate().map(handle).collect();
    let params = item
        .params
        .iter()
        .zip(&handles)
        .map(|(Param { attrs, ty, .. }, handle)| quote!(#(#attrs)* #handle: #ty));
    let receiver = item.receiver().map(|receiver| {
        let mut receiver = receiver.clone();
        receiver.mutability = None;
        receiver.to_token_stream()
    });
    let this = item.receiver().map(|receiver| receiver.self_token.to_token_stream());
    let path = match site.helpers {
        Helpers::Method => made!(Self::#function),
        Helpers::Beside | Helpers::None => function.to_token_stream(),
    };
    let types = generics::parameters(&sig.generics);
    // An argument of type `impl Trait` is found by inference, beside the parameters that are named.
    let turbofish = made!(::<#(#types),*>);
    let turbofish = Some(turbofish).filter(|_| generics::parameters(&sig.generics).next().is_some());
    let args = this.into_iter().chain(handles.iter().map(Ident::to_token_stream));
    let at = key::at(p, site, item);
    let params = receiver.into_iter().chain(params);
    let returns = returns(item);
    let head = Head {
        name: "refresh_cache",
        doc: &format!(
            "Runs `{}` without looking into the cache, and stores what it returns.",
            plain(function)
        ),
        errors: Some("Those of the function itself; a cache that can't be reached is none."),
        is_async: true,
        site,
        item,
        generics: &sig.generics,
        hidden: Hidden::No,
    };
    head.emit(&made!(#(#params),*), &returns, &made!(#p::refresh(#at, #path #turbofish(#(#args),*)).await))
}

struct Head<'a> {
    name: &'a str,
    doc: &'a str,
    errors: Option<&'a str>,
    is_async: bool,
    site: &'a Site,
    item: &'a FnItem,
    generics: &'a Generics,
    hidden: Hidden,
}

impl Head<'_> {
    fn emit(&self, params: &TokenStream, output: &TokenStream, body: &TokenStream) -> TokenStream {
        let FnItem { vis, sig, .. } = self.item;
        let span = Span::mixed_site().located_at(sig.ident.span());
        let own = if self.hidden == Hidden::Own { "own_" } else { "" };
        let name = match self.site.helpers {
            Helpers::Method if self.hidden != Hidden::No => {
                format_ident!(
                    "__cache_aside_{own}{}_of_{}",
                    self.name,
                    sig.ident.unraw(),
                    span = sig.ident.span()
                )
            }
            _ if self.hidden != Hidden::No => format_ident!("__cache_aside_{own}{}", self.name, span = span),
            Helpers::Method => format_ident!("{}_{}", sig.ident.unraw(), self.name, span = sig.ident.span()),
            Helpers::Beside | Helpers::None => Ident::new(self.name, span),
        };
        let errors = self.errors.map(|errors| format!("\n# Errors\n\n{errors}"));
        let docs = std::iter::once(self.doc).chain(errors.as_deref());
        let docs =
            if self.hidden == Hidden::No { quote!(#(#[doc = #docs])*) } else { quote!(#[doc(hidden)]) };
        // Helpers beside a function stand in an impl that has them already.
        let (cfgs, allow) = match self.site.helpers {
            Helpers::Method => (cfgs(self.item), allow()),
            Helpers::Beside | Helpers::None => (Vec::new(), TokenStream::new()),
        };
        let asyncness = self.is_async.then(|| quote_spanned!(span=> async));
        let generics = self.generics;
        let clause = &generics.where_clause;
        quote_spanned! {span=>
            #(#cfgs)*
            #docs
            #allow
            #vis #asyncness fn #name #generics(#params) -> #output #clause { #body }
        }
    }
}

/// What comes out of the cache borrows from nobody: `Cow<'_, str>` is a `Cow<'static, str>`.
fn owned(ty: TokenStream) -> TokenStream {
    let mut quoted = false;
    ty.into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => {
                let mut inside = proc_macro2::Group::new(group.delimiter(), owned(group.stream()));
                inside.set_span(group.span());
                TokenTree::Group(inside)
            }
            TokenTree::Ident(ident) if quoted && ident == "_" => {
                quoted = false;
                TokenTree::Ident(Ident::new("static", ident.span()))
            }
            token => {
                quoted = matches!(&token, TokenTree::Punct(punct) if Punct::as_char(punct) == '\'');
                token
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_borrows_from_nobody() {
        let ty = owned(quote!(Result<(Cow<'_, str>, _), Error<'a>>));
        assert_eq!(ty.to_string(), quote!(Result<(Cow<'static, str>, _), Error<'a>>).to_string());
    }
}
