//! The near side of a decorated call: values that are kept decoded in this process.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::cache::Cache;
use crate::call::Call;
use crate::deferred;
use crate::global;
use crate::key::{Key, KeyMaker};
use crate::lent::OfCarried;
use crate::near::Ticket;
use crate::refresh::is_refresh;
use crate::sight::Hit;
use crate::site::{At, Instance};
use crate::value::Kind;

/// What a call does with a value that it has read.
pub trait Nearness<V>: Send + Sync {
    /// Keeps it, if that is what it does.
    #[allow(private_interfaces)]
    fn keep(&self, hit: &Hit, value: &V);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct Far;

#[allow(private_interfaces)]
impl<V> Nearness<V> for Far {
    fn keep(&self, _: &Hit, _: &V) {}
}

/// Keeps what it reads, under the instance of the function and its arguments.
pub struct Close {
    instance: Instance,
    /// Nothing: it has no key.
    args: Option<Box<[u8]>>,
}

impl std::fmt::Debug for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments are nobody's business.
        f.debug_struct("Close").finish_non_exhaustive()
    }
}

#[allow(private_interfaces)]
impl<V: Clone + Send + Sync + 'static> Nearness<V> for Close {
    fn keep(&self, hit: &Hit, value: &V) {
        if let (Some(Keep { ticket, life }), Some(args)) = (&hit.keep, &self.args)
            && ticket.claim()
        {
            ticket.keep(self.instance, args, value, hit.payload.len(), *life);
        }
    }
}

/// A value may be kept under this ticket, for so long at most.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) life: Option<Duration>,
}

/// What can be kept in this process.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be kept in this process",
    label = "with `near` each hit is a clone, made by any thread: it must be `Clone`, `Send` and `Sync`",
    note = "derive `Clone`, or return an `Arc<T>`, whose clone is cheap; or remove `near`"
)]
pub trait NearValue: Clone + Send + Sync + 'static {}
#[diagnostic::do_not_recommend] // as for `Cacheable`
impl<T: Clone + Send + Sync + 'static> NearValue for T {}

/// Asks for [`NearValue`] where generated code can point at the return type.
pub fn assert_near<K, R>(_: K)
where
    K: Kind<R>,
    K::Value: NearValue,
{
}

/// The question whether what a function returns can be kept in this process.
#[derive(Debug)]
pub struct Nearby<K, R>(K, PhantomData<fn() -> R>);

impl<K: Kind<R>, R> Nearby<K, R> {
    /// Asks about a kind of `R`.
    pub fn new(kind: K) -> Self {
        Self(kind, PhantomData)
    }
}

impl<K: Kind<R>, R> Nearby<K, R>
where
    K::Value: Clone + Send + Sync + 'static,
{
    /// It can.
    pub fn kind(&self) -> K {
        self.0
    }
}

/// The answer for what can't: a stand-in, so that it is said once.
pub trait UnfitNear<K> {
    /// The answer.
    fn kind(&self) -> OfCarried<K>;
}

impl<K: Copy, R> UnfitNear<K> for Nearby<K, R> {
    fn kind(&self) -> OfCarried<K> {
        OfCarried(self.0)
    }
}

/// A call that looks in this process first. It holds little and owns nothing: all that a miss needs
/// is made on a miss.
#[derive(Debug, Clone, Copy)]
pub struct Look<'c> {
    at: At,
    cache: Option<&'c Cache>,
    when: bool,
}

impl<'c> Look<'c> {
    /// A call of the function that stands here.
    #[inline]
    pub fn new(at: At) -> Self {
        Self { at, cache: None, when: true }
    }

    /// In this cache instead of the global one.
    #[must_use]
    #[inline]
    pub fn on(mut self, cache: &'c Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Whether the cache is used at all.
    #[must_use]
    #[inline]
    pub fn when(mut self, yes: bool) -> Self {
        self.when = yes;
        self
    }

    /// Puts into `known` what the function returned for these arguments, if that is kept in this process: a
    /// large value is copied each time it is handed on. `build` makes the key, which is for the call that
    /// goes on if it isn't.
    #[inline]
    pub fn known<K, R>(
        &self,
        _kind: K,
        key: &mut Key,
        build: impl FnOnce(KeyMaker<'_>),
        known: &mut Option<R>,
    ) where
        K: Kind<R>,
        K::Value: Clone + 'static,
    {
        self.find(key, build, |value: &K::Value| *known = Some(K::join(Ok(value.clone()))));
    }

    #[inline]
    fn find<V: 'static>(
        &self,
        key: &mut Key,
        build: impl FnOnce(KeyMaker<'_>),
        copy: impl FnOnce(&V),
    ) -> Option<()> {
        if !self.when {
            return None;
        }
        build(key.maker());
        let args = key.arguments()?;
        if is_refresh(self.at.site) || deferred::is_inside() {
            return None;
        }
        match self.cache {
            Some(cache) => self.find_in(cache, args, copy),
            None => self.find_in(&*global::current().ok()?, args, copy),
        }
    }

    #[inline]
    fn find_in<V: 'static>(&self, cache: &Cache, args: &[u8], copy: impl FnOnce(&V)) -> Option<()> {
        let core = cache.core();
        core.near.get(self.at.instance(), args, copy)?;
        core.books(Some(self.at.site)).count(|book| &book.near_hits);
        Some(())
    }

    /// The call that goes on, which keeps what it will read.
    #[cold]
    #[inline(never)]
    pub fn missed(&self, key: &mut Key) -> Call<Close> {
        let Self { at, cache, when } = *self;
        let key = std::mem::replace(key, Key::new());
        let args = key.arguments().map(Into::into);
        Call {
            at,
            cache: cache.cloned(),
            when,
            key: when.then(|| key.name(&at)),
            tags: None,
            near: Close { instance: at.instance(), args },
        }
    }
}

/// The call that goes on, in a room and a function of its own: a hit makes neither, and the compiler
/// doesn't take its value to pieces because the other way builds one piece by piece.
#[derive(Debug)]
pub struct Apart<F>(Pin<Box<F>>);

/// Puts it there.
#[cold]
#[inline(never)]
pub fn apart<F: Future>(call: F) -> Apart<F> {
    Apart(Box::pin(call))
}

impl<F: Future> Future for Apart<F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}
