//! The grammar of an attribute's list: named values and what to say while one is being typed.

use crate::args::Arg;
use crate::errors::{Errors, hint};
use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::Token;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};

/// Where a named value goes.
pub(crate) struct Slot<'a> {
    pub(crate) name: &'a Ident,
    pub(crate) errors: &'a mut Errors,
}

impl Slot<'_> {
    pub(crate) fn set_once<T>(&mut self, slot: &mut Option<Arg<T>>, value: T) {
        if slot.is_some() {
            self.errors.at(self.name, format!("`{}` is given twice: keep one", self.name));
        } else {
            *slot = Some(Arg { name: self.name.clone(), value });
        }
    }
}

/// Runs `one` on each entry of a list; after a mistake goes on behind the next comma.
pub(crate) fn each(
    tokens: TokenStream,
    errors: &mut Errors,
    mut one: impl FnMut(ParseStream<'_>, &mut Errors) -> syn::Result<()>,
) {
    let list = |input: ParseStream<'_>| {
        while !input.is_empty() {
            match one(input, errors) {
                Ok(()) if input.is_empty() => {}
                Ok(()) if input.peek(Token![,]) => {
                    input.parse::<Token![,]>()?;
                }
                Ok(()) => {
                    errors.push(input.error("expected a `,` before this"));
                    // An option that only lacks its comma is still read.
                    if !input.peek(syn::Ident::peek_any) {
                        skip_to_comma(input)?;
                    }
                }
                Err(error) => {
                    errors.push(error);
                    skip_to_comma(input)?;
                }
            }
        }
        Ok(())
    };
    // syn adds an "unexpected token" to what has been reported already.
    if let Err(error) = list.parse2(tokens)
        && errors.is_empty()
    {
        errors.push(error);
    }
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    input.parse::<Option<Token![,]>>()?;
    Ok(())
}

/// The name of an option that exists.
pub(crate) fn option_name(input: ParseStream<'_>, options: &[(&str, &str)]) -> syn::Result<Ident> {
    let Ok(name) = input.call(Ident::parse_any) else {
        let (_, example) = options[0];
        return Err(input.error(format!("every option has a name: write `{example}`")));
    };
    let known = options.iter().map(|(known, _)| *known);
    if known.clone().all(|known| name != known) {
        let hint = hint(&name.to_string(), known, "the options are");
        return Err(syn::Error::new(name.span(), format!("unknown option `{name}`{hint}")));
    }
    Ok(name)
}

/// `= value`, where the value may be missing while it is being typed.
pub(crate) fn value<T: Parse>(
    name: &Ident,
    input: ParseStream<'_>,
    options: &[(&str, &str)],
) -> syn::Result<T> {
    let example = options.iter().find(|(known, _)| name == known).map_or("", |(_, example)| example);
    let missing = |span| Err(syn::Error::new(span, format!("`{name}` needs a value: write `{example}`")));
    let Ok(equals) = input.parse::<Token![=]>() else {
        return missing(name.span());
    };
    if input.is_empty() || input.peek(Token![,]) {
        return missing(equals.span);
    }
    input.parse()
}
