//! What was kept during an outage is carried out, all of it and nothing else, and a server that is slow to
//! come back or came back as another is used again (I1, I2, I11, I17).

#[path = "support/log.rs"]
mod log;
#[path = "support/sample.rs"]
mod sample;
mod support;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use cache_aside::redis::{Client, aio::MultiplexedConnection, pipe};
use cache_aside::{Cache, CacheError, Settings, cache, cache_invalidate, close_redis};
use log::Log;
use sample::{World, eventually, hasty, patient, read, write};
use support::proxy::Proxy;
use support::script::{Reply, Script};
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::time::timeout;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// What other programs keep in the same database.
const FOREIGN: [&[&str]; 4] = [
    &["RPUSH", "jobs", "1", "2"],
    &["SET", "session:abc", "x"],
    &["SET", "rows", "x"],
    &["HSET", "ro", "w", "x"],
];

/// A server with foreign data, and a cache without a namespace that keeps five invalidations.
fn shared(kind: Kind) -> (Server, Proxy, World) {
    let server = Server::of(kind).start();
    for command in FOREIGN {
        server.command(command);
    }
    let proxy = Proxy::start(&server.url());
    let world = World::new(hasty(&proxy.url()).retry_queue(5).build().unwrap());
    (server, proxy, world)
}

async fn lost(proxy: &Proxy) {
    proxy.refuse(true);
    proxy.cut().await;
}

/// Lets the server be found again, and waits until all is carried out.
async fn found(proxy: &Proxy, world: &World) {
    proxy.refuse(false);
    eventually("all is carried out", || world.cache.pending_invalidations() == 0).await;
}

fn foreign_is_left(server: &Server) {
    for command in FOREIGN {
        assert_eq!(server.command(&["EXISTS", command[1]]), "1", "`{}` is another's", command[1]);
    }
}

#[tokio::test]
async fn a_full_queue_of_keys_touches_nobody_elses() {
    for kind in BOTH {
        let (server, proxy, world) = shared(kind);
        for id in 0..20 {
            world.check(id).await;
        }
        lost(&proxy).await;
        for id in 0..15 {
            write(&world, id).await;
            assert!(world.cache.pending_invalidations() <= 5);
        }
        for id in 15..20 {
            world.touch(id);
            read::clear_cache(&world, id).await.unwrap_err();
        }
        found(&proxy, &world).await;
        foreign_is_left(&server);
        for id in 0..20 {
            world.check(id).await;
        }
        world.until_hit(1).await;
    }
}

#[cache(ttl = 600, key = "page:{id}:{number}", cache = &world.cache)]
async fn page(world: &World, id: u64, number: u64) -> u64 {
    world.row(id).version + number
}

/// All pages of one.
#[cache_invalidate("page:{id}:*", cache = &world.cache)]
async fn write_pages(world: &World, id: u64) {
    world.touch(id);
}

#[tokio::test]
async fn a_full_queue_of_globs_touches_nobody_elses() {
    let (server, proxy, world) = shared(Kind::Redis);
    for id in 0..10 {
        assert_eq!(page(&world, id, 1).await, 1);
    }
    lost(&proxy).await;
    for id in 0..10 {
        write_pages(&world, id).await;
    }
    found(&proxy, &world).await;
    for id in 0..10 {
        assert_eq!(page(&world, id, 1).await, 2, "nothing old is left");
    }
    foreign_is_left(&server);
}

#[cache(ttl = 600, key = "{tenant}:{id}", cache = &world.cache)]
async fn of_tenant(world: &World, tenant: char, id: u64) -> u64 {
    world.row(id).version
}

/// A template that begins with a value says nothing about what its keys have in common.
#[cache_invalidate("{tenant}:{id}", cache = &world.cache)]
async fn write_of_tenant(world: &World, tenant: char, id: u64) {
    world.touch(id);
}

#[tokio::test]
async fn a_full_queue_of_keys_that_have_nothing_in_common_touches_nobody_elses() {
    let (server, proxy, world) = shared(Kind::Redis);
    for (tenant, id) in ('a'..='j').zip(0..) {
        assert_eq!(of_tenant(&world, tenant, id).await, 0);
    }
    lost(&proxy).await;
    for (tenant, id) in ('a'..='j').zip(0..) {
        write_of_tenant(&world, tenant, id).await;
    }
    found(&proxy, &world).await;
    for (tenant, id) in ('a'..='j').zip(0..) {
        assert_eq!(of_tenant(&world, tenant, id).await, 1, "nothing old is left");
    }
    foreign_is_left(&server);
}

/// How many clients the server has, besides the bench.
fn clients(server: &Server) -> usize {
    server.command(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("user=bench")).count()
}

#[tokio::test]
async fn what_is_kept_outlives_its_cache() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let world = World::new(hasty(&proxy.url()).build().unwrap());
        world.check(1).await;
        world.until_hit(1).await;
        lost(&proxy).await;
        write(&world, 1).await;
        assert_eq!(world.cache.pending_invalidations(), 1);
        drop(world);
        tokio::time::sleep(ms(200)).await;
        assert_eq!(server.command(&["EXISTS", "row:1"]), "1");
        proxy.refuse(false);
        eventually("it is carried out", || server.command(&["EXISTS", "row:1"]) == "0").await;
        eventually("the connection is closed", || clients(&server) == 0).await;
    }
}

#[tokio::test]
async fn what_closing_gives_up_is_said() {
    let (log, _guard) = Log::new();
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(hasty(&proxy.url()).build().unwrap());
    world.check(1).await;
    lost(&proxy).await;
    write(&world, 1).await;
    Cache::scope(world.cache.clone(), close_redis()).await;
    let text = log.text();
    let said = text.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
    assert!(said.contains("given up") && said.contains("lost=1"), "{text}");
}

/// A user who may do everything but forget.
#[tokio::test]
async fn a_denied_invalidation_is_said_loudly_and_carried_out_when_it_may_be() {
    let (log, _guard) = Log::new();
    let server = Server::redis().user("app", "secret", "~* +@all -unlink").start();
    let world = World::new(patient(&server.url()).build().unwrap());
    world.check(1).await;
    world.until_hit(1).await;
    write(&world, 1).await;
    for _ in 0..50 {
        world.check(1).await;
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(world.cache.pending_invalidations(), 1);
    let text = log.text();
    let loud: Vec<_> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(!loud.is_empty() && loud.len() <= 2, "loud, and not each time: {loud:?}");
    assert!(loud.iter().all(|line| line.contains("NOPERM") && line.contains("unlink")), "{loud:?}");
    server.command(&["ACL", "SETUSER", "app", "+unlink"]);
    eventually("it is carried out", || world.cache.pending_invalidations() == 0).await;
    world.check(1).await;
    world.until_hit(1).await;
}

/// 2,000 keys, past the cache.
async fn fill(server: &Server) {
    let client = Client::open(server.url()).unwrap();
    let mut connection: MultiplexedConnection = client.get_multiplexed_async_connection().await.unwrap();
    let mut all = pipe();
    for n in 0..2000 {
        all.set(format!("row:{n}"), 1).ignore();
    }
    let () = all.query_async(&mut connection).await.unwrap();
}

/// A cursor means nothing to a server that was restarted: other pages, in another order.
#[tokio::test]
async fn a_scan_that_meets_another_server_does_not_go_on_there() {
    for pages in 1..4 {
        let server = Server::redis().start();
        fill(&server).await;
        let proxy = Proxy::start(&server.url());
        let cache = patient(&proxy.url()).build().unwrap();
        cache.ping().await.unwrap();
        proxy.hold();
        let mut clearing = pin!(cache.delete_pattern("row:*"));
        for _ in 0..pages {
            // Up to its next wait; the reply comes while it isn't polled.
            assert!(timeout(ms(20), clearing.as_mut()).await.is_err());
            proxy.release_one();
            tokio::time::sleep(ms(20)).await;
        }
        server.restart();
        proxy.cut().await;
        proxy.release();
        fill(&server).await;
        while cache.ping().await.is_err() {
            tokio::time::sleep(ms(2)).await;
        }
        let cleared = clearing.await;
        let left = server.command(&["DBSIZE"]);
        assert!(cleared.is_err() || left == "0", "{pages} pages: {cleared:?} and {left} keys are left");
        cache.delete_pattern("row:*").await.unwrap();
        assert_eq!(server.command(&["DBSIZE"]), "0");
    }
}

#[cache(ttl = 60, key = "far")]
async fn far() -> u64 {
    1
}

/// The only test here with the global cache: `init` is once in a process.
#[tokio::test]
async fn init_takes_as_long_as_a_connection_takes() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let settings = Settings::from_vars([("REDIS_URL", proxy.url())]).unwrap();
    lost(&proxy).await;
    let begun = Instant::now();
    let refused = cache_aside::init(settings.clone()).await;
    assert!(matches!(refused, Err(CacheError::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() < secs(1), "a server that is down is no reason to wait: {:?}", begun.elapsed());
    proxy.refuse(false);
    proxy.delay(ms(45));
    cache_aside::init(settings).await.expect("45 ms away is no outage");
    proxy.delay(ms(0)); // a call that asks thrice is at the end of its budget
    for _ in 0..100 {
        assert_eq!(far().await, 1);
    }
    assert!(far::cache_stats().hits > 0, "and then it is used");
}

/// Replies that stay shifted under many callers show one stranger now and another then: that is no key
/// that two functions share.
#[tokio::test]
async fn two_strangers_under_one_key_are_replies_out_of_step() {
    let server = Server::redis().start();
    let cache = patient(&server.url()).build().unwrap();
    for key in ["a", "b"] {
        cache.get_or_set(key, secs(60), || async { 7_u8 }).await.unwrap();
    }
    let mut connection = Client::open(server.url()).unwrap().get_connection().unwrap();
    let strangers: [Vec<u8>; 2] =
        ["a", "b"].map(|key| cache_aside::redis::Commands::get(&mut connection, key).unwrap());
    let asked = AtomicUsize::new(0);
    let script = Script::over(&server.url(), move |words| {
        if words[0] != "GET" || words[1] != "k" {
            return Reply::Default;
        }
        Reply::Raw(support::resp::bulk(&strangers[asked.fetch_add(1, Relaxed) % 2]))
    });
    let cache = patient(&script.url()).build().unwrap();
    cache.ping().await.unwrap();
    let before = script.seen.count("HELLO");
    assert_eq!(cache.get_or_set("k", secs(60), || async { 1_u8 }).await.unwrap(), 1);
    eventually("the connection is made anew", || script.seen.count("HELLO") > before).await;
}
