//! Emits a writer whose result is stored.

use super::invalidate::running;
use super::{judge, key, kind, lives, made, private, returns, spanned, target, wrapper};
use crate::item::FnItem;
use crate::put::{Place, Put};
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};

/// ```text
/// #[cache_put(get_user(user_id))]
/// async fn update_user(user_id: i64, change: Change) -> Result<User, E> { BODY }
/// // =>
/// async fn update_user(user_id: i64, change: Change) -> Result<User, E> {
///     let kind = { use P::PlainReturn as _; P::Probe::<Result<User, E>>::new().kind() };
///     let mut end = P::End::new();
///     if false { get_user::__cache_aside_holds(user_id, P::stored(kind)); unreachable!() }
///     get_user::__cache_aside_put(user_id, P::writer(kind, &mut end, async move { if false { .. } { BODY } })).await;
///     end.returned()
/// }
/// ```
/// With a `key` the call stands here, and `P::put_plain` takes the place of the helper.
pub(crate) fn put(put: &Put, item: &FnItem) -> TokenStream {
    let p = private(put.krate.as_ref());
    let returns = returns(item);
    let kind = kind(&p, &returns);
    let body = running(item, &returns);
    // What the compiler has to say of the value's type, it says at the return type; and what it says of the
    // arguments to both helpers, it says once.
    let writer = spanned(&returns, |span| {
        let p = at(&p, span);
        quote_spanned!(span=> #p::writer::<_, #returns, _>(kind, &mut end, #body))
    });
    let run = match &put.place {
        Place::Typed(typed) => {
            let value = spanned(&returns, |span| {
                let p = at(&p, span);
                quote_spanned!(span=> #p::stored::<_, #returns>(kind))
            });
            let call = |helper, last| {
                let args = typed.target.args.iter().map(ToTokens::to_token_stream).chain([last]);
                target::call(&typed.target, helper, &made!(#(#args),*))
            };
            let (holds, put) = (call("holds", value), call("put", writer));
            made! {
                #[allow(unreachable_code)]
                if false {
                    #holds;
                    // What was moved here wasn't.
                    ::core::unreachable!();
                }
                #put.await;
            }
        }
        Place::Key(site) => {
            let (lives, judge) = (lives(site), judge(&p, site, None));
            let call = key::call(&p, site, item, key::Scope::Wrapper);
            made!(#lives #call #p::put_plain(call, #writer, #judge).await;)
        }
    };
    wrapper(
        item,
        made! {
            #kind
            let mut end = #p::End::<#returns>::new();
            #run
            end.returned()
        },
    )
}

/// The same tokens, pointing elsewhere.
fn at(tokens: &TokenStream, span: Span) -> TokenStream {
    let point = |mut token: proc_macro2::TokenTree| {
        token.set_span(token.span().located_at(span));
        token
    };
    tokens.clone().into_iter().map(point).collect()
}
