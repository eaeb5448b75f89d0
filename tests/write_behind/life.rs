//! Workers that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use cache_aside::{Cache, Job};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::log::Log;
use crate::on_all_stores;
use crate::support::{embedded, ms, secs};
use crate::world::{Attempt, Change, Running, Seen, noting, pending, queue, send, until};

on_all_stores! {
    what_is_queued_is_drained
    what_was_sent_before_the_shutdown_is_drained
    what_comes_while_they_wait_is_carried_out
    stats_say_what_there_is
    what_runs_is_finished
    queues_of_other_names_are_others
}

async fn what_is_queued_is_drained(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    for n in 0..1000 {
        send(&writes, &(n % 100).to_string(), n).await;
    }
    let seen = Seen::new();
    assert_eq!(noting(&writes, &seen, |_| Ok(())).run_until(async {}).await.unwrap(), 0);
    assert_eq!(seen.all().len(), 1000);
    assert_eq!(noting(&writes, &seen, |_| Ok(())).run_until(async {}).await.unwrap(), 0);
    assert_eq!((seen.all().len(), pending(&writes).await), (1000, 0));
}

async fn what_was_sent_before_the_shutdown_is_drained(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    let seen = Seen::new();
    for n in 1..=5 {
        let running = Running::new(noting(&writes, &seen, |_| Ok(())));
        send(&writes, "k", n).await;
        until("they wait", async || pending(&writes).await == 0).await;
        // They haven't heard of it when they are told to end.
        send(&writes, "k", n).await;
        assert_eq!(running.stop().await, 0);
    }
}

async fn what_comes_while_they_wait_is_carried_out(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    let seen = Seen::new();
    let running = Running::new(noting(&writes, &seen, |_| Ok(())));
    for n in 0..50 {
        send(&writes, &n.to_string(), n).await;
        seen.reach(usize::try_from(n).unwrap() + 1).await;
        if n % 8 == 0 {
            until("it is settled", async || pending(&writes).await == 0).await;
        }
    }
    assert_eq!(running.stop().await, 0);
}

async fn stats_say_what_there_is(cache: &Cache) {
    let writes = queue(cache).retries(0).build().unwrap();
    let empty = writes.stats().await.unwrap();
    assert_eq!((empty.pending, empty.oldest, empty.retries), (0, None, 0));
    assert_eq!((empty.dead_letters, empty.workers), (0, 0));
    for n in 0..3 {
        send(&writes, "k", n).await;
    }
    until("it has an age", async || writes.stats().await.unwrap().oldest > Some(ms(1))).await;
    assert_eq!(pending(&writes).await, 3);
    let running = Running::new(noting(&writes, &Seen::new(), |_| Err("no".to_owned())));
    until("all are given up", async || writes.stats().await.unwrap().dead_letters == 3).await;
    let full = writes.stats().await.unwrap();
    assert_eq!((full.pending, full.oldest, full.retries, full.workers), (0, None, 0, 1));
    assert_eq!(running.stop().await, 0);
}

async fn what_runs_is_finished(cache: &Cache) {
    let writes = queue(cache).drain(ms(1)).build().unwrap();
    send(&writes, "k", 1).await;
    send(&writes, "k", 2).await;
    let (seen, gate) = (Seen::new(), Arc::new(Notify::new()));
    let state = (seen.clone(), Arc::clone(&gate));
    let running = Running::new(writes.workers(state).handle(
        "write",
        async |job: Job<Change>, (seen, gate): (Seen, Arc<Notify>)| {
            seen.add(Attempt::of(&job));
            gate.notified().await;
            Ok::<_, String>(())
        },
    ));
    seen.reach(1).await;
    let stopping = tokio::spawn(running.stop());
    tokio::time::sleep(ms(30)).await;
    assert!(!stopping.is_finished());
    gate.notify_one();
    assert_eq!(stopping.await.unwrap(), 1);
    assert_eq!((seen.all().len(), pending(&writes).await), (1, 1));
    // It left, so its shards are free at once.
    let writes = queue(cache).build().unwrap();
    assert_eq!(Running::new(noting(&writes, &seen, |_| Ok(()))).stop().await, 0);
    let last = &seen.all()[1];
    assert_eq!((last.n, seen.all().len()), (2, 2));
}

async fn queues_of_other_names_are_others(cache: &Cache) {
    let (one, same) = (queue(cache).build().unwrap(), queue(cache).build().unwrap());
    let other = cache_aside::WriteBehind::queue("others").cache(cache).build().unwrap();
    send(&one, "k", 1).await;
    assert_eq!((pending(&same).await, pending(&other).await), (1, 0));
    let seen = Seen::new();
    assert_eq!(Running::new(noting(&other, &seen, |_| Ok(()))).stop().await, 0);
    assert_eq!(Running::new(noting(&same, &seen, |_| Ok(()))).stop().await, 0);
    assert_eq!(seen.all().len(), 1);
}

/// A worker that is gone without a word.
#[tokio::test(start_paused = true)]
async fn what_a_killed_worker_had_is_handed_to_another_after_its_lease() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let cache = Cache::builder().lease(secs(9)).build().unwrap();
    let writes = queue(&cache).build().unwrap();
    for n in 1..=3 {
        send(&writes, "k", n).await;
    }
    let (seen, dropped) = (Seen::new(), Arc::new(AtomicBool::new(false)));
    let state = (seen.clone(), Arc::clone(&dropped));
    let running = Running::new(writes.workers(state).handle(
        "write",
        async |job: Job<Change>, (seen, dropped): (Seen, Arc<AtomicBool>)| {
            let _guard = Dropped(dropped);
            seen.add(Attempt::of(&job));
            match job.payload.n {
                1 => Ok::<_, String>(()),
                _ => std::future::pending().await,
            }
        },
    ));
    seen.reach(2).await;
    until("the first one is settled", async || pending(&writes).await == 2).await;
    let killed = Instant::now();
    running.kill().await;
    until("the handler is dropped", async || dropped.load(SeqCst)).await;
    let running = Running::new(noting(&writes, &seen, |_| Ok(())));
    let all = seen.reach(4).await;
    // Its lease was prolonged at most a third of it before.
    assert!(killed.elapsed() >= secs(6) && killed.elapsed() < secs(15), "{:?}", killed.elapsed());
    let tried: Vec<_> = all.iter().map(|attempt| (attempt.n, attempt.nth)).collect();
    // The third one was read ahead: nobody knows that it wasn't tried.
    assert_eq!(tried, [(1, 1), (2, 1), (2, 2), (3, 2)]);
    assert_eq!(running.stop().await, 0);
}

/// It would end every worker.
#[tokio::test(start_paused = true)]
async fn a_write_that_kills_its_workers_is_given_up() {
    let cache = Cache::builder().lease(ms(300)).build().unwrap();
    let writes = queue(&cache).retries(2).build().unwrap();
    send(&writes, "k", 1).await;
    send(&writes, "k", 2).await;
    let seen = Seen::new();
    for _ in 0..4 {
        let before = seen.all().len();
        let running = Running::new(writes.workers(seen.clone()).handle(
            "write",
            async |job: Job<Change>, seen: Seen| {
                seen.add(Attempt::of(&job));
                std::future::pending::<Result<(), String>>().await
            },
        ));
        seen.reach(before + 1).await;
        running.kill().await;
    }
    let running = Running::new(noting(&writes, &seen, |_| Ok(())));
    let all = seen.reach(5).await;
    assert_eq!(all.iter().map(|attempt| attempt.n).collect::<Vec<_>>(), [1, 1, 1, 1, 2]);
    assert_eq!(running.stop().await, 0);
    let letters = writes.dead_letters(9).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts()), (1, 4));
    assert_eq!(letters[0].cause(), "its workers ended while they tried it");
}

#[tokio::test(start_paused = true)]
async fn draining_ends() {
    let (log, _guard) = Log::new();
    let writes = queue(&embedded()).drain(secs(7)).backoff(secs(2), secs(2)).build().unwrap();
    send(&writes, "k", 1).await;
    send(&writes, "l", 1).await;
    let (begun, seen) = (Instant::now(), Seen::new());
    let then = |attempt: &Attempt| if attempt.key == "l" { Ok(()) } else { Err("no".to_owned()) };
    let left = noting(&writes, &seen, then).run_until(async {}).await.unwrap();
    assert_eq!(left, 1);
    assert!(begun.elapsed() >= secs(7) && begun.elapsed() < secs(8), "{:?}", begun.elapsed());
    // It was tried as long as that.
    let tried = seen.all().iter().filter(|attempt| attempt.key == "k").count();
    assert!((3..=8).contains(&tried), "{tried}");
    assert_eq!(log.count("left=1"), 1, "{}", log.text());
    assert_eq!(log.count("lost with the process"), 1);
}
