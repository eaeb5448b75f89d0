//! Rules of a load that may outlive its caller: it must own what it uses.

use crate::args::{Arg, CacheArgs};
use crate::errors::Errors;
use crate::item::{FnItem, Shape};
use crate::lent::{self, lent, plain};
use crate::names;
use crate::values::{HelpersArg, Life};
use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use std::collections::BTreeSet;
use syn::visit::{self, Visit};
use syn::{
    Lifetime, ParenthesizedGenericArguments, Pat, PatIdent, Receiver, ReceiverKind, TraitBound, Type,
    TypeFnPtr, TypeReference,
};

pub(super) fn owned(args: &CacheArgs, item: &FnItem, errors: &mut Errors) {
    let Some(option) = args.outlives() else {
        return;
    };
    if !has_room(option, args, item, errors) {
        return;
    }
    if let Some(receiver) = item.receiver() {
        this(option, receiver, errors);
    }
    for param in &item.params {
        if let Pat::Wild(_) | Pat::Ident(PatIdent { by_ref: None, subpat: None, .. }) = &param.pat {
            argument(option, &param.ty, errors);
        } else {
            errors.at(
                &param.pat,
                format!("with `{option}` arguments are passed on whole: give this one a name, and take it apart in the body"),
            );
        }
    }
    // A `&str` has been refused as any cached result.
    if let Some(returns) = item.returns().filter(|ty| super::find_borrow(ty).is_none())
        && let Some(borrow) = find_borrow(returns)
    {
        errors.at(
            borrow,
            format!("with `{option}` a load may outlive its caller, and so does what it returns: write `'static`, or return an owned type"),
        );
    }
    closures(option, args, item, errors);
}

/// The body moves into a function of its own, which must be possible here.
fn has_room(option: &Ident, args: &CacheArgs, item: &FnItem, errors: &mut Errors) -> bool {
    let is_method = item.receiver().is_some() || names::in_type(&item.sig).contains("Self");
    let lonely = matches!(&args.helpers, Some(Arg { value: HelpersArg::None, .. }));
    let way_out = match item.shape {
        Shape::Boxed(_) => "",
        _ if is_method && lonely => "; in an inherent impl, remove `helpers = \"none\"`",
        _ => return true,
    };
    errors.at(
        option,
        format!("`{option}` puts the body into a second method, for which a trait has no room: move the body into an inherent method, decorate that and call it from here{way_out}"),
    );
    false
}

fn this(option: &Ident, receiver: &Receiver, errors: &mut Errors) {
    match &receiver.kind {
        ReceiverKind::Reference(_, _, Some(_)) => errors.at(
            receiver,
            format!("with `{option}` a load may outlive its caller, which `&mut self` cannot: take `&self`, and keep what changes in an `Arc<Mutex<_>>`"),
        ),
        ReceiverKind::Typed(_, ty) => argument(option, ty, errors),
        _ => {}
    }
}

fn argument(option: &Ident, ty: &Type, errors: &mut Errors) {
    if let Type::Reference(TypeReference { mutability: Some(_), .. }) = plain(ty) {
        errors.at(
            ty,
            format!("with `{option}` a load may outlive its caller, which a `&mut` cannot: take an owned type, such as `Arc<Mutex<_>>`"),
        );
        return;
    }
    let inside = lent(ty);
    if let Some(Type::TraitObject(object)) = inside {
        errors.at(
            ty,
            format!("with `{option}` a load may outlive its caller, and a `&dyn` can't be copied for it: take an `Arc<{}>`", object.to_token_stream()),
        );
    } else if let Some(borrow) = find_borrow(inside.unwrap_or(ty)) {
        errors.at(
            borrow,
            format!("with `{option}` a load may outlive its caller, which a borrow inside a type cannot: take an owned type"),
        );
    }
}

/// What becomes of a value is asked when it is there, and its caller may be gone by then.
fn closures(option: &Ident, args: &CacheArgs, item: &FnItem, errors: &mut Errors) {
    let lent = lent::names(item);
    let lives = [&args.ttl, &args.none_ttl].into_iter().flatten().filter_map(|life| match &life.value {
        Life::After(closure) => Some(closure),
        Life::Fixed(..) | Life::Before(_) => None,
    });
    for closure in lives.chain(args.unless.as_ref().map(|unless| &unless.value)) {
        let own = names::in_type(closure.inputs.to_token_stream());
        let reads = names::in_expr(&closure.body);
        for name in lent.iter().filter(|name| reads.contains(*name) && !own.contains(*name)) {
            errors.at(
                names::find(closure.body.to_token_stream(), name)
                    .map_or_else(|| closure.body.to_token_stream(), |ident| ident.to_token_stream()),
                format!("with `{option}` this closure outlives the call, which `{name}` cannot: take an owned type, or ask the value alone"),
            );
        }
    }
}

/// A reference or a lifetime in a type, but for those that are `'static` or the type's own:
/// `fn(&str)`, `for<'a> Fn(&'a str)`.
fn find_borrow(ty: &Type) -> Option<TokenStream> {
    let mut find = Find { own: BTreeSet::from(["'static".to_owned()]), found: None };
    find.visit_type(ty);
    find.found
}

struct Find {
    own: BTreeSet<String>,
    found: Option<TokenStream>,
}

impl<'ast> Visit<'ast> for Find {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        match &reference.lifetime {
            Some(lifetime) if self.own.contains(&lifetime.to_string()) => {
                visit::visit_type_reference(self, reference);
            }
            _ => {
                self.found.get_or_insert_with(|| reference.to_token_stream());
            }
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if !self.own.contains(&lifetime.to_string()) {
            self.found.get_or_insert_with(|| lifetime.to_token_stream());
        }
    }

    fn visit_trait_bound(&mut self, bound: &'ast TraitBound) {
        self.own.extend(bound.lifetimes.iter().flat_map(names::in_type));
        visit::visit_path(self, &bound.path);
    }

    // Their elided lifetimes are bound by them.
    fn visit_type_fn_ptr(&mut self, _: &'ast TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments(&mut self, _: &'ast ParenthesizedGenericArguments) {}
}
