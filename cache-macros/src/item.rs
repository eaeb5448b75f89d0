//! The decorated function: its signature is parsed, its body never is.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use std::fmt;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{
    AngleBracketedGenericArguments, Attribute, FnArg, GenericArgument, Pat, PatIdent, PathArguments,
    Receiver, ReturnType, Signature, Type, TypeParamBound, Visibility, visit,
};

/// Which attribute speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Macro {
    Cache,
    Invalidate,
    Put,
}

pub(crate) struct FnItem {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// `#![..]` at the head of the body: they stay at the head of the wrapper's.
    pub(crate) inner: TokenStream,
    pub(crate) body: Group,
    pub(crate) shape: Shape,
    pub(crate) params: Vec<Param>,
}

/// How the function is asynchronous.
pub(crate) enum Shape {
    Async,
    /// What `#[async_trait]` makes of an `async fn`: the type that its future gives.
    Boxed(Box<Type>),
    Not,
}

/// One typed parameter.
pub(crate) struct Param {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) pat: Pat,
    pub(crate) ty: Type,
    /// What the pattern binds: all that the body can see of it.
    pub(crate) bindings: Vec<Ident>,
}

impl Macro {
    /// Which of ours an attribute is.
    pub(crate) fn of(attr: &Attribute) -> Option<Self> {
        let path = attr.path();
        let mut segments = path.segments.iter().map(|segment| segment.ident.to_string());
        let last = segments.next_back()?;
        if segments.any(|segment| segment != "cache_aside") {
            return None;
        }
        match last.as_str() {
            "cache" => Some(Self::Cache),
            "cache_invalidate" => Some(Self::Invalidate),
            "cache_put" => Some(Self::Put),
            _ => None,
        }
    }
}

impl fmt::Display for Macro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cache => "`#[cache]`",
            Self::Invalidate => "`#[cache_invalidate]`",
            Self::Put => "`#[cache_put]`",
        })
    }
}

impl Parse for FnItem {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis: Visibility = input.parse()?;
        let sig: Signature = input.parse()?;
        if input.peek(syn::Token![;]) {
            return Err(syn::Error::new(
                sig.ident.span(),
                format!("`{}` has no body to wrap: put the attribute on the implementation", sig.ident),
            ));
        }
        let (inner, body) = body(input)?;
        let shape = match (&sig.asyncness, &sig.output) {
            (Some(_), _) => Shape::Async,
            (None, ReturnType::Type(_, output)) if made_by_async_trait(&sig) => {
                boxed_output(output).map_or(Shape::Not, |ty| Shape::Boxed(Box::new(ty.clone())))
            }
            _ => Shape::Not,
        };
        let params = sig.inputs.iter().filter_map(Param::of).collect();
        Ok(Self { attrs, vis, sig, inner, body, shape, params })
    }
}

impl FnItem {
    /// The type that a caller gets from `.await`; nothing for `async fn f()`.
    pub(crate) fn returns(&self) -> Option<&Type> {
        match (&self.shape, &self.sig.output) {
            (Shape::Boxed(output), _) | (_, ReturnType::Type(_, output)) => Some(output),
            (_, ReturnType::Default) => None,
        }
    }

    pub(crate) fn receiver(&self) -> Option<&Receiver> {
        self.sig.receiver()
    }

    /// All that the body can see of the arguments, but for `self`.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Ident> {
        self.params.iter().flat_map(|param| &param.bindings)
    }

    pub(crate) fn binding(&self, name: &str) -> Option<&Ident> {
        self.bindings().find(|ident| ident.unraw() == name)
    }

    /// The names of all arguments, `self` among them.
    pub(crate) fn names(&self) -> Vec<String> {
        let this = self.receiver().map(|_| "self".to_owned());
        let rest = self.bindings().map(|ident| ident.unraw().to_string());
        this.into_iter().chain(rest).collect()
    }

    /// The function without our attributes: what is kept when something is wrong.
    pub(crate) fn plain(&self) -> TokenStream {
        let mut tokens = TokenStream::new();
        for attr in self.attrs.iter().filter(|attr| Macro::of(attr).is_none()) {
            attr.to_tokens(&mut tokens);
        }
        self.vis.to_tokens(&mut tokens);
        self.sig.to_tokens(&mut tokens);
        let mut body: TokenStream = self.inner.clone();
        body.extend(self.body.stream());
        let mut group = Group::new(Delimiter::Brace, body);
        group.set_span(self.body.span());
        tokens.extend([TokenTree::Group(group)]);
        tokens
    }
}

impl Param {
    fn of(arg: &FnArg) -> Option<Self> {
        let FnArg::Typed(arg) = arg else { return None };
        let mut bindings = Bindings(Vec::new());
        visit::visit_pat(&mut bindings, &arg.pat);
        Some(Self {
            attrs: arg.attrs.clone(),
            pat: (*arg.pat).clone(),
            ty: (*arg.ty).clone(),
            bindings: bindings.0,
        })
    }

    /// A name to pass the whole argument on by: its own, or a made one for a pattern.
    pub(crate) fn handle(&self, index: usize) -> Ident {
        match &self.pat {
            Pat::Ident(PatIdent { ident, subpat: None, .. }) => ident.clone(),
            _ => format_ident!("arg{index}", span = Span::mixed_site()),
        }
    }
}

struct Bindings(Vec<Ident>);

impl<'ast> visit::Visit<'ast> for Bindings {
    fn visit_pat_ident(&mut self, pat: &'ast PatIdent) {
        // `Wrapper(UNIT)`: a constant, not a binding. Only the case of the letter tells.
        let name = pat.ident.unraw().to_string();
        let constant = name.starts_with(char::is_uppercase);
        // Both sides of `A(x) | B(x)` bind the same.
        if !constant && !self.0.iter().any(|seen| seen.unraw() == name) {
            self.0.push(pat.ident.clone());
        }
        visit::visit_pat_ident(self, pat);
    }
}

/// The body, and the inner attributes that it begins with.
fn body(input: ParseStream<'_>) -> syn::Result<(TokenStream, Group)> {
    let content;
    let braces = syn::braced!(content in input);
    let mut inner = TokenStream::new();
    for attr in content.call(Attribute::parse_inner)? {
        attr.to_tokens(&mut inner);
    }
    let mut group = Group::new(Delimiter::Brace, content.parse()?);
    group.set_span(braces.span.join());
    Ok((inner, group))
}

fn made_by_async_trait(sig: &Signature) -> bool {
    sig.generics.lifetimes().any(|param| param.lifetime.ident == "async_trait")
}

/// `R` of `Pin<Box<dyn Future<Output = R> ..>>`.
fn boxed_output(ty: &Type) -> Option<&Type> {
    let boxed = argument_of(ty, "Pin")?;
    let Type::TraitObject(object) = argument_of(boxed, "Box")? else {
        return None;
    };
    object.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let last = bound.path.segments.last().filter(|last| last.ident == "Future")?;
        arguments(&last.arguments)?.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(assoc) if assoc.ident == "Output" => Some(&assoc.ty),
            _ => None,
        })
    })
}

fn argument_of<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    match arguments(&last.arguments)?.args.first()? {
        GenericArgument::Type(argument) => Some(argument),
        _ => None,
    }
}

fn arguments(arguments: &PathArguments) -> Option<&AngleBracketedGenericArguments> {
    match arguments {
        PathArguments::AngleBracketed(arguments) => Some(arguments),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;
    use syn::parse2;

    fn item(tokens: TokenStream) -> FnItem {
        parse2(tokens).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_body_is_not_parsed() {
        let item = item(quote!(async fn f() -> u8 { this is (not [Rust]) }));
        assert_eq!(item.body.to_string(), quote!({ this is (not [Rust]) }).to_string());
    }

    #[test]
    fn inner_attributes_leave_the_body() {
        let item = item(quote!(
            async fn f() -> u8 {
                #![allow(unused)]
                1
            }
        ));
        assert_eq!(item.inner.to_string(), quote!(#![allow(unused)]).to_string());
        assert_eq!(
            item.plain().to_string(),
            quote!(
                async fn f() -> u8 {
                    #![allow(unused)]
                    1
                }
            )
            .to_string()
        );
    }

    #[test]
    fn patterns_bind_names() {
        let item = item(quote! {
            async fn f(&self, (a, mut b): (u8, u8), W(Unit, c): W, _: u8, User { id, name: n }: User, r#type: u8) {}
        });
        assert_eq!(item.names(), ["self", "a", "b", "c", "id", "n", "type"]);
    }

    #[test]
    fn async_trait_is_recognised() {
        let of = |tokens| item(tokens).returns().map(|ty| quote!(#ty).to_string());
        let boxed =
            quote!(::core::pin::Pin<Box<dyn ::core::future::Future<Output = Vec<u8>> + Send + 'async_trait>>);
        let made =
            item(quote!(fn f<'life0, 'async_trait>(&'life0 self) -> #boxed { Box::pin(async move { 1 }) }));
        assert!(matches!(made.shape, Shape::Boxed(_)));
        assert_eq!(made.returns().map(|ty| quote!(#ty).to_string()), Some(quote!(Vec<u8>).to_string()));
        let hand_written = quote!(fn f() -> #boxed {});
        assert!(matches!(item(hand_written).shape, Shape::Not));
        assert_eq!(
            of(quote!(
                async fn f() {}
            )),
            None
        );
    }

    #[test]
    fn our_attributes_are_known() {
        let attrs = item(quote! {
            #[cache_aside::cache] #[cache(ttl = 1)] #[cache_invalidate("a")] #[other::cache] #[inline]
            fn f() {}
        });
        let found: Vec<_> = attrs.attrs.iter().map(Macro::of).collect();
        assert_eq!(found, [Some(Macro::Cache), Some(Macro::Cache), Some(Macro::Invalidate), None, None]);
        assert_eq!(
            attrs.plain().to_string(),
            quote!(
                #[other::cache]
                #[inline]
                fn f() {}
            )
            .to_string()
        );
    }
}
