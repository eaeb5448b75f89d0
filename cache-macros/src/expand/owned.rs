//! Emits functions whose load may outlive its caller: the body stands in a function of its own, and
//! what the call only lends is copied when such a load begins.

use super::{argument, made, returns, spanned};
use crate::generics;
use crate::item::FnItem;
use crate::lent::{lends_self, lent};
use crate::names;
use crate::site::{Helpers, Site, plain};
use crate::values::Life;
use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::{Attribute, FnArg, Signature, parse_quote};

impl Site {
    /// Whether a load may outlive its caller.
    pub(super) fn outlives(&self) -> bool {
        self.refresh_ahead.is_some() || self.timeout.is_some()
    }
}

/// ```text
/// #[cache(refresh_ahead = "20%")]
/// async fn search(text: &str, page: u64) -> Vec<Hit> { BODY }
/// // =>
/// async fn search(text: &str, page: u64) -> Vec<Hit> {
///     async fn __cache_aside_body(text: &str, page: u64) -> Vec<Hit> { BODY }
///     fn __cache_aside_away(text: &str, page: u64) -> Pin<Box<dyn Future<Output = Vec<Hit>> + Send>> {
///         let arg0 = { P::Lent(text).copied() };
///         Box::pin(async move { __cache_aside_body(arg0.lend(), page).await })
///     }
///     ..
///     P::assert_portable::<_, Vec<Hit>>(kind);
///     let kind = { use P::UnfitCarry as _; P::Carry::<_, Vec<Hit>>::new(kind).kind() };
///     ..
///     let args = (text, page);
///     P::call_owned::<_, Vec<Hit>, _, _, _, _, _>(
///         call,
///         kind,
///         args,
///         move |(arg0, arg1)| __cache_aside_body(arg0, arg1),
///         move |(arg0, arg1)| __cache_aside_away(arg0, arg1),
///         move |_| P::Fate::new(),
///     ).await
/// }
/// ```
/// A method has these two functions beside it: `Self::__cache_aside_body_of_search`, `.._away_of_search`.
/// That the future is `Send` is proved outside of the wrapper, because a function that calls itself
/// isn't known to be while the compiler is still at it.
pub(super) fn wrapper(
    p: &TokenStream,
    site: &Site,
    item: &FnItem,
    statements: &TokenStream,
    judge: &TokenStream,
) -> TokenStream {
    let FnItem { attrs, vis, inner, .. } = item;
    let returns = returns(item);
    let args = arguments(item);
    // The body takes the argument, a closure over the result reads it afterwards.
    let asked = asked(site);
    let given = args.iter().map(|Arg { given, .. }| {
        if asked.contains(&plain(given)) {
            let span = Span::mixed_site().located_at(given.span());
            quote_spanned!(span=> ::core::clone::Clone::clone(&#given))
        } else {
            given.to_token_stream()
        }
    });
    let names: Vec<_> = args.iter().map(|arg| &arg.name).collect();
    let (body, away) = (Hidden::Body.path(site, item), Hidden::Away.path(site, item));
    // What its bounds miss, the compiler says at the function's name.
    let span = Span::mixed_site().located_at(item.sig.ident.span());
    let door = located(p, span);
    let owned = quote_spanned! {span=>
        #door::call_owned::<_, #returns, _, _, _, _, _>(
            call,
            kind,
            args,
            move |(#(#names,)*)| #body(#(#names),*),
            move |(#(#names,)*)| #away(#(#names),*),
            #judge,
        )
    };
    let owned = if site.near.is_some() { quote_spanned!(span=> #door::apart(#owned)) } else { owned };
    let owned = quote_spanned!(span=> #owned.await);
    let call = made! {
        #statements
        #[allow(clippy::used_underscore_binding)]
        let args = (#(#given,)*);
        #owned
    };
    let hidden = [self::body(site, item), self::away(p, site, item, &args)];
    let (inside, beside, expected) = match site.helpers {
        Helpers::Method => (&[][..], &hidden[..], expected(item)),
        Helpers::Beside | Helpers::None => (&hidden[..], &[][..], None),
    };
    let sig = named(item);
    quote!(#(#attrs)* #expected #vis #sig { #inner #(#inside)* #call } #(#beside)*)
}

fn located(tokens: &TokenStream, at: Span) -> TokenStream {
    let tokens = tokens.clone().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(at));
        token
    });
    tokens.collect()
}

/// Says where the return type can't leave its task; what comes after goes on with a stand-in.
pub(super) fn result(p: &TokenStream, returns: &TokenStream) -> (TokenStream, TokenStream) {
    let assert = spanned(returns, |span| quote_spanned!(span=> #p::assert_portable::<_, #returns>(kind);));
    let carry = made! {
        let kind = {
            #[allow(unused_imports)]
            use #p::UnfitCarry as _;
            #p::Carry::<_, #returns>::new(kind).kind()
        };
    };
    (assert, carry)
}

/// What the closures over the result read.
fn asked(site: &Site) -> BTreeSet<String> {
    let lives = [&site.ttl, &site.none_ttl].into_iter().flatten().filter_map(|life| match life {
        Life::After(closure) => Some(closure),
        Life::Fixed(..) | Life::Before(_) => None,
    });
    lives.chain(&site.unless).flat_map(names::in_closure).collect()
}

/// One argument on its way to the body.
struct Arg<'a> {
    /// As the wrapper has it.
    given: Ident,
    /// As it is called on the way.
    name: Ident,
    is_lent: bool,
    /// Its type, where that is written.
    ty: Option<&'a syn::Type>,
}

fn arguments(item: &FnItem) -> Vec<Arg<'_>> {
    let this = item.receiver().map(|receiver| Arg {
        given: Ident::new("self", receiver.self_token.span),
        name: Ident::new("this", Span::mixed_site().located_at(receiver.self_token.span)),
        is_lent: lends_self(receiver),
        ty: None,
    });
    let params = item.params.iter().enumerate().map(|(index, param)| {
        let given = param.handle(index);
        let name = format_ident!("arg{index}", span = Span::mixed_site().located_at(given.span()));
        Arg { given, name, is_lent: lent(&param.ty).is_some(), ty: Some(&param.ty) }
    });
    this.into_iter().chain(params).collect()
}

impl Arg<'_> {
    /// Whether it is for the compiler to say that it can be copied.
    fn is_doubtful(&self) -> bool {
        self.is_lent && !self.ty.is_some_and(argument::is_plain)
    }

    /// ```text
    /// {
    ///     #[diagnostic::on_unimplemented(message = "argument `db` can't be copied: ..", ..)]
    ///     trait Clone {}
    ///     impl<T: ToOwned + ?Sized> Clone for T {}
    ///     fn __copy<T: Clone + ?Sized>(_: &T) {}
    ///     __copy(&*db);
    /// }
    /// ```
    /// As `argument::checks` asks for `Serialize`.
    fn check(&self, site: &Site) -> Option<TokenStream> {
        if !self.is_doubtful() {
            return None;
        }
        let given = &self.given;
        let name = plain(given);
        let option = if site.refresh_ahead.is_some() { "refresh_ahead" } else { "timeout" };
        let (what, instead) = match name.as_str() {
            "self" => ("`self`".to_owned(), "take `self: Arc<Self>`"),
            name => (format!("argument `{name}`"), "take an `Arc`"),
        };
        let message = format!("{what} can't be copied: `{{Self}}` is not `Clone`");
        let label = format!("derive `Clone` for it, or {instead}");
        let note =
            format!("with `{option}` a load may outlive its caller, and needs a copy of what is borrowed");
        let span = Span::mixed_site().located_at(given.span());
        let ask = quote_spanned!(span=> __copy(&*#given););
        Some(made!({
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #note)]
            trait Clone {}
            #[diagnostic::do_not_recommend]
            impl<T: ::std::borrow::ToOwned + ?::core::marker::Sized> Clone for T {}
            fn __copy<T: Clone + ?::core::marker::Sized>(_: &T) {}
            #[allow(clippy::used_underscore_binding)]
            #ask
        }))
    }
}

/// The wrapper's signature: each argument is a name, and it is the body that changes it.
fn named(item: &FnItem) -> Signature {
    let mut sig = item.sig.clone();
    let mut handles = item.params.iter().enumerate().map(|(index, param)| param.handle(index));
    for input in &mut sig.inputs {
        match input {
            FnArg::Receiver(receiver) => receiver.mutability = None,
            FnArg::Typed(arg) => {
                let handle = handles.next();
                *arg.pat = parse_quote!(#handle);
            }
        }
    }
    sig
}

/// A function that nobody sees.
#[derive(Clone, Copy)]
enum Hidden {
    Body,
    Away,
}

impl Hidden {
    fn name(self, site: &Site, item: &FnItem) -> Ident {
        let name = &item.sig.ident;
        let part = match self {
            Self::Body => "body",
            Self::Away => "away",
        };
        let span = Span::mixed_site().located_at(name.span());
        match site.helpers {
            Helpers::Method => format_ident!("__cache_aside_{part}_of_{}", name.unraw(), span = span),
            Helpers::Beside | Helpers::None => format_ident!("__cache_aside_{part}", span = span),
        }
    }

    /// `Self::name::<T, N>`; an argument of type `impl Trait` is found by inference.
    fn path(self, site: &Site, item: &FnItem) -> TokenStream {
        let name = self.name(site, item);
        let this = matches!(site.helpers, Helpers::Method).then(|| made!(Self::));
        let types: Vec<_> = generics::parameters(&item.sig.generics).collect();
        let types = (!types.is_empty()).then(|| made!(::<#(#types),*>));
        made!(#this #name #types)
    }
}

fn body(site: &Site, item: &FnItem) -> TokenStream {
    let mut sig = item.sig.clone();
    sig.ident = Hidden::Body.name(site, item);
    let uses = uses(site, item);
    let items = (!uses.is_empty()).then(|| made!(#[allow(clippy::items_after_statements)]));
    // Inside the wrapper its attributes hold, too.
    let (attrs, mut tokens) = match site.helpers {
        Helpers::Method => (attributes(item), lenient(item.inner.clone())),
        Helpers::Beside | Helpers::None => (TokenStream::new(), TokenStream::new()),
    };
    tokens.extend(uses);
    tokens.extend(item.body.stream());
    let mut block = Group::new(Delimiter::Brace, tokens);
    block.set_span(item.body.span());
    quote!(#attrs #[allow(clippy::too_many_arguments, clippy::unused_async)] #items #sig #block)
}

/// The body with what it needs for a life of its own.
fn away(p: &TokenStream, site: &Site, item: &FnItem, args: &[Arg<'_>]) -> TokenStream {
    let mut sig = named(item);
    let returns = returns(item);
    sig.ident = Hidden::Away.name(site, item);
    sig.asyncness = None;
    sig.output = parse_quote!(-> ::core::pin::Pin<::std::boxed::Box<
        dyn ::core::future::Future<Output = #returns> + ::core::marker::Send
    >>);
    let attrs = match site.helpers {
        Helpers::Method => attributes(item),
        Helpers::Beside | Helpers::None => TokenStream::new(),
    };
    let checks = args.iter().filter_map(|arg| arg.check(site));
    let copies = args.iter().filter(|arg| arg.is_lent).map(|arg| {
        let Arg { given, name, .. } = arg;
        // Only where a check has been made may a stand-in take over.
        let unfit = arg.is_doubtful().then(|| made!(#[allow(unused_imports)] use #p::UnfitLent as _;));
        let span = Span::mixed_site().located_at(given.span());
        let copied = quote_spanned!(span=> #p::Lent(#given).copied());
        made!(let #name = { #unfit #copied };)
    });
    let lent = args.iter().map(
        |Arg { given, name, is_lent, .. }| {
            if *is_lent { made!(#name.lend()) } else { made!(#given) }
        },
    );
    let body = Hidden::Body.path(site, item);
    let allow = super::helpers::allow();
    let span = Span::mixed_site().located_at(item.sig.ident.span());
    let future = quote_spanned!(span=> ::std::boxed::Box::pin(async move { #body(#(#lent),*).await }));
    made!(#attrs #allow #sig { #(#checks)* #(#copies)* #future })
}

/// What goes with the body of a method.
fn attributes(item: &FnItem) -> TokenStream {
    let attrs = item.attrs.iter().filter(|attr| attr.path().is_ident("cfg") || is_lint(attr));
    let attrs = lenient(attrs.map(ToTokens::to_token_stream).collect());
    made!(#attrs #[doc(hidden)] #[allow(dead_code)])
}

/// What only the attribute reads isn't unused.
fn uses(site: &Site, item: &FnItem) -> TokenStream {
    let mut read = &(&site.key_reads() | &site.cache_reads()) | &site.life_reads();
    read.extend(site.tag_reads());
    read.extend(site.when.iter().flat_map(names::in_expr));
    read.extend(asked(site));
    let written = names::in_type(item.body.stream());
    let is_unused = |name: &Ident| {
        let name = plain(name);
        read.contains(&name) && !written.contains(&name) && !name.starts_with('_')
    };
    let this = item.receiver().map(|receiver| Ident::new("self", receiver.self_token.span));
    let names = this.into_iter().chain(item.bindings().cloned());
    names.filter(is_unused).map(|name| made!(let _ = &#name;)).collect()
}

fn is_lint(attr: &Attribute) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|lint| attr.path().is_ident(lint))
}

/// `#[allow(..)]` for `#[expect(..)]`: what was expected may be in another of the functions.
fn lenient(attrs: TokenStream) -> TokenStream {
    let token = |token| match token {
        TokenTree::Group(group) => {
            let mut inside = Group::new(group.delimiter(), lenient(group.stream()));
            inside.set_span(group.span());
            TokenTree::Group(inside)
        }
        TokenTree::Ident(ident) if ident == "expect" => TokenTree::Ident(Ident::new("allow", ident.span())),
        token => token,
    };
    attrs.into_iter().map(token).collect()
}

/// What the wrapper was expected to have may be in the body now.
fn expected(item: &FnItem) -> Option<TokenStream> {
    let outer = item.attrs.iter().any(|attr| attr.path().is_ident("expect"));
    let inner = names::in_type(&item.inner).contains("expect");
    (outer || inner).then(|| made!(#[allow(unfulfilled_lint_expectations)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_expected_is_allowed() {
        let attrs = lenient(quote!(#![expect(clippy::expect_used, reason = "expect")] #[deny(warnings)]));
        let made = quote!(#![allow(clippy::expect_used, reason = "expect")] #[deny(warnings)]);
        assert_eq!(attrs.to_string(), made.to_string());
    }
}
