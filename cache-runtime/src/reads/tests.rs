//! Against a server whose replies are held, or take a millisecond.

mod busy_line;
mod slow_line;
mod world;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll};

use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;

use self::world::{BUDGET, Behaviour, Blocked, Call, Got, RTT, World, down, poll, poll_once, ready, settle};
use super::*;

#[tokio::test(start_paused = true)]
async fn two_read_by_themselves_and_the_others_share() {
    let world = World::new(|| Behaviour::Held);
    let mut calls = world.begun(SOLOS).await;
    assert_eq!((world.gets(), world.flushes()), (2, 0), "they wait for nobody");
    for lane in 1..=LANES as u64 {
        calls.extend(world.begun(3).await);
        assert_eq!((world.gets(), world.flushes()), (2 + lane, lane), "one for three, at once");
    }
    calls.extend(world.begun(5).await);
    assert_eq!(world.gets(), 4, "these wait for one of the two");
    calls.extend(world.begun(5).await);
    world.release(2).await;
    assert_eq!((ready(&mut calls[0]), ready(&mut calls[1])), (1, 1));
    assert_eq!(world.gets(), 4, "who read by themselves held nobody up");
    world.release(1).await;
    assert!(calls[2..5].iter_mut().all(|call| ready(call) == 1));
    assert_eq!((world.gets(), world.flushes()), (5, 3), "one for the ten");
    world.release(2).await;
    assert!(calls[5..].iter_mut().all(|call| ready(call) == 1));
    assert_eq!(world.gets(), 5);
    world.assert_empty().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_reads_by_itself() {
    let world = World::new(|| Behaviour::Takes(RTT));
    for _ in 0..10 {
        assert_eq!(world.get().await, Ok(Ok(1)));
    }
    assert_eq!((world.gets(), world.flushes()), (10, 0));
    world.assert_empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_never_joins_a_flush_that_was_sent_before_it() {
    let world = World::new(|| Behaviour::Held);
    let mut old = world.begun(SOLOS).await;
    for _ in 0..LANES {
        old.extend(world.begun(3).await);
    }
    world.0.value.store(2, SeqCst);
    let mut new = world.begun(5).await;
    world.release(9).await;
    assert!(old.iter_mut().all(|call| ready(call) == 1));
    assert!(new.iter_mut().all(|call| ready(call) == 2));
    assert_eq!(world.gets(), 5);
    world.assert_empty().await;
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
        for (got, took) in others.join_all().await {
            assert_eq!(got, Ok(Ok(1)), "{here}");
            assert!(took <= 3 * RTT, "{here}: {took:?}");
        }
        assert!(world.gets() <= 6, "{here}: {} GETs", world.gets());
        drop(victim);
        world.assert_empty().await;
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
async fn callers_who_are_all_forgotten_hold_nobody_up() {
    let world = World::new(|| Behaviour::Takes(RTT));
    let _forgotten = [world.begun(2).await, world.begun(20).await, world.begun(20).await];
    let begun = Instant::now();
    let late = tokio::spawn(world.get()).await.unwrap();
    assert_eq!((late, world.gets()), (Ok(Ok(1)), 5));
    assert!(begun.elapsed() <= 3 * RTT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_slower_than_patience_is_waited_for() {
    let world = World::new(|| Behaviour::Takes(BUDGET * 2 / 5));
    let calls: JoinSet<Got> = (0..50).map(|_| world.get()).collect();
    assert!(calls.join_all().await.into_iter().all(|got| got == Ok(Ok(1))));
    assert_eq!(world.gets(), 3);
    world.assert_empty().await;
}

/// Who boards just after the lanes have taken off doesn't wait for them and for its own flush.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_far_away_answers_everybody_in_time() {
    let world = World::new(|| Behaviour::Takes(BUDGET * 3 / 5));
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        calls.spawn(world.get());
        tokio::time::sleep(RTT).await;
    }
    assert!(calls.join_all().await.into_iter().all(|got| got == Ok(Ok(1))));
    assert!(world.gets() < 25, "{} GETs", world.gets());
    world.assert_empty().await;
}

/// A lane begins on the thread of the member that needs it, where that may block against all advice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_who_blocks_its_thread_holds_nobody_up() {
    let world = World::new(|| Behaviour::Takes(Duration::ZERO));
    let solos: [_; SOLOS] = std::array::from_fn(|_| world.0.reads.join("k", 7, || "k".to_owned()));
    let blocked: Vec<_> = (0..LANES).map(|_| Blocked::begin(&world)).collect();
    let mut releases = Vec::new();
    for Blocked { begun, release } in blocked {
        begun.await.unwrap();
        releases.push(release);
    }
    assert_eq!(world.get_of("k", 7, 50 * BUDGET).await, Ok(Ok(1)));
    drop((solos, releases));
    world.until_empty().await;
}

/// A timer isn't set by a task that has used up its turn.
#[tokio::test(start_paused = true)]
async fn a_batch_of_a_busy_task_is_late_no_sooner() {
    let open = |_: &mut Context<'_>| {
        while poll_once(consume_budget()).is_ready() {}
        Poll::Ready(Batch::<String, u64>::open(1))
    };
    let batch = std::future::poll_fn(open).await;
    tokio::time::sleep(PATIENCE / 2).await;
    assert!(!batch.is_late());
    tokio::time::sleep(PATIENCE).await;
    assert!(batch.is_late());
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
    world.assert_empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_everybodys() {
    let world = World::new(|| Behaviour::Fails { after: RTT });
    let calls: JoinSet<Got> = (0..10).map(|_| world.get()).collect();
    assert!(calls.join_all().await.into_iter().all(|got| got == Ok(Err(down()))));
    assert_eq!(world.gets(), 3);
    world.assert_empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_at_once_is_nobody_elses() {
    let world = World::new(|| Behaviour::Fails { after: Duration::ZERO });
    let solos: [_; SOLOS] = std::array::from_fn(|_| world.0.reads.join("k", 7, || "k".to_owned()));
    for _ in 0..3 {
        assert_eq!(world.get().await, Ok(Err(down())));
    }
    assert_eq!((world.gets(), world.flushes()), (3, 3));
    drop(solos);
    world.assert_empty().await;
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
        world.assert_empty().await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_keys_of_one_hash_are_read_apart() {
    let world = World::new(|| Behaviour::Held);
    let _solos = world.begun(SOLOS).await;
    let read = |key: &'static str| {
        let world = world.clone();
        Box::pin(async move { world.get_of(key, 7, BUDGET).await }) as Call
    };
    let mut calls = ["k", "other", "k"].map(read);
    assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
    settle().await;
    assert_eq!((world.gets(), world.flushes()), (4, 1), "the first and the third share a flush");
    world.release(9).await;
    assert!(calls.iter_mut().all(|call| ready(call) == 1));
    assert_eq!(world.gets(), 4);
}

#[tokio::test(start_paused = true)]
async fn different_keys_are_sent_together() {
    for count in [300, 3000] {
        let world = World::new(|| Behaviour::Takes(RTT));
        let calls: JoinSet<Got> = (0..count).map(|key| world.get_numbered(key)).collect();
        let got: BTreeSet<u64> =
            calls.join_all().await.into_iter().map(|got| got.unwrap().unwrap()).collect();
        assert_eq!((got, world.gets()), (BTreeSet::from([1]), count));
        assert_eq!(world.flushes(), 1, "whom it has no room for reads by itself");
        world.assert_empty().await;
    }
}

/// Each reply goes to who asked for it.
#[tokio::test(start_paused = true)]
async fn an_error_of_one_key_is_nobody_elses() {
    let reads = Reads::<String, u64>::new();
    let answer = |key: &str| match key.parse() {
        Ok(13) => Err(down()),
        Ok(number) => Ok(number),
        Err(_) => unreachable!("only numbers are asked for"),
    };
    let read = async |key: u64| {
        let send = || {
            move |keys: Vec<String>| -> Answers<u64> {
                Box::pin(async move { Ok(keys.iter().map(|key| answer(key)).collect()) })
            }
        };
        let text = key.to_string();
        let alone = || -> Reply<'_, u64> { Box::pin(async { answer(&text) }) };
        reads.get(&text, key, (BUDGET, BUDGET), || text.clone(), alone, send).await
    };
    let calls = futures_util::future::join_all((0..100).map(&read)).await;
    for (key, got) in (0..).zip(calls) {
        assert_eq!(got, Ok(if key == 13 { Err(down()) } else { Ok(key) }));
    }
}

/// Which may be anything: tokio doesn't say.
#[test]
fn whatever_a_runtimes_id_is_made_of_it_has_a_hash() {
    let hash = |id: (u32, &str)| BuildHasherDefault::<Taken>::default().hash_one(id);
    assert_ne!(hash((1, "a")), hash((2, "a")));
    assert_ne!(hash((1, "a")), hash((1, "b")));
}

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// A lane and a batch's timer are of one runtime, which may end or stand still.
#[test]
fn callers_of_other_runtimes_or_none_read_apart() {
    let world = World::new(|| Behaviour::Held);
    let (one, two) = (runtime(), runtime());
    let mut calls = one.block_on(world.begun(5));
    assert_eq!((world.gets(), world.flushes()), (3, 1));
    calls.extend(two.block_on(world.begun(1)));
    assert_eq!((world.gets(), world.flushes()), (4, 1), "alone on its own");
    calls.push(Box::pin(world.get()));
    assert!(poll(&mut calls[6]).is_pending());
    assert_eq!((world.gets(), world.flushes()), (5, 1));
    calls.extend(one.block_on(world.begun(1)));
    calls.extend(one.block_on(world.begun(1)));
    assert_eq!((world.gets(), world.flushes()), (6, 2), "the last one waits for a lane");
    // Its lanes end, and who has to do with them reads for itself.
    drop(one);
    world.0.replies.add_permits(99);
    two.block_on(async {
        for call in &mut calls {
            assert_eq!(call.await, Ok(Ok(1)));
        }
        world.assert_empty().await;
    });
    assert_eq!(world.flushes(), 2);
}

/// There are more runtimes than queues.
#[test]
fn who_finds_another_runtimes_lane_reads_by_itself() {
    let world = World::new(|| Behaviour::Held);
    let runtimes: [_; QUEUES + 1] = std::array::from_fn(|_| runtime());
    let mut calls: Vec<_> = runtimes.iter().map(|runtime| runtime.block_on(world.begun(5))).collect();
    assert!(world.flushes() < QUEUES as u64 + 1, "two have one queue");
    world.0.replies.add_permits(999);
    for (runtime, calls) in runtimes.iter().zip(&mut calls) {
        runtime.block_on(async {
            for call in calls {
                assert_eq!(call.await, Ok(Ok(1)));
            }
        });
    }
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
                let call = pin!(world.get_numbered(fastrand::u64(0..4)));
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
    world.until_empty().await;
}
