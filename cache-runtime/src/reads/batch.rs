//! One GET and those who share it. When it may be polled, and by whom, `reads.rs` decides.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep};

use super::PATIENCE;
use crate::error::StoreError;
use crate::store::Reply;

pub(super) struct Batch<T> {
    key: Box<str>,
    runtime: runtime::Id,
    /// Who hasn't the outcome yet; it changes under the lock of the shard until the batch is sealed,
    /// and not before it landed.
    members: AtomicUsize,
    /// How many are to be left when the next batch is sent; set when it lands.
    half: AtomicUsize,
    // std mutex: never held across an await
    get: Mutex<Get<T>>,
    bell: Arc<Bell>,
    opened: Instant,
    /// Rings when its members begin to be late.
    _watch: Pin<Box<Sleep>>,
}

enum Get<T> {
    /// Not polled before the batch is sealed.
    Sent(Reply<'static, T>),
    Landed(Outcome<T>),
}

#[derive(Clone)]
pub(super) enum Outcome<T> {
    Reply(Result<T, StoreError>),
    /// Polling the GET panicked: everybody for himself.
    Panic,
}

/// Wakes all members.
#[derive(Default)]
struct Bell(Notify);

impl<T> Batch<T> {
    /// With one member.
    pub(super) fn open(key: &str, runtime: runtime::Id, get: Reply<'static, T>) -> Self {
        let (bell, opened) = (Arc::<Bell>::default(), Instant::now());
        let mut watch = Box::pin(tokio::time::sleep_until(opened + PATIENCE));
        let waker = Waker::from(Arc::clone(&bell));
        let _ = watch.as_mut().poll(&mut Context::from_waker(&waker));
        Self {
            key: key.into(),
            runtime,
            members: AtomicUsize::new(1),
            half: AtomicUsize::new(0),
            get: Mutex::new(Get::Sent(get)),
            bell,
            opened,
            _watch: watch,
        }
    }

    pub(super) fn is_of(&self, key: &str, runtime: runtime::Id) -> bool {
        *self.key == *key && self.runtime == runtime
    }

    pub(super) fn is_late(&self) -> bool {
        self.opened.elapsed() >= PATIENCE
    }

    pub(super) fn enter(&self) {
        self.members.fetch_add(1, Relaxed);
    }

    /// One leaves before it was sealed; whether nobody is left.
    pub(super) fn leave_is_last(&self) -> bool {
        self.members.fetch_sub(1, Relaxed) == 1
    }

    /// One has the outcome; whether it is the one with whom half of them have it.
    pub(super) fn take_is_half(&self) -> bool {
        self.members.fetch_sub(1, Relaxed) - 1 == self.half.load(Relaxed)
    }

    /// Ends with the next ring, from now on.
    pub(super) fn rung(&self) -> Notified<'_> {
        self.bell.0.notified()
    }

    pub(super) fn ring(&self) {
        self.bell.0.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Get<T>> {
        self.get.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Batch<T> {
    pub(super) fn landed(&self) -> Option<Outcome<T>> {
        match &*self.lock() {
            Get::Landed(outcome) => Some(outcome.clone()),
            Get::Sent(_) => None,
        }
    }

    /// Polls the GET for all. Only when the batch is sealed.
    pub(super) fn poll(&self) -> Option<Outcome<T>> {
        let mut get = self.lock();
        let reply = match &mut *get {
            Get::Sent(reply) => reply,
            Get::Landed(outcome) => return Some(outcome.clone()),
        };
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        let outcome = match catch_unwind(AssertUnwindSafe(|| reply.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => return None,
            Ok(Poll::Ready(reply)) => Outcome::Reply(reply),
            Err(_) => Outcome::Panic,
        };
        self.half.store(self.members.load(Relaxed) / 2, Relaxed);
        *get = Get::Landed(outcome.clone());
        drop(get);
        // The reply rang too, unless it was there at once.
        self.ring();
        Some(outcome)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_waiters();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_waiters();
    }
}
