//! Tags on the wire: what they cost in commands and round trips, what is sent only once, and what an
//! outage, a full server and other processes make of them (I2, I3, I11; DESIGN 2 and 5).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::collections::BTreeSet;

use cache_aside::{Builder, Cache, cache, cache_invalidate};
use sample::{World, eventually, hasty, patient};
use support::ms;
use support::proxy::{Half, Proxy};
use support::server::{Kind, Server};

const OWN: &str = "@fn:";
const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

#[cache(ttl = 600, key = "tagged:{id}", tags = ["user:{id}", "users"], cache = &world.cache)]
async fn tagged(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache(ttl = 600, key = "named:{id}", tags = ["user:{id}", "row:{value.id}"], cache = &world.cache)]
async fn named(world: &World, id: u64) -> sample::Row {
    world.row(id)
}

#[cache_invalidate(tags = ["user:{id}", "row:{id}"], cache = &world.cache)]
async fn write(world: &World, id: u64) -> u64 {
    world.touch(id)
}

#[cache_invalidate(tags = ["users"], on = "always", cache = &world.cache)]
async fn write_any(world: &World, id: u64) -> Result<(), u64> {
    Err(world.touch(id))
}

struct Wire {
    world: World,
    proxy: Proxy,
    server: Server,
}

impl Wire {
    /// Connected, and the server knows the script.
    async fn new(kind: Kind, build: impl FnOnce(Builder) -> Builder) -> Self {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let world = World::new(build(patient(&proxy.url())).build().unwrap());
        world.check(0).await;
        proxy.seen.reset();
        Self { world, proxy, server }
    }

    /// Another process.
    fn other(&self) -> Cache {
        patient(&self.server.url()).build().unwrap()
    }

    /// The call sends these commands (each by its name and what it is about) in these flushes, and no others:
    /// while replies are held, what waits for one isn't sent.
    async fn flushes<T>(&self, call: impl Future<Output = T>, flushes: &[&[[&str; 2]]]) -> T {
        self.proxy.hold();
        let watch = async {
            for flush in flushes {
                // The replies to the flush before are out by then.
                eventually("the flush", || self.proxy.seen.requests().len() >= flush.len()).await;
                self.proxy.wait_pending(flush.len()).await;
                let sent = self.about();
                assert_eq!(sent.iter().map(|[name, key]| [&**name, &**key]).collect::<Vec<_>>(), *flush);
                flush.iter().for_each(|_| self.proxy.release_one());
            }
        };
        let (out, ()) = tokio::join!(call, watch);
        assert_eq!(self.about(), Vec::<[String; 2]>::new());
        self.proxy.release();
        out
    }

    /// The commands since the last time, and what they are about.
    fn about(&self) -> Vec<[String; 2]> {
        let requests = self.proxy.seen.requests();
        self.proxy.seen.reset();
        let key = |words: &[String]| if words[0] == "EVALSHA" { words[3].clone() } else { words[1].clone() };
        let about = |words: Vec<String>| {
            let key = key(&words);
            // The tag of the function: of which one, its digest says.
            [words[0].clone(), if key.starts_with(OWN) { OWN.to_owned() } else { key }]
        };
        requests.into_iter().map(about).collect()
    }
}

#[tokio::test]
async fn a_hit_is_one_round_trip_and_a_miss_three() {
    for kind in BOTH {
        let wire = Wire::new(kind, |builder| builder).await;
        let (key, one, all) = ("tagged:1", "@tag:user:1", "@tag:users");
        let look = [["GET", key], ["GET", OWN], ["GET", one], ["GET", all]];
        let tags = [["SET", OWN], ["PTTL", OWN], ["SET", one], ["PTTL", one], ["SET", all], ["PTTL", all]];
        let lease = [&[["SET", key]], &tags[..]].concat();
        let fill = [["EVALSHA", key], ["GET", OWN], ["GET", one], ["GET", all]];
        wire.flushes(tagged(&wire.world, 1), &[&look, &lease, &fill]).await;
        wire.flushes(tagged(&wire.world, 1), &[&look]).await;
        // Dead, it is replaced.
        wire.world.touch(1);
        wire.flushes(wire.world.cache.invalidate_tags(&["users"]), &[&[["UNLINK", "@tags"]]]).await.unwrap();
        let replace = [&[["EVALSHA", key]], &tags[..]].concat();
        let value = wire.flushes(tagged(&wire.world, 1), &[&look, &replace, &fill]).await;
        assert_eq!(value, 1);
    }
}

/// Which tag it is, only the value says: one round trip more when it is read, and one when it is stored.
#[tokio::test]
async fn a_tag_of_the_result_costs_a_round_trip_more() {
    for kind in BOTH {
        let wire = Wire::new(kind, |builder| builder).await;
        let (key, user, row) = ("named:1", "@tag:user:1", "@tag:row:1");
        let look = [["GET", key], ["GET", OWN], ["GET", user]];
        let created = [OWN, user, "@tags", "@tags:gate"].map(|key| [["SET", key], ["PTTL", key]]);
        let lease = [&[["SET", key]], created.as_flattened()].concat();
        // The tag, and then the epoch: the other order would miss an invalidation between the two.
        let name = [["SET", row], ["PTTL", row], ["GET", "@tags"]];
        let fill = [["EVALSHA", key], ["GET", OWN], ["GET", user], ["GET", row]];
        wire.flushes(named(&wire.world, 1), &[&look, &lease, &name, &fill]).await;
        wire.flushes(named(&wire.world, 1), &[&look, &[["GET", row]]]).await;
    }
}

#[tokio::test]
async fn an_invalidation_is_one_command_however_much_it_ends() {
    for kind in BOTH {
        let wire = Wire::new(kind, |builder| builder).await;
        for id in 0..10 {
            tagged(&wire.world, id).await;
        }
        wire.server.command(&["DEBUG", "POPULATE", "20000", "other"]);
        wire.proxy.seen.reset();
        assert_eq!(write_any(&wire.world, 1).await, Err(1));
        assert_eq!(wire.proxy.seen.requests(), [["UNLINK", "@tags", "@tag:users"]]);
        for id in 0..10 {
            assert_eq!(tagged(&wire.world, id).await, u64::from(id == 1));
        }
        wire.proxy.seen.reset();
        write(&wire.world, 1).await;
        let all = wire.proxy.seen.requests();
        assert_eq!(all, [["UNLINK", "@tags", "@tag:user:1", "@tag:row:1"]], "and of several tags, too");
    }
}

#[tokio::test]
async fn callers_of_a_hot_key_share_the_looks_at_its_tags() {
    let wire = Wire::new(Kind::Redis, |builder| builder).await;
    tagged(&wire.world, 1).await;
    wire.proxy.seen.reset();
    wire.proxy.hold();
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let cache = wire.world.cache.clone();
            tokio::spawn(async move { tagged(&World::new(cache), 1).await })
        })
        .collect();
    // One by itself, one in a batch of one, and all others in the next.
    wire.proxy.wait_pending(6).await;
    wire.proxy.release();
    for call in calls {
        assert_eq!(call.await.unwrap(), 0);
    }
    let counts = wire.proxy.seen.counts();
    assert!(counts["GET"] <= 12, "{counts:?}");
}

#[cache(ttl = "10d", key = "long:{id}", tags = ["users"], cache = &world.cache)]
async fn long(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache(ttl = 600, key = "ever:{id}", tags = ["ever"], cache = &world.cache)]
async fn ever(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[tokio::test]
async fn a_tag_outlives_its_entries_and_its_life_is_rarely_touched() {
    for kind in BOTH {
        let wire = Wire::new(kind, |builder| builder).await;
        let left = |key: &str| wire.server.command(&["PTTL", key]).parse::<i64>().unwrap();
        tagged(&wire.world, 1).await;
        assert!(left("@tag:users") > left("tagged:1"));
        wire.proxy.seen.reset();
        long(&wire.world, 1).await;
        assert!(wire.about().contains(&["EVALSHA".to_owned(), "@tag:users".to_owned()]));
        assert!(left("@tag:users") > left("long:1") + 1000 * 60 * 60 * 24);
        for id in 2..5 {
            long(&wire.world, id).await;
            tagged(&wire.world, id).await;
        }
        assert!(wire.about().iter().all(|[name, key]| name != "EVALSHA" || !key.starts_with('@')));
        // A shorter life takes nothing away, and one without end gives one.
        assert!(left("@tag:users") > left("long:1") + 1000 * 60 * 60 * 24);
        ever::put_cache(&wire.world, 1, &1).await.unwrap();
        assert!(left("@tag:ever") > left("ever:1"));
    }
}

/// A version that arrives a second time, after an invalidation, would make true again what was captured
/// before it.
#[tokio::test]
async fn no_version_is_ever_sent_twice() {
    let wire = Wire::new(Kind::Redis, |builder| builder.lease(ms(300))).await;
    let mut versions = BTreeSet::new();
    let mut creations = 0;
    for _ in 0..5 {
        wire.proxy.seen.reset();
        wire.proxy.hold();
        let call = named(&wire.world, 1);
        let cut = async {
            wire.proxy.wait_pending(3).await;
            (0..3).for_each(|_| wire.proxy.release_one());
            // The lease and the versions are there, and nobody hears of it.
            wire.proxy.wait_pending(9).await;
            wire.proxy.cut().await;
            wire.proxy.release();
        };
        let (row, ()) = tokio::join!(call, cut);
        assert_eq!(row, wire.world.row(1));
        let seen = wire.proxy.seen.requests();
        let created = seen.iter().filter(|words| words[0] == "SET" && words[1].starts_with("@tag"));
        for words in created {
            creations += 1;
            assert!(versions.insert(words[2].clone()), "sent again: {words:?}");
        }
        eventually("connected again", || wire.proxy.seen.count("PING") > 0).await;
        while wire.world.cache.ping().await.is_err() {
            tokio::time::sleep(ms(5)).await;
        }
        wire.world.cache.invalidate_tags(&["user:1", "row:1"]).await.unwrap();
        wire.world.touch(1);
        wire.server.command(&["DEL", "named:1"]);
    }
    assert!(creations >= 10, "{creations}");
}

#[tokio::test]
async fn a_full_server_takes_invalidations_and_nothing_else() {
    for kind in BOTH {
        let wire = Wire::new(kind, |builder| builder).await;
        assert_eq!((tagged(&wire.world, 1).await, tagged(&wire.world, 2).await), (0, 0));
        wire.server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        assert_eq!(write(&wire.world, 1).await, 1);
        assert_eq!(wire.world.cache.pending_invalidations(), 0);
        assert_eq!((tagged(&wire.world, 1).await, tagged(&wire.world, 2).await), (1, 0));
        assert_eq!(wire.world.touch(1), 2);
        assert_eq!(tagged(&wire.world, 1).await, 2, "loaded each time");
        wire.server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(tagged(&wire.world, 1).await, 2);
        wire.world.touch(1);
        assert_eq!(tagged(&wire.world, 1).await, 2, "a hit again");
    }
}

async fn lost(proxy: &Proxy) {
    proxy.refuse(true);
    proxy.cut().await;
}

#[tokio::test]
async fn tags_that_were_invalidated_during_an_outage_are_forgotten_when_it_ends() {
    for (kind, namespace) in [(Kind::Redis, None), (Kind::Valkey, Some("shop"))] {
        let server = Server::of(kind).start();
        server.command(&["SET", "foreign", "x"]);
        let proxy = Proxy::start(&server.url());
        let named_as = |builder: Builder| match namespace {
            Some(name) => builder.namespace(name),
            None => builder,
        };
        let world = World::new(named_as(hasty(&proxy.url()).retry_queue(5)).build().unwrap());
        let other = World::new(named_as(patient(&server.url())).build().unwrap());
        for id in 0..20 {
            assert_eq!((tagged(&world, id).await, named(&world, id).await.version), (0, 0));
        }
        lost(&proxy).await;
        write(&world, 1).await;
        assert_eq!(world.cache.pending_invalidations(), 2);
        assert_eq!((tagged(&world, 1).await, named(&world, 1).await.version), (1, 1), "loaded");
        // More than the queue takes.
        for id in 2..15 {
            write(&world, id).await;
            assert!(world.cache.pending_invalidations() <= 7);
        }
        let error = world.cache.invalidate_tags(&["by hand"]).await.unwrap_err();
        assert!(world.cache.pending_invalidations() > 0, "{error}");
        for id in 0..20 {
            other.touch(id);
        }
        proxy.refuse(false);
        eventually("all is carried out", || world.cache.pending_invalidations() == 0).await;
        for id in 1..15 {
            assert_eq!((tagged(&other, id).await, named(&other, id).await.version), (1, 1), "{id}");
        }
        assert_eq!(server.command(&["EXISTS", "foreign"]), "1");
    }
}

/// The writer's process can't reach the server: its own reads don't wait for it.
#[tokio::test]
async fn a_server_that_is_silent_costs_a_call_its_budget_at_most() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(hasty(&proxy.url()).build().unwrap());
    assert_eq!(named(&world, 1).await.version, 0);
    proxy.black_hole(Half::Replies);
    world.touch(1);
    assert_eq!(named(&world, 1).await.version, 1);
    write(&world, 1).await;
    assert_eq!(world.cache.pending_invalidations(), 2);
    assert_eq!(named(&world, 1).await.version, 2);
    proxy.black_hole(None);
    proxy.cut().await;
    eventually("all is carried out", || world.cache.pending_invalidations() == 0).await;
    assert_eq!(named(&world, 1).await.version, 2);
}

#[tokio::test]
async fn what_was_stored_without_a_tag_that_it_should_have_is_dead() {
    let wire = Wire::new(Kind::Redis, |builder| builder).await;
    tagged(&wire.world, 1).await;
    // The record without its tags, as a program wrote it that knew of none.
    let script = "local v = redis.call('GET', KEYS[1])
        local n = v:byte(79) + 256 * v:byte(80)
        v = v:sub(1, 28) .. string.char(v:byte(29) - 2) .. v:sub(30, 82 + n)
        return redis.call('SET', KEYS[1], v, 'KEEPTTL')";
    assert_eq!(wire.server.command(&["EVAL", script, "1", "tagged:1"]), "OK");
    wire.world.touch(1);
    assert_eq!(tagged::cached(&wire.world, 1).await.unwrap(), None);
    assert_eq!(tagged(&wire.world, 1).await, 1);
    assert_eq!(tagged::cached(&wire.world, 1).await.unwrap(), Some(1));
    assert_eq!(wire.other().get::<u64>("tagged:1").await.unwrap(), Some(1));
}
