//! Which generic parameters count for a key, and which of them a helper needs.

use crate::item::FnItem;
use crate::names;
use proc_macro2::Ident;
use std::collections::BTreeSet;
use syn::punctuated::Punctuated;
use syn::{GenericParam, Generics, TypeParamBound, WherePredicate};

/// Type and const parameters that belong to the key: all but those that occur only in the types
/// of skipped arguments, or only in the bounds of such (an executor must not split the cache).
pub(crate) fn counted(item: &FnItem, skipped: &BTreeSet<String>) -> BTreeSet<String> {
    let mut kept = item.returns().map(names::in_type).unwrap_or_default();
    let mut dropped = BTreeSet::new();
    for param in &item.params {
        let is_skipped = !param.bindings.is_empty()
            && param.bindings.iter().all(|name| skipped.contains(&name.to_string()));
        let set = if is_skipped { &mut dropped } else { &mut kept };
        set.extend(names::in_type(&param.ty));
    }
    let params: Vec<String> = parameters(&item.sig.generics).map(Ident::to_string).collect();
    let mut counted: BTreeSet<String> = params.iter().cloned().collect();
    loop {
        let before = counted.len();
        counted.retain(|name| kept.contains(name) || !dropped.contains(name));
        if counted.len() == before {
            return counted;
        }
        for name in params.iter().filter(|name| !counted.contains(*name)) {
            dropped.extend(bounds_of(&item.sig.generics, name));
        }
    }
}

/// The type and const parameters, in order.
pub(crate) fn parameters(generics: &Generics) -> impl Iterator<Item = &Ident> {
    generics.params.iter().filter_map(|param| match param {
        GenericParam::Type(param) => Some(&param.ident),
        GenericParam::Const(param) => Some(&param.ident),
        GenericParam::Lifetime(_) => None,
    })
}

/// The parameters that are in use, with those bounds that speak of nothing else.
pub(crate) fn narrow(generics: &Generics, used: &BTreeSet<String>) -> Generics {
    let all: BTreeSet<String> = generics.params.iter().map(name).collect();
    let speaks = |of: BTreeSet<String>| of.iter().all(|name| !all.contains(name) || used.contains(name));
    let speaks_bound = |bound: &TypeParamBound| speaks(names::in_type(bound));
    let mut narrow = Generics::default();
    for param in generics.params.iter().filter(|param| used.contains(&name(param))) {
        let mut param = param.clone();
        match &mut param {
            GenericParam::Type(param) => param.bounds = filter(&param.bounds, speaks_bound),
            GenericParam::Lifetime(param) => {
                param.bounds = filter(&param.bounds, |bound| speaks(names::in_type(bound)));
            }
            GenericParam::Const(_) => {}
        }
        narrow.params.push(param);
    }
    if let Some(clause) = &generics.where_clause {
        let mut clause = clause.clone();
        clause.predicates = filter(&clause.predicates, |predicate| match predicate {
            WherePredicate::Type(of) => speaks(names::in_type(&of.bounded_ty)),
            predicate => speaks(names::in_type(predicate)),
        });
        for predicate in &mut clause.predicates {
            if let WherePredicate::Type(of) = predicate {
                of.bounds = filter(&of.bounds, speaks_bound);
            }
        }
        narrow.where_clause = Some(clause);
    }
    narrow
}

fn name(param: &GenericParam) -> String {
    match param {
        GenericParam::Type(param) => param.ident.to_string(),
        GenericParam::Const(param) => param.ident.to_string(),
        GenericParam::Lifetime(param) => param.lifetime.to_string(),
    }
}

fn bounds_of(generics: &Generics, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for param in generics.type_params().filter(|param| param.ident == name) {
        found.extend(names::in_type(&param.bounds));
    }
    for predicate in generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
        if let WherePredicate::Type(of) = predicate
            && names::in_type(&of.bounded_ty).contains(name)
        {
            found.extend(names::in_type(&of.bounds));
        }
    }
    found
}

fn filter<T: Clone, P: Default + Clone>(
    list: &Punctuated<T, P>,
    keep: impl Fn(&T) -> bool,
) -> Punctuated<T, P> {
    list.iter().filter(|one| keep(one)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::{ToTokens, quote};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn parameters_of_skipped_arguments_do_not_count() -> syn::Result<()> {
        let item = syn::parse2(quote! {
            async fn f<'e, E, DB, T: Into<U>, U, M, const N: usize>(db: E, id: T, both: [E; N]) -> Option<U>
            where E: Executor<'e, Database = DB>, DB: Database {}
        })?;
        assert_eq!(counted(&item, &set(&["db"])), set(&["E", "DB", "T", "U", "M", "N"]));
        assert_eq!(counted(&item, &set(&["db", "both"])), set(&["T", "U", "M"]));
        Ok(())
    }

    #[test]
    fn helpers_keep_what_they_need() -> syn::Result<()> {
        let item: FnItem = syn::parse2(quote! {
            async fn f<'e, E, T: Into<E> + Clone, const N: usize>(db: E, id: T) -> [T; N]
            where E: Executor<'e>, T: 'e + Send, Vec<T>: Debug {}
        })?;
        let narrow = narrow(&item.sig.generics, &set(&["T"]));
        assert_eq!(narrow.params.to_token_stream().to_string(), quote!(T: Clone).to_string());
        let clause = quote!(where T: Send, Vec<T>: Debug);
        assert_eq!(narrow.where_clause.to_token_stream().to_string(), clause.to_string());
        Ok(())
    }
}
