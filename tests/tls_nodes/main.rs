//! TLS to several servers, a cluster or a primary with its sentinels: all that works without works with, through moved
//! slots and failovers, and no node is ever sent a word in plain text. (`tests/tls.rs`: one server.)
//!
//! None of them listens without TLS; between each other they speak it, too. Their certificates are for an IP address, or
//! for a name: then they are known by that, and ask clients for a certificate.

#[path = "../support/certs.rs"]
mod certs;
mod cluster;
#[path = "../support/sample.rs"]
mod sample;
mod sentinel;
#[path = "../support/mod.rs"]
mod support;

use cache_aside::redis::AsyncCommands;
use cache_aside::{Builder, Cache, CacheError, cache, cache_invalidate, get_redis};
use certs::{Authority, Files};
use sample::{World, eventually, patient, write, write_all};
use support::client::Client;
use support::secs;
use support::server::{self, Kind, Server};

#[cache(ttl = 600, near = true, key = "near:{id}", cache = &world.cache)]
async fn near(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache(ttl = 600, key = "tagged:{id}", tags = ["user:{id}", "users"], cache = &world.cache)]
async fn tagged(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache_invalidate(tags = ["users"], cache = &world.cache)]
async fn write_users(world: &World, ids: std::ops::Range<u64>) {
    for id in ids {
        world.touch(id);
    }
}

/// What nodes are called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Address,
    Name,
}

/// What nodes are called, and what they and their clients have to show.
struct Papers {
    authority: Authority,
    kind: Kind,
    by: By,
    host: &'static str,
    node: Files,
    /// What they ask of clients.
    client: Option<Files>,
}

impl Papers {
    /// By address on Redis, by name on Valkey: if that was built with TLS, as not every Valkey is.
    fn of(by: By) -> Self {
        let authority = Authority::new();
        let (host, client) = match by {
            By::Address => ("127.0.0.1", None),
            By::Name => ("localhost", Some(authority.issue(&["client"]))),
        };
        let node = authority.issue(&[host]);
        let papers = Self { authority, kind: Kind::Valkey, by, host, node, client };
        match by {
            By::Name => match papers.secured(Server::valkey()).try_start() {
                Ok(_) => papers,
                Err(log) if log.contains("Failed finding TLS support") => {
                    eprintln!("this Valkey was built without TLS: Redis takes its place");
                    Self { kind: Kind::Redis, ..papers }
                }
                Err(log) => panic!("{log}"),
            },
            By::Address => Self { kind: Kind::Redis, ..papers },
        }
    }

    /// A server that speaks TLS only.
    fn secured(&self, server: server::Builder) -> server::Builder {
        let server = server.only_tls(&self.authority.file(), &self.node.cert, &self.node.key);
        if self.client.is_some() { server.config("tls-auth-clients", "yes") } else { server }
    }

    /// Who knows the CA and has what the servers ask for. What is near would be used for a minute without a word.
    fn builder(&self, url: &str) -> Builder {
        let builder = patient(url).near_staleness(secs(60)).tls_ca(self.authority.file());
        match &self.client {
            Some(files) => builder.tls_identity(&files.cert, &files.key),
            None => builder,
        }
    }

    /// A world, and the cache of another process.
    fn worlds(&self, url: &str) -> (World, Cache) {
        (World::new(self.builder(url).build().unwrap()), self.builder(url).build().unwrap())
    }

    /// Whoever doesn't know their CA, or hasn't what they ask for, is told so, and gets nothing.
    async fn turn_others_away(&self, url: &str) {
        let stranger = Authority::new();
        let known = patient(url).tls_ca(self.authority.file());
        let unknown = stranger.issue(&["client"]);
        let mut cases = vec![(self.builder(url).tls_ca(stranger.file()), "UnknownIssuer")];
        if self.client.is_some() {
            cases.push((known.clone(), ""));
            cases.push((known.tls_identity(&unknown.cert, &unknown.key), ""));
        }
        for (builder, says) in cases {
            let world = World::new(builder.build().unwrap());
            let error = world.cache.ping().await.unwrap_err();
            let CacheError::Unavailable(text) = &error else { panic!("{error:?}") };
            assert!(text.contains(says), "{text}");
            world.check(1).await;
            assert_eq!(world.cache.stats().hits, 0, "{text}");
            let by_hand = Cache::scope(world.cache.clone(), get_redis()).await.unwrap_err().to_string();
            assert!(by_hand.contains(says), "{by_hand}");
        }
    }
}

/// Rows that only functions with `near` read, and those that only ones with tags do.
const NEAR: u64 = 1_000;
const TAGGED: std::ops::Range<u64> = 2_000..2_040;

/// Near again, and told when another process writes.
async fn tells(world: &World, other: &Cache) {
    let id = NEAR;
    let (begun, before) = (std::time::Instant::now(), world.cache.stats().near_hits);
    while world.cache.stats().near_hits == before {
        assert!(begun.elapsed() < secs(15), "nothing is near: {:?}", world.cache.stats());
        assert_eq!(near(world, id).await, world.row(id).version);
        tokio::task::yield_now().await;
    }
    let version = world.touch(id);
    assert!(other.delete(&format!("near:{id}")).await.unwrap());
    let begun = std::time::Instant::now();
    while near(world, id).await != version {
        assert!(begun.elapsed() < secs(15), "nobody tells");
        tokio::task::yield_now().await;
    }
}

/// All that works without. `count` says how many rows are stored.
async fn works(world: &World, other: &Cache, count: impl Fn() -> usize) {
    world.cache.ping().await.unwrap();
    world.until_hit(1).await;
    write(world, 1).await;
    world.check(1).await;
    world.until_hit(1).await;
    tells(world, other).await;

    for id in TAGGED {
        tagged(world, id).await;
    }
    let hits = world.cache.stats().hits;
    for id in TAGGED {
        tagged(world, id).await;
    }
    assert_eq!(world.cache.stats().hits, hits + 40);
    write_users(world, TAGGED).await;
    for id in TAGGED {
        assert_eq!(tagged(world, id).await, world.row(id).version);
    }

    for id in 0..40 {
        world.check(id).await;
    }
    assert_eq!(count(), 40, "keys of all nodes");
    write_all(world, 40).await;
    assert_eq!(count(), 0, "a glob reaches all nodes");
    for id in 0..40 {
        world.check(id).await;
    }

    let by_hand = Cache::scope(world.cache.clone(), async {
        let mut redis = get_redis().await.unwrap();
        for key in 0..10 {
            assert_eq!(redis.incr::<_, _, u64>(format!("by-hand:{key}"), 5).await.unwrap(), 5);
        }
    });
    by_hand.await;
    for key in 0..10 {
        assert_eq!(other.get::<u64>(&format!("by-hand:{key}")).await.unwrap(), Some(5));
    }
    assert_eq!((world.cache.stats().store_errors, world.cache.pending_invalidations()), (0, 0));
}

/// How OpenSSL calls what is said to it in plain text.
const PLAIN: &str = "wrong version number";

/// Nobody has said a word in plain text to whoever writes this log; and that it would be in there.
async fn heard_no_plain_word(port: u16, log: impl Fn() -> String) {
    assert!(!log().contains(PLAIN), "{}", log());
    let mut plain = Client::to(&format!("redis://127.0.0.1:{port}")).await;
    plain.send("PING").await;
    eventually("the server writes it down", || log().contains(PLAIN)).await;
}
