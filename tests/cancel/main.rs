//! A caller who goes away, or is no longer polled, at every point where that can be (I7, I8): nobody else
//! hangs or fails, what is read is right, and no lease is left behind.
//!
//! That no flight is left either is in `cache-runtime/src/flight/tests.rs`, which can see them.

mod callers;
mod idle;
mod leases;
#[path = "../support/sample.rs"]
mod sample;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use callers::{Caches, EVERY_END, HANGS, How, Key, LEASE, Reach, call, join, polled};
use support::server::Server;
use support::{ms, secs};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What the caller that is cancelled is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// It loads.
    Leader,
    /// It loads although there is a value.
    Refresher,
    /// It waits for another's load.
    Follower,
    /// It waits for the load of another process.
    Elsewhere,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Dropped,
    /// Not polled until the others are done, then dropped.
    Idle,
    /// Not polled until the others are done, then to its end.
    Resumed,
}

const EVERY_WAY: [Way; 3] = [Way::Dropped, Way::Idle, Way::Resumed];
/// One caller, cancelled after so many polls among others.
async fn cancelled(caches: &Caches, who: Who, how: How, way: Way, polls: usize) -> Reach {
    let key = Key::new();
    let (here, elsewhere) = (&caches.here, &caches.elsewhere);
    if who == Who::Refresher {
        call(here, &key, How::Ok, false).await;
    }
    let quiet = key.begun();
    let follows = matches!(who, Who::Follower | Who::Elsewhere);
    let leader = follows.then(|| tokio::spawn(call(here, &key, how, false)));
    while follows && key.begun() == quiet {
        sleep(ms(1)).await;
    }

    // The others come when there is something to join.
    let stopped = Arc::new(AtomicBool::new(false));
    let others = [(here, How::Ok), (here, How::Err), (elsewhere, How::Ok)].map(|(cache, how)| {
        let (call, key, stopped) = (call(cache, &key, how, false), Arc::clone(&key), Arc::clone(&stopped));
        tokio::spawn(async move {
            while key.begun() == quiet && !stopped.load(SeqCst) {
                sleep(ms(1)).await;
            }
            call.await;
        })
    });
    let cache = if who == Who::Elsewhere { elsewhere } else { here };
    let its_own = if follows { How::Ok } else { how };
    let mut victim = Some(call(cache, &key, its_own, who == Who::Refresher));
    let reach = polled(victim.as_mut().unwrap(), polls, caches.silence()).await;
    if way == Way::Dropped {
        victim = None;
    }
    stopped.store(true, SeqCst);
    let stop = Instant::now();
    for other in others {
        join("one of the others", other).await;
    }
    // Who is gone delays nobody, who is idle by two leases; a load that never ends, by its deadline.
    let most = match (follows, way) {
        (false, Way::Dropped) => LEASE / 10,
        (false, _) => 2 * caches.lease + LEASE / 10,
        (true, _) if how == How::Never => 3 * caches.lease,
        (true, _) => LEASE,
    };
    assert!(stop.elapsed() < most + caches.slack, "the others were held up for {:?}", stop.elapsed());
    match leader {
        Some(leader) if how == How::Never => leader.abort(),
        Some(leader) => join("the leader", leader).await,
        None => {}
    }

    // A later call works, with one load at most.
    let before = key.begun();
    let later = [here, elsewhere].map(|cache| tokio::spawn(call(cache, &key, How::Ok, false)));
    for later in later {
        join("a later call", later).await;
    }
    assert!(key.begun() <= before + 1, "{} loads where one is enough", key.begun() - before);
    let stored = here.get::<u64>(&key.name).await.unwrap();
    assert!(stored.is_some_and(|value| key.has_loaded(value)), "{stored:?} is stored");

    // And what was idle doesn't undo that.
    if let Some(mut victim) = victim.filter(|_| reach != Reach::Ended) {
        if way == Way::Resumed && its_own != How::Never {
            assert_eq!(polled(&mut victim, usize::MAX, HANGS).await, Reach::Ended, "polled again it hangs");
        }
        drop(victim);
        sleep(ms(10)).await;
        let now = here.get::<u64>(&key.name).await.unwrap();
        match who {
            Who::Refresher => assert!(now.is_some_and(|value| key.has_loaded(value)), "{now:?} is stored"),
            _ => assert_eq!(now, stored, "it overwrote what came after (I10)"),
        }
    }
    reach
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_every_poll_in_process() {
    let caches = Caches::embedded();
    let mut most = 0;
    for who in [Who::Leader, Who::Refresher, Who::Follower] {
        for (how, way) in EVERY_END.into_iter().flat_map(|how| EVERY_WAY.map(|way| (how, way))) {
            for polls in 0.. {
                println!("{who:?}, {how:?}, {way:?} after {polls} polls");
                if cancelled(&caches, who, how, way, polls).await != Reach::Stopped {
                    most = most.max(polls);
                    break;
                }
            }
        }
    }
    assert!(most >= 8, "the slow load has many places to stop at: {most}");
}

/// Many cases at once, each with a key of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_at_every_poll_on_a_server() {
    /// More than any call has.
    const POLLS: usize = 150;
    let server = Server::redis().start();
    // A stall of the machine is no lost lease.
    let caches = Arc::new(Caches::over(&server, secs(1)).await);
    let room = Arc::new(Semaphore::new(150));
    let every_case =
        [Who::Leader, Who::Refresher, Who::Follower, Who::Elsewhere].into_iter().flat_map(|who| {
            EVERY_END
                .into_iter()
                .flat_map(move |how| EVERY_WAY.map(|way| (who, how, way, AtomicUsize::new(POLLS))))
        });
    // With the number of polls after which it isn't stopped any more.
    let every_case: Vec<_> = every_case.map(Arc::new).collect();
    let mut tasks = JoinSet::new();
    for polls in 0..POLLS {
        for case in &every_case {
            let room = Arc::clone(&room).acquire_owned().await;
            let (caches, case) = (Arc::clone(&caches), Arc::clone(case));
            let (who, how, way, ref enough) = *case;
            if polls > enough.load(SeqCst) {
                continue;
            }
            tasks.spawn(async move {
                let _room = room;
                let run = tokio::spawn(async move { cancelled(&caches, who, how, way, polls).await });
                match run.await {
                    Ok(Reach::Stopped) => {}
                    Ok(Reach::Ended | Reach::Silent) => drop(case.3.fetch_min(polls, SeqCst)),
                    Err(error) => panic!("{who:?}, {how:?}, {way:?} after {polls} polls: {error}"),
                }
            });
        }
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    tasks.join_all().await;
    let most = every_case.iter().map(|case| case.3.load(SeqCst)).max();
    println!("stopped after up to {most:?} polls");
    assert!(most.is_some_and(|most| (10..POLLS).contains(&most)), "{most:?}");
}
