//! One key, who calls for it, and how far each call comes.

use std::any::Any;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cache_aside::{Cache, cache};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::sample::patient;
use crate::support::server::Server;
use crate::support::{ms, secs};

/// Of caches that nobody keeps waiting but on purpose.
pub(crate) const LEASE: Duration = ms(300);

/// Whoever takes longer hangs.
pub(crate) const HANGS: Duration = secs(10);

/// How a load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Ok,
    Err,
    /// After several awaits.
    Slow,
    Never,
    Panic,
}

pub(crate) const EVERY_END: [How; 5] = [How::Ok, How::Err, How::Slow, How::Never, How::Panic];
/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Stopped,
    /// It gave a value, its own error, or its own panic.
    Ended,
    /// Nothing wakes it any more: it is in a load that never ends.
    Silent,
}

/// One key, and what was loaded for it.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    begun: AtomicU64,
    loaded: Mutex<Vec<u64>>,
}

impl Key {
    pub(crate) fn new() -> Arc<Self> {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let name = format!("key{}", NAMES.fetch_add(1, SeqCst));
        Arc::new(Self { name, begun: AtomicU64::new(0), loaded: Mutex::default() })
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(SeqCst)
    }

    pub(crate) fn has_loaded(&self, value: u64) -> bool {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).contains(&value)
    }
}

/// A panic of ours; it says nothing, for there are many.
pub(crate) struct Boom;

/// Gives a number that no other load gave.
#[cache(ttl = 60, key = "{key.name}", cache = cache)]
pub(crate) async fn read(cache: &Cache, key: &Key, how: How, mine: &AtomicU64) -> Result<u64, u64> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let number = NUMBERS.fetch_add(1, SeqCst) + 1;
    key.begun.fetch_add(1, SeqCst);
    mine.store(number, SeqCst);
    sleep(ms(5)).await;
    match how {
        How::Ok => {}
        How::Err => return Err(number),
        How::Slow => {
            for _ in 0..4 {
                tokio::task::yield_now().await;
                sleep(ms(50)).await;
            }
        }
        How::Never => pending().await,
        How::Panic => resume_unwind(Box::new(Boom)),
    }
    key.loaded.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    Ok(number)
}

pub(crate) type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A caller who gets a right value or its own error.
pub(crate) fn call(cache: &Cache, key: &Arc<Key>, how: How, refresh: bool) -> Call {
    let (cache, key, mine) = (cache.clone(), Arc::clone(key), AtomicU64::new(0));
    Box::pin(async move {
        let got = if refresh {
            read::refresh_cache(&cache, &key, how, &mine).await
        } else {
            read(&cache, &key, how, &mine).await
        };
        match got {
            Ok(value) => assert!(key.has_loaded(value), "{value} was loaded for another key, or never"),
            Err(number) => assert_eq!(number, mine.load(SeqCst), "another's error"),
        }
    })
}

/// Polls it so many times at most, each time that it is woken.
pub(crate) async fn polled(call: &mut Call, mut polls: usize, patience: Duration) -> Reach {
    let polls = poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(Reach::Stopped);
        }
        polls -= 1;
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(Poll::Ready(())) => Poll::Ready(Reach::Ended),
            Ok(Poll::Pending) if polls == 0 => Poll::Ready(Reach::Stopped),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => {
                expect_boom(panic);
                Poll::Ready(Reach::Ended)
            }
        }
    });
    timeout(patience, polls).await.unwrap_or(Reach::Silent)
}

pub(crate) fn expect_boom(panic: Box<dyn Any + Send>) {
    if !panic.is::<Boom>() {
        resume_unwind(panic);
    }
}

/// Somebody who must not hang, and whose panic must be the one that it was to have.
pub(crate) async fn join(what: &str, task: JoinHandle<()>) {
    let ended = timeout(HANGS, task).await.unwrap_or_else(|_| panic!("{what} hangs"));
    if let Err(error) = ended {
        expect_boom(error.into_panic());
    }
}

/// Two caches over one store, as in two processes; one cache twice where the store is embedded.
#[derive(Debug)]
pub(crate) struct Caches {
    pub(crate) here: Cache,
    pub(crate) elsewhere: Cache,
    pub(crate) lease: Duration,
    /// For a machine that has other things to do; none where the clock is paused.
    pub(crate) slack: Duration,
}

impl Caches {
    pub(crate) fn embedded() -> Self {
        let here = Cache::builder().lease(LEASE).load_deadline(2 * LEASE).build().unwrap();
        Self { elsewhere: here.clone(), here, lease: LEASE, slack: ms(0) }
    }

    pub(crate) async fn over(server: &Server, lease: Duration) -> Self {
        let builder = patient(&server.url()).store_budget(secs(20)).lease(lease).load_deadline(2 * lease);
        let [here, elsewhere] = [(); 2].map(|()| builder.clone().build().unwrap());
        here.ping().await.unwrap();
        elsewhere.ping().await.unwrap();
        Self { here, elsewhere, lease, slack: secs(5) }
    }

    /// After which nothing wakes a load that never ends.
    pub(crate) fn silence(&self) -> Duration {
        4 * self.lease
    }
}
