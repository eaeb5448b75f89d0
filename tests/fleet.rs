//! Several caches over one server, as in several processes: one load for all of them, and what becomes
//! of it when its leader fails, dies, is paused or is overtaken by a writer (I1, I3, I6, I9, I10).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::Instant;

use cache_aside::{Builder, Cache, cache};
use sample::{eventually, patient};
use support::proxy::Proxy;
use support::server::{Kind, Server};
use support::{Loads, ms, secs};
use tokio::task::JoinSet;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// So many caches that share nothing but the server; they answer, so what follows isn't about connecting.
async fn fleet<const N: usize>(server: &Server, build: impl Fn(Builder) -> Builder) -> [Cache; N] {
    let caches = std::array::from_fn(|_| build(patient(&server.url())).build().unwrap());
    for cache in &caches {
        cache.ping().await.unwrap();
    }
    caches
}

/// So many tasks that ask this cache for `k`.
fn ask(tasks: &mut JoinSet<u64>, cache: &Cache, loads: &Arc<Loads>, how_many: usize, takes: u64) {
    for _ in 0..how_many {
        let (cache, loads) = (cache.clone(), Arc::clone(loads));
        tasks.spawn(async move { cache.get_or_set("k", secs(60), || loads.load(ms(takes))).await.unwrap() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_in_four_caches_load_once() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let caches = fleet::<4>(&server, |builder| builder).await;
        let (loads, mut tasks) = (Arc::new(Loads::new()), JoinSet::new());
        for cache in &caches {
            ask(&mut tasks, cache, &loads, 50, 200);
        }
        assert_eq!((tasks.join_all().await, loads.count()), (vec![1; 200], 1));
        let fills: u64 = caches.iter().map(|cache| cache.stats().loads).sum();
        assert_eq!(fills, 1);
    }
}

#[tokio::test]
async fn who_waits_for_another_process_looks_now_and_then() {
    let server = Server::redis().start();
    let [leader] = fleet(&server, |builder| builder).await;
    let proxy = Proxy::start(&server.url());
    let waiting = patient(&proxy.url()).poll(ms(20), ms(100)).build().unwrap();
    waiting.ping().await.unwrap();
    proxy.seen.reset();
    let (loads, mut first, mut others) = (Arc::new(Loads::new()), JoinSet::new(), JoinSet::new());
    ask(&mut first, &leader, &loads, 1, 1000);
    eventually("it is loading", || loads.count() == 1).await;
    ask(&mut others, &waiting, &loads, 50, 0);
    first.join_next().await.unwrap().unwrap();
    let landed = Instant::now();
    assert_eq!(others.join_all().await, vec![1; 50]);
    println!("the others had the value {:?} after its load", landed.elapsed());
    assert!(landed.elapsed() < ms(100 + 300), "one poll later: {:?}", landed.elapsed());
    assert_eq!(loads.count(), 1);
    // One of the fifty looks for all, at least each tenth of a second.
    let polls = proxy.seen.counts()["SET"];
    assert!((8..=40).contains(&polls), "{:?}", proxy.seen.counts());
    assert!(proxy.seen.count("GET") <= 110, "{:?}", proxy.seen.counts());
}

#[tokio::test]
async fn waiting_for_another_process_is_one_miss() {
    let server = Server::redis().start();
    let [leader, waiting] = fleet(&server, |builder| builder).await;
    let (loads, mut tasks) = (Arc::new(Loads::new()), JoinSet::new());
    ask(&mut tasks, &leader, &loads, 1, 200);
    eventually("it is loading", || loads.count() == 1).await;
    ask(&mut tasks, &waiting, &loads, 1, 0);
    assert_eq!(tasks.join_all().await, [1, 1]);
    let stats = waiting.stats();
    assert_eq!((stats.hits, stats.misses, stats.coalesced, stats.loads), (0, 1, 1, 0));
}

type Call = Pin<Box<dyn Future<Output = u64>>>;

/// A call whose load is under way, and which nobody polls from here on.
async fn stuck(cache: &Cache, loads: &Arc<Loads>) -> Call {
    let before = loads.count();
    let mut call: Call = Box::pin({
        let (cache, loads) = (cache.clone(), Arc::clone(loads));
        async move { cache.get_or_set("k", secs(60), || loads.load(ms(100))).await.unwrap() }
    });
    poll_fn(|cx| {
        assert!(call.as_mut().poll(cx).is_pending(), "its load takes longer");
        if loads.count() > before { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    call
}

/// I9: a leader that is gone without a word, like a killed process.
#[tokio::test]
async fn a_dead_leader_delays_the_others_by_a_lease_and_a_poll() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let lease = ms(600);
        let [dead, a, b] = fleet(&server, |builder| builder.lease(lease)).await;
        let loads = Arc::new(Loads::new());
        std::mem::forget(stuck(&dead, &loads).await);
        let (begun, mut tasks) = (Instant::now(), JoinSet::new());
        ask(&mut tasks, &a, &loads, 20, 0);
        ask(&mut tasks, &b, &loads, 20, 0);
        assert_eq!(tasks.join_all().await, vec![2; 40], "one of them took over for all");
        let waited = begun.elapsed();
        println!("{kind:?}: a dead leader with a lease of {lease:?} delayed the others by {waited:?}");
        assert!(waited < lease + ms(100 + 300), "{waited:?}");
        assert!(waited > lease / 2, "while the lease held they waited: {waited:?}");
        assert_eq!(loads.count(), 2);
    }
}

/// I10: a leader that is paused past its lease gives its own caller its value, and nobody else.
#[tokio::test]
async fn a_paused_leader_does_not_overwrite_what_came_after() {
    let server = Server::redis().start();
    let [paused, other] = fleet(&server, |builder| builder.lease(ms(300))).await;
    let loads = Arc::new(Loads::new());
    let call = stuck(&paused, &loads).await;
    assert_eq!(other.get_or_set("k", secs(60), || loads.load(ms(0))).await.unwrap(), 2);
    assert_eq!(call.await, 1);
    for cache in [&paused, &other] {
        assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
    }
    assert_eq!(paused.stats().fills_refused, 1);
}

/// The same with a lease that ended and nothing in its place: an old load is no evidence.
#[tokio::test]
async fn a_paused_leader_does_not_fill_where_its_lease_was() {
    let server = Server::redis().start();
    let [paused] = fleet(&server, |builder| builder.lease(ms(100))).await;
    let loads = Arc::new(Loads::new());
    let call = stuck(&paused, &loads).await;
    eventually("the lease ended", || server.command(&["EXISTS", "k"]) == "0").await;
    assert_eq!(call.await, 1);
    assert_eq!(server.command(&["EXISTS", "k"]), "0");
    assert_eq!(paused.stats().fills_refused, 1);
}

#[tokio::test]
async fn a_load_longer_than_the_lease_keeps_it() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let [leader, waiting] = fleet(&server, |builder| builder.lease(ms(450))).await;
        let (loads, mut tasks) = (Arc::new(Loads::new()), JoinSet::new());
        ask(&mut tasks, &leader, &loads, 5, 2000);
        eventually("it is loading", || loads.count() == 1).await;
        ask(&mut tasks, &waiting, &loads, 5, 0);
        assert_eq!((tasks.join_all().await, loads.count()), (vec![1; 10], 1));
        assert_eq!(waiting.get::<u64>("k").await.unwrap(), Some(1), "and fills");
    }
}

#[tokio::test]
async fn nobody_waits_for_another_process_beyond_the_load_deadline() {
    let server = Server::redis().start();
    let [leader, waiting] = fleet(&server, |builder| builder.lease(ms(300)).load_deadline(ms(800))).await;
    let (loads, mut slow) = (Arc::new(Loads::new()), JoinSet::new());
    ask(&mut slow, &leader, &loads, 1, 4000);
    eventually("it is loading", || loads.count() == 1).await;
    let begun = Instant::now();
    assert_eq!(waiting.get_or_set("k", secs(60), || loads.load(ms(0))).await.unwrap(), 2);
    assert!(begun.elapsed() < ms(800 + 300 + 100 + 600), "{:?}", begun.elapsed());
    assert_eq!(slow.join_next().await.unwrap().unwrap(), 1, "the load itself goes on");
}

/// I1, I3: a writer elsewhere, while a load is under way.
#[tokio::test]
async fn an_invalidation_elsewhere_refuses_the_fill() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let [reader, writer, other] = fleet(&server, |builder| builder).await;
        for by_glob in [false, true] {
            let (loads, mut old) = (Arc::new(Loads::new()), JoinSet::new());
            ask(&mut old, &reader, &loads, 3, 400);
            eventually("it is loading", || loads.count() == 1).await;
            if by_glob {
                assert_eq!(writer.delete_pattern("k*").await.unwrap(), 1, "the lease counts");
            } else {
                assert!(!writer.delete("k").await.unwrap(), "a lease is no value");
            }
            // Who asks now gets what is loaded from now on, in each process.
            let mut new = JoinSet::new();
            ask(&mut new, &reader, &loads, 3, 300);
            ask(&mut new, &other, &loads, 3, 300);
            ask(&mut new, &writer, &loads, 3, 300);
            let got = new.join_all().await;
            assert!(got.iter().all(|value| *value >= 2), "nobody joins the old load: {got:?}");
            old.join_all().await;
            let stored = other.get::<u64>("k").await.unwrap();
            assert!(stored >= Some(2), "the old load wasn't stored: {stored:?}");
            assert!(loads.count() <= 4, "{}", loads.count());
            assert!(writer.delete("k").await.unwrap());
        }
        assert!(reader.stats().fills_refused >= 2);
    }
}

#[tokio::test]
async fn a_load_that_fails_frees_the_lease_for_the_others_at_once() {
    let server = Server::redis().start();
    let [failing, waiting] = fleet(&server, |builder| builder.lease(secs(20))).await;
    let failure = tokio::spawn(async move {
        let load = async || {
            tokio::time::sleep(ms(200)).await;
            Err::<u64, _>("no")
        };
        failing.try_get_or_set("k", secs(60), load).await
    });
    eventually("it is loading", || server.command(&["EXISTS", "k"]) == "1").await;
    let begun = Instant::now();
    assert_eq!(waiting.get_or_set("k", secs(60), async || 2).await.unwrap(), 2);
    assert!(begun.elapsed() < secs(5), "{:?}", begun.elapsed());
    assert_eq!(failure.await.unwrap(), Err("no"), "the error is its own caller's");
}

#[tokio::test]
async fn a_caller_who_goes_away_frees_the_lease_at_once() {
    let server = Server::redis().start();
    let [leaving, waiting] = fleet(&server, |builder| builder.lease(secs(20))).await;
    let loads = Arc::new(Loads::new());
    drop(stuck(&leaving, &loads).await);
    let begun = Instant::now();
    assert_eq!(waiting.get_or_set("k", secs(60), || loads.load(ms(0))).await.unwrap(), 2);
    assert!(begun.elapsed() < secs(5), "{:?}", begun.elapsed());
}

/// A runtime that ends in the middle of a load: nobody panics, and the others wait for the lease at most.
#[test]
fn a_runtime_that_ends_during_a_load_is_like_a_killed_process() {
    for threads in [0, 2] {
        let server = Server::redis().start();
        let mut builder = match threads {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let ending = builder.enable_all().build().unwrap();
        let url = server.url();
        let cache = ending.block_on(async move {
            let cache = patient(&url).lease(ms(500)).build().unwrap();
            let (loads, mut tasks) = (Arc::new(Loads::new()), JoinSet::new());
            ask(&mut tasks, &cache, &loads, 3, 60_000);
            eventually("it is loading", || loads.count() == 1).await;
            tasks.detach_all();
            cache
        });
        let panics = Arc::new(AtomicU64::new(0));
        let before = std::panic::take_hook();
        std::panic::set_hook({
            let panics = Arc::clone(&panics);
            Box::new(move |info| {
                println!("{info}");
                // Not what fails in another test of this process.
                if info.location().is_some_and(|at| !at.file().starts_with("tests")) {
                    panics.fetch_add(1, SeqCst);
                }
            })
        });
        ending.shutdown_timeout(secs(5));
        std::panic::set_hook(before);
        assert_eq!(panics.load(SeqCst), 0);
        let next = tokio::runtime::Runtime::new().unwrap();
        next.block_on(async {
            let begun = Instant::now();
            assert_eq!(cache.get_or_set("k", secs(60), async || 2).await.unwrap(), 2);
            println!("the next runtime waited {:?}", begun.elapsed());
            assert!(begun.elapsed() < secs(3), "{:?}", begun.elapsed());
            assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2), "and uses the cache");
        });
    }
}

#[cache(ttl = 60, key = "process", single_flight = "process", cache = cache)]
async fn process(cache: &Cache, loads: &Loads) -> u64 {
    loads.load(ms(300)).await
}

#[tokio::test]
async fn a_single_flight_of_the_process_waits_for_no_other() {
    let server = Server::redis().start();
    let [a, b] = fleet(&server, |builder| builder).await;
    let loads = Loads::new();
    let (one, two, three) = tokio::join!(process(&a, &loads), process(&a, &loads), process(&b, &loads));
    assert_eq!((loads.count(), one == two, one == three), (2, true, false));
}

/// A writer whose server is out of its reach keeps its invalidation; the others go on with what is there.
#[tokio::test]
async fn an_invalidation_that_is_kept_reaches_the_others_in_the_end() {
    let server = Server::redis().start();
    let [reader] = fleet(&server, |builder| builder).await;
    let proxy = Proxy::start(&server.url());
    let writer = sample::World::new(patient(&proxy.url()).build().unwrap());
    writer.check(1).await;
    assert!(reader.exists("row:1").await.unwrap());
    proxy.refuse(true);
    proxy.cut().await;
    sample::write(&writer, 1).await;
    assert_eq!(writer.cache.pending_invalidations(), 1);
    proxy.refuse(false);
    eventually("the invalidation is through", || writer.cache.pending_invalidations() == 0).await;
    assert!(!reader.exists("row:1").await.unwrap());
}
