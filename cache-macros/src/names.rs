//! Which names occur in tokens that nobody parsed.

use proc_macro2::{Group, Ident, Spacing, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt};
use std::collections::BTreeSet;
use syn::ExprClosure;
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

/// Names that a closure may read from around it.
pub(crate) fn in_closure(closure: &ExprClosure) -> BTreeSet<String> {
    &in_expr(values(closure.body.to_token_stream())) - &in_type(&closure.inputs)
}

/// Where a closure reads a name first; nowhere if only a format string captures it.
pub(crate) fn find(closure: &ExprClosure, name: &str) -> Option<Ident> {
    find_in(values(closure.body.to_token_stream()), name)
}

/// Where tokens read a name first; nowhere if only a format string captures it.
pub(crate) fn find_name(tokens: TokenStream, name: &str) -> Option<Ident> {
    find_in(tokens, name)
}

fn find_in(tokens: TokenStream, name: &str) -> Option<Ident> {
    let mut before = ' ';
    for token in tokens {
        match &token {
            TokenTree::Group(group) => {
                if let Some(found) = find_in(group.stream(), name) {
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

/// The tokens without what stands before a `::`: no value has such a name.
fn values(tokens: TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut kept = TokenStream::new();
    while let Some(token) = tokens.next() {
        let before_path = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':' && next.spacing() == Spacing::Joint);
        match token {
            TokenTree::Ident(_) if before_path => {}
            TokenTree::Group(group) => {
                kept.append(TokenTree::Group(Group::new(group.delimiter(), values(group.stream()))));
            }
            token => kept.append(token),
        }
    }
    kept
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
    fn a_closure_reads_what_it_does_not_name_itself() {
        let closure = syn::parse_quote!(
            |value: &Found| value.len() > limit && format!("{least}") == self::most(crate::x, name.id)
        );
        assert_eq!(list(&in_closure(&closure)), ["format", "least", "limit", "name"]);
    }

    #[test]
    fn a_name_is_found_where_it_is_read() {
        let found = |body: TokenStream| find(&syn::parse_quote!(|value| #body), "limit").is_some();
        assert!(found(quote!(value.limit(b::limit, (limit)))));
        assert!(found(quote!(value > limit.0)));
        assert!(!found(quote!(value.limit(b::limit, limit::most()))));
        assert!(!found(quote!(format!("{limit}"))));
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
