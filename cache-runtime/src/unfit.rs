//! One mistake is one error: generated code asserts once that a type fits, and goes on from there by
//! method resolution, which finds a stand-in for a type that doesn't. No stand-in ever runs.

use std::marker::PhantomData;
use std::ops::Deref;

use serde::Serialize;

use crate::value::{Cacheable, Kind};

/// The question whether what a function returns can be stored.
#[derive(Debug)]
pub struct Fit<K, R>(K, PhantomData<fn() -> R>);

impl<K: Kind<R>, R> Fit<K, R> {
    /// Asks about a kind of `R`.
    pub fn new(kind: K) -> Self {
        Self(kind, PhantomData)
    }
}

impl<K: Kind<R>, R> Fit<K, R>
where
    K::Value: Cacheable,
{
    /// It can.
    pub fn kind(&self) -> K {
        self.0
    }
}

/// The answer for what can't be stored.
pub trait UnfitReturn<K> {
    /// The answer.
    fn kind(&self) -> OfUnfit<K>;
}

impl<K: Copy, R> UnfitReturn<K> for Fit<K, R> {
    fn kind(&self) -> OfUnfit<K> {
        OfUnfit(self.0)
    }
}

/// A kind whose value has the traits that the real one lacks.
#[derive(Debug, Clone, Copy)]
pub struct OfUnfit<K>(K);

/// A value that gets the traits it lacks.
#[derive(Debug)]
pub struct Unfit<V>(V);

impl<K: Kind<R>, R> Kind<R> for OfUnfit<K> {
    type Value = Unfit<K::Value>;
    type Error = K::Error;

    fn split(returned: R) -> Result<Self::Value, Self::Error> {
        K::split(returned).map(Unfit)
    }
    fn join(value: Result<Self::Value, Self::Error>) -> R {
        K::join(value.map(|value| value.0))
    }
}

/// So that closures over the value read on.
impl<V> Deref for Unfit<V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.0
    }
}

impl<V> Serialize for Unfit<V> {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not `Serialize`"))
    }
}

impl<'de, V> serde::Deserialize<'de> for Unfit<V> {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("not `Deserialize`"))
    }
}

/// The question whether an argument can be part of a key.
#[derive(Debug)]
pub struct Arg<'a, T: ?Sized>(pub &'a T);

impl<'a, T: Serialize + ?Sized> Arg<'a, T> {
    /// It can.
    pub fn kept(&self) -> &'a T {
        self.0
    }
}

/// The answer for what can't be part of a key.
pub trait UnfitArg {
    /// The answer.
    fn kept(&self) -> Unfit<()>;
}

impl<T: ?Sized> UnfitArg for Arg<'_, T> {
    fn kept(&self) -> Unfit<()> {
        Unfit(())
    }
}
