//! Typed targets: the entry of a cached function by its arguments, `get_user(user_id)`, or all of its
//! entries, `get_user::*`.

use crate::errors::Errors;
use crate::item::FnItem;
use crate::names;
use crate::site::plain;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{AngleBracketedGenericArguments, Expr, ExprPath, Path, PathArguments, PathSegment, Token};

/// A target as it was written.
pub(crate) struct Target {
    pub(crate) function: Function,
    pub(crate) generics: Option<AngleBracketedGenericArguments>,
    pub(crate) args: Punctuated<Expr, Token![,]>,
    pub(crate) all: bool,
}

/// The function that it names.
pub(crate) enum Function {
    /// `users::get_user`: its helpers are on the type of that path.
    Free(Path),
    /// `UserService::get_user`: they are beside the method.
    Method { of: TokenStream, name: Ident },
    /// `self.get_user`: the same, with a value to call them on.
    Of { receiver: Expr, name: Ident },
}

/// What it means for the function that it is written on.
pub(crate) struct Typed {
    pub(crate) target: Target,
    /// What its arguments call the result, if they speak of it.
    pub(crate) value: Option<Ident>,
    /// Arguments of the decorated function that it reads after the body: copies are made before.
    pub(crate) cloned: Vec<Ident>,
}

impl Target {
    /// Where it stands.
    pub(crate) fn span(&self) -> Span {
        match &self.function {
            Function::Free(path) => path.span(),
            Function::Method { name, .. } | Function::Of { name, .. } => name.span(),
        }
    }

    /// `get_user::*`, if that stands here.
    pub(crate) fn all(input: ParseStream<'_>) -> Option<syn::Result<Self>> {
        let ahead = input.fork();
        path_before_star(&ahead)?;
        Some(Self::parse_all(input))
    }

    fn parse_all(input: ParseStream<'_>) -> syn::Result<Self> {
        let found = path_before_star(input).ok_or_else(|| input.error("expected a path"))?;
        let args = if input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            Punctuated::parse_terminated(&content)?
        } else {
            Punctuated::new()
        };
        Ok(Self { args, all: true, ..found })
    }

    /// A call of a cached function.
    pub(crate) fn of(expr: Expr) -> Option<syn::Result<Self>> {
        match expr {
            Expr::Group(group) => Self::of(*group.expr),
            Expr::Call(call) => match *call.func {
                Expr::Path(path) => Some(Self::named(path).map(|found| Self { args: call.args, ..found })),
                _ => None,
            },
            Expr::MethodCall(call) => Some(Ok(Self {
                function: Function::Of { receiver: *call.receiver, name: call.method },
                generics: call.turbofish,
                args: call.args,
                all: false,
            })),
            Expr::Path(path) => {
                let written = path.to_token_stream().to_string().replace(' ', "");
                let message = format!(
                    "say which entries: `{written}(..)` with the arguments of its key, or `{written}::*` for all"
                );
                Some(Err(syn::Error::new_spanned(path, message)))
            }
            _ => None,
        }
    }

    fn named(path: ExprPath) -> syn::Result<Self> {
        let ExprPath { qself, mut path, .. } = path;
        let no_trait =
            "a method of a trait has no helpers: decorate a method of the type, and write `Type::method(..)`";
        let last = path.segments.pop().expect("a path has a segment");
        path.segments.pop_punct();
        let generics = match last.arguments {
            PathArguments::AngleBracketed(arguments) => Some(arguments),
            _ => None,
        };
        let is_type =
            |segment: &PathSegment| segment.ident.unraw().to_string().starts_with(char::is_uppercase);
        let function = match qself {
            Some(qself) if !path.segments.is_empty() => {
                return Err(syn::Error::new_spanned(qself.ty, no_trait));
            }
            Some(qself) => {
                let ty = qself.ty;
                Function::Method { of: quote::quote!(<#ty>), name: last.ident }
            }
            None if path.segments.last().is_some_and(is_type) => {
                Function::Method { of: path.into_token_stream(), name: last.ident }
            }
            None => {
                if !path.segments.is_empty() {
                    path.segments.push_punct(Token![::](last.ident.span()));
                }
                path.segments.push_value(last.ident.into());
                Function::Free(path)
            }
        };
        Ok(Self { function, generics, args: Punctuated::new(), all: false })
    }

    pub(crate) fn name(&self) -> &Ident {
        match &self.function {
            Function::Free(path) => &path.segments.last().expect("a path has a segment").ident,
            Function::Method { name, .. } | Function::Of { name, .. } => name,
        }
    }

    /// All that is evaluated.
    fn read(&self) -> TokenStream {
        let mut tokens = self.args.to_token_stream();
        if let Function::Of { receiver, .. } = &self.function {
            tokens.extend([TokenTree::Punct(proc_macro2::Punct::new(',', proc_macro2::Spacing::Alone))]);
            receiver.to_tokens(&mut tokens);
        }
        tokens
    }

    pub(crate) fn resolve(self, item: &FnItem, errors: &mut Errors) -> Option<Typed> {
        let read = self.read();
        let names = names::in_expr(read.clone());
        if !names.contains("value") {
            return Some(Typed { target: self, value: None, cloned: Vec::new() });
        }
        if let Some(argument) = item.binding("value") {
            errors.at(argument, "`value` in a target is what the function returned: rename this argument");
            return None;
        }
        let value =
            names::find_name(read.clone(), "value").unwrap_or_else(|| Ident::new("value", read.span()));
        let cloned = self.cloned(&names, item);
        Some(Typed { target: self, value: Some(value), cloned })
    }

    fn cloned(&self, names: &BTreeSet<String>, item: &FnItem) -> Vec<Ident> {
        let this = item.receiver().filter(|_| names.contains("self"));
        let this = this.map(|receiver| Ident::new("self", receiver.self_token.span));
        let read = item.bindings().filter(|name| names.contains(&plain(name))).cloned();
        let at_use = |name: Ident| {
            let span =
                names::find_name(self.read(), &plain(&name)).map_or(Span::call_site(), |used| used.span());
            let mut name = name;
            name.set_span(name.span().located_at(span));
            name
        };
        this.into_iter().chain(read).map(at_use).collect()
    }
}

/// The function of `get_user::*`.
fn path_before_star(input: ParseStream<'_>) -> Option<Target> {
    if input.peek(Token![self]) && input.peek2(Token![.]) {
        let this: Token![self] = input.parse().ok()?;
        let mut receiver: Expr = syn::parse_quote!(#this);
        loop {
            let dot: Token![.] = input.parse().ok()?;
            let name = Ident::parse_any(input).ok()?;
            let colons = input.peek(Token![::]);
            if colons {
                input.parse::<Token![::]>().ok()?;
                input.parse::<Token![*]>().ok()?;
                let function = Function::Of { receiver, name };
                return Some(Target { function, generics: None, args: Punctuated::new(), all: true });
            }
            receiver = syn::parse2(quote::quote!(#receiver #dot #name)).ok()?;
        }
    }
    let mut path = Path { leading_colon: input.parse().ok()?, segments: Punctuated::new() };
    loop {
        let ident = Ident::parse_any(input).ok()?;
        let mut segment = PathSegment::from(ident);
        if input.peek(Token![::]) && input.peek3(Token![<]) {
            segment.arguments = PathArguments::AngleBracketed(input.parse().ok()?);
        }
        path.segments.push_value(segment);
        let colons: Token![::] = input.parse().ok()?;
        if input.peek(Token![*]) {
            input.parse::<Token![*]>().ok()?;
            return Target::named(ExprPath { attrs: Vec::new(), qself: None, path }).ok();
        }
        path.segments.push_punct(colons);
    }
}
