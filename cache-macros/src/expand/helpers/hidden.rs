//! Helpers that typed targets call: the macro on the writer knows nothing but the function's name, and the
//! compiler checks the arguments.

use super::Helper;
use crate::expand::made;
use proc_macro2::TokenStream;
use std::collections::BTreeSet;

/// How a helper that other macros call is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    /// It isn't hidden.
    No,
    /// With the arguments that it reads.
    Plain,
    /// On a value, whether it reads `self` or not: `self.get_user(..)` doesn't tell.
    Own,
}

/// What they do.
pub(super) struct Targets<'a> {
    /// The call whose entry it is.
    pub(super) entry: TokenStream,
    /// Stores what a writer returns.
    pub(super) put: TokenStream,
    /// A call without a key, where there is a glob of all entries.
    pub(super) all: Option<TokenStream>,
    /// What the key, a put and the choice of the cache read.
    pub(super) reads: [&'a BTreeSet<String>; 3],
}

impl<'a> Targets<'a> {
    pub(super) fn helpers(
        &self,
        p: &TokenStream,
        returns: &TokenStream,
        has_receiver: bool,
    ) -> Vec<Helper<'a>> {
        let ways = [Hidden::Plain, Hidden::Own].into_iter().take(1 + usize::from(has_receiver));
        ways.flat_map(|hidden| self.of(p, returns, hidden)).collect()
    }

    fn of(&self, p: &TokenStream, returns: &TokenStream, hidden: Hidden) -> Vec<Helper<'a>> {
        let [key_reads, put_reads, cache_reads] = self.reads;
        let plain = |name, reads, body| Helper {
            name,
            doc: String::new(),
            errors: None,
            is_async: false,
            reads,
            keyed: true,
            returning: false,
            extra: TokenStream::new(),
            output: made!(#p::Call),
            body,
            hidden,
        };
        let mut all = vec![
            plain("entry", key_reads, self.entry.clone()),
            Helper {
                is_async: true,
                returning: true,
                extra: made!(writer: impl #p::Writes<Value: #p::Serialize>),
                output: made!(()),
                ..plain("put", put_reads, self.put.clone())
            },
            // An `async fn` would say thrice that the value is of another type.
            Helper {
                returning: true,
                extra: made!(_: #p::Stored<impl #p::Puts<#returns>>),
                output: made!(()),
                ..plain("holds", put_reads, TokenStream::new())
            },
        ];
        if let Some(base) = &self.all {
            all.push(Helper { keyed: false, ..plain("all", cache_reads, base.clone()) });
        }
        all
    }
}
