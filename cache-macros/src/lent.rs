//! What a call only lends: a load that outlives it needs a copy.

use crate::item::{FnItem, Param};
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::{Receiver, ReceiverKind, Type};

/// `T` of `&T`. What is `'static` isn't lent.
pub(crate) fn lent(ty: &Type) -> Option<&Type> {
    match plain(ty) {
        Type::Reference(reference) => {
            let forever = reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static");
            (!forever).then(|| plain(&reference.elem))
        }
        _ => None,
    }
}

/// Whether the receiver is `&self`, or `self: &Arc<Self>`.
pub(crate) fn lends_self(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(_, lifetime, _) => {
            lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static")
        }
        ReceiverKind::Typed(_, ty) => lent(ty).is_some(),
        _ => false,
    }
}

/// The names of all that a call lends.
pub(crate) fn names(item: &FnItem) -> BTreeSet<String> {
    let this = item.receiver().filter(|receiver| lends_self(receiver)).map(|_| "self".to_owned());
    let lent = |param: &&Param| lent(&param.ty).is_some();
    let params = item.params.iter().filter(lent).flat_map(|param| &param.bindings);
    params.map(|name| name.unraw().to_string()).chain(this).collect()
}

/// The type inside parentheses, and inside what `macro_rules!` puts around a type it passes on.
pub(crate) fn plain(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => plain(&group.elem),
        Type::Paren(paren) => plain(&paren.elem),
        ty => ty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::TokenStream;
    use quote::quote;

    #[test]
    fn only_what_is_borrowed_is_lent() {
        let lent = |params: TokenStream| {
            let item = syn::parse2(quote!(async fn f(#params) -> u8 {}));
            let names = names(&item.unwrap_or_else(|error| panic!("{error}")));
            names.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            lent(quote!(&self, a: &str, b: u8, c: &'a [u8], d: &'static str, e: Vec<&str>)),
            "a c self"
        );
        assert_eq!(lent(quote!(self: &Arc<Self>, r#type: (&str))), "self type");
        assert_eq!(lent(quote!(self: Arc<Self>, a: Arc<str>)), "");
        assert_eq!(lent(quote!(mut self)), "");
        assert_eq!(lent(quote!(&'static self)), "");
    }
}
