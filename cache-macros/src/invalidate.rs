//! `#[cache_invalidate(..)]`: its grammar and what it means.

use crate::args::Arg;
use crate::errors::Errors;
use crate::item::FnItem;
use crate::list::{Slot, each, option_name, value};
use crate::site::{Part, Results, fill};
use crate::tags::Tags;
use crate::target::{Target, Typed};
use crate::template::Template;
use crate::values::{self, Fixed, fixed, one_of, text};
use proc_macro2::{Span, TokenStream};
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Expr, Ident, LitStr, Path, Token};

/// What `#[cache_invalidate(..)]` says.
#[derive(Default)]
pub(crate) struct InvalidateArgs {
    targets: Vec<LitStr>,
    typed: Vec<Target>,
    tags: Option<Arg<Vec<LitStr>>>,
    on: Option<Arg<On>>,
    cache: Option<Arg<Expr>>,
    fence: Option<Arg<Fixed>>,
    krate: Option<Arg<Path>>,
    broken: bool,
}

/// After which results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum On {
    Ok,
    Always,
}

/// What it means for this function.
pub(crate) struct Invalidation {
    pub(crate) krate: Option<Path>,
    pub(crate) on: On,
    pub(crate) cache: Option<Expr>,
    pub(crate) fence: Option<Duration>,
    /// Patterns over the arguments.
    pub(crate) before: Vec<Vec<Part>>,
    /// Patterns that need the result too.
    pub(crate) after: Vec<Vec<Part>>,
    /// Entries of cached functions.
    pub(crate) typed: Vec<Typed>,
    pub(crate) tags: Tags,
}

const OPTIONS: [(&str, &str); 5] = [
    ("tags", "tags = [\"user:{id}\"]"),
    ("on", "on = \"always\""),
    ("fence", "fence = \"10s\""),
    ("cache", "cache = &self.cache"),
    ("crate", "crate = ::cache_aside"),
];

/// What a glob gives a meaning, in the text of a target; in values it is escaped.
const GLOB: [char; 4] = ['*', '?', '[', '\\'];

const ZERO_FENCE: &str =
    "zero `fence` keeps nobody out: write more than a write ever takes, such as `fence = \"10s\"`";
const FENCED_GLOB: &str = "`fence` needs keys or tags: which keys a glob or `::*` fits isn't known before the body runs; write \
     the key, or put this target into another `#[cache_invalidate]` without `fence`";
const FENCED_VALUE: &str = "`fence` needs its targets before the body runs, and `value` is known after it: put this target \
     into another `#[cache_invalidate]` without `fence`";

impl InvalidateArgs {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let before = errors.is_empty();
        each(tokens, errors, |input, errors| {
            // A function or an argument may have that name, too.
            let is_call = input.peek2(syn::token::Paren) || input.peek2(Token![::]) || input.peek2(Token![.]);
            let is_tags = !is_call && input.fork().parse::<Ident>().is_ok_and(|name| name == "tags");
            if !(is_tags || (input.peek(Ident::peek_any) && input.peek2(Token![=]))) {
                return args.target(input);
            }
            let name = option_name(input, &OPTIONS)?;
            let mut slot = Slot { name: &name, errors };
            match name.to_string().as_str() {
                "on" => {
                    let expr = value(&name, input, &OPTIONS)?;
                    slot.set_once(&mut args.on, one_of(&expr, [("ok", On::Ok), ("always", On::Always)])?);
                }
                "fence" => {
                    let life = fixed(value(&name, input, &OPTIONS)?, "fence", "10s")?;
                    if life.time.is_zero() {
                        slot.errors.span(life.span, ZERO_FENCE);
                    }
                    slot.set_once(&mut args.fence, life);
                }
                "tags" => {
                    let expr = value(&name, input, &OPTIONS)?;
                    let tags = values::tags(&expr, slot.errors)?;
                    slot.set_once(&mut args.tags, tags);
                }
                "cache" => slot.set_once(&mut args.cache, value(&name, input, &OPTIONS)?),
                _ => slot.set_once(&mut args.krate, value(&name, input, &OPTIONS)?),
            }
            Ok(())
        });
        args.broken = before && !errors.is_empty();
        args
    }

    fn target(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let message = "a target is a pattern in quotes, `\"user:{id}:*\"`, or a cached function with its arguments, `get_user(id)`";
        if let Some(all) = Target::all(input) {
            self.typed.push(all?);
            return Ok(());
        }
        let target: Expr = input.parse().map_err(|error| syn::Error::new(error.span(), message))?;
        // `user:*` without its quotes begins with a path.
        let is_whole = input.is_empty() || input.peek(Token![,]);
        match Target::of(target.clone()).filter(|_| is_whole) {
            Some(typed) => self.typed.push(typed?),
            None => self.targets.push(text(&target, message)?),
        }
        Ok(())
    }
}

impl Invalidation {
    pub(crate) fn resolve(args: InvalidateArgs, item: &FnItem, errors: &mut Errors) -> Self {
        let tags = args.tags.map(|tags| tags.value).unwrap_or_default();
        if args.targets.is_empty() && args.typed.is_empty() && tags.is_empty() && !args.broken {
            errors.span(
                Span::call_site(),
                "`#[cache_invalidate]` needs a target: write `#[cache_invalidate(\"user:*\")]`",
            );
        }
        let has_others = !(args.targets.is_empty() && tags.is_empty());
        if let (Some(cache), false, false) = (&args.cache, has_others, args.typed.is_empty()) {
            errors.at(
                &cache.name,
                "`cache` has no effect: an entry is forgotten in the cache of its function; remove it",
            );
        }
        let is_fenced = args.fence.is_some();
        let is_of_result = |part: &Part| matches!(part, Part::Result { .. });
        let targets = args.targets.iter().filter_map(|literal| {
            let parts = target(literal, item, errors)?;
            let is_glob = |part: &Part| matches!(part, Part::Text(text) if text.contains(GLOB));
            if is_fenced && parts.iter().any(is_of_result) {
                errors.at(literal, FENCED_VALUE);
            } else if is_fenced && parts.iter().any(is_glob) {
                errors.at(literal, FENCED_GLOB);
            }
            Some(parts)
        });
        let targets: Vec<_> = targets.collect();
        let typed = args.typed.into_iter().filter_map(|target| {
            let span = target.span();
            let typed = target.resolve(item, errors)?;
            if is_fenced && typed.value.is_some() {
                errors.span(span, FENCED_VALUE);
            } else if is_fenced && typed.target.all {
                errors.span(span, FENCED_GLOB);
            }
            Some(typed)
        });
        let typed = typed.collect();
        let tags = Tags::resolve(&tags, item, errors);
        for part in tags.after.iter().filter_map(|parts| parts.iter().find(|part| is_of_result(part))) {
            if let (Part::Result { span, .. }, true) = (part, is_fenced) {
                errors.span(*span, FENCED_VALUE);
            }
        }
        let (after, before) =
            targets.into_iter().partition(|parts: &Vec<Part>| parts.iter().any(is_of_result));
        Self {
            krate: args.krate.map(|arg| arg.value),
            on: args.on.map_or(On::Ok, |arg| arg.value),
            cache: args.cache.map(|arg| arg.value),
            fence: args.fence.map(|arg| arg.value.time),
            before,
            after,
            typed,
            tags,
        }
    }
}

fn target(literal: &LitStr, item: &FnItem, errors: &mut Errors) -> Option<Vec<Part>> {
    let template = errors.ok(Template::parse(literal))?;
    if template.pieces.is_empty() {
        errors.at(literal, "an empty pattern fits nothing: write `\"user:*\"`");
    }
    if let Err(message) = template.closed() {
        errors.at(literal, message);
    }
    fill(&template, item, Results::Value, errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn resolve(tokens: TokenStream, item: TokenStream) -> (Invalidation, Vec<String>) {
        let mut errors = Errors::default();
        let args = InvalidateArgs::parse(tokens, &mut errors);
        let item = syn::parse2(item).unwrap_or_else(|error| panic!("{error}"));
        let invalidation = Invalidation::resolve(args, &item, &mut errors);
        let messages = errors.finish().err().into_iter().flatten();
        (invalidation, messages.map(|error| error.to_string()).collect())
    }

    #[test]
    fn targets_that_need_the_result_come_after() {
        let (found, errors) = resolve(
            quote!("user:{id}:*", "org:{value.org}:{id}", on = "always", "all"),
            quote!(
                async fn f(id: u8) {}
            ),
        );
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!((found.before.len(), found.after.len(), found.on), (2, 1, On::Always));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (tokens, says) in [
            (quote!(), "needs a target"),
            (quote!(on = "ok"), "needs a target"),
            (quote!("user:[a"), "not closed"),
            (quote!(""), "fits nothing"),
            (quote!("user:{ip}"), "did you mean `id`"),
            (quote!("a", on = "err"), "`\"always\"`"),
            (quote!("a:*", fence = "10s"), "needs keys or tags: which keys a glob"),
            (quote!("a:{value}", fence = 10), "known after it"),
            (quote!("a", fence = 0), "keeps nobody out"),
            (quote!("a", tags = ["a", "{value}"], fence = 10), "known after it"),
            (quote!("a", fence = LONG), "takes a fixed time"),
            (quote!(get_user), "`get_user::*` for all"),
            (quote!(users::get_user), "`users::get_user(..)`"),
            (quote!(3 + 4), "pattern in quotes"),
            (quote!(<T as Get>::get(id)), "method of a trait"),
            (quote!(get_user(id), cache = cache), "no effect"),
            (quote!("a", tag = ["a"]), "did you mean `tags`"),
            (quote!(tags = []), "names none"),
            (quote!(tags), "write `tags = [\"user:{id}\"]`"),
            (quote!(tags = ["user:{ip}"]), "did you mean `id`"),
            (quote!("a", on = ), "write `on = \"always\"`"),
            (quote!("a", on = "ok", on = "ok"), "given twice"),
            (quote!("{id}{value}"), "write `{id}:{value}`"),
        ] {
            let shown = tokens.to_string();
            let (_, errors) = resolve(
                tokens,
                quote!(
                    async fn f(id: u8) {}
                ),
            );
            assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
            assert!(errors[0].contains(says), "{shown}: {errors:?}");
        }
    }

    #[test]
    fn an_argument_named_value_is_refused_where_it_is_ambiguous() {
        let item = || {
            quote!(
                async fn f(value: u8) {}
            )
        };
        let (_, errors) = resolve(quote!("user:{value}"), item());
        assert!(errors.len() == 1 && errors[0].contains("rename this argument"), "{errors:?}");
        let (_, errors) = resolve(quote!("user:*"), item());
        assert_eq!(errors, Vec::<String>::new());
    }
}
