//! Emits the preparation of a call: where it stands, in which cache, under which key.

use super::{duration, made};
use crate::args::{Flight, Jitter};
use crate::item::FnItem;
use crate::site::{Hashed, Helpers, Key, Part, Site, is_reference, plain};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::ext::IdentExt;
use syn::{ExprClosure, Pat, ReceiverKind, Type};

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
    let base = base(p, site, item);
    let when = site.when.iter().filter(|_| scope == Scope::Wrapper);
    let key = key(p, site, item, scope);
    made! {
        #[allow(clippy::used_underscore_binding)]
        let call = #base #(.when(#when))* .key(|make| #key);
    }
}

/// A call without a key.
pub(super) fn base(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let at = at(p, site, item);
    let cache = &site.cache.iter().collect::<Vec<_>>();
    made!(#p::Call::new(#at) #(.on(#cache))*)
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

/// `__get_user_site`
pub(super) fn site_name(item: &FnItem) -> Ident {
    format_ident!(
        "__{}_site",
        item.sig.ident.unraw(),
        span = item.sig.ident.span()
    )
}

fn constants(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let name = item.sig.ident.unraw().to_string();
    let shape = match &site.key {
        Key::Hashed(Hashed {
            prefix: Some(prefix),
            ..
        }) => made!(Hashed(::core::option::Option::Some(#prefix))),
        Key::Hashed(_) => made!(Hashed(::core::option::Option::None)),
        Key::Template { glob, .. } => made!(Template(#glob)),
        Key::Closure { .. } | Key::Path { .. } => made!(Built),
    };
    let mut constants = made!(#p::Site::new(#name, ::core::module_path!(), #p::Shape::#shape));
    if let Some(version) = site.version {
        constants.extend(made!(.version(#version)));
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
            Jitter::Percent(share) => made!(Percent(#share)),
            Jitter::UpTo(most) => {
                let most = duration(*most);
                made!(UpTo(#most))
            }
        };
        constants.extend(made!(.jitter(#p::Jitter::#jitter)));
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
            made!(make.built(#p::build((#(#args,)*), #build)))
        }
        Key::Path { path, this, args } => {
            let this = this.then(|| this_reference(item, scope)).into_iter();
            let args = this.chain(args.iter().map(|arg| reference(item, arg)));
            made!(make.built(#path(#(#args),*)))
        }
    }
}

fn hashed(p: &TokenStream, key: &Hashed, item: &FnItem) -> TokenStream {
    let types = key.types.iter().map(|ty| made!(#p::type_name::<#ty>()));
    let opaque = key.opaque.iter().map(|arg| made!(#p::type_name_of(&#arg)));
    let this = key.this.then(|| made!(#p::type_name::<Self>()));
    let types = types.chain(opaque).chain(this);
    let args = key.args.iter().map(|arg| argument(p, item, arg));
    let args: Vec<_> = args
        .chain(key.consts.iter().map(|value| made!(&#value)))
        .collect();
    // serde's tuples end at 16.
    let args = match args.chunks(16).collect::<Vec<_>>().as_slice() {
        [] => made!(()),
        [args] => made!((#(#args,)*)),
        many => {
            let parts = many.iter().map(|args| made!((#(#args,)*)));
            made!((#(#parts,)*))
        }
    };
    made!(make.hashed(&[#(#types),*], &#args))
}

/// An argument of a hashed key. Where its type may lack `Serialize`, a trait of its own lets the
/// compiler's error name the argument and say how to leave it out; what comes back is opaque, so
/// that there is no second error.
fn argument(p: &TokenStream, item: &FnItem, arg: &Ident) -> TokenStream {
    if item.params.iter().any(|param| {
        matches!(&param.pat, Pat::Ident(pat) if pat.ident == *arg) && always_fits(&param.ty)
    }) {
        return made!(&#arg);
    }
    let name = plain(arg);
    let message =
        format!("argument `{name}` can't be part of the key: `{{Self}}` is not `Serialize`");
    let label = format!("leave it out: `skip({name})`");
    let note =
        "or derive `serde::Serialize` for it, or say by `key` or `key_builder` what of it matters";
    let span = Span::mixed_site().located_at(arg.span());
    let check = quote_spanned!(span=> argument);
    made!({
        #[diagnostic::on_unimplemented(message = #message, label = #label, note = #note)]
        trait Argument: #p::Serialize {}
        #[diagnostic::do_not_recommend]
        impl<T: #p::Serialize + ?Sized> Argument for T {}
        fn argument<T: Argument + ?Sized>(value: &T) -> impl #p::Serialize + '_ { value }
        #check
    }(&#arg))
}

/// Types that need no check of their own. A type of the user's may bear such a name: then the
/// error is the compiler's, and as right.
fn always_fits(ty: &Type) -> bool {
    const NAMES: [&str; 17] = [
        "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64",
        "i128", "isize", "f32", "f64", "String",
    ];
    match ty {
        Type::Path(path) => path
            .path
            .get_ident()
            .is_some_and(|name| name == "str" || NAMES.iter().any(|known| name == known)),
        Type::Reference(reference) => always_fits(&reference.elem),
        Type::Slice(slice) => always_fits(&slice.elem),
        Type::Group(group) => always_fits(&group.elem),
        _ => false,
    }
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
    if is_reference(item, arg) {
        made!(&*#arg)
    } else {
        made!(&#arg)
    }
}

fn this_reference(item: &FnItem, scope: Scope) -> TokenStream {
    let Some(receiver) = item.receiver() else {
        return TokenStream::new();
    };
    let this = receiver.self_token;
    match (&receiver.kind, scope) {
        (ReceiverKind::Value, Scope::Wrapper) => made!(&#this),
        _ => made!(&*#this),
    }
}

/// `|id, status| ..` as a closure over one tuple, the types of whose parts are known by then.
fn tupled(closure: &ExprClosure) -> TokenStream {
    let ExprClosure {
        capture,
        inputs,
        output,
        body,
        ..
    } = closure;
    let (pats, types): (Vec<_>, Vec<_>) = inputs
        .iter()
        .map(|pat| match pat {
            Pat::Type(typed) => (typed.pat.to_token_stream(), typed.ty.to_token_stream()),
            pat => (pat.to_token_stream(), made!(_)),
        })
        .unzip();
    made!(#capture |(#(#pats,)*): (#(#types,)*)| #output #body)
}
