//! Emits the arguments of a hashed key, and the one place where the compiler says that one of them
//! can't be part of it.

use super::made;
use crate::item::FnItem;
use crate::site::{Key, Site, plain};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::{Pat, Type};

/// An argument as a part of the key. Where it can't be one, [`checks`] has said so, and a stand-in
/// keeps all that uses it from saying so again.
pub(super) fn kept(p: &TokenStream, item: &FnItem, arg: &Ident) -> TokenStream {
    if always_fits(item, arg) { made!(&#arg) } else { made!(#p::Arg(&#arg).kept()) }
}

/// ```text
/// {
///     #[diagnostic::on_unimplemented(message = "argument `db` can't be part of the key: ..", ..)]
///     trait Serialize {}
///     impl<T: P::Serialize + ?Sized> Serialize for T {}
///     fn __keep<T: Serialize + ?Sized>(_: &T) {}
///     __keep(&db);
/// }
/// ```
/// The trait is local so that the message can name the argument. It is called `Serialize` because
/// the compiler, where it has a type parameter before it, suggests the trait's name as a bound.
pub(super) fn checks(p: &TokenStream, site: &Site, item: &FnItem) -> TokenStream {
    let Key::Hashed(key) = &site.key else { return TokenStream::new() };
    let doubtful = key.args.iter().filter(|arg| !always_fits(item, arg));
    doubtful.map(|arg| check(p, arg)).collect()
}

fn check(p: &TokenStream, arg: &Ident) -> TokenStream {
    let name = plain(arg);
    let message = format!("argument `{name}` can't be part of the key: `{{Self}}` is not `Serialize`");
    let label = format!("leave it out: `skip({name})`");
    let note = "or derive `serde::Serialize` for it, or say by `key` or `key_builder` what of it matters";
    let span = Span::mixed_site().located_at(arg.span());
    let ask = quote_spanned!(span=> __keep(&#arg););
    made!({
        #[diagnostic::on_unimplemented(message = #message, label = #label, note = #note)]
        trait Serialize {}
        #[diagnostic::do_not_recommend]
        impl<T: #p::Serialize + ?::core::marker::Sized> Serialize for T {}
        fn __keep<T: Serialize + ?::core::marker::Sized>(_: &T) {}
        #[allow(clippy::used_underscore_binding)]
        #ask
    })
}

/// Types that need no check. A type of the user's may bear such a name: then the error is the
/// compiler's own, and as right.
fn always_fits(item: &FnItem, arg: &Ident) -> bool {
    item.params
        .iter()
        .any(|param| matches!(&param.pat, Pat::Ident(pat) if pat.ident == *arg) && is_plain(&param.ty))
}

pub(super) fn is_plain(ty: &Type) -> bool {
    const NAMES: [&str; 18] = [
        "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128",
        "isize", "f32", "f64", "str", "String",
    ];
    match ty {
        Type::Path(path) => path.path.get_ident().is_some_and(|name| NAMES.iter().any(|known| name == known)),
        Type::Reference(reference) => is_plain(&reference.elem),
        Type::Slice(slice) => is_plain(&slice.elem),
        Type::Group(group) => is_plain(&group.elem),
        _ => false,
    }
}
