//! Against a server whose replies are held, or take a millisecond.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;

const RTT: Duration = Duration::from_millis(1);
const BUDGET: Duration = Duration::from_millis(100);

type Got = Result<Result<u64, StoreError>, Elapsed>;

/// A server of one value, and the reads of it.
#[derive(Clone)]
struct World(Arc<State>);

struct State {
    reads: Reads<u64>,
    value: AtomicU64,
    gets: AtomicU64,
    /// Of how many GETs the replies may come.
    replies: Semaphore,
    behave: fn() -> Behaviour,
}

enum Behaviour {
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

fn down() -> StoreError {
    StoreError::Unavailable("down".to_owned())
}

impl World {
    fn new(behave: fn() -> Behaviour) -> Self {
        let (value, gets, replies) = (AtomicU64::new(1), AtomicU64::new(0), Semaphore::new(0));
        Self(Arc::new(State { reads: Reads::new(), value, gets, replies, behave }))
    }

    fn gets(&self) -> u64 {
        self.0.gets.load(SeqCst)
    }

    /// The server reads as soon as it is asked: the oldest answer that it may give.
    fn ask(&self) -> Reply<'static, u64> {
        let World(state) = self.clone();
        Box::pin(async move {
            state.gets.fetch_add(1, SeqCst);
            let seen = state.value.load(SeqCst);
            match (state.behave)() {
                Behaviour::Held => state.replies.acquire().await.unwrap().forget(),
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

    async fn get_of(&self, key: &str, hash: u64, left: Duration) -> Got {
        self.0.reads.get(key, hash, left, || self.ask(), || self.ask()).await
    }

    /// Reads the key, with a budget.
    fn get(&self) -> impl Future<Output = Got> + Send + 'static {
        let world = self.clone();
        async move { world.get_of("k", 7, BUDGET).await }
    }

    /// So many reads, each polled once, in this order.
    fn begun(&self, count: usize) -> Vec<Call> {
        let mut calls: Vec<Call> = (0..count).map(|_| Box::pin(self.get()) as Call).collect();
        assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
        calls
    }

    fn release(&self, count: usize) {
        self.0.replies.add_permits(count);
    }

    /// Nothing is kept of reads that are over.
    fn assert_empty(&self) {
        assert!(self.0.reads.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}

type Call = std::pin::Pin<Box<dyn Future<Output = Got> + Send>>;

fn poll(call: &mut Call) -> Poll<Got> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn ready(call: &mut Call) -> u64 {
    let Poll::Ready(Ok(Ok(value))) = poll(call) else { panic!("it isn't there") };
    value
}

#[tokio::test(start_paused = true)]
async fn the_second_goes_at_once_and_the_third_shares_the_next() {
    let world = World::new(|| Behaviour::Held);
    let mut calls = world.begun(2);
    assert_eq!(world.gets(), 2, "each sent its own");
    calls.extend(world.begun(3));
    assert_eq!(world.gets(), 2, "the others wait");
    world.release(2);
    assert_eq!((ready(&mut calls[0]), world.gets()), (1, 2), "nobody waits for who reads by himself");
    assert_eq!((ready(&mut calls[1]), world.gets()), (1, 3), "the next is sent when the batch lands");
    calls.extend(world.begun(1));
    assert_eq!(world.gets(), 4, "this one reads by himself again");
    calls.extend(world.begun(10));
    world.release(3);
    assert!(calls[2..6].iter_mut().all(|call| ready(call) == 1));
    assert_eq!(world.gets(), 5, "one for the three and one for the ten");
    assert!(calls[6..].iter_mut().all(|call| ready(call) == 1));
    world.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_read_never_joins_a_get_that_was_sent_before_it() {
    let world = World::new(|| Behaviour::Held);
    let mut old = world.begun(5);
    world.release(2);
    assert_eq!((ready(&mut old[0]), ready(&mut old[1])), (1, 1));
    assert_eq!(world.gets(), 3, "the GET of the three is on the wire");
    world.0.value.store(2, SeqCst);
    let mut new = world.begun(5);
    world.release(3);
    assert!(old[2..].iter_mut().all(|call| ready(call) == 1));
    assert!(new.iter_mut().all(|call| ready(call) == 2));
    world.assert_empty();
}

/// What becomes of a caller who goes astray.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Dropped,
    /// After what it waits for has come.
    DroppedLate,
    Forgotten,
}

/// Each of six callers goes astray at each point of its way.
async fn one_goes_astray(fate: Fate) {
    for (role, polls) in (0..6).flat_map(|role| (1..4).map(move |polls| (role, polls))) {
        let world = World::new(|| Behaviour::Takes(RTT));
        let mut others = JoinSet::new();
        let mut victim = Some(Box::pin(world.get()) as Call);
        let begun = Instant::now();
        for caller in 0..6 {
            if caller == role {
                assert!(poll(victim.as_mut().unwrap()).is_pending());
            } else {
                let call = world.get();
                others.spawn(async move { (call.await, begun.elapsed()) });
                tokio::task::yield_now().await;
            }
        }
        for _ in 1..polls {
            tokio::time::sleep(RTT + RTT / 10).await;
            victim = victim.and_then(|mut call| poll(&mut call).is_pending().then_some(call));
        }
        if fate == Fate::DroppedLate {
            tokio::time::sleep(RTT + RTT / 10).await;
        }
        victim = victim.filter(|_| fate == Fate::Forgotten);
        let here = format!("{fate:?}, role {role}, after {polls} polls");
        let most = if fate == Fate::Dropped { 5 * RTT } else { PATIENCE + 3 * RTT };
        for (got, took) in others.join_all().await {
            assert_eq!(got, Ok(Ok(1)), "{here}");
            assert!(took <= most, "{here}: {took:?}");
        }
        assert!(world.gets() <= 5, "{here}: {} GETs", world.gets());
        drop(victim);
        world.assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_dropped_holds_nobody_up() {
    one_goes_astray(Fate::Dropped).await;
    one_goes_astray(Fate::DroppedLate).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_is_no_longer_polled_holds_nobody_up() {
    one_goes_astray(Fate::Forgotten).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_nobody_polls_is_waited_for_no_longer_than_patience() {
    let world = World::new(|| Behaviour::Takes(RTT));
    let _forgotten = world.begun(2);
    let _also_forgotten = world.begun(20);
    let begun = Instant::now();
    let late = tokio::spawn(world.get()).await.unwrap();
    assert_eq!((late, world.gets()), (Ok(Ok(1)), 3));
    assert!(begun.elapsed() <= PATIENCE + 3 * RTT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_slower_than_patience_is_waited_for() {
    let world = World::new(|| Behaviour::Takes(BUDGET * 2 / 5));
    let calls: JoinSet<Got> = (0..50).map(|_| world.get()).collect();
    assert!(calls.join_all().await.into_iter().all(|got| got == Ok(Ok(1))));
    assert_eq!(world.gets(), 3);
    world.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn without_a_reply_each_waits_for_its_budget() {
    let world = World::new(|| Behaviour::Held);
    let mut calls = JoinSet::new();
    for budget in [1, 4, 5, 6, 20, 60, 100, 100, 100] {
        let (world, budget) = (world.clone(), Duration::from_millis(budget));
        calls.spawn(async move {
            let begun = Instant::now();
            assert!(world.get_of("k", 7, budget).await.is_err());
            (budget, begun.elapsed())
        });
    }
    for (budget, took) in calls.join_all().await {
        assert!((budget..=budget + 2 * RTT).contains(&took), "{took:?} of {budget:?}");
    }
    world.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn an_error_is_everybodys() {
    let world = World::new(|| Behaviour::Fails { after: RTT });
    let calls: JoinSet<Got> = (0..10).map(|_| world.get()).collect();
    assert!(calls.join_all().await.into_iter().all(|got| got == Ok(Err(down()))));
    assert_eq!(world.gets(), 3);
    world.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn an_error_at_once_is_nobody_elses() {
    let world = World::new(|| Behaviour::Fails { after: Duration::ZERO });
    let solo = world.0.reads.join("k", 7, || world.ask());
    for _ in 0..3 {
        assert_eq!(world.get().await, Ok(Err(down())));
    }
    assert_eq!(world.gets(), 3);
    drop(solo);
    world.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn after_a_panic_everybody_reads_for_himself() {
    for behave in [|| Behaviour::Panics { at_once: true }, || Behaviour::Panics { at_once: false }] {
        let world = World::new(behave);
        let mut calls: JoinSet<Got> = (0..10).map(|_| world.get()).collect();
        while let Some(got) = calls.join_next().await {
            assert!(got.unwrap_err().is_panic(), "its own GET panicked too");
        }
        assert!((10..=20).contains(&world.gets()), "{}", world.gets());
        world.assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn other_keys_of_one_hash_are_read_apart() {
    let world = World::new(|| Behaviour::Held);
    let read = |key: &'static str, hash: u64| {
        let world = world.clone();
        Box::pin(async move { world.get_of(key, hash, BUDGET).await }) as Call
    };
    let mut calls = vec![read("k", 7), read("k", 7), read("k", 7)];
    calls.extend([read("other", 7), read("k", 7)]);
    assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
    assert_eq!(world.gets(), 3, "the third and the fifth wait together");
    world.release(10);
    for call in [0, 1, 3, 2, 4] {
        assert_eq!(ready(&mut calls[call]), 1);
    }
    assert_eq!(world.gets(), 4);
    world.assert_empty();
}

/// A batch's timer and GET are of one runtime, which may end or stand still.
#[test]
fn callers_of_other_runtimes_or_none_read_apart() {
    let world = World::new(|| Behaviour::Held);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (one, two) = (runtime(), runtime());
    let mut calls = one.block_on(async { world.begun(3) });
    assert_eq!(world.gets(), 2);
    calls.extend(two.block_on(async { world.begun(1) }));
    assert_eq!(world.gets(), 3);
    calls.extend(world.begun(1));
    assert_eq!(world.gets(), 4);
    drop(one);
    world.release(9);
    two.block_on(async {
        for call in &mut calls[3..] {
            assert_eq!(ready(call), 1);
        }
    });
    drop(calls);
    world.assert_empty();
}

/// Readers, writers, callers who give up, and slow replies, on four threads: no read is older than the
/// last invalidation that returned before it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_is_older_than_an_invalidation_before_it() {
    let world = World::new(|| match fastrand::u32(0..1000) {
        0 => Behaviour::Fails { after: Duration::ZERO },
        1 => Behaviour::Fails { after: RTT },
        2..50 => Behaviour::Takes(Duration::from_millis(fastrand::u64(1..8))),
        _ => Behaviour::Takes(Duration::ZERO),
    });
    let (floor, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let end = Instant::now() + Duration::from_secs(1);
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let (world, floor, reads) = (world.clone(), Arc::clone(&floor), Arc::clone(&reads));
        tasks.spawn(async move {
            while Instant::now() < end {
                if fastrand::u32(0..50) == 0 {
                    let new = world.0.value.fetch_add(1, SeqCst) + 1;
                    floor.fetch_max(new, SeqCst);
                }
                let least = floor.load(SeqCst);
                let call = pin!(world.get());
                let patience = if fastrand::u32(0..20) == 0 { RTT } else { 10 * BUDGET };
                if let Ok(Ok(Ok(value))) = tokio::time::timeout(patience, call).await {
                    assert!(value >= least, "{value} after {least}");
                    reads.fetch_add(1, SeqCst);
                }
            }
        });
    }
    tasks.join_all().await;
    let (reads, gets) = (reads.load(SeqCst), world.gets());
    assert!(gets < reads / 2, "{gets} GETs for {reads} reads");
    world.assert_empty();
}

/// What is kept is bounded by what is going on.
#[tokio::test(start_paused = true)]
async fn different_keys_are_read_apart() {
    let world = World::new(|| Behaviour::Takes(RTT));
    let mut calls = JoinSet::new();
    for key in 0..1000_u64 {
        let world = world.clone();
        let hash = (blake3::hash(&key.to_le_bytes()).as_bytes()[..8]).try_into().unwrap();
        calls.spawn(async move { world.get_of(&key.to_string(), u64::from_le_bytes(hash), BUDGET).await });
    }
    let got: BTreeSet<u64> = calls.join_all().await.into_iter().map(|got| got.unwrap().unwrap()).collect();
    assert_eq!((got, world.gets()), (BTreeSet::from([1]), 1000));
    world.assert_empty();
}
