//! Owned copies of what a call borrows, for a load that outlives it.
//!
//! A type that can't be copied is one error, as in `unfit.rs`: generated code has asserted that it can.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

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
        UnfitCopy(PhantomData)
    }
}

/// A stand-in for the copy; it is never made.
#[derive(Debug)]
pub struct UnfitCopy<T: ?Sized>(PhantomData<fn() -> Box<T>>);

impl<T: ?Sized> UnfitCopy<T> {
    /// Never called.
    ///
    /// # Panics
    /// If it is.
    pub fn lend(&self) -> &T {
        unreachable!("a program with such an argument does not compile")
    }
}

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
