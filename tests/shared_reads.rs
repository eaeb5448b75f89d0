//! On a hot key callers share GETs, and still read their invalidations (I3; DESIGN 2).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::Instant;

use cache_aside::Cache;
use sample::{Row, World, patient, read};
use support::proxy::Proxy;
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::task::JoinSet;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

async fn connected(url: &str) -> Arc<World> {
    let world = Arc::new(World::new(patient(url).build().unwrap()));
    world.cache.ping().await.unwrap();
    world
}

fn ask(tasks: &mut JoinSet<Row>, world: &Arc<World>, id: u64) {
    let world = Arc::clone(world);
    tasks.spawn(async move { read(&world, id).await });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hits_on_one_key_are_a_few_gets_and_on_as_many_keys_as_many() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let world = connected(&proxy.url()).await;
        for id in 0..200 {
            world.check(id).await;
        }
        proxy.delay(ms(20));
        proxy.seen.reset();
        let mut tasks = JoinSet::new();
        (0..200).for_each(|_| ask(&mut tasks, &world, 7));
        assert_eq!(tasks.join_all().await, vec![world.row(7); 200]);
        assert!(proxy.seen.count("GET") <= 5, "{:?}", proxy.seen.counts());
        proxy.seen.reset();
        let mut tasks = JoinSet::new();
        (0..200).for_each(|id| ask(&mut tasks, &world, id));
        assert_eq!(tasks.join_all().await.len(), 200);
        assert_eq!(proxy.seen.count("GET"), 200);
        let stats = world.cache.stats();
        assert_eq!((stats.hits, stats.loads), (400, 200), "each of them counts");
    }
}

#[tokio::test]
async fn a_few_callers_wait_for_nobody() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = connected(&proxy.url()).await;
    world.check(1).await;
    proxy.hold();
    let mut tasks = JoinSet::new();
    for sent in 1..=4 {
        // The first two by themselves, then two flushes.
        ask(&mut tasks, &world, 1);
        proxy.wait_pending(sent).await;
    }
    (0..10).for_each(|_| ask(&mut tasks, &world, 1));
    // When they have waited for 5 ms, they have a flush of their own.
    proxy.wait_pending(5).await;
    tokio::time::sleep(ms(20)).await;
    assert_eq!(proxy.pending(), 5, "the others share one");
    proxy.release();
    assert_eq!(tasks.join_all().await, vec![world.row(1); 14]);
}

/// Two GETs are on the wire, answered by the server but not here yet, when the value changes.
#[tokio::test]
async fn who_asks_after_an_invalidation_reads_nothing_older() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let (world, mut old, mut new) = (connected(&proxy.url()).await, JoinSet::new(), JoinSet::new());
    world.check(1).await;
    let before = world.row(1);
    proxy.hold();
    (0..2).for_each(|_| ask(&mut old, &world, 1));
    proxy.wait_pending(2).await;
    let writer = Arc::new(World::new(patient(&server.url()).build().unwrap()));
    world.touch(1);
    assert!(read::clear_cache(&writer, 1).await.unwrap());
    (0..50).for_each(|_| ask(&mut new, &world, 1));
    tokio::time::sleep(ms(50)).await;
    proxy.release();
    assert_eq!(old.join_all().await, [before; 2], "they asked before");
    assert_eq!(new.join_all().await, vec![world.row(1); 50]);
    assert_eq!(world.loads(), 2);
}

#[tokio::test]
async fn a_frozen_server_costs_each_caller_one_budget() {
    let server = Server::redis().start();
    let cache = patient(&server.url()).store_budget(ms(200)).build().unwrap();
    let world = Arc::new(World::new(cache));
    world.check(1).await;
    server.freeze();
    let (mut tasks, begun) = (JoinSet::new(), Instant::now());
    (0..100).for_each(|_| ask(&mut tasks, &world, 1));
    assert_eq!(tasks.join_all().await, vec![world.row(1); 100]);
    assert!((ms(150)..ms(600)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.thaw();
    world.until_hit(1).await;
}

/// Readers who give up, readers who are polled once and kept, writers: on real replies.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_hangs_and_nothing_is_stale_on_a_busy_key() {
    let server = Server::redis().start();
    let cache: Cache = patient(&server.url()).build().unwrap();
    let (value, end) = (Arc::new(AtomicU64::new(1)), Instant::now() + secs(2));
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let (cache, value) = (cache.clone(), Arc::clone(&value));
        tasks.spawn(async move {
            let get = || {
                let (cache, value) = (cache.clone(), Arc::clone(&value));
                Box::pin(async move {
                    cache.get_or_set("k", secs(60), async || value.load(SeqCst)).await.unwrap()
                })
            };
            let (mut reads, mut kept) = (0, None);
            while Instant::now() < end {
                if task == 0 {
                    tokio::time::sleep(ms(5)).await;
                    value.fetch_add(1, SeqCst);
                    cache.delete("k").await.unwrap();
                }
                match fastrand::u32(0..200) {
                    0 => {
                        // Polled once: it reads, and doesn't lead a load.
                        let mut call = get();
                        let _ = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
                        kept = Some(call);
                    }
                    1 => drop(tokio::time::timeout(ms(0), get()).await),
                    _ => {}
                }
                // The writer's own reads know what was invalidated.
                let least = if task == 0 { value.load(SeqCst) } else { 0 };
                let begun = Instant::now();
                let got = get().await;
                assert!(got >= least, "{got} after {least}");
                assert!(begun.elapsed() < ms(500), "{:?}", begun.elapsed());
                reads += 1;
            }
            drop(kept);
            reads
        });
    }
    let reads: u64 = tasks.join_all().await.into_iter().sum();
    println!("{reads} reads, {:?}", cache.stats());
    assert_eq!(cache.stats().store_errors, 0, "no read ran out of its budget");
}
