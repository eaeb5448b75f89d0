//! Emits: the only room that writes the code of expansions, and it cannot fail.

mod argument;
mod helpers;
mod invalidate;
mod key;
mod owned;
mod put;
mod target;

use invalidate::Rendered;
pub(crate) use invalidate::invalidate;
pub(crate) use put::put;

use crate::item::{FnItem, Shape};
use crate::site::{Helpers, Site};
use crate::values::Life;
use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use std::time::Duration;
use syn::{ExprClosure, Path, ReturnType, Type};

/// `quote!` whose own names are invisible to the user's code.
macro_rules! made {
    ($($tokens:tt)*) => { ::quote::quote_spanned!(::proc_macro2::Span::mixed_site()=> $($tokens)*) };
}
use made;

/// The mistakes, and the function that goes on without us.
pub(crate) fn broken(error: &syn::Error, item: &TokenStream) -> TokenStream {
    let error = error.to_compile_error();
    quote!(#error #item)
}

/// ```text
/// #[cache(ttl = 600)]
/// async fn get_user(id: i64) -> Option<User> { BODY }
/// // =>
/// async fn get_user(id: i64) -> Option<User> {
///     let kind = { use P::PlainReturn as _; P::Probe::<Option<User>>::new().kind() };
///     P::assert_cacheable::<_, Option<User>>(kind);
///     let kind = { use P::UnfitReturn as _; P::Fit::<_, Option<User>>::new(kind).kind() };
///     let call = P::Call::new(get_user::__site()).key(|make| make.hashed(&[], &(&id,)));
///     P::call::<_, Option<User>, _, _, _>(
///         call,
///         kind,
///         move || async move { if false { let r: Option<User> = loop {}; return r; } { BODY } },
///         move |_| P::Fate::new().ttl(Duration::from_secs(600)),
///     ).await
/// }
/// enum get_user {}
/// impl get_user { .. }
/// ```
pub(crate) fn cache(site: &Site, item: &FnItem) -> TokenStream {
    let p = private(site.krate.as_ref());
    let returns = returns(item);
    let kind = kind(&p, &returns);
    let assert = assert(&p, &returns);
    let fit = fit(&p, &returns);
    let checks = argument::checks(&p, site, item);
    let (lives, named) = (lives(site), named(&p, site));
    let call = key::call(&p, site, item, key::Scope::Wrapper);
    let judge = judge(&p, site, site.unless.as_ref());
    let (portable, carry) = if site.outlives() { owned::result(&p, &returns) } else { Default::default() };
    let (clonable, keep) = if site.near.is_some() { near(&p, &returns) } else { Default::default() };
    let statements = made!(#kind #assert #clonable #portable #fit #keep #carry #checks #lives #named #call);
    let wrapper = if site.outlives() {
        owned::wrapper(&p, site, item, &statements, &judge)
    } else {
        let load = load(item, &returns);
        let call = if site.stale_if_error.is_some() { made!(call_stale) } else { made!(call) };
        let call = made!(#p::#call::<_, #returns, _, _, _>(call, kind, #load, #judge));
        // A near hit shares no room with what it doesn't need.
        let call = if site.near.is_some() { made!(#p::apart(#call)) } else { call };
        wrapper(item, made!(#statements #call.await))
    };
    let helpers = match site.helpers {
        Helpers::Beside => helpers::beside(&p, site, item),
        Helpers::Method => helpers::method(&p, site, item),
        Helpers::None => TokenStream::new(),
    };
    made!(#wrapper #helpers)
}

/// The function around other statements.
fn wrapper(item: &FnItem, statements: TokenStream) -> TokenStream {
    let FnItem { attrs, vis, sig, inner, .. } = item;
    let statements = match item.shape {
        Shape::Boxed(_) => made!(::std::boxed::Box::pin(async move { #statements })),
        Shape::Async | Shape::Not => statements,
    };
    quote!(#(#attrs)* #vis #sig { #inner #statements })
}

/// `::cache_aside::__private`
fn private(krate: Option<&Path>) -> TokenStream {
    krate.map_or_else(|| quote!(::cache_aside::__private), |path| quote!(#path::__private))
}

fn returns(item: &FnItem) -> TokenStream {
    item.returns().map_or_else(|| quote!(()), Type::to_token_stream)
}

/// Points what the compiler has to say at the user's own token.
fn spanned(tokens: &TokenStream, emit: impl FnOnce(Span) -> TokenStream) -> TokenStream {
    let first = tokens.clone().into_iter().next();
    let span = Span::mixed_site();
    emit(first.map_or(span, |token| span.located_at(token.span())))
}

/// Whether the return type is a `Result` is for method resolution to say: it sees through aliases.
fn kind(p: &TokenStream, returns: &TokenStream) -> TokenStream {
    made! {
        let kind = {
            #[allow(unused_imports)]
            use #p::PlainReturn as _;
            #p::Probe::<#returns>::new().kind()
        };
    }
}

/// Says where the return type can't be stored; what comes after goes on with a stand-in, so that it
/// is said once.
fn assert(p: &TokenStream, returns: &TokenStream) -> TokenStream {
    spanned(returns, |span| quote_spanned!(span=> #p::assert_cacheable::<_, #returns>(kind);))
}

/// Says where the return type can't be kept in the process; what comes after goes on with a stand-in.
fn near(p: &TokenStream, returns: &TokenStream) -> (TokenStream, TokenStream) {
    let assert = spanned(returns, |span| quote_spanned!(span=> #p::assert_near::<_, #returns>(kind);));
    let keep = made! {
        let kind = {
            #[allow(unused_imports)]
            use #p::UnfitNear as _;
            #p::Nearby::<_, #returns>::new(kind).kind()
        };
    };
    (assert, keep)
}

fn fit(p: &TokenStream, returns: &TokenStream) -> TokenStream {
    made! {
        let kind = {
            #[allow(unused_imports)]
            use #p::UnfitReturn as _;
            #p::Fit::<_, #returns>::new(kind).kind()
        };
    }
}

/// The body as something to call: nothing of it is built on a hit.
fn load(item: &FnItem, returns: &TokenStream) -> TokenStream {
    if let (Shape::Boxed(_), ReturnType::Type(_, output)) = (&item.shape, &item.sig.output) {
        let body = &item.body;
        made!(move || -> #output #body)
    } else {
        let block = block(item, returns);
        // The edge stands before what may be an item at the head of the user's body.
        made!(move || {
            #[allow(clippy::items_after_statements)]
            let body = async move #block;
            #[allow(clippy::let_and_return)]
            body
        })
    }
}

/// The body behind its return edge, in its own braces: nested ones would be "unnecessary".
fn block(item: &FnItem, returns: &TokenStream) -> Group {
    let mut tokens = edge(returns);
    tokens.extend(item.body.stream());
    let mut block = Group::new(Delimiter::Brace, tokens);
    block.set_span(item.body.span());
    block
}

/// Tells the compiler the type of the block before it reads the body, so that a wrong value is one
/// error at that value.
fn edge(returns: &TokenStream) -> TokenStream {
    spanned(returns, |span| {
        quote_spanned! {span=>
            #[allow(unreachable_code)]
            if false {
                let returned: #returns = loop {};
                return returned;
            }
        }
    })
}

/// Times to live that are expressions, evaluated before the body takes the arguments.
fn lives(site: &Site) -> TokenStream {
    let mut lives = TokenStream::new();
    for (life, name) in [(&site.ttl, made!(ttl)), (&site.none_ttl, made!(none_ttl))] {
        if let Some(Life::Before(expr)) = life {
            lives.extend(made!(let #name: ::core::time::Duration = #expr;));
        }
    }
    lives
}

/// What tags of the result read of the arguments, rendered before the body takes those.
fn named(p: &TokenStream, site: &Site) -> TokenStream {
    let mut rendered = Rendered::new(p);
    site.tags.iter().flat_map(|tags| &tags.after).flatten().for_each(|part| drop(rendered.piece(part)));
    rendered.statements
}

/// What becomes of a loaded value.
fn judge(p: &TokenStream, site: &Site, unless: Option<&ExprClosure>) -> TokenStream {
    let mut fate = made!(#p::Fate::new());
    let lives = [(&site.ttl, made!(ttl)), (&site.none_ttl, made!(none_ttl))];
    let mut asks = false;
    for (life, name) in lives {
        let life = match life {
            None => continue,
            Some(Life::Fixed(time, _)) => duration(*time),
            Some(Life::Before(_)) => made!(#name),
            Some(Life::After(closure)) => {
                asks = true;
                made!(#p::ask::<_, ::core::time::Duration>(value, #closure))
            }
        };
        fate.extend(made!(.#name(#life)));
    }
    if let Some(closure) = unless {
        asks = true;
        fate.extend(made!(.unless(#p::ask(value, #closure))));
    }
    // The same names as `named` gives them.
    let mut rendered = Rendered::new(p);
    for parts in site.tags.iter().flat_map(|tags| &tags.after) {
        asks = true;
        let pieces = parts.iter().map(|part| rendered.piece(part));
        fate.extend(made!(.tag(&[#(#pieces),*])));
    }
    if !asks {
        return made!(move |_| #fate);
    }
    // A closure is the only form that we take, also where a path would do.
    made!(move |value| {
        #[allow(clippy::redundant_closure_for_method_calls)]
        let fate = #fate;
        #[allow(clippy::let_and_return)]
        fate
    })
}

fn duration(time: Duration) -> TokenStream {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if time.subsec_millis() == 0 {
        let secs = time.as_secs();
        made!(::core::time::Duration::from_secs(#secs))
    } else {
        made!(::core::time::Duration::from_millis(#millis))
    }
}
