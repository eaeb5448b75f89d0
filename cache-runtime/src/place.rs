//! Names that the compiler prints for types and places, made independent of how it prints them.
//!
//! `std::any::type_name` promises nothing: closures and lifetimes come and go between versions
//! (`B<'_>` is `B` in some), and items of std are named by the crate that happens to define them.
//! Keys live in servers that differently built processes share, so what counts is this text:
//!
//! ```text
//! m::get_user::{{closure}}::__site::{{closure}}        m::get_user::__site
//! <m::B<'_, i32> as m::Repo>::find::{{closure}}        <m::B<i32> as m::Repo>::find
//! (alloc::string::String, &'_ std::path::Path)         (core::string::String,&core::path::Path)
//! m::get_user::__cache_aside_body::part                m::get_user::part
//! m::B<_>::__cache_aside_body_of_find::part            m::B<_>::find::part
//! ```
//!
//! Two closures of one function come out alike, and so do the items inside them.

use std::iter::Peekable;

/// Where `#[cache(refresh_ahead = ..)]` and `#[cache(timeout = ..)]` put the body of a function, and of
/// a method. The options may come and go without a change of the keys of functions in that body.
const BODY: &str = "__cache_aside_body";
const BODY_OF: &str = "__cache_aside_body_of_";

/// The text that counts.
pub(crate) fn normalise(type_name: &str) -> String {
    let mut tokens = Tokens(type_name).peekable();
    let mut kept: Vec<&str> = Vec::new();
    while let Some(token) = tokens.next() {
        let inside_path = kept.last() == Some(&"::");
        let token = token.strip_prefix(BODY_OF).filter(|name| !name.is_empty()).unwrap_or(token);
        match token {
            // A path segment goes with one of its separators.
            _ if is_made(token) => {
                if inside_path {
                    kept.pop();
                } else {
                    tokens.next_if_eq(&"::");
                }
            }
            _ if is_lifetime(token) => drop_lifetime(&mut kept, &mut tokens),
            "alloc" | "std" if !inside_path && tokens.peek() == Some(&"::") => kept.push("core"),
            _ => kept.push(token),
        }
    }
    join(&kept)
}

/// All but the last segment of a normalised path; empty where there is one segment only.
pub(crate) fn parent(path: &str) -> &str {
    let mut depth = 0_usize;
    let mut end = 0;
    let mut tokens = Tokens(path);
    while let Some(token) = tokens.next() {
        match token {
            "<" | "(" | "[" | "{" => depth += 1,
            ">" | ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "::" if depth == 0 => end = path.len() - tokens.0.len() - token.len(),
            _ => {}
        }
    }
    &path[..end]
}

/// Drops what a lifetime that has just been read leaves behind: a separator, empty `<>`, `for`.
fn drop_lifetime<'a>(kept: &mut Vec<&'a str>, rest: &mut Peekable<Tokens<'a>>) {
    // `dyn A + 'a, B`: the plus is the lifetime's, the comma is not.
    let after_plus = kept.last() == Some(&"+");
    if after_plus || (rest.next_if(|next| matches!(*next, "," | "+")).is_none() && kept.last() == Some(&","))
    {
        kept.pop();
    }
    if kept.last() == Some(&"<") && rest.next_if_eq(&">").is_some() {
        kept.pop();
        if let [.., before, "for"] | [before @ "for"] = kept.as_slice()
            && *before != "::"
        {
            kept.pop();
        }
    }
}

/// One space where words would run together, around `as` and `for` and after `&mut`, else none.
fn join(tokens: &[&str]) -> String {
    let mut text = String::with_capacity(tokens.iter().map(|token| token.len() + 1).sum());
    let mut before = "::";
    let mut space_next = false;
    for (at, token) in tokens.iter().copied().enumerate() {
        // A module or type may be named so, too: those stand in a path.
        let operator = matches!(token, "as" | "for") && before != "::" && tokens.get(at + 1) != Some(&"::");
        if operator || space_next || (is_wordy(before) && is_wordy(token)) {
            text.push(' ');
        }
        text.push_str(token);
        space_next = operator || (matches!(token, "mut" | "const") && matches!(before, "&" | "*"));
        before = token;
    }
    text
}

/// `{{closure}}`, `{closure#0}`, `{impl#3}`, and the one that we make.
fn is_made(token: &str) -> bool {
    (token.len() > 1 && token.starts_with('{')) || token == BODY
}

/// `'_`, `'a`; not `'a'`, a `char` among const parameters.
fn is_lifetime(token: &str) -> bool {
    token.len() > 1 && token.starts_with('\'') && !token.ends_with('\'')
}

/// Names, numbers and literals.
fn is_wordy(token: &str) -> bool {
    token.starts_with(|c| is_word(c) || matches!(c, '"' | '\''))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Cuts a text into words, literals, lifetimes, compiler-made segments and signs; white space falls
/// out, and so does the `r#` of raw identifiers.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut text = self.0.trim_start();
        if let Some(raw) = text.strip_prefix("r#")
            && raw.starts_with(is_word)
        {
            text = raw;
        }
        let first = text.chars().next()?;
        let len = match first {
            _ if is_word(first) => word(text),
            '\'' => char_literal(text).unwrap_or_else(|| 1 + word(&text[1..])),
            '"' => quoted(text, '"').unwrap_or(1),
            '{' => segment(text).unwrap_or(1),
            _ if text.starts_with("::") || text.starts_with("->") => 2,
            _ => first.len_utf8(),
        };
        let (token, rest) = text.split_at(len);
        self.0 = rest;
        Some(token)
    }
}

/// Length of the word that the text begins with.
fn word(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// Length of a literal like `'a'`, `'\''` or `'\u{301}'`.
fn char_literal(text: &str) -> Option<usize> {
    let mut inside = text[1..].chars();
    match inside.next()? {
        '\\' => quoted(text, '\''),
        c => inside.next().filter(|end| *end == '\'').map(|_| c.len_utf8() + 2),
    }
}

/// Length of a literal up to its closing quote.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at + 1)
    })
}

/// Length of a path segment that stands for no name of the user's.
fn segment(text: &str) -> Option<usize> {
    let (inside, end) = match text.strip_prefix("{{") {
        Some(inside) => (inside, "}}"),
        None => (&text[1..], "}"),
    };
    let name = &inside[..inside.find(end)?];
    let made = name.chars().all(|c| is_word(c) || c == '#') && (end == "}}" || name.contains('#'));
    made.then_some(name.len() + 2 * end.len())
}

#[cfg(test)]
mod tests {
    use std::any::type_name;
    use std::fmt::Debug;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    /// The normalised place of the call, `m` for the path of the module `shapes`.
    macro_rules! here {
        () => {{
            let raw = std::any::type_name_of_val(&|| ());
            $crate::place::normalise(raw).replace("cache_runtime::place::tests::shapes", "m")
        }};
    }

    // Shapes only: nothing in them is used, and the compiler prints what stands there.
    #[allow(dead_code, clippy::unused_async, clippy::unused_self)]
    #[allow(clippy::extra_unused_type_parameters, clippy::needless_lifetimes)]
    mod shapes {
        pub(super) struct A;
        pub(super) struct Zoo<T>(pub(super) T);
        pub(super) struct B<'a, T>(pub(super) &'a T);
        pub(super) struct S<'a>(pub(super) &'a str);

        pub(super) trait Repo {
            fn find(&self) -> String;
            fn default(&self) -> String {
                here!()
            }
            async fn fetch(&self) -> String {
                here!()
            }
        }
        pub(super) trait Gen<T> {
            fn find(&self, _: T) -> String {
                here!()
            }
        }

        pub(super) fn f<T>() -> [String; 2] {
            fn __site() -> String {
                here!()
            }
            [here!(), __site()]
        }
        pub(super) async fn outer_async() -> [String; 3] {
            mod x {
                pub(super) fn site() -> String {
                    here!()
                }
            }
            let later = async || here!();
            [here!(), x::site(), later().await]
        }
        pub(super) fn of_closure(_: impl Fn()) -> String {
            here!()
        }
        pub(super) fn of_const<const N: char, const I: i8>() -> String {
            here!()
        }
        pub(super) mod r#match {
            pub(in super::super) fn r#as() -> String {
                here!()
            }
        }

        impl A {
            pub(super) fn inherent<T>() -> String {
                here!()
            }
        }
        impl<T> Zoo<T> {
            pub(super) async fn generic(&self) -> [String; 2] {
                fn __site() -> String {
                    here!()
                }
                [here!(), __site()]
            }
        }
        impl<T> B<'_, T> {
            pub(super) fn lifetime(&self) -> String {
                here!()
            }
        }
        impl<T> Repo for Zoo<T> {
            fn find(&self) -> String {
                here!()
            }
        }
        impl Repo for S<'_> {
            fn find(&self) -> String {
                here!()
            }
        }
        impl Repo for fn(&u8) -> String {
            fn find(&self) -> String {
                here!()
            }
        }
        impl<'a, T> Gen<&'a T> for A {}
        pub(super) mod elsewhere {
            impl super::Gen<u8> for super::A {
                fn find(&self, _: u8) -> String {
                    here!()
                }
            }
        }
    }

    fn now<T: Debug>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test]
    fn places_that_this_compiler_prints() {
        use shapes::{A, B, Gen, Repo, S, Zoo};
        assert_eq!(shapes::f::<&'static str>(), ["m::f<&str>", "m::f::__site"]);
        let asynchronous = ["m::outer_async", "m::outer_async::x::site", "m::outer_async"];
        assert_eq!(now(shapes::outer_async()), asynchronous);
        let here = "cache_runtime::place::tests::places_that_this_compiler_prints";
        assert_eq!(shapes::of_closure(|| ()), format!("m::of_closure<{here}>"));
        assert_eq!(shapes::of_const::<'<', -3>(), "m::of_const<'<',-3>");
        assert_eq!(shapes::of_const::<'\'', 3>(), "m::of_const<'\\'',3>");
        assert_eq!(shapes::r#match::r#as(), "m::match::as");
        assert_eq!(A::inherent::<String>(), "m::A::inherent<core::string::String>");
        assert_eq!(now(Zoo(A).generic()), ["m::Zoo<m::A>::generic", "m::Zoo<_>::generic::__site"]);
        assert_eq!(B(&1).lifetime(), "m::B<i32>::lifetime");
        assert_eq!(Zoo(A).find(), "<m::Zoo<m::A> as m::Repo>::find");
        assert_eq!(Zoo(A).default(), "<m::Zoo<m::A> as m::Repo>::default");
        assert_eq!(now(Zoo(A).fetch()), "<m::Zoo<m::A> as m::Repo>::fetch");
        assert_eq!(S("").find(), "<m::S as m::Repo>::find");
        let pointer: fn(&u8) -> String = |_| String::new();
        assert_eq!(pointer.find(), "<fn(&u8)->core::string::String as m::Repo>::find");
        assert_eq!(A.find(&1), "<m::A as m::Gen<&i32>>::find");
        assert_eq!(A.find(1), "m::elsewhere::<impl m::Gen<u8> for m::A>::find");
    }

    #[test]
    fn types_that_this_compiler_prints() {
        type Hook = Box<dyn for<'a> Fn(&'a u8) -> &'a [u8] + Send + 'static>;
        let fun = "core::ops::function::Fn(&u8)->&[u8]";
        let hook = format!("core::boxed::Box<dyn {fun}+core::marker::Send>");
        assert_eq!(normalise(type_name::<Hook>()), hook);
        assert_eq!(normalise(type_name::<std::path::PathBuf>()), "core::path::PathBuf");
        assert_eq!(normalise(type_name::<&mut [(u8, *const u8); 3]>()), "&mut [(u8,*const u8);3]");
        assert_eq!(normalise(type_name::<unsafe extern "C" fn() -> !>()), "unsafe extern \"C\" fn()->!");
    }

    #[test]
    fn texts_that_other_compilers_print() {
        for (text, expected) in [
            ("m::outer_async::{{closure}}::x::site::{{closure}}", "m::outer_async::x::site"),
            ("m::{impl#3}::f::{closure#0}", "m::f"),
            ("{{closure}}::f", "f"),
            ("{{closure}}", ""),
            ("m::f::{{closure}}::__cache_aside_body::{{closure}}::g::__site", "m::f::g::__site"),
            ("m::f::__cache_aside_body<i32>::{{closure}}", "m::f<i32>"),
            ("m::Zoo<_>::__cache_aside_body_of_find::{{closure}}::g", "m::Zoo<_>::find::g"),
            ("m::Zoo<m::A>::__cache_aside_body_of_find<i32>::{{closure}}", "m::Zoo<m::A>::find<i32>"),
            ("m::__cache_aside_body_of_", "m::__cache_aside_body_of_"),
            ("B<'_>", "B"),
            ("B<'_, i32>", "B<i32>"),
            ("B<'a, 'b, i32>", "B<i32>"),
            ("&'_ str", "&str"),
            ("&'static mut T", "&mut T"),
            ("for<'a> fn(&'a u8)", "fn(&u8)"),
            ("dyn for<'a, 'b> F<'a> + 'b", "dyn F"),
            ("(dyn A + 'static, B)", "(dyn A,B)"),
            ("dyn 'a + A", "dyn A"),
            ("m::for<'_>", "m::for"),
            ("m::r#type<r#as::B>", "m::type<as::B>"),
            ("std::string::String", "core::string::String"),
            ("my_alloc::A<x::std::y, std, alloc::B>", "my_alloc::A<x::std::y,std,core::B>"),
            ("F<{ N + 1 }>", "F<{N+1}>"),
        ] {
            assert_eq!(normalise(text), expected, "{text}");
            assert_eq!(normalise(expected), expected);
        }
    }

    #[test]
    fn the_parent_is_all_but_the_last_segment() {
        for (path, expected) in [
            ("<m::Zoo<m::A> as m::Repo>::find", "<m::Zoo<m::A> as m::Repo>"),
            ("m::n::<impl m::A>::f", "m::n::<impl m::A>"),
            ("m::f<i32>", "m"),
            ("m::f<fn(a::B)->a::C>", "m"),
            ("m::f<'<',a::B>", "m"),
            ("m::get_user::__site", "m::get_user"),
            ("f", ""),
            ("", ""),
        ] {
            assert_eq!(parent(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_will_do(any in ".*", odd in "[a<>{}'#:\"\\\\ ,+r&é-]*") {
            for text in [any, odd] {
                let _ = parent(&text);
                let whole = normalise(&text);
                prop_assert!(whole.starts_with(parent(&whole)));
            }
        }
    }
}
