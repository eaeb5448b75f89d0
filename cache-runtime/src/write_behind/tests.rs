//! Workers and senders on a store that fails.

mod faulty;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::faulty::Faulty;
use super::window::{MOST, WINDOW};
use super::*;

const SEC: Duration = Duration::from_secs(1);

const ALL: [&str; 10] =
    ["append", "tend", "leave", "recover", "read", "again", "settle", "bury", "arrivals", "pending"];

/// A queue on such a store, and what its workers have tried.
struct Bench {
    faulty: Arc<Faulty>,
    writes: WriteBehind,
    /// The numbers of the writes, and which attempts they were.
    tried: watch::Sender<Vec<(u64, u32)>>,
    /// How many handlers are at work, and how many were at most.
    at_work: Arc<Mutex<(u32, u32)>>,
}

/// A handler at work.
struct AtWork(Arc<Mutex<(u32, u32)>>);

impl AtWork {
    fn new(count: &Arc<Mutex<(u32, u32)>>) -> Self {
        let mut counts = count.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.0.max(counts.1);
        Self(Arc::clone(count))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl Bench {
    fn new(build: impl FnOnce(WriteBehindBuilder) -> WriteBehindBuilder) -> Self {
        let cache = Cache::builder().lease(3 * SEC).build().unwrap();
        let writes = build(WriteBehind::queue("q").cache(&cache).shards(1).attempt_timeout(999 * SEC))
            .build()
            .unwrap();
        let mut shared = Arc::into_inner(writes.shared).unwrap();
        let faulty = Arc::new(Faulty::new(Arc::clone(&shared.queue)));
        shared.queue = Arc::<Faulty>::clone(&faulty);
        Self {
            faulty,
            writes: WriteBehind { shared: Arc::new(shared) },
            tried: watch::Sender::default(),
            at_work: Arc::default(),
        }
    }

    async fn send(&self, writes: u64) {
        for n in 0..writes {
            self.writes.send("write", "k", &n).await.unwrap();
        }
    }

    /// Workers for which each write takes so long.
    fn work(&self, takes: Duration) -> tokio::task::JoinHandle<Result<u64, CacheError>> {
        let (tried, count) = (self.tried.clone(), Arc::clone(&self.at_work));
        let workers =
            self.writes.workers(tried).handle("write", move |job: Job<u64>, tried: watch::Sender<_>| {
                tried.send_modify(|tried: &mut Vec<_>| tried.push((job.payload, job.attempt())));
                let at_work = AtWork::new(&count);
                async move {
                    let _at_work = at_work;
                    sleep(takes).await;
                    Ok::<_, String>(())
                }
            });
        tokio::spawn(workers.run_until(std::future::pending::<()>()))
    }

    async fn tries(&self, many: usize) -> Vec<(u64, u32)> {
        let mut tried = self.tried.subscribe();
        let reached = tokio::time::timeout(600 * SEC, tried.wait_for(|tried| tried.len() >= many)).await;
        assert!(reached.is_ok(), "{:?}", self.tried.borrow());
        self.tried.borrow().clone()
    }

    async fn until_pending(&self, many: u64) {
        for _ in 0..10_000 {
            if self.writes.stats().await.unwrap().pending == many {
                return;
            }
            sleep(SEC / 10).await;
        }
        panic!("{:?}", self.writes.stats().await);
    }
}

fn firsts(writes: u64) -> Vec<(u64, u32)> {
    (0..writes).map(|n| (n, 1)).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_after_the_lease() {
    let bench = Bench::new(|builder| builder);
    bench.send(100).await;
    let _running = bench.work(SEC / 10);
    bench.tries(10).await;
    bench.faulty.set(&["tend"]);
    let dark = Instant::now();
    // The last answer was to something that was sent at most a third of a lease ago.
    sleep(3 * SEC + SEC / 10).await;
    let begun = bench.tried.borrow().len();
    assert!((10 + 15..10 + 32).contains(&begun), "{begun}");
    sleep(60 * SEC).await;
    assert_eq!(bench.tried.borrow().len(), begun);
    bench.faulty.set(&[]);
    // Nobody has taken the shard meanwhile: it goes on where it was.
    assert_eq!(bench.tries(100).await, firsts(100));
    assert!(dark.elapsed() < 80 * SEC);
    bench.until_pending(0).await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_settled_is_settled_later() {
    let bench = Bench::new(|builder| builder);
    bench.faulty.set(&["settle"]);
    bench.send(20).await;
    let _running = bench.work(Duration::ZERO);
    assert_eq!(bench.tries(20).await, firsts(20));
    sleep(60 * SEC).await;
    bench.until_pending(20).await;
    bench.faulty.set(&[]);
    bench.until_pending(0).await;
    assert_eq!(bench.tries(20).await, firsts(20));
}

#[tokio::test(start_paused = true)]
async fn batches_are_settled_in_their_order_while_others_run() {
    let bench = Bench::new(|builder| builder);
    *bench.faulty.settles_in.lock().unwrap() = SEC;
    bench.send(100).await;
    let begun = Instant::now();
    let _running = bench.work(SEC / 10);
    bench.until_pending(0).await;
    let batches = bench.faulty.batches.lock().unwrap().clone();
    assert!(batches.concat().is_sorted() && batches.concat().len() == 100, "{batches:?}");
    assert!((9..=13).contains(&batches.len()), "{batches:?}");
    // Nobody waited for it.
    assert!(begun.elapsed() < 13 * SEC, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_shard_is_left_and_what_was_at_work_is_handed_over_again() {
    let bench = Bench::new(|builder| builder);
    bench.send(3).await;
    let _running = bench.work(10 * SEC);
    bench.tries(1).await;
    let worker = bench.faulty.worker.lock().unwrap().clone();
    bench.faulty.queue.leave(&worker).await.unwrap();
    // The handler is dropped when the worker hears of it, long before it would have ended.
    let lost = Instant::now();
    assert_eq!(bench.tries(2).await, [(0, 1), (0, 2)]);
    assert!(lost.elapsed() < 2 * SEC, "{:?}", lost.elapsed());
    assert_eq!(bench.tries(4).await, [(0, 1), (0, 2), (1, 2), (2, 2)]);
    bench.until_pending(0).await;
    assert_eq!(*bench.at_work.lock().unwrap(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_in_a_shard_that_turns_out_to_be_lost() {
    let bench = Bench::new(|builder| builder);
    bench.send(4).await;
    let _running = bench.work(SEC / 10);
    bench.tries(2).await;
    let worker = bench.faulty.worker.lock().unwrap().clone();
    bench.faulty.queue.leave(&worker).await.unwrap();
    assert_eq!(bench.tries(5).await, [(0, 1), (1, 1), (1, 2), (2, 2), (3, 2)]);
    bench.until_pending(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_lost_while_it_is_settled_is_begun_anew() {
    let bench = Bench::new(|builder| builder);
    *bench.faulty.settles_in.lock().unwrap() = SEC / 2;
    bench.send(1).await;
    let _running = bench.work(Duration::ZERO);
    bench.tries(1).await;
    let worker = bench.faulty.worker.lock().unwrap().clone();
    bench.faulty.queue.leave(&worker).await.unwrap();
    assert_eq!(bench.tries(2).await, [(0, 1), (0, 2)]);
    bench.until_pending(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_dark_store_loses_nothing() {
    let bench = Bench::new(|builder| builder);
    let _running = bench.work(SEC / 10);
    bench.send(50).await;
    bench.tries(5).await;
    for dark in [&ALL[..], &["read"], &["settle", "tend"], &["arrivals", "read"], &ALL] {
        bench.faulty.set(dark);
        sleep(20 * SEC).await;
        bench.faulty.set(&[]);
        bench.send(50).await;
        sleep(SEC).await;
    }
    bench.until_pending(0).await;
    let tried = bench.tried.borrow().clone();
    assert_eq!(tried.len(), 300, "nobody else was there to take what was settled late");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_is_begun_anew() {
    let bench = Bench::new(|builder| builder);
    bench.faulty.panics.lock().unwrap().insert("recover");
    bench.send(3).await;
    let _running = bench.work(Duration::ZERO);
    assert_eq!(bench.tries(3).await, firsts(3));
    bench.until_pending(0).await;
    bench.faulty.panics.lock().unwrap().insert("settle");
    bench.send(1).await;
    assert_eq!(bench.tries(5).await[3..], [(0, 1), (0, 2)]);
    bench.until_pending(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_the_server() {
    let bench = Bench::new(|builder| builder.patience(5 * SEC));
    bench.faulty.set(&["reach"]);
    let begun = Instant::now();
    let error = bench.writes.send("write", "k", &1).await.unwrap_err();
    assert!(matches!(error, CacheError::Unavailable(_)), "{error}");
    assert!(begun.elapsed() >= 5 * SEC && begun.elapsed() < 6 * SEC);
    let faulty = Arc::clone(&bench.faulty);
    tokio::spawn(async move {
        sleep(2 * SEC).await;
        faulty.set(&[]);
    });
    bench.send(1).await;
    assert!(begun.elapsed() >= 7 * SEC && begun.elapsed() < 8 * SEC);
}

#[tokio::test(start_paused = true)]
async fn a_window_full_of_failures_goes_on_when_they_are_given_up() {
    let bench = Bench::new(|builder| builder.retries(1).backoff(60 * SEC, 60 * SEC));
    for n in 0..(MOST + WINDOW) as u64 {
        bench.writes.send("unknown", n, &n).await.unwrap();
    }
    bench.send(1).await;
    let _running = bench.work(Duration::ZERO);
    sleep(10 * SEC).await;
    // An arrival that there is no room for.
    bench.send(1).await;
    sleep(10 * SEC).await;
    assert_eq!(bench.tried.borrow().len(), 0);
    let begun = Instant::now();
    assert_eq!(bench.tries(2).await, [(0, 1), (0, 1)]);
    assert!(begun.elapsed() < 120 * SEC, "{:?}", begun.elapsed());
    let letters = bench.writes.shared.queue.figures().await.unwrap().letters;
    assert!(letters >= WINDOW as u64, "{letters}");
}

#[tokio::test(start_paused = true)]
async fn arrivals_are_heard_at_once_while_other_shards_are_busy() {
    let bench = Bench::new(|builder| builder.shards(8));
    let _running = bench.work(300 * SEC);
    // One of its own shard each.
    let mut keys: Vec<Option<String>> = vec![None; 8];
    for n in 0..1000 {
        let key = n.to_string();
        let shard = crate::store::queue::shard_of(&key, 8);
        keys[shard as usize].get_or_insert(key);
    }
    for (n, key) in keys.into_iter().enumerate() {
        // Not so long that they were asked about anew in any case.
        sleep(3 * SEC).await;
        let sent = Instant::now();
        bench.writes.send("write", key.unwrap(), &(n as u64)).await.unwrap();
        bench.tries(n + 1).await;
        assert!(sent.elapsed() < SEC / 10, "{n}: {:?}", sent.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_that_may_have_arrived_is_not_sent_again() {
    let bench = Bench::new(|builder| builder.patience(5 * SEC));
    bench.faulty.set(&["append"]);
    let begun = Instant::now();
    let error = bench.writes.send("write", "k", &1).await.unwrap_err();
    assert!(matches!(error, CacheError::Unavailable(_)), "{error}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_buried_when_those_before_it_are_settled() {
    let bench = Bench::new(|builder| builder);
    *bench.faulty.settles_in.lock().unwrap() = SEC;
    bench.send(2).await;
    bench.writes.send("write", "k", "not a number").await.unwrap();
    bench.send(1).await;
    let _running = bench.work(Duration::ZERO);
    bench.until_pending(0).await;
    let batches = bench.faulty.batches.lock().unwrap().clone();
    assert!(batches.concat().is_sorted() && batches.concat().len() == 4, "{batches:?}");
    assert_eq!(bench.writes.stats().await.unwrap().dead_letters, 1);
}

#[tokio::test(start_paused = true)]
async fn workers_wait_for_a_server_that_is_not_there_yet() {
    let bench = Bench::new(|builder| builder);
    bench.send(1).await;
    let shared = &bench.writes.shared;
    shared.is_checked.store(false, SeqCst);
    bench.faulty.set(&["check"]);
    let running = bench.work(Duration::ZERO);
    sleep(60 * SEC).await;
    let error = bench.writes.workers(()).run_until(sleep(60 * SEC)).await.unwrap_err();
    assert!(matches!(error, CacheError::Unavailable(_)), "{error}");
    assert!(!running.is_finished() && bench.tried.borrow().is_empty());
    bench.faulty.set(&[]);
    bench.tries(1).await;
    assert!(shared.is_checked.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn arrivals_are_heard_at_once_in_a_shard_that_was_busy() {
    let bench = Bench::new(|builder| builder.shards(8));
    let _running = bench.work(SEC);
    sleep(SEC).await;
    for n in 0..5 {
        let sent = Instant::now();
        bench.send(1).await;
        bench.tries(2 * n + 1).await;
        assert!(sent.elapsed() < SEC / 10, "{n}: {:?}", sent.elapsed());
        // It can't look, so the others are listened for without it.
        sleep(SEC / 10).await;
        bench.send(1).await;
        bench.until_pending(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn for_ever_is_a_time() {
    let ever = Duration::MAX;
    let bench = Bench::new(|builder| {
        let builder = builder.patience(ever).backoff(SEC, ever).attempt_timeout(ever).drain(ever);
        builder.retries(0).dead_letter_capacity(1)
    });
    bench.send(2).await;
    let tried = bench.tried.clone();
    let failing = bench.writes.workers(()).handle("write", move |job: Job<u64>, ()| {
        tried.send_modify(|tried| tried.push((job.payload, job.attempt())));
        async { Err::<(), _>("no") }
    });
    let running = tokio::spawn(failing.run_until(sleep(60 * SEC)));
    // There is no room for the second one, so it waits, for a very long time.
    sleep(120 * SEC).await;
    assert_eq!(*bench.tried.borrow(), [(0, 1), (1, 1)]);
    assert!(!running.is_finished(), "it drains");
    let figures = bench.writes.stats().await.unwrap();
    assert_eq!((figures.pending, figures.dead_letters), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn workers_end_though_nothing_can_be_settled() {
    for drain in [10 * SEC, Duration::ZERO] {
        let bench = Bench::new(|builder| builder.drain(drain));
        bench.send(5).await;
        bench.faulty.set(&["settle"]);
        let workers = bench.writes.workers(()).handle("write", async |_: Job<u64>, ()| Ok::<_, String>(()));
        let ended = tokio::time::timeout(60 * SEC, workers.run_until(sleep(SEC))).await;
        assert_eq!(ended.expect("it ends").unwrap(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_settled_is_bounded() {
    let bench = Bench::new(|builder| builder);
    bench.faulty.set(&["settle"]);
    bench.send(4000).await;
    let _running = bench.work(Duration::ZERO);
    sleep(60 * SEC).await;
    let tried = bench.tried.borrow().len();
    assert!((1000..1100).contains(&tried), "{tried}");
    bench.faulty.set(&[]);
    bench.until_pending(0).await;
    assert_eq!(bench.tries(4000).await, firsts(4000));
}

#[tokio::test(start_paused = true)]
async fn an_order_key_whose_every_write_fails_holds_up_no_other() {
    for coalesces in [false, true] {
        let bench = Bench::new(|builder| builder.coalesce(coalesces));
        let (seen, mut last) = watch::channel(0);
        let workers = bench.writes.workers(()).handle("write", move |job: Job<u64>, ()| {
            let is_good = job.order_key() == "good";
            if is_good {
                seen.send_replace(job.payload);
            }
            async move { if is_good { Ok(()) } else { Err("no") } }
        });
        let _running = tokio::spawn(workers.run_until(std::future::pending::<()>()));
        for n in 1..=3000u64 {
            bench.writes.send("write", "bad", &n).await.unwrap();
            if n % 100 == 0 {
                bench.writes.send("write", "good", &n).await.unwrap();
                let sent = Instant::now();
                last.wait_for(|last| *last == n).await.unwrap();
                assert!(sent.elapsed() < SEC, "{n}: {:?}", sent.elapsed());
            }
            sleep(SEC / 10).await;
        }
        sleep(120 * SEC).await;
        let stats = bench.writes.stats().await.unwrap();
        assert!(stats.dead_letters > 10, "{stats:?}");
    }
}
