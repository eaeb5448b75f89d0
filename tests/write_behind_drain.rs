//! Whoever is told to stop applies what was sent before that (I20).

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use cache_aside::{Cache, Job, WriteBehind};
use support::db::until;
use support::server::{Kind, Server};
use support::{embedded, secs};
use tokio::sync::oneshot;

const WRITES: u64 = 40;

async fn apply(_: Job<u64>, count: Arc<AtomicU64>) -> Result<(), Infallible> {
    tokio::task::yield_now().await; // as a database does
    count.fetch_add(1, SeqCst);
    Ok(())
}

/// The worker has nothing to do and listens: what comes then, and the word to stop, come at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_the_word_to_stop_is_applied() {
    let servers = [Kind::Redis, Kind::Valkey].map(|kind| Server::of(kind).start());
    let over = |server: &Server| Cache::builder().redis(server.url()).store_budget(secs(5)).build().unwrap();
    for cache in servers.iter().map(over).chain([embedded()]) {
        let writes = WriteBehind::queue("drained").cache(&cache).build().unwrap();
        for round in 0..10 {
            let count = Arc::new(AtomicU64::new(0));
            let (stop, told) = oneshot::channel::<()>();
            let workers = writes.workers(Arc::clone(&count)).handle("set", apply);
            let ended = tokio::spawn(workers.run_until(told));
            for number in 0..8 {
                writes.send("set", number, &number).await.unwrap();
            }
            until("it works", async || count.load(SeqCst) == 8).await;
            for number in 0..WRITES {
                writes.send("set", number, &number).await.unwrap();
            }
            stop.send(()).unwrap();
            let left = ended.await.unwrap().unwrap();
            assert_eq!((left, count.load(SeqCst)), (0, 8 + WRITES), "round {round}");
        }
    }
}
