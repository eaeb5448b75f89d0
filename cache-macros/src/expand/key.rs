//! Emits the preparation of a call: where it stands, in which cache, under which key.

use super::{argument, duration, made, returns, spanned};
use crate::item::FnItem;
use crate::site::{Hashed, Helpers, Key, Part, Site, is_reference};
use crate::values::{Ahead, Codec, Flight, Jitter};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::ext::IdentExt;
use syn::{ExprClosure, Pat, ReceiverKind};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Inside the function: `self` is what its author wrote, and `when` decides.
    Wrapper,
    /// Inside a helper, which has `&self`.
    Helper,
}

/// `let call = P::Call::new(..)..;`: a statement of its own, so that no temporary lives across an
/// await.
pub(super) fn call(p: &TokenStream, site: &Site, item: &FnItem, scope: Scope) -> TokenStream {
    call_with(p, site, item, scope, scope == Scope::Wrapper)
}

/// The same for a helper that stores.
pub(super) fn put(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    call_with(p, site, item, Scope::Helper, true)
}

fn call_with(p: &TokenStream, site: &Site, item: &FnItem, scope: Scope, takes_tags: bool) -> TokenStream {
    let when = site.when.iter().filter(|_| scope == Scope::Wrapper);
    let key = key(p, site, item, scope);
    let tags = &tags(p, site, takes_tags);
    let when = when.map(|when| {
        let statement = made!(let when: ::core::primitive::bool = #when;);
        (statement, made!(.when(when)))
    });
    let (statement, when): (TokenStream, TokenStream) = when.unzip();
    if let (Some(_), Scope::Wrapper) = (&site.near, scope) {
        let returns = returns(item);
        let look = prepared(&made!(#p::Look), p, site, item);
        let beside = beside(p, site);
        return made! {
            #statement
            #[allow(clippy::match_single_binding, clippy::used_underscore_binding)]
            let call = match (&#look #when, &mut #p::Key::new()) {
                (look, key) => {
                    let mut known = ::core::option::Option::None;
                    look.known::<_, #returns>(kind, key, |make| { #beside #key }, &mut known);
                    match known {
                        ::core::option::Option::Some(known) => return known,
                        ::core::option::Option::None => look.missed(key) #tags,
                    }
                },
            };
        };
    }
    let base = base(p, site, item);
    made! {
        #statement
        #[allow(clippy::used_underscore_binding)]
        let call = #base #when .key(|make| #key) #tags;
    }
}

/// `.tags(&[&[P::Piece::Text("user:"), P::Piece::Value(&id)]])`
fn tags(p: &TokenStream, site: &Site, takes_tags: bool) -> Option<TokenStream> {
    let tags = site.tags.as_ref().filter(|_| takes_tags)?;
    let tags = tags.before.iter().map(|parts| {
        let pieces = parts.iter().map(|part| piece(p, part));
        made!(&[#(#pieces),*])
    });
    Some(made!(.tags(&[#(#tags),*])))
}

/// `let mut make = make; make.beside(&[..]);`: a near value is found without a look at its tags, so those
/// that the key doesn't imply are part of what it is found by.
fn beside(p: &TokenStream, site: &Site) -> Option<TokenStream> {
    let tags = site.tags.iter().flat_map(|tags| &tags.before);
    let tags: Vec<_> = tags
        .filter(|parts| !parts.iter().all(|part| site.key.implies(part)))
        .map(|parts| {
            let pieces = parts.iter().map(|part| piece(p, part));
            made!(&[#(#pieces),*])
        })
        .collect();
    (!tags.is_empty()).then(|| made!(let mut make = make; make.beside(&[#(#tags),*]);))
}

/// A call without a key.
pub(super) fn base(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    prepared(&made!(#p::Call), p, site, item)
}

/// `P::Call` or `P::Look`, of this function in this cache.
fn prepared(what: &TokenStream, p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let at = at(p, site, item);
    let cache = &site.cache.iter().collect::<Vec<_>>();
    made!(#what::new(#at) #(.on(#cache))*)
}

/// Where the site stands, as an expression.
pub(super) fn at(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let name = &item.sig.ident;
    match site.helpers {
        Helpers::Beside => made!(#name::__site()),
        Helpers::Method => {
            let place = site_name(item);
            made!(Self::#place())
        }
        // The block keeps the name from the body's sight.
        Helpers::None => place(p, site, item),
    }
}

/// The static and the closure that marks its place.
pub(super) fn place(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let constants = constants(p, site, item);
    let at = match site.helpers {
        Helpers::Beside => made!(beside),
        Helpers::Method | Helpers::None => made!(inside),
    };
    made!({
        static SITE: #p::Site = #constants;
        #p::At::#at(&SITE, &|| ())
    })
}

/// Where a method's helpers are in the way, in a trait impl, the compiler shows this name first: so
/// the name says what to write.
pub(super) fn site_name(item: &FnItem) -> Ident {
    let name = &item.sig.ident;
    format_ident!("__{}_in_a_trait_impl_say_helpers_none", name.unraw(), span = name.span())
}

fn constants(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let name = item.sig.ident.unraw().to_string();
    let shape = match &site.key {
        Key::Hashed(Hashed { prefix: Some(prefix), .. }) => {
            made!(Hashed(::core::option::Option::Some(#prefix)))
        }
        Key::Hashed(_) => made!(Hashed(::core::option::Option::None)),
        Key::Template { glob, .. } => made!(Template(#glob)),
        Key::Closure { .. } | Key::Path { .. } => made!(Built),
    };
    let mut constants = made!(#p::Site::new(#name, ::core::module_path!(), #p::Shape::#shape));
    if let Some(version) = site.version {
        constants.extend(made!(.version(#version)));
    }
    if let Some(Codec::Msgpack) = site.codec {
        constants.extend(made!(.codec(#p::Codec::Msgpack)));
    }
    if let Some(flight) = &site.flight {
        let flight = match flight {
            Flight::Fleet => made!(Fleet),
            Flight::Process => made!(Process),
            Flight::Off => made!(Off),
        };
        constants.extend(made!(.flight(#p::SingleFlight::#flight)));
    }
    if let Some(jitter) = &site.jitter {
        let jitter = match jitter {
            Jitter::Percent(percent) => made!(Percent(#percent)),
            Jitter::UpTo(most) => {
                let most = duration(*most);
                made!(UpTo(#most))
            }
        };
        constants.extend(made!(.jitter(#p::Jitter::#jitter)));
    }
    if let Some(ahead) = &site.refresh_ahead {
        let ahead = match ahead {
            Ahead::Percent(percent) => made!(Percent(#percent)),
            Ahead::UpTo(most) => {
                let most = duration(most.time);
                made!(UpTo(#most))
            }
        };
        constants.extend(made!(.refresh_ahead(#p::Ahead::#ahead)));
    }
    if let Some(grace) = &site.stale_if_error {
        let grace = duration(grace.time);
        constants.extend(made!(.stale_if_error(#grace)));
    }
    if let Some(tags) = &site.tags {
        let labels = if tags.after.is_empty() { made!(Arguments) } else { made!(Result) };
        constants.extend(made!(.tags(#p::Labels::#labels)));
    }
    if let Some(near) = &site.near {
        let most = near.most.map_or_else(
            || made!(::core::option::Option::None),
            |most| {
                let most = duration(most);
                made!(::core::option::Option::Some(#most))
            },
        );
        constants.extend(made!(.near(#most)));
    }
    if let Some(queue) = &site.pending {
        constants.extend(made!(.pending(#queue)));
    }
    if let Some(timeout) = &site.timeout {
        let timeout = duration(timeout.time);
        constants.extend(made!(.timeout(#timeout)));
    }
    if !site.keep_none {
        constants.extend(made!(.keep_none(false)));
    }
    constants
}

fn key(p: &TokenStream, site: &Site, item: &FnItem, scope: Scope) -> TokenStream {
    match &site.key {
        Key::Hashed(key) => hashed(p, key, item),
        Key::Template { parts, .. } => {
            let pieces = parts.iter().map(|part| piece(p, part));
            made!(make.template(&[#(#pieces),*]))
        }
        Key::Closure { closure, args } => {
            let args = args.iter().map(|arg| reference(item, arg));
            let build = tupled(closure);
            spanned(
                &closure.body.to_token_stream(),
                |span| quote_spanned!(span=> make.built(#p::build((#(#args,)*), #build))),
            )
        }
        Key::Path { path, this, args } => {
            let this = this.then(|| this_reference(item, scope)).into_iter();
            let args = this.chain(args.iter().map(|arg| reference(item, arg)));
            spanned(&path.to_token_stream(), |span| quote_spanned!(span=> make.built(#path(#(#args),*))))
        }
    }
}

fn hashed(p: &TokenStream, key: &Hashed, item: &FnItem) -> TokenStream {
    let types = key.types.iter().map(|ty| made!(#p::type_name::<#ty>()));
    let opaque = key.opaque.iter().map(|arg| made!(#p::type_name_of(&#arg)));
    let this = key.this.then(|| made!(#p::type_name::<Self>()));
    let types = types.chain(opaque).chain(this);
    let args = key.args.iter().map(|arg| argument::kept(p, item, arg));
    let args: Vec<_> = args.chain(key.consts.iter().map(|value| made!(&#value))).collect();
    // serde's tuples end at 16.
    let args = match args.chunks(16).collect::<Vec<_>>().as_slice() {
        [] => made!(()),
        [args] => made!((#(#args,)*)),
        many => {
            let parts = many.iter().map(|args| made!((#(#args,)*)));
            made!((#(#parts,)*))
        }
    };
    made!({
        #[allow(unused_imports)]
        use #p::UnfitArg as _;
        make.hashed(&[#(#types),*], &#args)
    })
}

/// `P::Piece::Value(&user.id)`, spanned at the template.
pub(super) fn piece(p: &TokenStream, part: &Part) -> TokenStream {
    match part {
        Part::Text(text) => made!(#p::Piece::Text(#text)),
        Part::Argument { root, fields, span } => value(p, &root.to_token_stream(), fields, *span),
        Part::Result { fields, span } => value(p, &made!(value), fields, *span),
    }
}

fn value(p: &TokenStream, root: &TokenStream, fields: &[String], span: Span) -> TokenStream {
    let place = place_of(root, fields, span);
    quote_spanned!(Span::mixed_site().located_at(span)=> #p::Piece::Value(#place))
}

/// `&user.id`
pub(super) fn place_of(root: &TokenStream, fields: &[String], span: Span) -> TokenStream {
    let span = Span::mixed_site().located_at(span);
    let fields = fields.iter().map(|field| match field.parse::<usize>() {
        Ok(index) => {
            let mut index = Literal::usize_unsuffixed(index);
            index.set_span(span);
            index.to_token_stream()
        }
        Err(_) => match syn::parse_str::<Ident>(field) {
            Ok(_) => Ident::new(field, span).to_token_stream(),
            Err(_) => Ident::new_raw(field, span).to_token_stream(),
        },
    });
    quote_spanned!(span=> &#root #(.#fields)*)
}

/// An argument by reference: `&str` stays `&str`.
fn reference(item: &FnItem, arg: &Ident) -> TokenStream {
    if is_reference(item, arg) { made!(&*#arg) } else { made!(&#arg) }
}

fn this_reference(item: &FnItem, scope: Scope) -> TokenStream {
    let Some(receiver) = item.receiver() else {
        return TokenStream::new();
    };
    let this = receiver.self_token;
    let is_value = matches!(receiver.kind, ReceiverKind::Value) && scope == Scope::Wrapper;
    if is_value { made!(&#this) } else { made!(&*#this) }
}

/// `|id, status| ..` as a closure over one tuple, the types of whose parts are known by then.
fn tupled(closure: &ExprClosure) -> TokenStream {
    let ExprClosure { capture, inputs, output, body, .. } = closure;
    let (pats, types): (Vec<_>, Vec<_>) = inputs
        .iter()
        .map(|pat| match pat {
            Pat::Type(typed) => (typed.pat.to_token_stream(), typed.ty.to_token_stream()),
            pat => (pat.to_token_stream(), made!(_)),
        })
        .unzip();
    made!(#capture |(#(#pats,)*): (#(#types,)*)| #output #body)
}
