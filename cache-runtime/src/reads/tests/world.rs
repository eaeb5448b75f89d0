//! A server of tests, and the reads of it.

use std::task::{Context, Poll, Waker};

use tokio::sync::Semaphore;

use super::*;
use crate::reads::one_by_one;
use crate::reads::room::MOST;

pub(super) const RTT: Duration = Duration::from_millis(1);
pub(super) const BUDGET: Duration = Duration::from_millis(100);

pub(super) type Got = Result<Result<u64, StoreError>, Late>;

/// A server that has one value under every key, and the reads of it.
#[derive(Clone)]
pub(super) struct World(pub(super) Arc<Server>);

pub(super) struct Server {
    pub(super) reads: Reads<String, u64>,
    pub(super) value: AtomicU64,
    pub(super) gets: AtomicU64,
    pub(super) flushes: AtomicU64,
    /// Of how many GETs the replies may come.
    pub(super) replies: Semaphore,
    pub(super) behave: fn() -> Behaviour,
}

pub(super) enum Behaviour {
    /// The reply comes when there is a permit.
    Held,
    Takes(Duration),
    Fails {
        after: Duration,
    },
    Panics {
        at_once: bool,
    },
}

pub(super) fn down() -> StoreError {
    StoreError::Unavailable("down".to_owned())
}

impl World {
    pub(super) fn new(behave: fn() -> Behaviour) -> Self {
        let [value, gets, flushes] = [1, 0, 0].map(AtomicU64::new);
        let (reads, replies) = (Reads::new(), Semaphore::new(0));
        Self(Arc::new(Server { reads, value, gets, flushes, replies, behave }))
    }

    pub(super) fn gets(&self) -> u64 {
        self.0.gets.load(SeqCst)
    }

    pub(super) fn flushes(&self) -> u64 {
        self.0.flushes.load(SeqCst)
    }

    /// The server reads as soon as it is asked: the oldest answer that it may give.
    pub(super) fn ask(&self) -> Reply<'static, u64> {
        let World(server) = self.clone();
        Box::pin(async move {
            server.gets.fetch_add(1, SeqCst);
            let seen = server.value.load(SeqCst);
            match (server.behave)() {
                Behaviour::Held => server.replies.acquire().await.unwrap().forget(),
                Behaviour::Takes(time) => tokio::time::sleep(time).await,
                Behaviour::Fails { after } => {
                    if !after.is_zero() {
                        tokio::time::sleep(after).await;
                    }
                    return Err(down());
                }
                Behaviour::Panics { at_once } => {
                    if !at_once {
                        tokio::time::sleep(RTT).await;
                    }
                    panic!("a GET that panics");
                }
            }
            Ok(seen)
        })
    }

    pub(super) async fn get_of(&self, key: &str, hash: u64, left: Duration) -> Got {
        let send = || {
            let world = self.clone();
            move |keys: Vec<String>| {
                world.0.flushes.fetch_add(1, SeqCst);
                assert!(keys.len() <= MOST);
                one_by_one(keys.iter().map(|_| world.ask()))
            }
        };
        self.0.reads.get(key, hash, (left, BUDGET), || key.to_owned(), || self.ask(), send).await
    }

    /// Reads the key, with a budget.
    pub(super) fn get(&self) -> impl Future<Output = Got> + Send + 'static {
        let world = self.clone();
        async move { world.get_of("k", 7, BUDGET).await }
    }

    /// Reads the key of this number, with a budget.
    pub(super) fn get_numbered(&self, number: u64) -> impl Future<Output = Got> + Send + 'static {
        let world = self.clone();
        async move { world.get_of(&number.to_string(), number << 32 | number, BUDGET).await }
    }

    /// So many reads, each polled once, in this order; then whatever can go on does.
    pub(super) async fn begun(&self, count: usize) -> Vec<Call> {
        let mut calls: Vec<Call> = (0..count).map(|_| Box::pin(self.get()) as Call).collect();
        assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
        settle().await;
        calls
    }

    pub(super) async fn release(&self, count: usize) {
        self.0.replies.add_permits(count);
        settle().await;
    }

    /// Nothing is kept of reads that are over.
    pub(super) async fn assert_empty(&self) {
        settle().await;
        assert_eq!(self.left(), []);
    }

    /// The same on several threads, where a lane may still be in the air for callers who gave up.
    pub(super) async fn until_empty(&self) {
        let is_empty = async {
            while !self.left().is_empty() {
                tokio::time::sleep(RTT).await;
            }
        };
        let is_late = tokio::time::timeout(50 * BUDGET, is_empty).await.is_err();
        assert!(!is_late, "{:?}", self.left());
    }

    /// Of each queue that isn't empty who reads by himself, how many lanes fly, and whether a batch is open.
    fn left(&self) -> Vec<(usize, usize, bool)> {
        let state = |queue: &Arc<Queue<_, _>>| {
            let state = queue.lock();
            (state.solos, state.lanes, state.open.is_some())
        };
        self.0.reads.queues.iter().map(state).filter(|state| *state != (0, 0, false)).collect()
    }
}

/// Every task runs until it waits for a reply or the time.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(super) type Call = std::pin::Pin<Box<dyn Future<Output = Got> + Send>>;

pub(super) fn poll(call: &mut Call) -> Poll<Got> {
    poll_once(call)
}

pub(super) fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn ready(call: &mut Call) -> u64 {
    let Poll::Ready(Ok(Ok(value))) = poll(call) else { panic!("it isn't there") };
    value
}

/// A caller who blocks its thread once it has begun to read, until `release` is dropped.
pub(super) struct Blocked {
    pub(super) begun: tokio::sync::oneshot::Receiver<()>,
    pub(super) release: std::sync::mpsc::Sender<()>,
}

impl Blocked {
    pub(super) fn begin(world: &World) -> Self {
        let (tell, begun) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel();
        let mut call = Box::pin(world.get()) as Call;
        tokio::spawn(async move {
            assert!(poll(&mut call).is_pending());
            tell.send(()).unwrap();
            let _ = released.recv();
        });
        Self { begun, release }
    }
}
