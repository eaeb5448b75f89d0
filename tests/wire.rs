//! What goes over the wire, and nothing else does: a hit is one command, a miss two before the load
//! and one after; nothing of a skipped argument or of a value stands in a key, and no key leaves the
//! namespace (I15, I16; DESIGN 2 and 5).

#[path = "support/sample.rs"]
mod sample;
mod support;

use cache_aside::{Builder, Cache, CacheManager, cache, cache_invalidate, cache_put};
use sample::{Row, World, patient, read, write, write_all};
use support::proxy::Proxy;
use support::secs;
use support::server::{Kind, Server};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

struct Wire {
    world: World,
    proxy: Proxy,
    server: Server,
}

impl Wire {
    /// Connected, and what was said to connect is forgotten.
    async fn new(kind: Kind, build: impl FnOnce(Builder) -> Builder) -> Self {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let world = World::new(build(patient(&proxy.url())).build().unwrap());
        world.cache.ping().await.unwrap();
        proxy.seen.reset();
        Self { world, proxy, server }
    }

    async fn plain(kind: Kind) -> Self {
        Self::new(kind, |builder| builder).await
    }

    /// The commands since the last time.
    fn commands(&self) -> Vec<String> {
        let commands = self.proxy.seen.commands();
        self.proxy.seen.reset();
        commands
    }

    /// The commands, word by word, since the last time.
    fn requests(&self) -> Vec<Vec<String>> {
        let requests = self.proxy.seen.requests();
        self.proxy.seen.reset();
        requests
    }
}

#[cache_put(read(world, id))]
async fn put(world: &World, id: u64) -> Result<Row, String> {
    world.touch(id);
    if id == 0 { Err("it has written".to_owned()) } else { Ok(world.row(id)) }
}

#[tokio::test]
async fn a_put_is_two_commands_and_three_where_something_is() {
    for kind in BOTH {
        let wire = Wire::plain(kind).await;
        let world = &wire.world;
        put(world, 1).await.unwrap();
        assert_eq!(wire.commands(), ["SET", "EVALSHA", "EVAL"], "the script isn't known yet");
        put(world, 1).await.unwrap();
        assert_eq!(wire.commands(), ["SET", "EVALSHA", "EVALSHA"]);
        world.check(1).await;
        assert_eq!((wire.commands(), world.loads()), (vec!["GET".to_owned()], 0));
        put(world, 0).await.unwrap_err();
        // A script, for it leaves another writer's fence.
        let all = ["SET", "EVALSHA", "EVAL"];
        sample::eventually("nobody waits for it", || wire.proxy.seen.commands() == all).await;
    }
}

#[tokio::test]
async fn a_hit_is_one_command_and_a_miss_three() {
    for kind in BOTH {
        let wire = Wire::plain(kind).await;
        wire.world.check(1).await;
        assert_eq!(wire.commands(), ["GET", "SET", "EVALSHA", "EVAL"], "the script isn't known yet");
        wire.world.check(1).await;
        assert_eq!(wire.requests(), [["GET", "row:1"]]);
        wire.world.check(2).await;
        let miss = wire.requests();
        assert_eq!(miss.iter().map(|words| words[0].as_str()).collect::<Vec<_>>(), ["GET", "SET", "EVALSHA"]);
        assert_eq!(miss[0], ["GET", "row:2"]);
        let [_, key, _, px, lease, nx, get] = miss[1].as_slice() else { panic!("{:?}", miss[1]) };
        assert_eq!([key, px, lease, nx, get], ["row:2", "PX", "3000", "NX", "GET"]);
        assert_eq!(
            (miss[2][2].as_str(), miss[2][3].as_str(), miss[2].last().unwrap().as_str()),
            ("1", "row:2", "600000")
        );
        // By hand it is the same.
        let world = &wire.world;
        assert_eq!(world.cache.get_or_set("k", secs(9), async || 1).await.unwrap(), 1);
        assert_eq!(wire.commands(), ["GET", "SET", "EVALSHA"]);
        assert_eq!(world.cache.get_or_set("k", secs(9), async || 2).await.unwrap(), 1);
        assert_eq!(wire.commands(), ["GET"]);
        wire.server.command(&["SCRIPT", "FLUSH"]);
        world.check(3).await;
        assert_eq!(wire.commands(), ["GET", "SET", "EVALSHA", "EVAL"]);
    }
}

#[cache(ttl = 600, stale_if_error = "1h", key = "aged:{id}", cache = &world.cache)]
async fn aged(world: &World, id: u64) -> Result<u64, u64> {
    let _ = world;
    Ok(id)
}

#[tokio::test]
async fn to_ask_how_old_a_value_is_costs_a_command_more() {
    for kind in BOTH {
        let wire = Wire::plain(kind).await;
        let (world, key) = (&wire.world, "aged:1");
        wire.world.check(1).await; // the script is known now
        wire.commands();
        aged(world, 1).await.unwrap();
        assert_eq!(wire.commands(), ["PTTL", "GET", "SET", "EVALSHA"]);
        aged(world, 1).await.unwrap();
        assert_eq!(wire.requests(), [["PTTL", key], ["GET", key]]);
        // Past its time it is claimed, and replaced by compare-and-set.
        world.cache.expire(key, secs(600)).await.unwrap();
        wire.commands();
        aged(world, 1).await.unwrap();
        assert_eq!(wire.commands(), ["PTTL", "GET", "EVALSHA", "EVAL", "EVALSHA"], "a script is new");
    }
}

#[tokio::test]
async fn before_the_load_two_commands_after_it_one() {
    let wire = Wire::plain(Kind::Redis).await;
    wire.world.check(1).await;
    wire.commands();
    let load = async || wire.commands();
    let before: Vec<String> = wire.world.cache.get_or_set("k", secs(9), load).await.unwrap();
    assert_eq!(
        (before, wire.commands()),
        (vec!["GET".to_owned(), "SET".to_owned()], vec!["EVALSHA".to_owned()])
    );
    // A load that fails gives its lease back, and nothing more.
    let failing = wire.world.cache.try_get_or_set("e", secs(9), async || Err::<u8, _>(wire.commands()));
    assert_eq!(failing.await.unwrap_err(), ["GET", "SET"]);
    sample::eventually("the lease is released", || wire.server.command(&["EXISTS", "e"]) == "0").await;
    assert!(matches!(wire.commands()[..], [_] | [_, _]), "a script, by digest or whole");
}

#[tokio::test]
async fn a_crowd_shares_its_looks() {
    let wire = Wire::plain(Kind::Redis).await;
    wire.world.check(1).await;
    wire.commands();
    let world = World::slow(wire.world.cache.clone(), support::ms(200));
    let calls = (0..20).map(|_| read(&world, 2));
    for got in join_all(calls).await {
        assert_eq!(got.id, 2);
    }
    let counts = wire.proxy.seen.counts();
    // The first two go at once, the others look together.
    assert_eq!((counts["GET"], counts["SET"], counts["EVALSHA"]), (3, 1, 1), "{counts:?}");
    assert_eq!(counts.len(), 3, "{counts:?}");
}

/// Polls all of them in this task.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut done = true;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn forgetting_is_unlink_and_globs_are_scanned() {
    for kind in BOTH {
        let wire = Wire::plain(kind).await;
        let world = &wire.world;
        world.check(1).await;
        wire.commands();
        assert!(read::clear_cache(world, 1).await.unwrap());
        assert_eq!(wire.requests().pop().unwrap(), ["UNLINK", "row:1"]);
        world.check(1).await;
        wire.commands();
        assert_eq!(write(world, 1).await, 1);
        assert_eq!(wire.requests(), [["UNLINK", "row:1"]], "a writer of one key: one command");
        for id in 0..5 {
            world.check(id).await;
        }
        wire.commands();
        assert_eq!(write_all(world, 5).await, "written");
        let glob = wire.requests();
        assert_eq!(glob[0], ["SCAN", "0", "MATCH", "row:*", "COUNT", "1000"]);
        assert_eq!((glob[1][0].as_str(), glob[1].len()), ("UNLINK", 6), "all five at once: {glob:?}");
        assert_eq!(wire.server.command(&["DBSIZE"]), "0");
        read::clear_cache_all(world).await.unwrap();
        assert_eq!(world.cache.delete_pattern("*").await.unwrap(), 0);
        CacheManager::new("row", secs(9)).on(&world.cache).clear_all().await.unwrap();
        assert!(wire.commands().iter().all(|name| name == "SCAN"), "nothing found, nothing unlinked");
    }
}

#[tokio::test]
async fn a_large_server_is_scanned_in_steps_and_never_by_keys() {
    let wire = Wire::plain(Kind::Redis).await;
    wire.server.command(&["DEBUG", "POPULATE", "5000", "other"]);
    wire.server.command(&["DEBUG", "POPULATE", "5000", "row"]);
    assert_eq!(wire.world.cache.delete_pattern("row:*").await.unwrap(), 5000);
    let counts = wire.proxy.seen.counts();
    assert!((10..=30).contains(&counts["SCAN"]), "{counts:?}");
    assert!(counts["UNLINK"] <= counts["SCAN"], "{counts:?}");
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert_eq!(wire.server.command(&["DBSIZE"]), "5000");
}

#[tokio::test]
async fn many_are_read_by_one_command_and_written_in_one_flush() {
    let wire = Wire::plain(Kind::Valkey).await;
    let cache = &wire.world.cache;
    let pairs: Vec<(String, u64)> = (0..50).map(|number| (format!("k{number}"), number)).collect();
    // With the replies held, commands that wait for each other would never all arrive.
    wire.proxy.hold();
    let write = tokio::spawn({
        let (cache, pairs) = (cache.clone(), pairs.clone());
        async move { cache.set_many(&pairs, secs(60)).await }
    });
    wire.proxy.wait_pending(50).await;
    wire.proxy.release();
    write.await.unwrap().unwrap();
    assert!(wire.requests().iter().all(|words| words[0] == "SET" && words[3..] == ["PX", "60000"]));
    let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
    let got: Vec<Option<u64>> = cache.get_many(&keys).await.unwrap();
    assert_eq!(got, (0..50).map(Some).collect::<Vec<_>>());
    assert_eq!(wire.commands(), ["MGET"]);
    assert_eq!(cache.get_many::<u64>(&[""; 0]).await.unwrap(), []);
    cache.set_many(&[("k", 1); 0], secs(9)).await.unwrap();
    assert!(wire.commands().is_empty(), "nothing to do, nothing to say");
}

#[tokio::test]
async fn every_operation_is_the_commands_that_it_needs() {
    let wire = Wire::plain(Kind::Redis).await;
    let cache = &wire.world.cache;
    cache.increment_with_ttl("n", secs(9)).await.unwrap();
    wire.commands(); // the script is known now
    cache.set("k", &1, secs(9)).await.unwrap();
    assert_eq!(wire.requests(), [["SET", "k", "1", "PX", "9000"]]);
    cache.get::<u8>("k").await.unwrap();
    assert_eq!(wire.commands(), ["GET"]);
    cache.increment("k").await.unwrap();
    assert_eq!(wire.requests(), [["INCRBY", "k", "1"]]);
    cache.increment_with_ttl("n", secs(9)).await.unwrap();
    assert_eq!(wire.commands(), ["EVALSHA"]);
    cache.expire("k", secs(8)).await.unwrap();
    assert_eq!(wire.requests(), [["PEXPIRE", "k", "8000"]]);
    cache.ttl("k").await.unwrap();
    assert!(wire.commands().len() <= 2);
    cache.delete("k").await.unwrap();
    assert!(wire.commands().len() <= 2);
    let _ = read::cached(&wire.world, 1).await.unwrap();
    assert_eq!(wire.requests(), [["GET", "row:1"]]);
}

/// What is in no key: user bytes as they are, values, skipped arguments.
const CANARY: &str = "c4n4ry";

#[cache(ttl = 60, key_prefix = "p", skip(cache, secret), cache = cache)]
async fn hashed(cache: &Cache, who: &str, secret: &str) -> String {
    format!("{who} {secret}")
}

#[cache(ttl = 60, key = "t:{{{who}}}", cache = cache)]
async fn template(cache: &Cache, who: &str) -> String {
    format!("{who} {CANARY}")
}

#[cache(ttl = 60, key_builder = |who| format!("{{tag}}:{who}:*"), cache = cache)]
async fn built(cache: &Cache, who: &str) -> String {
    format!("{who} {CANARY}")
}

#[cache_invalidate("t:{{{who}}}", cache = cache)]
async fn forget(cache: &Cache, who: &str) {
    let _ = who;
}

#[tokio::test]
async fn keys_are_under_the_namespace_and_hold_nothing_but_what_they_should() {
    for kind in BOTH {
        let wire = Wire::new(kind, |builder| builder.namespace("shop")).await;
        let cache = &wire.world.cache;
        hashed(cache, "ada", CANARY).await;
        template(cache, "a*b:{c}").await;
        built(cache, "a").await;
        wire.world.check(1).await;
        cache.set("by hand", &CANARY, secs(9)).await.unwrap();
        forget(cache, "nobody*").await;
        write_all(&wire.world, 0).await;
        cache.get_many::<String>(&["a", "b"]).await.unwrap();
        let requests = wire.requests();
        let mut keys = Vec::new();
        for words in &requests {
            match words[0].as_str() {
                "GET" | "SET" => keys.push(words[1].clone()),
                "UNLINK" | "MGET" => keys.extend_from_slice(&words[1..]),
                "EVALSHA" | "EVAL" | "SCAN" => keys.push(words[3].clone()),
                other => panic!("{other}"),
            }
        }
        assert!(keys.iter().all(|key| key.starts_with("shop:")), "{keys:?}");
        assert!(!keys.iter().any(|key| key.contains(CANARY)), "{keys:?}");
        for expected in ["shop:t:{a%2Ab%3A%7Bc%7D}", "shop:{tag}:a:*", "shop:t:{nobody%2A}", "shop:row:1"] {
            assert!(keys.iter().any(|key| key == expected), "{expected} in {keys:?}");
        }
        assert!(keys.iter().any(|key| key.starts_with("shop:p:hashed:")), "{keys:?}");
        let stored = wire.server.command(&["KEYS", "*"]);
        assert!(!stored.is_empty() && stored.lines().all(|key| key.starts_with("shop:")), "{stored}");
    }
}
