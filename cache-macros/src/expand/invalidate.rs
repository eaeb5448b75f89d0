//! Emits a writer that invalidates.

use super::key::{piece, place_of};
use super::{block, duration, kind, load, made, private, returns, target, wrapper};
use crate::invalidate::{Invalidation, On};
use crate::item::{FnItem, Shape};
use crate::site::Part;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote_spanned};

/// ```text
/// #[cache_invalidate("user:{id}:*", "org:{value.org}:{id}")]
/// async fn update_user(id: i64) -> Result<User, E> { BODY }
/// // =>
/// async fn update_user(id: i64) -> Result<User, E> {
///     let kind = { use P::PlainReturn as _; P::Probe::<Result<User, E>>::new().kind() };
///     let plan = P::Plan::new(P::On::Ok).pattern(&[Text("user:"), Value(&id), Text(":*")]);
///     let rendered0 = P::render(&id);
///     P::invalidate::<_, Result<User, E>, _, _>(
///         plan,
///         kind,
///         async move { if false { .. } { BODY } },
///         move |plan, value| plan.pattern(&[Text("org:"), Value(&value.org), Text(":"), Rendered(&rendered0)]),
///     ).await
/// }
/// ```
pub(crate) fn invalidate(invalidation: &Invalidation, item: &FnItem) -> TokenStream {
    let p = private(invalidation.krate.as_ref());
    let returns = returns(item);
    let kind = kind(&p, &returns);
    let on = match invalidation.on {
        On::Ok => made!(Ok),
        On::Always => made!(Always),
    };
    let cache = invalidation.cache.iter();
    let fence = invalidation.fence.map(duration);
    let fence = fence.iter();
    let before = invalidation.before.iter().map(|parts| {
        let pieces = parts.iter().map(|part| piece(&p, part));
        made!(.pattern(&[#(#pieces),*]))
    });
    let tags = invalidation.tags.before.iter().map(|parts| {
        let pieces = parts.iter().map(|part| piece(&p, part));
        made!(.tag(&[#(#pieces),*]))
    });
    let mut rendered = Rendered::new(&p);
    let mut after: Vec<_> = invalidation
        .after
        .iter()
        .map(|parts| {
            let pieces: Vec<_> = parts.iter().map(|part| rendered.piece(part)).collect();
            made!(.pattern(&[#(#pieces),*]))
        })
        .collect();
    let typed: Vec<_> =
        invalidation.typed.iter().enumerate().map(|(number, typed)| target::planned(number, typed)).collect();
    let typed_before = typed.iter().filter_map(|planned| planned.before.as_ref());
    let typed_after: Vec<_> = typed.iter().filter_map(|planned| planned.after.as_ref()).collect();
    let copies = typed.iter().map(|planned| &planned.copies);
    after.extend(invalidation.tags.after.iter().map(|parts| {
        let pieces: Vec<_> = parts.iter().map(|part| rendered.piece(part)).collect();
        made!(.tag(&[#(#pieces),*]))
    }));
    let value = if after.is_empty() && typed_after.is_empty() { made!(_) } else { made!(value) };
    let statements = &rendered.statements;
    let body = running(item, &returns);
    wrapper(
        item,
        made! {
            #kind
            #[allow(clippy::used_underscore_binding)]
            let plan = #p::Plan::new(#p::On::#on) #(.on(#cache))* #(.fence(#fence))* #(#before)* #(#tags)*;
            #(#typed_before)*
            #statements
            #(#copies)*
            #p::invalidate::<_, #returns, _, _>(plan, kind, #body, move |plan, #value| {
                #(#typed_after)*
                plan #(#after)*
            }).await
        },
    )
}

/// The body as a future that hasn't begun.
pub(super) fn running(item: &FnItem, returns: &TokenStream) -> TokenStream {
    match item.shape {
        Shape::Boxed(_) => {
            let load = load(item, returns);
            made!((#load)())
        }
        Shape::Async | Shape::Not => {
            let block = block(item, returns);
            made!(async move #block)
        }
    }
}

/// Arguments whose text a pattern needs after the body has taken them.
pub(super) struct Rendered<'a> {
    p: &'a TokenStream,
    names: Vec<(String, Ident)>,
    pub(super) statements: TokenStream,
}

impl<'a> Rendered<'a> {
    pub(super) fn new(p: &'a TokenStream) -> Self {
        Self { p, names: Vec::new(), statements: TokenStream::new() }
    }

    pub(super) fn piece(&mut self, part: &Part) -> TokenStream {
        let p = self.p;
        let Part::Argument { root, fields, span } = part else {
            return piece(p, part);
        };
        let place = place_of(&root.to_token_stream(), fields, *span);
        let name = self.name(place.to_string(), &place, *span);
        made!(#p::Piece::Rendered(&#name))
    }

    /// Each place is rendered once.
    fn name(&mut self, place: String, tokens: &TokenStream, span: Span) -> Ident {
        if let Some((_, name)) = self.names.iter().find(|(known, _)| *known == place) {
            return name.clone();
        }
        let name = format_ident!("rendered{}", self.names.len(), span = Span::mixed_site());
        let p = self.p;
        let render = quote_spanned!(Span::mixed_site().located_at(span)=> #p::render(#tokens));
        self.statements.extend(made! {
            #[allow(clippy::used_underscore_binding)]
            let #name = #render;
        });
        self.names.push((place, name.clone()));
        name
    }
}
