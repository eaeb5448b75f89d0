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
        for name in &lent & &names::in_closure(closure) {
            let body = closure.body.to_token_stream();
            // A format string captures it: then the whole body is shown.
            let place = names::find(closure, &name).map_or(body, Ident::into_token_stream);
            errors.at(
                place,
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

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn mistakes(args: TokenStream, item: TokenStream) -> Vec<String> {
        let mut errors = Errors::default();
        let args = CacheArgs::parse(args, &mut errors);
        let item = syn::parse2(item).unwrap_or_else(|error| panic!("{error}"));
        owned(&args, &item, &mut errors);
        let errors = errors.finish().err().into_iter().flatten();
        errors.map(|error| error.to_string()).collect()
    }

    fn of_params(params: &TokenStream) -> Vec<String> {
        mistakes(quote!(refresh_ahead = 5), quote!(async fn f<'a, T>(#params) -> u8 {}))
    }

    #[test]
    fn arguments_that_cannot_outlive_the_call() {
        for (params, says) in [
            (quote!(x: &mut u8), "a `&mut` cannot"),
            (quote!(x: (&mut u8)), "a `&mut` cannot"),
            (quote!(&mut self), "`&mut self` cannot"),
            (quote!(self: &mut Self), "a `&mut` cannot"),
            (quote!(self: Pin<&mut Self>), "a borrow inside a type"),
            (quote!((a, b): (u8, u8)), "give this one a name"),
            (quote!(ref a: u8), "give this one a name"),
            (quote!(a @ 1..: u8), "give this one a name"),
            (quote!(x: &dyn Find), "take an `Arc<dyn Find>`"),
            (quote!(x: &(dyn Find + Sync)), "take an `Arc<dyn Find + Sync>`"),
            (quote!(x: Option<&str>), "a borrow inside a type"),
            (quote!(x: &[&str]), "a borrow inside a type"),
            (quote!(x: &&str), "a borrow inside a type"),
            (quote!(x: Cow<'_, str>), "a borrow inside a type"),
            (quote!(x: Text<'a>), "a borrow inside a type"),
            (quote!(x: impl Tr + 'a), "a borrow inside a type"),
            (quote!(x: impl Iterator<Item = &'a u8>), "a borrow inside a type"),
            (quote!(x: Box<dyn for<'b> Tr<'b, 'a>>), "a borrow inside a type"),
        ] {
            let shown = params.to_string();
            let found = of_params(&params);
            assert_eq!(found.len(), 1, "{shown}: {found:?}");
            assert!(found[0].contains(says), "{shown}: {found:?}");
        }
    }

    #[test]
    fn arguments_that_can() {
        for params in [
            quote!(&self, a: &str, b: &'a [T], mut c: Option<T>, _: u8),
            quote!(mut self, a: &'static str, b: Option<&'static [&'static str]>, c: Cow<'static, str>),
            quote!(self: &Arc<Self>, a: fn(&u8) -> &u8, b: impl Fn(&str) -> &str + 'static),
            quote!(self: Arc<Self>, a: Box<dyn for<'b> Tr<'b> + 'static>, b: Arc<dyn Find>),
            quote!(a: &impl Find, b: &(impl Find + ?Sized)),
        ] {
            assert_eq!(of_params(&params), Vec::<String>::new());
        }
        let without = mistakes(
            quote!(stale_if_error = 5),
            quote!(
                async fn f(&mut self, (a, b): (&u8, &dyn A)) -> u8 {}
            ),
        );
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn results_that_borrow() {
        for (returns, count) in [
            (quote!(Cow<'_, str>), 1),
            (quote!(Result<u8, &str>), 1),
            (quote!(Result<Option<u8>, Error<'a>>), 1),
            (quote!(Result<Cow<'static, str>, &'static str>), 0),
            // Said by the rule of all cached functions.
            (quote!(&str), 0),
        ] {
            let shown = returns.to_string();
            let found =
                mistakes(quote!(refresh_ahead = 5), quote!(async fn f<'a>(a: &'a str) -> #returns {}));
            assert_eq!(found.len(), count, "{shown}: {found:?}");
            assert!(found.iter().all(|found| found.contains("what it returns")), "{shown}: {found:?}");
        }
    }

    #[test]
    fn a_trait_has_no_room() {
        let async_trait = quote!(
            fn f<'life0, 'async_trait>(
                &'life0 self,
                a: &mut u8,
            ) -> Pin<Box<dyn Future<Output = u8> + Send + 'async_trait>> {
            }
        );
        let method = quote!(
            async fn f(&self, a: &mut u8) -> u8 {}
        );
        let like = quote!(
            async fn f(like: Self) -> u8 {}
        );
        let free = quote!(
            async fn f(id: u8) -> u8 {}
        );
        let none = quote!(timeout = 1, helpers = "none");
        for (args, item, says) in [
            (quote!(refresh_ahead = 5), async_trait, "call it from here"),
            (none.clone(), method, "remove `helpers"),
            (none.clone(), like, "remove `helpers"),
        ] {
            let shown = item.to_string();
            let found = mistakes(args, item);
            assert_eq!(found.len(), 1, "{shown}: {found:?}");
            assert!(found[0].contains(says), "{shown}: {found:?}");
        }
        assert_eq!(mistakes(none, free), Vec::<String>::new());
    }

    #[test]
    fn closures_that_read_what_is_borrowed() {
        let item = quote!(
            async fn f(&self, name: &str, limit: u64) -> u64 {}
        );
        for (closure, count) in [
            (quote!(|value| value > limit), 0),
            (quote!(|name| name > 5), 0),
            (quote!(|value| value.name() == self::name), 0),
            (quote!(|value| value == name.len()), 1),
            (quote!(|value| format!("{name}{value}").is_empty()), 1),
            (quote!(|value| value > self.limit + name.len()), 2),
        ] {
            let shown = closure.to_string();
            let found = mistakes(quote!(refresh_ahead = 5, unless = #closure), item.clone());
            assert_eq!(found.len(), count, "{shown}: {found:?}");
            let found = mistakes(quote!(refresh_ahead = 5, none_ttl = #closure), item.clone());
            assert_eq!(found.len(), count, "{shown}: {found:?}");
        }
    }
}
