//! A queue that is full, and servers that can't or mustn't keep one: a clear error or a wait, and nothing is
//! half done.

mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_aside::{Cache, CacheError, Durability, Job, WriteBehind, WriteBehindBuilder};
use support::db::until;
use support::server::{Builder, Kind, Server};
use support::{embedded, ms, secs};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, JoinSet};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

fn over(server: &Server) -> Cache {
    Cache::builder().redis(server.url()).lease(ms(600)).store_budget(secs(5)).build().unwrap()
}

fn queue(cache: &Cache) -> WriteBehindBuilder {
    WriteBehind::queue("full").cache(cache).patience(secs(20)).backoff(ms(5), ms(50))
}

/// What was applied.
#[derive(Debug, Clone, Default)]
struct Rows(Arc<Mutex<Applied>>);

#[derive(Debug, Default)]
struct Applied {
    /// The last value of each order key, and its number.
    rows: BTreeMap<String, (u64, u64)>,
    count: u64,
}

impl Rows {
    async fn apply(job: Job<u64>, rows: Self) -> Result<(), Infallible> {
        tokio::task::yield_now().await; // as a database does
        let mut applied = rows.0.lock().unwrap();
        applied.count += 1;
        let row = applied.rows.entry(job.order_key().to_owned()).or_default();
        if row.1 < job.seq() {
            *row = (job.payload, job.seq());
        }
        Ok(())
    }

    fn count(&self) -> u64 {
        self.0.lock().unwrap().count
    }

    fn of(&self, order_key: &str) -> Option<(u64, u64)> {
        self.0.lock().unwrap().rows.get(order_key).copied()
    }
}

/// A worker, until it is told to stop.
struct Worker {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<u64, CacheError>>,
}

impl Worker {
    fn start(writes: &WriteBehind, rows: &Rows) -> Self {
        let (stop, told) = oneshot::channel();
        let workers = writes.workers(rows.clone()).handle("set", Rows::apply);
        let ended = tokio::spawn(workers.run_until(async {
            let _ = told.await;
        }));
        Self { stop, ended }
    }

    /// What is left in the queue.
    async fn stop(self) -> u64 {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap()
    }
}

async fn pending(writes: &WriteBehind) -> u64 {
    writes.stats().await.unwrap().pending
}

#[tokio::test]
async fn who_sends_to_a_full_queue_waits_for_room() {
    let servers = BOTH.map(|kind| Server::of(kind).start());
    for cache in servers.iter().map(over).chain([embedded()]) {
        let writes = queue(&cache).capacity(10).build().unwrap();
        let mut senders = JoinSet::new();
        for number in 0..40 {
            let writes = writes.clone();
            senders.spawn(async move { writes.send("set", number, &number).await });
        }
        for _ in 0..10 {
            senders.join_next().await.unwrap().unwrap().unwrap();
        }
        assert_eq!(pending(&writes).await, 10);
        // The others are in the middle of waiting, and stay there.
        tokio::select! {
            more = senders.join_next() => panic!("there was room for one more: {more:?}"),
            () = tokio::time::sleep(ms(200)) => {}
        }
        assert_eq!(pending(&writes).await, 10, "and no more than that");
        let rows = Rows::default();
        let worker = Worker::start(&writes, &rows);
        let numbers = senders.join_all().await;
        assert_eq!(numbers.into_iter().map(Result::unwrap).count(), 30);
        until("all are applied", async || rows.count() >= 40).await;
        assert_eq!((worker.stop().await, rows.count()), (0, 40));
        for number in 0..40 {
            assert_eq!(rows.of(&number.to_string()).unwrap().0, number);
        }
    }
}

#[tokio::test]
async fn who_has_no_patience_left_is_told_that_it_is_full() {
    let servers = BOTH.map(|kind| Server::of(kind).start());
    for cache in servers.iter().map(over).chain([embedded()]) {
        let writes = queue(&cache).capacity(3).patience(ms(100)).build().unwrap();
        for number in 0..3 {
            writes.send("set", number, &number).await.unwrap();
        }
        let put = writes.put_json("full:9", &9, secs(60)).send("set", 9, &9).await;
        let Err(CacheError::QueueFull { queue, capacity }) = &put else { panic!("{put:?}") };
        assert_eq!((queue.as_str(), *capacity), ("full", 3));
        let text = put.unwrap_err().to_string();
        assert!(text.contains("full") && text.contains('3'), "{text}");
        assert_eq!(cache.get::<u64>("full:9").await.unwrap(), None, "no entry without its write");
        assert_eq!(pending(&writes).await, 3);
    }
}

/// Memory is short, and the server may not evict: what it does then is refuse.
#[tokio::test]
async fn a_server_without_memory_refuses_and_nothing_is_half_done() {
    for kind in BOTH {
        let server = Server::of(kind).config("maxmemory-policy", "noeviction").start();
        let cache = over(&server);
        let writes = queue(&cache).patience(ms(500)).build().unwrap();
        let first = writes.put_json("full:1", &1, secs(60)).send("set", 1, &1_u64).await.unwrap();
        let keys = server.command(&["DBSIZE"]);
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        for (order_key, entry) in [(1, "full:1"), (2, "full:2")] {
            let refused = writes.put_json(entry, &2, secs(60)).send("set", order_key, &2_u64).await;
            let error = refused.expect_err("there is no room").to_string();
            assert!(error.contains("OOM") || error.contains("memory"), "{error}");
        }
        assert_eq!(server.command(&["DBSIZE"]), keys, "neither an entry nor a mark");
        assert_eq!(cache.get::<u64>("full:1").await.unwrap(), Some(1), "the entry of the write that it took");
        assert_eq!(pending(&writes).await, 1);

        // Workers go on: what they do frees memory.
        let rows = Rows::default();
        let worker = Worker::start(&writes, &rows);
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        let second = writes.send("set", 1, &3_u64).await.unwrap();
        assert!(second > first);
        until("both are applied", async || rows.of("1") == Some((3, second))).await;
        assert_eq!((worker.stop().await, rows.count()), (0, 2));
    }
}

/// A full queue and full memory would be a deadlock if nothing left it any more.
#[tokio::test]
async fn workers_empty_the_queue_of_a_server_without_memory() {
    for kind in BOTH {
        let server = Server::of(kind).config("maxmemory-policy", "noeviction").start();
        let cache = over(&server);
        let writes = queue(&cache).build().unwrap();
        let rows = Rows::default();
        let worker = Worker::start(&writes, &rows);
        writes.send("set", 0, &0_u64).await.unwrap();
        until("the worker has its shards", async || rows.count() == 1).await;
        assert_eq!(worker.stop().await, 0);
        for number in 1..=20_u64 {
            writes.send("set", number, &number).await.unwrap();
        }
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        let worker = Worker::start(&writes, &rows);
        until("all are applied", async || rows.count() >= 21).await;
        assert_eq!((worker.stop().await, rows.count()), (0, 21));
    }
}

#[tokio::test]
async fn a_write_to_a_frozen_server_ends_in_time_and_can_be_sent_again() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let cache = over(&server);
        let writes = queue(&cache).patience(ms(700)).build().unwrap();
        let first = writes.send("set", 1, &1_u64).await.unwrap();
        server.freeze();
        let doubtful = writes.send("set", 1, &2_u64).await;
        assert!(matches!(doubtful, Err(CacheError::Timeout(_) | CacheError::Unavailable(_))), "{doubtful:?}");
        server.thaw();
        let again = loop {
            match writes.send("set", 1, &2_u64).await {
                Ok(seq) => break seq,
                Err(CacheError::Timeout(_) | CacheError::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert!(again > first);
        let rows = Rows::default();
        let worker = Worker::start(&writes, &rows);
        until("the last one is applied", async || rows.of("1").is_some_and(|(value, _)| value == 2)).await;
        until("nothing is left", async || pending(&writes).await == 0).await;
        assert_eq!(worker.stop().await, 0);
    }
}

/// `send` gives up in its time also if there never was a server.
#[tokio::test]
async fn a_write_without_a_server_ends_in_time() {
    let server = Server::redis().start();
    let cache = over(&server);
    server.kill();
    let writes = queue(&cache).patience(ms(300)).build().unwrap();
    let lost = tokio::time::timeout(secs(20), writes.send("set", 1, &1_u64)).await.expect("it ends");
    assert!(matches!(lost, Err(CacheError::Timeout(_) | CacheError::Unavailable(_))), "{lost:?}");
}

/// A server that is back within the patience of a sender costs nobody an error.
#[tokio::test]
async fn a_write_waits_for_a_server_that_comes_back() {
    let server = Server::redis().start();
    let cache = over(&server);
    let writes = queue(&cache).build().unwrap();
    server.kill();
    let sent = tokio::spawn({
        let writes = writes.clone();
        async move { writes.send("set", 1, &1_u64).await }
    });
    tokio::time::sleep(ms(100)).await;
    server.restart();
    sent.await.unwrap().unwrap();
    assert_eq!(pending(&writes).await, 1);
}

/// `CacheError::Settings`, by whoever comes, and nothing is written.
async fn refused(server: Builder, durability: Durability, words: &[&str]) {
    let server = server.start();
    let cache = over(&server);
    let writes = queue(&cache).durability(durability).build().unwrap();
    let sent = writes.put_json("full:1", &1, secs(60)).send("set", 1, &1_u64).await.map(drop);
    let worked = writes.workers(Rows::default()).handle("set", Rows::apply);
    let worked = tokio::time::timeout(secs(10), worked.run_until(std::future::pending::<()>()))
        .await
        .expect("it ends");
    for refused in [sent, worked.map(drop)] {
        let Err(CacheError::Settings(text)) = &refused else { panic!("{refused:?}") };
        for word in words {
            assert!(text.contains(word), "`{word}` isn't in: {text}");
        }
    }
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_server_that_evicts_whole_queues_is_refused() {
    for kind in BOTH {
        for policy in ["allkeys-lru", "allkeys-random"] {
            let server = Server::of(kind).config("maxmemory-policy", policy).config("maxmemory", "100mb");
            refused(server, Durability::Memory, &["maxmemory-policy", policy]).await;
        }
    }
}

#[tokio::test]
async fn what_can_not_be_synced_is_refused() {
    let redis = Server::redis().config("appendonly", "yes").start();
    let version = redis.command(&["INFO", "server"]);
    drop(redis);
    // Only there where the server hasn't the command.
    if version.contains("redis_version:7.0") {
        let server = Server::redis().config("appendonly", "yes");
        refused(server, Durability::Fsync, &["WAITAOF", "7.2"]).await;
    }
    refused(Server::valkey(), Durability::Fsync, &["appendonly"]).await;
}

#[tokio::test]
async fn what_is_synced_is_there_when_the_server_was_killed() {
    let server = Server::valkey().config("appendonly", "yes").config("appendfsync", "everysec").start();
    let cache = over(&server);
    let writes = queue(&cache).durability(Durability::Fsync).build().unwrap();
    let sent: Vec<u64> = {
        let mut senders = JoinSet::new();
        for number in 0..20_u64 {
            let writes = writes.clone();
            senders.spawn(async move { writes.send("set", number, &number).await.unwrap() });
        }
        senders.join_all().await
    };
    server.restart();
    let rows = Rows::default();
    let worker = Worker::start(&writes, &rows);
    until("all are applied", async || rows.count() >= 20).await;
    assert_eq!(worker.stop().await, 0);
    let mut applied: Vec<u64> = (0..20).map(|key| rows.of(&key.to_string()).unwrap().1).collect();
    let mut sent = sent;
    sent.sort_unstable();
    applied.sort_unstable();
    assert_eq!(sent, applied);
}

/// Workers that are dropped say nothing to anybody, and leave no connection that waits for writes.
#[tokio::test]
async fn workers_that_are_dropped_leave_no_connection() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let cache = over(&server);
        let writes = queue(&cache).build().unwrap();
        let waiting = || server.command(&["CLIENT", "LIST"]).contains("cmd=xread");
        for _ in 0..3 {
            let worker = Worker::start(&writes, &Rows::default());
            until("it waits", async || waiting()).await;
            worker.ended.abort();
            assert!(worker.ended.await.unwrap_err().is_cancelled());
            until("it is gone", async || !waiting()).await;
        }
    }
}

/// Many wait for a disk that is slow: the server answers others all the same, and the cache isn't dark for it.
#[tokio::test]
async fn a_slow_disk_is_no_fault_of_the_server() {
    // It doesn't say when a system without haste has written.
    let server = Server::valkey().config("appendonly", "yes").config("appendfsync", "no").start();
    let cache = Cache::builder().redis(server.url()).store_budget(ms(300)).build().unwrap();
    cache.set("before", &1, secs(60)).await.unwrap();
    let writes = queue(&cache).durability(Durability::Fsync).patience(ms(300)).build().unwrap();
    let mut senders = JoinSet::new();
    for number in 0..20_u64 {
        let writes = writes.clone();
        senders.spawn(async move { writes.send("set", number, &number).await });
    }
    for sent in senders.join_all().await {
        assert!(matches!(sent, Err(CacheError::Timeout(_))), "{sent:?}");
    }
    for _ in 0..20 {
        assert_eq!(cache.get::<u8>("before").await.unwrap(), Some(1));
    }
}

/// Somebody empties the server under a running worker: what was queued is lost with everything else, and what
/// is sent from then on isn't, with numbers that the database doesn't refuse.
#[tokio::test]
async fn a_queue_that_was_flushed_away_heals() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let cache = over(&server);
        let writes = queue(&cache).build().unwrap();
        let rows = Rows::default();
        let worker = Worker::start(&writes, &rows);
        for round in 0..5_u64 {
            let before = rows.of("1").map_or(0, |(_, seq)| seq);
            let seq = writes.send("set", 1, &round).await.unwrap();
            assert!(seq > before);
            until("it is applied", async || rows.of("1") == Some((round, seq))).await;
            server.command(&["FLUSHALL"]);
            if round % 2 == 0 {
                server.command(&["SCRIPT", "FLUSH"]);
            }
        }
        assert_eq!(worker.stop().await, 0);
    }
}

/// The same while writes are being applied: those are gone, and their worker doesn't mind.
#[tokio::test]
async fn a_worker_outlives_the_loss_of_what_it_has_in_its_hands() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let cache = over(&server);
        let writes = queue(&cache).build().unwrap();
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let rows = Rows::default();
        let slow = {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            move |job: Job<u64>, rows: Rows| {
                let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
                async move {
                    if job.payload == 1 {
                        begun.notify_one();
                        go.notified().await;
                    }
                    Rows::apply(job, rows).await
                }
            }
        };
        let (stop, told) = oneshot::channel::<()>();
        let workers = writes.workers(rows.clone()).handle("set", slow);
        let ended = tokio::spawn(workers.run_until(async {
            let _ = told.await;
        }));
        writes.send("set", 1, &1_u64).await.unwrap();
        writes.send("set", 1, &2_u64).await.unwrap();
        begun.notified().await;
        server.command(&["FLUSHALL"]);
        let seq = writes.send("set", 1, &3_u64).await.unwrap();
        go.notify_one();
        until("the one that came after is applied", async || rows.of("1") == Some((3, seq))).await;
        stop.send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it ends");
        assert_eq!(ended.unwrap().unwrap(), 0);
    }
}

/// Whoever is told to stop does, though nobody can be told of it.
#[tokio::test]
async fn a_worker_stops_while_the_server_is_away() {
    for is_frozen in [true, false] {
        let server = Server::redis().start();
        let cache = over(&server);
        let writes = queue(&cache).patience(ms(300)).drain(ms(300)).build().unwrap();
        let rows = Rows::default();
        let worker = Worker::start(&writes, &rows);
        writes.send("set", 1, &1_u64).await.unwrap();
        until("it is applied", async || rows.count() == 1).await;
        if is_frozen {
            server.freeze();
        } else {
            server.kill();
        }
        worker.stop.send(()).unwrap();
        let ended = tokio::time::timeout(secs(20), worker.ended).await.expect("it ends").unwrap();
        assert!(matches!(ended, Err(CacheError::Timeout(_) | CacheError::Unavailable(_))), "{ended:?}");
    }
}
