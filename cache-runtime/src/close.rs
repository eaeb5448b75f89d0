//! The near side of a decorated call: values that are kept decoded in this process.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::call::{Call, is_refresh};
use crate::key::{Key, KeyMaker};
use crate::lent::OfCarried;
use crate::near::Ticket;
use crate::sight::Hit;
use crate::site::Instance;
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
    args: Box<[u8]>,
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
        if let Some(Keep { ticket, life }) = &hit.keep
            && ticket.claim()
        {
            ticket.keep(self.instance, &self.args, value, hit.payload.len(), *life);
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

/// What the function returned for these arguments, if that is kept in this process; else the call,
/// which keeps what it will read.
///
/// # Errors
/// The call, to go on with.
#[allow(clippy::result_large_err)] // it is what goes on
pub fn near<K, R>(call: Call, _kind: K, build: impl FnOnce(KeyMaker) -> Key) -> Result<R, Call<Close>>
where
    K: Kind<R>,
    K::Value: Clone + 'static,
{
    let Call { at, cache, when, .. } = call;
    let instance = at.instance();
    let mut close = Call { at, cache, when, key: None, near: Close { instance, args: Box::default() } };
    if !when {
        return Err(close);
    }
    let key = build(KeyMaker);
    if let (Some(args), false, Ok(cache)) = (key.arguments(), is_refresh(at.site), close.cache()) {
        if let Some(value) = cache.core().near.get::<K::Value>(instance, args) {
            cache.core().books(Some(at.site)).count(|book| &book.near_hits);
            return Ok(K::join(Ok(value)));
        }
        close.near.args = args.into();
    }
    close.key = Some(key.name(&at));
    Err(close)
}
