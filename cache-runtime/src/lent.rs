//! What a load needs that outlives its caller: copies of what the call only lends, and a result that
//! can leave the task.
//!
//! A type that doesn't fit is one error, as in `unfit.rs`: generated code has asserted that it does, and
//! goes on with a stand-in.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::value::Kind;

/// The question whether a borrowed argument can be copied.
#[derive(Debug)]
pub struct Lent<'a, T: ?Sized>(pub &'a T);

impl<T: ToOwned + ?Sized> Lent<'_, T> {
    /// It can.
    pub fn copied(&self) -> Copied<T> {
        Copied(self.0.to_owned())
    }
}

/// What was copied, to be lent again.
pub struct Copied<T: ToOwned + ?Sized>(T::Owned);

impl<T: ToOwned + ?Sized> Copied<T> {
    /// As the call had it.
    pub fn lend(&self) -> &T {
        self.0.borrow()
    }
}

impl<T: ToOwned + ?Sized> fmt::Debug for Copied<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Copied")
    }
}

/// The answer for what can't be copied.
pub trait UnfitLent<T: ?Sized> {
    /// The answer.
    fn copied(&self) -> UnfitCopy<T>;
}

impl<T: ?Sized> UnfitLent<T> for Lent<'_, T> {
    fn copied(&self) -> UnfitCopy<T> {
        unreachable!("{NEVER}")
    }
}

/// A stand-in for the copy, of which there is none.
#[derive(Debug)]
pub struct UnfitCopy<T: ?Sized>(Infallible, PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> UnfitCopy<T> {
    /// Never called.
    pub fn lend(&self) -> &T {
        match self.0 {}
    }
}

/// What a load in a task of its own can hand to its caller.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be handed from one task to another",
    label = "with `refresh_ahead` or `timeout` a load may run in a task of its own: return what is `Send`",
    note = "such as `Arc<T>` for `Rc<T>`, and `Box<dyn Error + Send + Sync>` for `Box<dyn Error>`"
)]
pub trait Portable: Send {}
#[diagnostic::do_not_recommend] // as for `Cacheable`
impl<T: Send> Portable for T {}

/// Asks for [`Portable`] where generated code can point at the return type.
pub fn assert_portable<K, R>(_: K)
where
    K: Kind<R>,
    K::Value: Portable,
    K::Error: Portable,
{
}

/// The question whether what a function returns can leave its task.
#[derive(Debug)]
pub struct Carry<K, R>(K, PhantomData<fn() -> R>);

impl<K: Kind<R>, R> Carry<K, R> {
    /// Asks about a kind of `R`.
    pub fn new(kind: K) -> Self {
        Self(kind, PhantomData)
    }
}

impl<K: Kind<R>, R> Carry<K, R>
where
    K::Value: Send,
    K::Error: Send,
{
    /// It can.
    pub fn kind(&self) -> K {
        self.0
    }
}

/// The answer for what can't leave its task.
pub trait UnfitCarry<K> {
    /// The answer.
    fn kind(&self) -> OfCarried<K>;
}

impl<K: Copy, R> UnfitCarry<K> for Carry<K, R> {
    fn kind(&self) -> OfCarried<K> {
        OfCarried(self.0)
    }
}

/// A kind whose value and error can.
#[derive(Debug, Clone, Copy)]
pub struct OfCarried<K>(pub(crate) K);

impl<K: Kind<R>, R> Kind<R> for OfCarried<K> {
    type Value = Carried<K::Value>;
    type Error = Infallible;

    fn split(_: R) -> Result<Self::Value, Infallible> {
        unreachable!("{NEVER}")
    }
    fn join(value: Result<Self::Value, Infallible>) -> R {
        match value {
            Ok(value) => match value.0 {},
            Err(never) => match never {},
        }
    }
}

/// A stand-in for a value, of which there is none.
#[derive(Debug)]
pub struct Carried<V>(Infallible, PhantomData<fn() -> V>);

impl<V> Clone for Carried<V> {
    fn clone(&self) -> Self {
        match self.0 {}
    }
}

/// So that closures over the value read on.
impl<V> Deref for Carried<V> {
    type Target = V;
    fn deref(&self) -> &V {
        match self.0 {}
    }
}

impl<V> Serialize for Carried<V> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match self.0 {}
    }
}

impl<'de, V> Deserialize<'de> for Carried<V> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom(NEVER))
    }
}

const NEVER: &str = "a program with such a function does not compile";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_lent_as_what_it_was() {
        let text = String::from("a");
        let copy = Lent(text.as_str()).copied();
        drop(text);
        assert_eq!(copy.lend(), "a");
        assert_eq!(Lent(&[1, 2][..]).copied().lend(), [1, 2]);
        assert_eq!(Lent(&7).copied().lend(), &7);
    }
}
