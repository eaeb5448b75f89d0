//! Which names occur in tokens that nobody parsed.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::BTreeSet;
use syn::ext::IdentExt;

/// Names and lifetimes (`'a`) in a type or bound.
pub(crate) fn in_type(tokens: impl ToTokens) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    walk(tokens.to_token_stream(), &mut names, &|_| true);
    names
}

/// Names that an expression may read: no fields or methods (`.name`), no path segments behind
/// `::`, but what format strings capture (`"{name}"`).
pub(crate) fn in_expr(tokens: impl ToTokens) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    walk(tokens.to_token_stream(), &mut names, &|before| !matches!(before, Before::Dot | Before::Colons));
    names
}

/// Where a name occurs first, as [`in_expr`] finds it; nowhere if a format string captures it.
pub(crate) fn find(tokens: TokenStream, name: &str) -> Option<Ident> {
    let mut before = ' ';
    for token in tokens {
        match &token {
            TokenTree::Group(group) => {
                if let Some(found) = find(group.stream(), name) {
                    return Some(found);
                }
            }
            TokenTree::Ident(ident) if !matches!(before, '.' | ':') && ident.unraw() == name => {
                return Some(ident.clone());
            }
            _ => {}
        }
        before = match token {
            TokenTree::Punct(punct) => punct.as_char(),
            _ => ' ',
        };
    }
    None
}

enum Before {
    Nothing,
    Dot,
    Dots,
    Colon,
    Colons,
    Quote,
}

fn walk(tokens: TokenStream, names: &mut BTreeSet<String>, counts: &impl Fn(&Before) -> bool) {
    let mut before = Before::Nothing;
    for token in tokens {
        before = match token {
            TokenTree::Group(group) => {
                walk(group.stream(), names, counts);
                Before::Nothing
            }
            TokenTree::Ident(ident) => {
                let name = ident.unraw().to_string();
                match before {
                    Before::Quote => names.insert(format!("'{name}")),
                    _ => counts(&before) && names.insert(name),
                };
                Before::Nothing
            }
            TokenTree::Literal(literal) => {
                captured(&literal.to_string(), names);
                Before::Nothing
            }
            TokenTree::Punct(punct) => match (punct.as_char(), before) {
                ('.', Before::Dot | Before::Dots) => Before::Dots,
                ('.', _) => Before::Dot,
                (':', Before::Colon) => Before::Colons,
                (':', _) => Before::Colon,
                ('\'', _) => Before::Quote,
                _ => Before::Nothing,
            },
        };
    }
}

/// `{name}` and `{name:..}` of a format string.
fn captured(literal: &str, names: &mut BTreeSet<String>) {
    if !literal.contains('"') {
        return;
    }
    for part in literal.split('{').skip(1) {
        let end = part.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(0);
        let begins = part.starts_with(|c: char| c == '_' || c.is_alphabetic());
        if begins && part[end..].starts_with(['}', ':']) {
            names.insert(part[..end].to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn list(names: &BTreeSet<String>) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }

    #[test]
    fn fields_and_paths_are_no_names() {
        let names = in_expr(quote!(id.ttl + a::b(&r#type, ..limit) + self.x));
        assert_eq!(list(&names), ["a", "id", "limit", "self", "type"]);
    }

    #[test]
    fn format_strings_capture() {
        let names = in_expr(quote!(format!("a:{id}:{name:>5}:{{no}}{}{0}", other)));
        assert_eq!(list(&names), ["format", "id", "name", "no", "other"]);
    }

    #[test]
    fn types_name_parameters_and_lifetimes() {
        let names = in_type(quote!(&'a Foo<T::Item, { N }>));
        assert_eq!(list(&names), ["'a", "Foo", "Item", "N", "T"]);
    }
}
