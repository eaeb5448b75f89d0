//! What real servers can do to the cache, and what callers notice of it: nothing but the time of a
//! load (I11, I12, I16, I17; the fault table of DESIGN 4). No call fails, no row is wrong or old.

#[path = "support/log.rs"]
mod log;
#[path = "support/sample.rs"]
mod sample;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_aside::redis::{self, AsyncCommands};
use cache_aside::{Cache, CacheError, cache};
use log::Log;
use sample::{World, eventually, hasty, median, patient, read, write, write_all};
use support::proxy::{Half, Proxy};
use support::server::{Kind, Server};
use support::{Loads, ms, secs};
use tokio::task::JoinSet;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// A server, and a world with row 1 in the cache.
async fn warm(kind: Kind) -> (Server, World) {
    let server = Server::of(kind).start();
    let world = World::new(patient(&server.url()).build().unwrap());
    world.check(1).await;
    world.check(1).await;
    assert_eq!((world.loads(), world.cache.stats().hits), (1, 1));
    (server, world)
}

// Down, killed, frozen, cut.

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_used_when_it_comes() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        server.kill();
        let world = World::new(patient(&server.url()).build().unwrap());
        for id in 0..20 {
            world.check(id).await;
        }
        assert_eq!(world.loads(), 20);
        assert!(matches!(world.cache.get::<u8>("k").await, Err(CacheError::Unavailable(_))));
        assert!(matches!(world.cache.ping().await, Err(CacheError::Unavailable(_))));
        server.restart();
        world.until_hit(1).await;
        assert_eq!(world.cache.stats().bypassed, 0, "a call that found no server is a miss");
    }
}

#[tokio::test]
async fn a_restarted_server_knows_no_script_and_that_costs_one_eval() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let world = World::new(patient(&proxy.url()).build().unwrap());
        world.check(1).await;
        world.check(2).await;
        assert_eq!((proxy.seen.count("EVALSHA"), proxy.seen.count("EVAL")), (2, 1));
        server.restart();
        world.until_hit(1).await;
        world.check(2).await;
        world.check(3).await;
        assert_eq!(proxy.seen.count("EVAL"), 2, "{:?}", proxy.seen.counts());
    }
}

/// I11: a call pays one budget at most until the breaker opens, and then nothing.
#[tokio::test]
async fn a_frozen_server_costs_a_few_calls_one_budget_each() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let budget = ms(200);
        let world = World::new(patient(&server.url()).store_budget(budget).breaker(5).build().unwrap());
        world.check(1).await;
        server.freeze();
        let mut times = Vec::new();
        for id in 0..200 {
            times.push(world.check(id).await);
        }
        server.thaw();
        let slow: Vec<_> = times.iter().copied().filter(|took| *took > ms(50)).collect();
        assert!((1..=5).contains(&slow.len()), "the breaker opens after five: {slow:?}");
        assert!(slow.iter().all(|took| *took < budget + ms(300)), "one budget each: {slow:?}");
        let median = median(times);
        println!("{kind:?} frozen: {} calls waited, the median took {median:?}", slow.len());
        assert!(median < ms(2), "{median:?}");
        println!("{kind:?} thawed: a hit after {:?}", world.until_hit(1).await);
    }
}

#[tokio::test]
async fn many_calls_at_a_frozen_server_wait_together_and_load_once() {
    let (server, world) = warm(Kind::Redis).await;
    let cache = patient(&server.url()).store_budget(ms(200)).build().unwrap();
    cache.ping().await.unwrap();
    drop(world);
    server.freeze();
    let loads = Arc::new(Loads::new());
    let (mut tasks, begun) = (JoinSet::new(), Instant::now());
    for _ in 0..64 {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        tasks.spawn(async move { cache.get_or_set("k", secs(60), || loads.load(ms(300))).await.unwrap() });
    }
    let got = tasks.join_all().await;
    let took = begun.elapsed();
    server.thaw();
    // Who comes while a load runs can't know whether it is younger than an invalidation: the store would tell.
    assert!(
        loads.count() <= 2 && got.iter().all(|value| *value <= 2),
        "single flight needs no server: {got:?}"
    );
    assert!(took < ms(200 + 2 * 300 + 400), "one budget and two loads at most: {took:?}");
}

#[tokio::test]
async fn killed_clients_are_back_before_anybody_fails() {
    for kind in BOTH {
        let (server, world) = warm(kind).await;
        for _ in 0..10 {
            server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            for id in 0..5 {
                world.check(id).await;
            }
            world.until_hit(1).await;
        }
        assert_eq!(world.cache.pending_invalidations(), 0);
    }
}

#[tokio::test]
async fn while_there_is_no_server_a_call_costs_next_to_nothing() {
    let (server, world) = warm(Kind::Redis).await;
    server.kill();
    world.check(1).await;
    let mut times = Vec::new();
    for id in 0..1000 {
        times.push(world.check(id).await);
    }
    let median = median(times);
    println!("no server: the median call took {median:?}");
    assert!(median < ms(1), "{median:?}");
}

/// A server that takes connections and never says a word is no better than none.
#[tokio::test]
async fn a_black_hole_at_the_start_costs_a_few_calls_one_budget_each() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    proxy.black_hole(Half::Requests);
    let world = World::new(hasty(&proxy.url()).breaker(3).build().unwrap());
    let mut times = Vec::new();
    for id in 0..100 {
        times.push(world.check(id).await);
    }
    let slow = times.iter().filter(|took| **took > ms(50)).count();
    println!("black hole at the start: {slow} calls waited");
    assert!(slow <= 4, "{slow} calls waited");
    assert!(median(times) < ms(2));
    proxy.black_hole(None);
    proxy.cut().await;
    world.until_hit(1).await;
}

/// The lease of a caller whose question was answered, but not to it, is released like any other.
#[tokio::test]
async fn a_lease_whose_reply_was_lost_makes_nobody_wait_for_its_end() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = Arc::new(World::new(patient(&proxy.url()).lease(secs(8)).build().unwrap()));
    world.cache.ping().await.unwrap();
    proxy.hold();
    let first = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.check(1).await }
    });
    proxy.wait_pending(1).await; // GET
    proxy.release_one();
    eventually("the lease is there", || server.command(&["EXISTS", "row:1"]) == "1").await;
    proxy.cut().await;
    proxy.release();
    first.await.unwrap();
    let took = world.until_hit(1).await;
    println!("a lost lease: a hit after {took:?}");
    assert!(took < secs(4), "{took:?}");
}

#[tokio::test]
async fn a_fill_whose_connection_broke_makes_nobody_wait_for_the_lease() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let cache = patient(&proxy.url()).lease(secs(8)).build().unwrap();
    let got = cache
        .get_or_set("k", secs(60), || async {
            proxy.refuse(true);
            proxy.cut().await;
            1
        })
        .await;
    assert_eq!(got.unwrap(), 1);
    proxy.refuse(false);
    let begun = Instant::now();
    while cache.stats().hits == 0 {
        assert!(matches!(cache.get_or_set("k", secs(60), async || 2).await, Ok(1 | 2)));
        tokio::time::sleep(ms(5)).await;
        assert!(begun.elapsed() < secs(15));
    }
    println!("a fill that failed: a hit after {:?}", begun.elapsed());
    assert!(begun.elapsed() < secs(4), "{:?}", begun.elapsed());
}

/// Nobody has to call for it.
#[tokio::test]
async fn an_idle_connection_that_was_cut_is_made_anew() {
    let (server, world) = warm(Kind::Valkey).await;
    let clients = || server.command(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count();
    let before = clients();
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("it is connected again", || clients() == before).await;
    tokio::time::sleep(ms(50)).await;
    world.check(1).await;
    assert_eq!(world.cache.stats().hits, 2, "the very next call is a hit");
}

/// A cache that nobody has any more needs no connection.
#[tokio::test]
async fn a_dropped_cache_leaves_no_connection_behind() {
    let server = Server::redis().start();
    let clients = || server.command(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count();
    let before = clients();
    for _ in 0..5 {
        let cache = patient(&server.url()).build().unwrap();
        cache.ping().await.unwrap();
        assert_eq!(clients(), before + 1);
        drop(cache);
        eventually("the connection is closed", || clients() == before).await;
    }
}

// What servers say no to.

#[tokio::test]
async fn out_of_memory_it_reads_loads_and_forgets_but_stores_nothing() {
    for kind in BOTH {
        let (server, world) = warm(kind).await;
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        assert!(server.command(&["SET", "probe", "1"]).starts_with("-OOM"));
        world.check(1).await;
        assert_eq!(world.loads(), 1, "what is there is still read");
        for _ in 0..3 {
            world.check(2).await;
        }
        assert_eq!(world.loads(), 4);
        assert_eq!(server.command(&["EXISTS", "row:2"]), "0");
        let refused = world.cache.set("k", &1, secs(9)).await;
        assert!(matches!(&refused, Err(CacheError::Server(text)) if text.starts_with("OOM")), "{refused:?}");
        assert_eq!(write(&world, 1).await, 1);
        world.check(1).await;
        assert!(!read::clear_cache(&world, 1).await.unwrap());
        assert_eq!(write_all(&world, 3).await, "written");
        world.check(1).await;
        assert_eq!(world.cache.pending_invalidations(), 0, "DEL works without memory");
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        world.until_hit(1).await;
    }
}

#[tokio::test]
async fn memory_that_ends_during_a_load_leaves_no_lease() {
    let (server, world) = warm(Kind::Redis).await;
    let got =
        world.cache.get_or_set("k", secs(60), async || server.command(&["CONFIG", "SET", "maxmemory", "1"]));
    assert_eq!(got.await.unwrap(), "OK");
    eventually("the lease is released", || server.command(&["EXISTS", "k"]) == "0").await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let begun = Instant::now();
    assert_eq!(world.cache.get_or_set("k", secs(60), async || 2).await.unwrap(), 2);
    assert!(begun.elapsed() < secs(2));
    assert_eq!(world.cache.get::<u8>("k").await.unwrap(), Some(2));
}

/// The invalidations of a writer are kept while the server refuses them, whatever its reason, and
/// nothing old is read until they are through.
async fn refuses_writes(server: &Server, world: &World, refuse: impl FnOnce(), accept: impl FnOnce()) {
    world.check(1).await;
    world.check(2).await;
    let _ = world.until_hit(1).await;
    refuse();
    for _ in 0..3 {
        world.check(1).await;
        world.check(7).await;
    }
    assert_eq!(write(world, 1).await, world.row(1).version, "the writer isn't told");
    assert_eq!(world.cache.pending_invalidations(), 1);
    assert_eq!(server.command(&["EXISTS", "row:1"]), "1", "the old row is still there");
    for _ in 0..50 {
        world.check(1).await;
        world.check(2).await;
        tokio::time::sleep(ms(2)).await;
    }
    assert!(read::clear_cache(world, 2).await.is_err());
    assert_eq!(write_all(world, 4).await, "written");
    assert_eq!(world.cache.pending_invalidations(), 3);
    accept();
    let begun = Instant::now();
    while world.cache.pending_invalidations() > 0 {
        world.check(1).await;
        world.check(2).await;
        tokio::time::sleep(ms(1)).await;
        assert!(begun.elapsed() < secs(15), "{:?}", world.cache.stats());
    }
    world.until_hit(1).await;
    world.until_hit(2).await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_bypassed_until_it_is_primary_again() {
    for kind in BOTH {
        let (server, world) = warm(kind).await;
        // Nothing listens there, so it keeps its data.
        let become_a_replica = || assert_eq!(server.command(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
        let become_a_primary = || assert_eq!(server.command(&["REPLICAOF", "NO", "ONE"]), "OK");
        refuses_writes(&server, &world, become_a_replica, become_a_primary).await;
    }
}

#[tokio::test]
async fn a_replica_without_its_primary_is_bypassed() {
    let server = Server::redis().config("replica-serve-stale-data", "no").start();
    let world = World::new(hasty(&server.url()).build().unwrap());
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let refused = world.cache.get::<u8>("k").await;
    assert!(matches!(refused, Err(CacheError::Timeout(_) | CacheError::Unavailable(_))), "{refused:?}");
    for id in 0..20 {
        assert!(world.check(id).await < ms(150 + 400));
    }
    assert_eq!(write(&world, 1).await, 1);
    assert_eq!(world.cache.pending_invalidations(), 1);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    eventually("the invalidation is through", || world.cache.pending_invalidations() == 0).await;
    world.until_hit(1).await;
}

#[tokio::test]
async fn a_primary_without_its_replicas_is_bypassed() {
    let (server, world) = warm(Kind::Valkey).await;
    let set = |value| assert_eq!(server.command(&["CONFIG", "SET", "min-replicas-to-write", value]), "OK");
    refuses_writes(&server, &world, || set("1"), || set("0")).await;
}

#[tokio::test]
async fn a_server_that_cannot_save_is_bypassed() {
    let server = Server::redis().config("dbfilename", "blocked.rdb").start();
    let world = World::new(patient(&server.url()).build().unwrap());
    let folder = server.command(&["CONFIG", "GET", "dir"]).lines().nth(1).unwrap().to_owned();
    let refuse = || {
        std::fs::create_dir(format!("{folder}/blocked.rdb")).unwrap();
        std::fs::write(format!("{folder}/blocked.rdb/file"), "").unwrap();
        server.command(&["CONFIG", "SET", "save", "3600 100000"]);
        server.command(&["BGSAVE"]);
        let begun = Instant::now();
        while !server.command(&["SET", "probe", "1"]).starts_with("-MISCONF") {
            assert!(begun.elapsed() < secs(10), "{}", server.log());
            std::thread::sleep(ms(5));
        }
    };
    let accept = || assert_eq!(server.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]), "OK");
    refuses_writes(&server, &world, refuse, accept).await;
}

#[tokio::test]
async fn a_busy_server_is_bypassed() {
    for kind in BOTH {
        let server = Server::of(kind).config("lua-time-limit", "10").start();
        let world = World::new(patient(&server.url()).build().unwrap());
        world.check(1).await;
        world.until_hit(1).await;
        server.send(&["EVAL", "while true do end", "0"]);
        eventually("it is busy", || server.command(&["GET", "k"]).starts_with("-BUSY")).await;
        for id in 0..20 {
            world.check(id).await;
        }
        assert_eq!(write(&world, 1).await, 1);
        assert_eq!(world.cache.pending_invalidations(), 1);
        assert!(read::clear_cache(&world, 2).await.is_err());
        for _ in 0..20 {
            world.check(1).await;
        }
        assert_eq!(server.command(&["SCRIPT", "KILL"]), "OK");
        eventually("the invalidations are through", || world.cache.pending_invalidations() == 0).await;
        world.check(1).await;
        world.until_hit(1).await;
    }
}

#[tokio::test]
async fn a_loading_server_is_bypassed() {
    // Before 7.0 a server can't be told to answer while it loads so little.
    for kind in BOTH.into_iter().filter(|kind| !kind.is_old()) {
        let slow = Server::of(kind).config("key-load-delay", "1000");
        let server = slow.config("loading-process-events-interval-bytes", "1024").start();
        let world = World::new(hasty(&server.url()).breaker(3).build().unwrap());
        world.check(1).await;
        world.until_hit(1).await;
        server.command(&["DEBUG", "POPULATE", "6000"]);
        server.send(&["DEBUG", "RELOAD"]);
        let is_loading = || server.command(&["GET", "k"]).starts_with("-LOADING");
        eventually("it loads", is_loading).await;
        let (mut times, begun) = (Vec::new(), Instant::now());
        for id in 0..200 {
            times.push(world.check(id).await);
            tokio::time::sleep(ms(5)).await;
        }
        let slow = times.iter().filter(|took| **took > ms(50)).count();
        println!("{kind:?} loading: {slow} of 200 calls waited, all took {:?}", begun.elapsed());
        assert!(is_loading(), "the server was too quick for this test");
        assert_eq!(write(&world, 1).await, 1);
        assert_eq!(world.cache.pending_invalidations(), 1);
        assert!(times.iter().all(|took| *took < ms(150 + 400)));
        assert!(slow <= 20, "{slow} of 200 calls waited for a server that loads");
        eventually("the invalidation is through", || world.cache.pending_invalidations() == 0).await;
        world.until_hit(1).await;
    }
}

#[tokio::test]
async fn a_cluster_without_its_slots_is_bypassed() {
    let server = Server::redis().config("cluster-enabled", "yes").start();
    let world = World::new(hasty(&server.url()).build().unwrap());
    assert!(server.command(&["GET", "k"]).starts_with("-CLUSTERDOWN"));
    for id in 0..10 {
        assert!(world.check(id).await < ms(150 + 400));
    }
    assert!(matches!(
        world.cache.set("k", &1, secs(9)).await,
        Err(CacheError::Timeout(_) | CacheError::Unavailable(_))
    ));
}

#[tokio::test]
async fn foreign_data_is_left_alone_and_said_once() {
    for kind in BOTH {
        let (log, _guard) = Log::new();
        let (server, world) = warm(kind).await;
        server.command(&["HSET", "row:2", "field", "value"]);
        server.command(&["RPUSH", "row:3", "a", "b"]);
        server.command(&["SET", "row:4", "not ours"]);
        for _ in 0..3 {
            for id in 2..5 {
                world.check(id).await;
            }
        }
        assert_eq!(world.loads(), 1 + 9);
        assert_eq!(server.command(&["HGET", "row:2", "field"]), "value");
        assert_eq!(server.command(&["LRANGE", "row:3", "0", "-1"]), "a\nb");
        assert_eq!(server.command(&["GET", "row:4"]), "not ours");
        assert_eq!(log.count("isn't ours"), 3, "once for each key: {}", log.text());
        assert_eq!(world.cache.stats().misses, 1 + 9);
        assert!(
            matches!(world.cache.get::<u8>("row:2").await, Err(CacheError::Server(text)) if text.starts_with("WRONGTYPE"))
        );
        assert_eq!(write(&world, 2).await, 1);
        assert_eq!(server.command(&["EXISTS", "row:2"]), "0", "a writer forgets whatever is there");
        world.until_hit(2).await;
    }
}

/// Ours, but cut or bent: taken over. Of a newer format: left alone.
#[tokio::test]
async fn a_torn_record_is_replaced_and_one_of_the_future_is_not() {
    let (server, world) = warm(Kind::Redis).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let whole: Vec<u8> = redis.get("row:1").await.unwrap();
    let bent = |at: usize, byte: u8| {
        let mut record = whole.clone();
        record[at] = byte;
        record
    };
    // Cut in the header and in the payload, of an unknown kind, with a wrong length.
    let torn = [whole[..20].to_vec(), whole[..60].to_vec(), whole[..whole.len() - 1].to_vec(), bent(3, 77)];
    for record in torn {
        let () = redis.set("row:1", &record).await.unwrap();
        world.check(1).await;
        let hits = world.cache.stats().hits;
        world.check(1).await;
        assert_eq!(world.cache.stats().hits, hits + 1, "it was replaced: {record:?}");
    }
    let future = bent(2, 9);
    let () = redis.set("row:1", &future).await.unwrap();
    for _ in 0..3 {
        world.check(1).await;
    }
    assert_eq!(redis.get::<_, Vec<u8>>("row:1").await.unwrap(), future);
}

/// A structure that comes between the look and the lease.
#[tokio::test]
async fn foreign_data_that_comes_during_a_load_stays() {
    let (server, world) = warm(Kind::Redis).await;
    let load = async || {
        server.command(&["DEL", "k"]);
        server.command(&["HSET", "k", "field", "value"]);
        1
    };
    assert_eq!(world.cache.get_or_set("k", secs(60), load).await.unwrap(), 1);
    tokio::time::sleep(ms(50)).await;
    assert_eq!(server.command(&["HGET", "k", "field"]), "value");
}

#[tokio::test]
async fn a_server_without_room_is_asked_again_later() {
    for kind in BOTH {
        let server = Server::of(kind).config("maxclients", "2").start(); // the bench takes one
        let filling = support::client::Client::to(&server.url()).await;
        let proxy = Proxy::start(&server.url());
        let world = World::new(patient(&proxy.url()).build().unwrap());
        let begun = Instant::now();
        while begun.elapsed() < ms(500) {
            world.check(1).await;
            tokio::time::sleep(ms(1)).await;
        }
        let tries = proxy.seen.count("HELLO");
        println!("{kind:?} full: {tries} attempts to connect in half a second");
        assert!((1..=20).contains(&tries), "{tries} attempts");
        drop(filling);
        world.until_hit(1).await;
    }
}

// Who may do what.

const PASSWORD: &str = "c4n4ry-p4ssw0rd";

/// What is printed of a cache, its errors and its log when the server doesn't let it in: not the password.
async fn keeps_out(server: Server, url: String, because: &str) {
    let (log, _guard) = Log::new();
    let proxy = Proxy::start(&url);
    let builder = patient(&proxy.url());
    let mut shown = vec![format!("{builder:?}")];
    let world = World::new(builder.build().unwrap());
    let begun = Instant::now();
    for id in 0..500 {
        world.check(id).await;
        if id % 10 == 0 {
            tokio::time::sleep(ms(5)).await;
        }
    }
    let connections = proxy.seen.count("HELLO") + proxy.seen.count("AUTH");
    let commands: u64 = proxy.seen.counts().values().sum();
    println!(
        "{because}: {connections} logins and {commands} commands for 500 calls in {:?}",
        begun.elapsed()
    );
    assert!(connections <= 60, "no storm of logins: {connections}");
    // A look, and perhaps a try to get the lease.
    assert!(commands <= 2 * 500 + 3 * 60, "no retries: {commands}");
    let error = world.cache.set("k", &1, secs(9)).await.unwrap_err();
    shown.push(format!("{error} {error:?} {:?} {world:?}", world.cache));
    assert_eq!(write(&world, 1).await, 1);
    shown.push(log.text());
    let shown = shown.concat();
    assert!(!shown.contains("c4n4ry"), "{shown}");
    assert!(shown.contains(because), "{because}: {shown}");
    assert_eq!(
        log.count("the server refuses"),
        log_lines(&log, "the server refuses"),
        "each problem once: {}",
        log.text()
    );
    assert!((1..=3).contains(&log.count("the server refuses")), "loud, and once: {}", log.text());
    drop(server);
}

/// How many different lines say this.
fn log_lines(log: &Log, what: &str) -> usize {
    let text = log.text();
    let lines = text.lines().filter_map(|line| line.split_once(what).map(|(_, rest)| rest));
    lines.collect::<std::collections::BTreeSet<_>>().len()
}

#[tokio::test]
async fn without_a_password_nobody_gets_in() {
    let server = Server::redis().password(PASSWORD).start();
    let url = format!("redis://127.0.0.1:{}", server.port());
    keeps_out(server, url, "NOAUTH").await;
}

#[tokio::test]
async fn with_a_wrong_password_nobody_gets_in() {
    for kind in BOTH {
        let server = Server::of(kind).password("another").start();
        let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port());
        keeps_out(server, url, "WRONGPASS").await;
    }
}

#[tokio::test]
async fn a_user_who_may_not_write_reads_and_loads() {
    let rules = "~* -@all +@read +@connection";
    let server = Server::redis().user("app", PASSWORD, rules).start();
    let url = server.url();
    keeps_out(server, url, "NOPERM").await;
}

#[tokio::test]
async fn a_user_of_other_keys_loads() {
    for kind in BOTH {
        let server = Server::of(kind).user("app", PASSWORD, "~other:* +@all").start();
        let url = server.url();
        keeps_out(server, url, "NOPERM").await;
    }
}

#[tokio::test]
async fn permissions_that_come_back_are_used_at_once() {
    let server = Server::redis().user("app", PASSWORD, "~* +@all").start();
    let world = World::new(patient(&server.url()).build().unwrap());
    world.check(1).await;
    world.until_hit(1).await;
    server.command(&["ACL", "SETUSER", "app", "-@all"]);
    world.check(1).await;
    assert_eq!(write(&world, 1).await, 1);
    assert_eq!(world.cache.pending_invalidations(), 1);
    for _ in 0..20 {
        world.check(1).await;
        tokio::time::sleep(ms(2)).await;
    }
    server.command(&["ACL", "SETUSER", "app", "+@all"]);
    eventually("the invalidation is through", || world.cache.pending_invalidations() == 0).await;
    world.check(1).await;
    world.until_hit(1).await;
}

// Invalidations while the server doesn't answer.

#[tokio::test]
async fn an_invalidation_at_a_frozen_server_is_kept_and_nothing_old_is_read() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::new(hasty(&server.url()).build().unwrap());
        world.check(1).await;
        world.until_hit(1).await;
        for round in 1..=3 {
            server.freeze();
            let begun = Instant::now();
            assert_eq!(write(&world, 1).await, round);
            assert!(begun.elapsed() < ms(150 + 400), "{:?}", begun.elapsed());
            assert_eq!(world.cache.pending_invalidations(), 1);
            assert_eq!(world.cache.stats().pending_invalidations, 1);
            for _ in 0..20 {
                world.check(1).await;
            }
            server.thaw();
            world.until_hit(1).await;
            assert_eq!(world.cache.pending_invalidations(), 0);
        }
    }
}

/// As above, but with the connection cut, and readers that never rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_without_a_connection_is_kept_and_nothing_old_is_read() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = Arc::new(World::new(hasty(&proxy.url()).build().unwrap()));
    world.check(1).await;
    world.until_hit(1).await;
    let mut readers = JoinSet::new();
    for _ in 0..8 {
        let world = Arc::clone(&world);
        readers.spawn(async move {
            loop {
                let at_least = world.row(1).version;
                let got = read(&world, 1).await;
                assert!(got.id == 1 && got.version >= at_least, "{got:?} is older than {at_least}");
                tokio::task::yield_now().await;
            }
        });
    }
    for round in 0..10 {
        proxy.refuse(true);
        proxy.cut().await;
        // The table is written when the readers don't look, for the promise is about what follows the write's end.
        assert!(readers.try_join_next().is_none(), "a reader saw an old row, in round {round}");
        drop(tokio::time::timeout(ms(30), std::future::pending::<()>()).await);
        let version = write(&world, 2).await;
        assert_eq!(version, round + 1);
        assert_eq!(world.cache.pending_invalidations(), 1);
        world.check(2).await;
        proxy.refuse(false);
        eventually("the invalidation is through", || world.cache.pending_invalidations() == 0).await;
        world.check(2).await;
        world.until_hit(2).await;
    }
    assert!(readers.try_join_next().is_none(), "a reader saw an old row");
}

#[tokio::test]
async fn too_many_kept_invalidations_become_the_one_that_covers_all() {
    let server = Server::redis().start();
    server.command(&["SET", "other:row:1", "1"]);
    let proxy = Proxy::start(&server.url());
    let builder = hasty(&proxy.url()).namespace("shop").retry_queue(5);
    let world = World::new(builder.build().unwrap());
    for id in 0..20 {
        world.check(id).await;
    }
    proxy.refuse(true);
    proxy.cut().await;
    for id in 0..5 {
        write(&world, id).await;
        assert_eq!(world.cache.pending_invalidations(), id + 1);
    }
    for id in 5..15 {
        write(&world, id).await;
        assert_eq!(world.cache.pending_invalidations(), 1);
    }
    assert_eq!(server.command(&["DBSIZE"]), "21");
    proxy.refuse(false);
    eventually("the invalidation is through", || world.cache.pending_invalidations() == 0).await;
    assert_eq!(server.command(&["KEYS", "*"]), "other:row:1", "all of the namespace, and nothing else");
    for id in 0..20 {
        world.check(id).await;
    }
    world.until_hit(1).await;
}

/// I3: the seal of a flight. The value is loaded and its fill is on the wire when a writer, who finds no
/// connection, invalidates; who asks after that joins the same flight, and must not get what is old.
#[tokio::test]
async fn who_joins_after_the_fill_was_sent_never_takes_its_value() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let cache = patient(&proxy.url()).store_budget(ms(1200)).breaker(1).build().unwrap();
    let world = Arc::new(World::new(cache));
    world.check(9).await; // the scripts are known
    let call = |id| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { read(&world, id).await })
    };
    proxy.hold();
    let leader = call(1);
    proxy.wait_pending(1).await;
    let other = call(2);
    proxy.wait_pending(2).await;
    proxy.release_one();
    // The other's look comes back late: for its lease it has little left of the budget, the fill has all.
    tokio::time::sleep(ms(900)).await;
    proxy.release_one();
    proxy.release_one();
    let sent = || (proxy.seen.count("SET"), proxy.seen.count("EVALSHA")) == (3, 2);
    eventually("the fill and the other's lease are sent", sent).await;
    eventually("the connection is given up", || world.cache.stats().store_errors > 0).await;
    assert_eq!(write(&world, 1).await, 1);
    assert_eq!(world.cache.pending_invalidations(), 1);
    let late = call(1);
    tokio::time::sleep(ms(50)).await;
    proxy.release();
    assert_eq!(leader.await.unwrap().version, 0, "who started the load may keep its row");
    assert_eq!(late.await.unwrap().version, 1, "who came after the writer may not");
    other.await.unwrap();
    world.until_hit(1).await;
}

/// What a writer invalidates while a load runs reaches that load's fill also through an outage.
#[tokio::test]
async fn a_load_from_before_a_kept_invalidation_is_never_stored() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = Arc::new(World::slow(hasty(&proxy.url()).build().unwrap(), ms(800)));
    world.cache.ping().await.unwrap();
    let old = tokio::spawn({
        let world = Arc::clone(&world);
        async move { read(&world, 1).await }
    });
    eventually("the load runs", || world.loads() == 1).await;
    proxy.refuse(true);
    proxy.cut().await;
    assert_eq!(write(&world, 1).await, 1);
    proxy.refuse(false);
    assert_eq!(old.await.unwrap().version, 0, "who started the load may keep its row");
    world.check(1).await;
    world.until_hit(1).await;
    assert!(world.cache.stats().fills_refused >= 1);
}

/// I11 about time, with nothing but the defaults.
#[tokio::test]
async fn the_defaults_hold_for_a_frozen_server() {
    let server = Server::redis().start();
    let world = World::new(Cache::builder().redis(server.url()).build().unwrap());
    world.check(1).await;
    server.freeze();
    let mut times: Vec<Duration> = Vec::new();
    for id in 0..500 {
        times.push(world.check(id).await);
    }
    server.thaw();
    let slow = times.iter().filter(|took| **took > ms(50)).count();
    assert!(slow <= 10, "{slow} calls waited");
    assert!(median(times) < ms(1));
    println!("with the defaults: {slow} calls waited, a hit {:?} after the thaw", world.until_hit(1).await);
}

#[tokio::test]
async fn after_a_long_outage_the_hits_are_back_within_a_second() {
    let server = Server::redis().start();
    let world = World::new(Cache::builder().redis(server.url()).build().unwrap()); // the defaults
    world.check(1).await;
    server.kill();
    let begun = Instant::now();
    while begun.elapsed() < secs(6) {
        world.check(1).await;
        tokio::time::sleep(ms(10)).await;
    }
    server.restart();
    let took = world.until_hit(1).await;
    println!("after six seconds without a server: a hit after {took:?}");
    assert!(took < ms(1500), "{took:?}");
}

#[cache(ttl = 60, key = "scoped:{id}")]
async fn scoped(loads: &Loads, id: u64) -> u64 {
    loads.load(ms(0)).await + id
}

/// A closed cache is like a server that never comes back.
#[tokio::test]
async fn a_closed_cache_loads() {
    let server = Server::redis().start();
    let cache = patient(&server.url()).build().unwrap();
    Cache::scope(cache.clone(), async {
        let loads = Loads::new();
        assert_eq!((scoped(&loads, 0).await, scoped(&loads, 0).await), (1, 1));
        cache_aside::close_redis().await;
        assert_eq!((scoped(&loads, 0).await, scoped(&loads, 0).await), (2, 3));
        assert!(matches!(cache.ping().await, Err(CacheError::Unavailable(_))));
        assert!(scoped::clear_cache(0).await.is_err());
    })
    .await;
}
