//! What a decorated function gives back, and what of it is stored.
//!
//! Whether a return type is a `Result` is found by method resolution, so aliases such as
//! `type Result<T> = ...` are seen through: an inherent method wins over one of a trait.
//! Whether a value is an `Option` is asked of serde (`codec.rs`).

use std::convert::Infallible;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can be stored: `Serialize` and `DeserializeOwned`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be cached",
    label = "a cached result must be serialisable and owned",
    note = "derive it: `#[derive(serde::Serialize, serde::Deserialize)]`; of `Result<T, E>` only `T` is stored",
    note = "a borrowed result such as `&str` can't be stored: return an owned one such as `String`"
)]
pub trait Cacheable: Serialize + DeserializeOwned {}
#[diagnostic::do_not_recommend] // the headline is ours, not that of a leaf
impl<T: Serialize + DeserializeOwned> Cacheable for T {}

/// Asks for [`Cacheable`] where generated code can point at the return type.
pub fn assert_cacheable<K, R>(_: K)
where
    K: Kind<R>,
    K::Value: Cacheable,
{
}

/// The question whether `R` is a `Result`.
#[derive(Debug)]
pub struct Probe<R>(PhantomData<fn() -> R>);

impl<R> Probe<R> {
    /// Asks about `R`.
    #[allow(clippy::new_without_default)] // a question, not a value
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// It is a `Result`: its `Ok` is the value.
#[derive(Debug, Clone, Copy)]
pub struct OfResult;

/// It is the value itself.
#[derive(Debug, Clone, Copy)]
pub struct OfPlain;

impl<T, E> Probe<Result<T, E>> {
    /// The answer.
    pub fn kind(&self) -> OfResult {
        OfResult
    }
}

/// The answer for what is no `Result`.
pub trait PlainReturn {
    /// The answer.
    fn kind(&self) -> OfPlain;
}

impl<R> PlainReturn for Probe<R> {
    fn kind(&self) -> OfPlain {
        OfPlain
    }
}

/// How a return type `R` is taken apart and put together.
pub trait Kind<R>: Copy + Send + Sync {
    /// What is stored: `T` of `Result<T, E>`, else `R`.
    type Value;
    /// What never is: `E` of `Result<T, E>`.
    type Error;

    /// The value, or the error that goes back to its own caller.
    ///
    /// # Errors
    /// The function's own.
    fn split(returned: R) -> Result<Self::Value, Self::Error>;
    /// The return value again.
    fn join(value: Result<Self::Value, Self::Error>) -> R;
}

impl<T, E> Kind<Result<T, E>> for OfResult {
    type Value = T;
    type Error = E;

    fn split(returned: Result<T, E>) -> Result<T, E> {
        returned
    }
    fn join(value: Result<T, E>) -> Result<T, E> {
        value
    }
}

impl<R> Kind<R> for OfPlain {
    type Value = R;
    type Error = Infallible;

    fn split(returned: R) -> Result<R, Infallible> {
        Ok(returned)
    }
    fn join(value: Result<R, Infallible>) -> R {
        value.unwrap_or_else(|never| match never {})
    }
}

/// What `put_cache` takes for a function that returns `R`: `T` for `Result<T, E>`, else `R`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what this function's cache holds",
    label = "the function returns `{R}`; for a `Result<T, E>` put a `&T`"
)]
pub trait Stores<R>: Serialize {}
impl<T: Serialize> Stores<T> for T {}
impl<T: Serialize, E> Stores<Result<T, E>> for T {}
