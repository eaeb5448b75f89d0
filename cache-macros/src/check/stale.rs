//! Rules of the times of `refresh_ahead`, `stale_if_error` and `timeout`.

use crate::args::{Arg, CacheArgs};
use crate::errors::Errors;
use crate::values::{Ahead, Life};

pub(super) fn times(args: &CacheArgs, errors: &mut Errors) {
    if let Some(Arg { value: grace, .. }) = &args.stale_if_error
        && grace.time.is_zero()
    {
        errors.span(grace.span, "zero `stale_if_error` keeps nothing: write a longer time, or remove it");
    }
    if let (Some(timeout), None, false) = (&args.timeout, &args.stale_if_error, args.broken) {
        errors.at(
            &timeout.name,
            "`timeout` has nothing to answer with: add `stale_if_error = \"1h\"`, which keeps a value past its `ttl`",
        );
    }
    let Some(Arg { value: Ahead::UpTo(ahead), .. }) = &args.refresh_ahead else {
        return;
    };
    for (life, name) in [(&args.ttl, "ttl"), (&args.none_ttl, "none_ttl")] {
        if let Some(Arg { value: Life::Fixed(time, _), .. }) = life
            && !time.is_zero()
            && ahead.time >= *time
        {
            errors.span(
                ahead.span,
                format!(
                    "every call would refresh: write less than the `{name}`, or a share such as `\"20%\"`"
                ),
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proc_macro2::TokenStream;
    use quote::quote;

    fn mistakes(args: TokenStream) -> Vec<String> {
        let mut errors = Errors::default();
        let args = CacheArgs::parse(args, &mut errors);
        times(&args, &mut errors);
        errors.finish().err().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn times_that_make_no_sense() {
        for (args, says) in [
            (quote!(stale_if_error = 0), "zero `stale_if_error`"),
            (quote!(timeout = 2), "add `stale_if_error"),
            (quote!(timeout = 2, stale_if_error = GRACE), "fixed time"),
            (quote!(ttl = 60, refresh_ahead = 60), "less than the `ttl`"),
            (quote!(refresh_ahead = "2m", ttl = "60s"), "less than the `ttl`"),
            (quote!(ttl = 60, none_ttl = 5, refresh_ahead = 6), "less than the `none_ttl`"),
            (quote!(ttl = 60, none_ttl = 5, refresh_ahead = 61), "less than the `ttl`"),
        ] {
            let shown = args.to_string();
            let found = mistakes(args);
            assert_eq!(found.len(), 1, "{shown}: {found:?}");
            assert!(found[0].contains(says), "{shown}: {found:?}");
        }
        for args in [
            quote!(ttl = 60, refresh_ahead = 59, stale_if_error = "1h", timeout = 0),
            quote!(ttl = life(id), refresh_ahead = 600),
            quote!(ttl = 1, refresh_ahead = "99%"),
        ] {
            assert_eq!(mistakes(args), Vec::<String>::new());
        }
    }
}
