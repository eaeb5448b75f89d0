//! Emits typed targets: a hidden helper of the cached function says what is meant, so the compiler
//! checks the arguments where they stand.

use super::made;
use crate::site::plain;
use crate::target::{Function, Target, Typed};
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, format_ident, quote_spanned};
use syn::ext::IdentExt;

/// What a typed target adds to an invalidation.
pub(super) struct Planned {
    /// Before the body: the plan with the target.
    pub(super) before: Option<TokenStream>,
    /// Before the body: copies of what it may take.
    pub(super) copies: TokenStream,
    /// After the body, where `value` is the result.
    pub(super) after: Option<TokenStream>,
}

/// ```text
/// get_user(user_id)
/// // =>
/// let plan = plan.entry(get_user::__cache_aside_entry(user_id));
///
/// get_user(value.id, tenant)
/// // => before the body
/// let copy0 = ::core::clone::Clone::clone(&tenant);
/// // => after it
/// let plan = { let value = value; let tenant = copy0; plan.entry(get_user::__cache_aside_entry(value.id, tenant)) };
/// ```
pub(super) fn planned(number: usize, typed: &Typed) -> Planned {
    let target = &typed.target;
    let add = if target.all { made!(all) } else { made!(entry) };
    let helper = if target.all { "all" } else { "entry" };
    let Some(value) = &typed.value else {
        let call = call(target, helper, &target.args.to_token_stream());
        let before = Some(made!(let plan = plan.#add(#call);));
        return Planned { before, copies: TokenStream::new(), after: None };
    };
    let copy = |name: &Ident| format_ident!("{}_for_{number}", plain(name), span = Span::mixed_site());
    let copies = typed.cloned.iter().map(|name| kept(name, &copy(name))).collect();
    let this = Ident::new("this", Span::mixed_site());
    let names = typed.cloned.iter().map(|name| {
        let copy = copy(name);
        let name = if name == "self" { &this } else { name };
        made!(let #name = #copy;)
    });
    let call = with_this(call(target, helper, &target.args.to_token_stream()), &this);
    // The result has the name that the user's tokens can see.
    let after = made! {
        #[allow(clippy::used_underscore_binding)]
        let plan = { let #value = value; #(#names)* plan.#add(#call) };
    };
    Planned { before: None, copies, after: Some(after) }
}

/// `get_user::__cache_aside_entry(user_id)`, or what it is for a method.
pub(super) fn call(target: &Target, helper: &str, args: &TokenStream) -> TokenStream {
    let name = target.name();
    let span = Span::mixed_site().located_at(name.span());
    let plain = name.unraw();
    let beside = || format_ident!("__cache_aside_{helper}", span = span);
    let method = || format_ident!("__cache_aside_{helper}_of_{plain}", span = span);
    let generics = &target.generics;
    match &target.function {
        Function::Free(path) => {
            let helper = beside();
            // As a type: a function that isn't cached is one mistake, "expected type, found function".
            quote_spanned!(span=> <#path>::#helper #generics(#args))
        }
        Function::Method { of, .. } => {
            let helper = method();
            quote_spanned!(span=> #of::#helper #generics(#args))
        }
        Function::Of { receiver, .. } => {
            let helper = format_ident!("__cache_aside_own_{helper}_of_{plain}", span = span);
            quote_spanned!(span=> #receiver.#helper #generics(#args))
        }
    }
}

/// A copy of an argument, for when the body has taken it; says by its name which one has none.
fn kept(name: &Ident, copy: &Ident) -> TokenStream {
    let shown = plain(name);
    let message = format!(
        "`{shown}` is read after the body, which may have taken it by then: `{{Self}}` is not `Clone`"
    );
    let note = "derive `Clone` for it, or name only `value` in this target";
    let span = Span::mixed_site().located_at(name.span());
    let keep = quote_spanned!(span=> __keep(&#name));
    made! {
        #[allow(clippy::used_underscore_binding)]
        let #copy = {
            #[diagnostic::on_unimplemented(message = #message, label = "a copy is needed here", note = #note)]
            trait Clone: ::core::marker::Sized {
                fn __copy(&self) -> Self;
            }
            #[diagnostic::do_not_recommend]
            impl<T: ::core::clone::Clone> Clone for T {
                fn __copy(&self) -> Self {
                    ::core::clone::Clone::clone(self)
                }
            }
            fn __keep<T: Clone>(argument: &T) -> T {
                argument.__copy()
            }
            #keep
        };
    }
}

/// `self` is no name that can be given anew; `self::` is a path.
fn with_this(tokens: TokenStream, this: &Ident) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut out = TokenStream::new();
    while let Some(token) = tokens.next() {
        let is_path = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
        out.append(match token {
            TokenTree::Ident(ident) if ident == "self" && !is_path => {
                let mut this = this.clone();
                this.set_span(this.span().located_at(ident.span()));
                TokenTree::Ident(this)
            }
            TokenTree::Group(group) => {
                let mut inside = Group::new(group.delimiter(), with_this(group.stream(), this));
                inside.set_span(group.span());
                TokenTree::Group(inside)
            }
            token => token,
        });
    }
    out
}
