//! Collects mistakes, so that one compile shows them all.

use proc_macro2::Span;
use quote::ToTokens;
use std::fmt::{Display, Write as _};

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// A mistake that underlines `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// A mistake that underlines `span`.
    pub(crate) fn span(&mut self, span: Span, message: impl Display) {
        self.push(syn::Error::new(span, message));
    }

    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    /// The value, or nothing after its mistake has been noted.
    pub(crate) fn ok<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// `` ; did you mean `key`? `` or, when nothing is near, all that could stand here.
pub(crate) fn hint<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
    what_they_are: &str,
) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = nearest(written, &known) {
        return format!("; did you mean `{near}`?");
    }
    let mut list = String::new();
    for (index, name) in known.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(list, "{comma}`{name}`");
    }
    match known.len() {
        0 => String::new(),
        _ => format!("; {what_they_are}: {list}"),
    }
}

fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(written, name);
    let allowed = |name: &str| written.len().max(name.len()).max(3) / 3;
    let typo = known
        .iter()
        .copied()
        .filter(|name| distance(name) <= allowed(name))
        .min_by_key(|name| (distance(name), letters(name) != letters(written)));
    // `prefix` means `key_prefix`, if nothing else has it.
    let part = || {
        let mut parts = known.iter().copied().filter(|name| written.len() >= 3 && name.contains(written));
        parts.next().filter(|_| parts.next().is_none())
    };
    typo.or_else(part)
}

/// The same letters in another order are the likelier slip: `bd` is `db` before it is `id`.
fn letters(name: &str) -> Vec<char> {
    let mut letters: Vec<char> = name.chars().collect();
    letters.sort_unstable();
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["ttl", "key", "key_prefix", "key_builder", "skip"];

    #[test]
    fn a_typo_gets_a_suggestion() {
        for (written, meant) in [("kye", "key"), ("tll", "ttl"), ("prefix", "key_prefix"), ("skips", "skip")]
        {
            let text = hint(written, KNOWN, "the options are");
            assert_eq!(text, format!("; did you mean `{meant}`?"), "{written}");
        }
    }

    #[test]
    fn swapped_letters_come_first() {
        assert_eq!(hint("bd", ["id", "db"], "the arguments are"), "; did you mean `db`?");
    }

    #[test]
    fn what_is_near_nothing_gets_the_list() {
        let text = hint("bananas", ["on", "cache"], "the options are");
        assert_eq!(text, "; the options are: `on`, `cache`");
        assert_eq!(hint("x", [], "arguments"), "");
    }

    #[test]
    fn every_mistake_is_kept() {
        let mut errors = Errors::default();
        assert!(errors.is_empty());
        errors.span(Span::call_site(), "one");
        errors.span(Span::call_site(), "two");
        let error = errors.finish().expect_err("two mistakes");
        assert_eq!(error.into_iter().count(), 2);
    }
}
