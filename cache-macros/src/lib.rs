//! The attribute macros of `cache-aside`. Depend on that crate: it re-exports them with their
//! documentation and brings the runtime that their expansions call.

use proc_macro::TokenStream;

mod args;
mod check;
mod duration;
mod entry;
mod errors;
mod expand;
mod generics;
mod invalidate;
mod item;
mod lent;
mod list;
mod names;
mod put;
mod site;
mod tags;
mod target;
mod template;
mod values;

/// Caches what an async function returns: `#[cache(ttl = 600, key_prefix = "user", skip(db))]`.
#[proc_macro_attribute]
pub fn cache(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::cache(args.into(), &item.into()).into()
}

/// Stores what an async function returns as what another one returns: `#[cache_put(get_user(id))]`.
#[proc_macro_attribute]
pub fn cache_put(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::cache_put(args.into(), &item.into()).into()
}

/// Forgets cached entries once an async function has run: `#[cache_invalidate("user:{id}:*")]`.
#[proc_macro_attribute]
pub fn cache_invalidate(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::cache_invalidate(args.into(), &item.into()).into()
}
