//! The grammar of `#[cache(..)]`: what was written, with the names it was written under.

use crate::errors::Errors;
use crate::list::{Slot, each, option_name, value};
use crate::values::{self, Ahead, Builder, Codec, Fixed, Flight, HelpersArg, Jitter, Life, Near, text};
use proc_macro2::{Ident, TokenStream};
use syn::parse::ParseStream;
use syn::{Expr, ExprClosure, LitStr, Path};

/// A value and the name that it was given.
pub(crate) struct Arg<T> {
    pub(crate) name: Ident,
    pub(crate) value: T,
}

/// What `#[cache(..)]` says.
#[derive(Default)]
pub(crate) struct CacheArgs {
    pub(crate) ttl: Option<Arg<Life>>,
    pub(crate) key_prefix: Option<Arg<LitStr>>,
    pub(crate) key: Option<Arg<LitStr>>,
    pub(crate) key_builder: Option<Arg<Builder>>,
    pub(crate) skip: Option<Arg<Vec<Ident>>>,
    pub(crate) none_ttl: Option<Arg<Life>>,
    pub(crate) cache_none: Option<Arg<bool>>,
    pub(crate) jitter: Option<Arg<Jitter>>,
    pub(crate) when: Option<Arg<Expr>>,
    pub(crate) unless: Option<Arg<ExprClosure>>,
    pub(crate) refresh_ahead: Option<Arg<Ahead>>,
    pub(crate) stale_if_error: Option<Arg<Fixed>>,
    pub(crate) timeout: Option<Arg<Fixed>>,
    pub(crate) single_flight: Option<Arg<Flight>>,
    pub(crate) near: Option<Arg<Near>>,
    pub(crate) tags: Option<Arg<Vec<LitStr>>>,
    pub(crate) pending: Option<Arg<LitStr>>,
    pub(crate) version: Option<Arg<u32>>,
    pub(crate) codec: Option<Arg<Codec>>,
    pub(crate) helpers: Option<Arg<HelpersArg>>,
    pub(crate) cache: Option<Arg<Expr>>,
    pub(crate) krate: Option<Arg<Path>>,
    /// Something could not be read, so what seems to be missing may be there.
    pub(crate) broken: bool,
}

/// Each option and how it is written.
const OPTIONS: [(&str, &str); 22] = [
    ("ttl", "ttl = 300"),
    ("key_prefix", "key_prefix = \"user\""),
    ("key", "key = \"user:{id}\""),
    ("key_builder", "key_builder = |id| format!(\"user:{id}\")"),
    ("skip", "skip(db)"),
    ("none_ttl", "none_ttl = 30"),
    ("cache_none", "cache_none = false"),
    ("jitter", "jitter = \"10%\""),
    ("when", "when = id > 0"),
    ("unless", "unless = |value| value.is_empty()"),
    ("refresh_ahead", "refresh_ahead = \"20%\""),
    ("stale_if_error", "stale_if_error = \"1h\""),
    ("timeout", "timeout = \"2s\""),
    ("single_flight", "single_flight = \"process\""),
    ("near", "near = true"),
    ("tags", "tags = [\"user:{id}\"]"),
    ("pending", "pending = \"user_writes\""),
    ("version", "version = 2"),
    ("codec", "codec = \"msgpack\""),
    ("helpers", "helpers = \"none\""),
    ("cache", "cache = &self.cache"),
    ("crate", "crate = ::cache_aside"),
];

impl CacheArgs {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let before = errors.is_empty();
        each(tokens, errors, |input, errors| {
            let name = option_name(input, &OPTIONS)?;
            args.option(&name, input, errors)
        });
        args.broken = before && !errors.is_empty();
        args
    }

    /// The option for which a load may outlive its caller.
    pub(crate) fn outlives(&self) -> Option<&Ident> {
        let ahead = self.refresh_ahead.as_ref().map(|arg| &arg.name);
        ahead.or(self.timeout.as_ref().map(|arg| &arg.name))
    }

    pub(crate) fn option(
        &mut self,
        name: &Ident,
        input: ParseStream<'_>,
        errors: &mut Errors,
    ) -> syn::Result<()> {
        let mut slot = Slot { name, errors };
        match name.to_string().as_str() {
            "skip" => {
                let names = values::skip(name, input)?;
                slot.set_once(&mut self.skip, names);
                return Ok(());
            }
            "crate" => {
                let path = value(name, input, &OPTIONS)?;
                slot.set_once(&mut self.krate, path);
                return Ok(());
            }
            _ => {}
        }
        let expr: Expr = value(name, input, &OPTIONS)?;
        match name.to_string().as_str() {
            "ttl" => slot.set_once(&mut self.ttl, values::life(expr, "ttl")?),
            "none_ttl" => slot.set_once(&mut self.none_ttl, values::life(expr, "none_ttl")?),
            "key_prefix" => {
                slot.set_once(&mut self.key_prefix, text(&expr, "write a text: `key_prefix = \"user\"`")?);
            }
            "key" => slot.set_once(
                &mut self.key,
                text(&expr, "write a template: `key = \"user:{id}\"`, or use `key_builder`")?,
            ),
            "key_builder" => slot.set_once(&mut self.key_builder, values::builder(expr)?),
            "cache_none" => slot.set_once(&mut self.cache_none, values::boolean(&expr)?),
            "jitter" => slot.set_once(&mut self.jitter, values::jitter(&expr)?),
            "when" => slot.set_once(&mut self.when, values::condition(expr)?),
            "unless" => slot.set_once(&mut self.unless, values::closure(expr)?),
            "refresh_ahead" => slot.set_once(&mut self.refresh_ahead, values::ahead(&expr)?),
            "stale_if_error" => {
                slot.set_once(&mut self.stale_if_error, values::fixed(expr, "stale_if_error", "1h")?);
            }
            "timeout" => slot.set_once(&mut self.timeout, values::fixed(expr, "timeout", "2s")?),
            "single_flight" => slot.set_once(&mut self.single_flight, values::flight(&expr)?),
            "near" => slot.set_once(&mut self.near, values::near(&expr)?),
            "tags" => {
                let tags = values::tags(&expr, slot.errors)?;
                slot.set_once(&mut self.tags, tags);
            }
            "pending" => slot.set_once(&mut self.pending, values::queue(&expr)?),
            "version" => slot.set_once(&mut self.version, values::version(&expr)?),
            "codec" => slot.set_once(&mut self.codec, values::codec(&expr, cfg!(feature = "msgpack"))?),
            "helpers" => slot.set_once(&mut self.helpers, values::helpers(&expr)?),
            _ => slot.set_once(&mut self.cache, expr),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn parse(tokens: TokenStream) -> (CacheArgs, Vec<String>) {
        let mut errors = Errors::default();
        let args = CacheArgs::parse(tokens, &mut errors);
        let messages = errors.finish().err().into_iter().flatten();
        (args, messages.map(|error| error.to_string()).collect())
    }

    #[test]
    fn options_come_in_any_order() {
        let (args, errors) = parse(quote! {
            skip(db, self), version = 3, key_prefix = "user", ttl = "10m", crate = ::elsewhere,
            unless = |value| value.is_empty(), when = id > 0, cache = &self.cache,
            refresh_ahead = "20%", stale_if_error = 3600, timeout = 0,
        });
        assert_eq!(errors, Vec::<String>::new());
        assert!(matches!(&args.ttl, Some(Arg { value: Life::Fixed(time, _), .. }) if time.as_secs() == 600));
        assert_eq!(args.skip.map(|skip| skip.value.len()), Some(2));
        assert_eq!(args.version.map(|version| version.value), Some(3));
        assert!(args.when.is_some() && args.unless.is_some() && args.cache.is_some() && args.krate.is_some());
        assert!(matches!(args.refresh_ahead, Some(Arg { value: Ahead::Percent(20), .. })));
        let secs = |arg: Option<Arg<Fixed>>| arg.map(|arg| arg.value.time.as_secs());
        assert_eq!((secs(args.stale_if_error), secs(args.timeout)), (Some(3600), Some(0)));
        assert!(!args.broken);
    }

    #[test]
    fn a_closure_keeps_its_commas() {
        let (args, errors) =
            parse(quote!(key_builder = |a, b| format!("{a}{b}"), ttl = |value| value.life, jitter = 60));
        assert_eq!(errors, Vec::<String>::new());
        assert!(
            matches!(&args.key_builder, Some(Arg { value: Builder::Closure(closure), .. }) if closure.inputs.len() == 2)
        );
        assert!(matches!(args.ttl, Some(Arg { value: Life::After(_), .. })));
        assert!(args.jitter.is_some());
    }

    #[test]
    fn every_mistake_is_reported_and_the_rest_is_read() {
        let (args, errors) = parse(quote!(tll = 5, jitter = "200%", key = 3, version = 1, ttl = ));
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors[0].contains("did you mean `ttl`"));
        assert!(errors[3].contains("write `ttl = 300`"));
        assert!(args.version.is_some() && args.broken);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (tokens, says) in [
            (quote!(ttl), "`ttl` needs a value: write `ttl = 300`"),
            (quote!(ttl(5)), "`ttl` needs a value"),
            (quote!(ttl = 1.5), "whole seconds"),
            (quote!(ttl = -1), "whole seconds"),
            (quote!(ttl = "10"), "no unit"),
            (quote!(300), "write `ttl = 300`"),
            (quote!(skip = db), "write `skip(db)`"),
            (quote!(skip()), "names no argument"),
            (quote!(skip("db")), "names of arguments"),
            (quote!(ttl = 5 key = "a"), "expected a `,`"),
            (quote!(ttl = 5, ttl = 6), "`ttl` is given twice"),
            (quote!(jitter = 0), "adds nothing"),
            (quote!(jitter = "0%"), "from `\"1%\"`"),
            (quote!(single_flight = "none"), "`\"process\"`"),
            (quote!(helpers = "yes"), "`\"method\"`"),
            (quote!(codec = "cbor"), "unknown value `\"cbor\"`: write one of `\"json\"`, `\"msgpack\"`"),
            (quote!(codec = json), "write one of `\"json\"`, `\"msgpack\"`"),
            (quote!(codec), "write `codec = \"msgpack\"`"),
            (quote!(codec = "json", codec = "json"), "`codec` is given twice"),
            (quote!(when = |id| id > 0), "no closure"),
            (quote!(unless = true), "write a closure"),
            (quote!(key_builder = "a:{id}"), "write a closure"),
            (quote!(version = "2"), "whole number"),
            (quote!(cache_none = 0), "`cache_none = false`"),
            (quote!(refresh_ahead = 0), "zero `refresh_ahead`"),
            (quote!(refresh_ahead = "0s"), "zero `refresh_ahead`"),
            (quote!(refresh_ahead = "0%"), "from `\"1%\"` to `\"99%\"`"),
            (quote!(refresh_ahead = "100%"), "from `\"1%\"` to `\"99%\"`"),
            (quote!(refresh_ahead = |value| value.ahead), "= 60`, `\"30s\"` or `\"20%\"`"),
            (quote!(stale_if_error = GRACE), "takes a fixed time: write `stale_if_error = \"1h\"`"),
            (quote!(stale_if_error = |value| value.grace), "takes a fixed time"),
            (quote!(stale_if_error = true), "whole seconds"),
            (quote!(timeout = limit(id)), "takes a fixed time: write `timeout = \"2s\"`"),
            (quote!(timeout = "2"), "no unit"),
            (quote!(near = 5), "write `near = true`"),
            (quote!(tags = "users"), "write a list"),
            (quote!(tags = []), "names none"),
            (quote!(tags = [""]), "an empty tag"),
            (quote!(tags = [users]), "a text in quotes"),
            (quote!(tags = ["user:*"]), "is no pattern"),
            (quote!(tags = ["a", "b", "a"]), "given twice"),
            (quote!(pending), "write `pending = \"user_writes\"`"),
            (quote!(pending = user_writes), "the name of a queue in quotes"),
            (quote!(pending = true), "the name of a queue in quotes"),
            (quote!(pending = ""), "names no queue"),
            (quote!(pending = "user writes"), "`user writes` is no name of a queue"),
            (quote!(pending = "user:{id}"), "letters, digits, `_`, `-` and `.`"),
            (quote!(pending = "nutzer_größe"), "is no name of a queue"),
            (quote!(pending = "a", pending = "b"), "`pending` is given twice"),
        ] {
            let shown = tokens.to_string();
            let (_, errors) = parse(tokens);
            assert_eq!(errors.len(), 1, "{shown}: {errors:?}");
            assert!(errors[0].contains(says), "{shown}: {errors:?}");
        }
    }
}
