//! The typed side of a put: the writer, its body and its result, for who knows only what it stores.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use serde::Serialize;

use crate::value::Kind;

/// What the target of a put holds: `T` for a function that returns `T` or `Result<T, E>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what the target of `#[cache_put]` holds",
    label = "the target returns `{R}`: return that value, or a `Result` of it"
)]
pub trait Puts<R>: Serialize {}
#[diagnostic::do_not_recommend]
impl<T: Serialize> Puts<T> for T {}
#[diagnostic::do_not_recommend]
impl<T: Serialize, E> Puts<Result<T, E>> for T {}

/// The type of what a function that returns `W` stores.
#[derive(Debug)]
pub struct Stored<V>(PhantomData<fn() -> V>);

/// The answer for this function.
pub fn stored<K: Kind<W>, W>(_kind: K) -> Stored<K::Value> {
    Stored(PhantomData)
}

/// Where the writer's result waits for its caller.
#[derive(Debug)]
pub struct End<W>(Option<W>);

impl<W> End<W> {
    /// Nothing yet.
    #[allow(clippy::new_without_default)] // a place, not a value
    pub fn new() -> Self {
        Self(None)
    }

    /// What the writer returned.
    ///
    /// # Panics
    /// If it didn't run.
    pub fn returned(self) -> W {
        self.0.expect("a put runs its body")
    }
}

/// A body that has not begun, and where its result goes.
pub struct Writer<'a, K, W, F> {
    /// Boxed: on its way it is moved through several futures, and each would have room for it twice.
    body: Option<Pin<Box<F>>>,
    end: &'a mut End<W>,
    kind: PhantomData<fn() -> K>,
}

impl<K, W, F> std::fmt::Debug for Writer<'_, K, W, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// A body of a function that returns `W`.
pub fn writer<K, W, F>(_kind: K, end: &mut End<W>, body: F) -> Writer<'_, K, W, F>
where
    K: Kind<W>,
    F: Future<Output = W>,
{
    Writer { body: Some(Box::pin(body)), end, kind: PhantomData }
}

/// A writer, for who knows only what it stores.
pub trait Writes {
    /// What is stored.
    type Value;
    /// What the body returns.
    type Returned;
    /// The body.
    type Body: Future<Output = Self::Returned>;

    /// The body, to be run once.
    fn body(&mut self) -> Self::Body;
    /// What is to be stored; an error goes to the caller.
    fn split(&mut self, returned: Self::Returned) -> Option<Self::Value>;
    /// The value goes to the caller.
    fn join(&mut self, value: Self::Value);
}

impl<K: Kind<W>, W, F: Future<Output = W>> Writes for Writer<'_, K, W, F> {
    type Value = K::Value;
    type Returned = W;
    type Body = Pin<Box<F>>;

    fn body(&mut self) -> Pin<Box<F>> {
        self.body.take().expect("a body runs once")
    }
    fn split(&mut self, returned: W) -> Option<K::Value> {
        match K::split(returned) {
            Ok(value) => Some(value),
            Err(error) => {
                self.end.0 = Some(K::join(Err(error)));
                None
            }
        }
    }
    fn join(&mut self, value: K::Value) {
        self.end.0 = Some(K::join(Ok(value)));
    }
}
