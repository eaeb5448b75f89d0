//! Replies that belong to another question, and payloads that were bent on the way: a miss, never a
//! wrong value and never a panic; what is out of step raises an alarm and loses its connection (I13, I14).

#[path = "support/log.rs"]
mod log;
#[path = "support/sample.rs"]
mod sample;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use cache_aside::{Cache, Stats, cache};
use log::Log;
use sample::{Row, World, patient, read, write};
use support::proxy::{Garble, Proxy};
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::task::JoinSet;

/// A world behind a proxy; rows 1 and 2 are in the cache, and the scripts are known.
async fn warm(kind: Kind, resp: &str) -> (Server, Proxy, Arc<World>) {
    let server = Server::of(kind).start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(patient(&format!("{}?protocol={resp}", proxy.url())).build().unwrap());
    world.check(1).await;
    world.check(2).await;
    (server, proxy, Arc::new(world))
}

/// Sends both questions before either is answered, with the answers changed.
async fn crossed<A, B>(proxy: &Proxy, a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let before = proxy.swapped();
    proxy.hold();
    proxy.swap_next();
    let both = async { tokio::join!(a, b) };
    let release = async {
        proxy.wait_pending(2).await;
        proxy.release();
    };
    let (got, ()) = tokio::join!(both, release);
    assert_eq!(proxy.swapped(), before + 1, "the replies were swapped");
    got
}

#[tokio::test]
async fn swapped_hits_are_misses_and_the_connection_is_dropped() {
    for (kind, resp) in [(Kind::Redis, "resp3"), (Kind::Redis, "resp2"), (Kind::Valkey, "resp3")] {
        let (log, _guard) = Log::new();
        let (server, proxy, world) = warm(kind, resp).await;
        let connections = || {
            server.command(&["INFO", "stats"]).lines().find_map(|line| {
                line.strip_prefix("total_connections_received:")
                    .map(|count| count.trim().parse::<u64>().unwrap())
            })
        };
        let before = connections().unwrap();
        let (one, two) = crossed(&proxy, read(&world, 1), read(&world, 2)).await;
        assert_eq!((one, two), (world.row(1), world.row(2)));
        assert!(log.count("ERROR") >= 1, "an alarm: {}", log.text());
        assert!(!log.text().contains("version"), "without the values");
        world.until_hit(1).await;
        world.until_hit(2).await;
        assert!(connections().unwrap() > before, "another connection");
        assert_eq!(world.cache.stats().hits, 2);
    }
}

/// Swapped again and again, also what was swapped before.
#[tokio::test]
async fn however_often_replies_are_swapped_no_row_is_wrong() {
    let (_server, proxy, world) = warm(Kind::Redis, "resp3").await;
    for round in 0..30 {
        world.until_hit(1).await;
        world.until_hit(2).await;
        let (one, two) = crossed(&proxy, read(&world, 1), read(&world, 2)).await;
        assert_eq!((one, two), (world.row(1), world.row(2)), "round {round}");
    }
}

#[tokio::test]
async fn swapped_replies_of_get_or_set_are_misses() {
    let (_server, proxy, world) = warm(Kind::Redis, "resp3").await;
    let ask = |key: &'static str| {
        let cache = world.cache.clone();
        async move { cache.get_or_set(key, secs(60), async || key.to_owned()).await.unwrap() }
    };
    assert_eq!((ask("a").await, ask("b").await), ("a".to_owned(), "b".to_owned()));
    assert_eq!(crossed(&proxy, ask("a"), ask("b")).await, ("a".to_owned(), "b".to_owned()));
    // One that is there and one that isn't.
    while world.cache.ping().await.is_err() {
        tokio::time::sleep(ms(2)).await;
    }
    assert_eq!(crossed(&proxy, ask("a"), ask("c")).await, ("a".to_owned(), "c".to_owned()));
    assert_eq!((ask("a").await, ask("b").await, ask("c").await), ("a".into(), "b".into(), "c".into()));
}

/// The lease of one is taken for that of the other, a value for a lease, a fill's yes for a no.
#[tokio::test]
async fn replies_swapped_at_any_step_give_no_wrong_row() {
    let (server, proxy, world) = warm(Kind::Redis, "resp3").await;
    let mut ids = 10;
    for passes in 0..6 {
        for kind in ["misses", "a hit and a miss", "a writer and a miss"] {
            (ids, _) = (ids + 2, kind);
            let (one, two) = (ids, ids + 1);
            if kind == "a hit and a miss" {
                world.until_hit(one).await;
            }
            while world.cache.ping().await.is_err() {
                tokio::time::sleep(ms(2)).await;
            }
            proxy.hold();
            let calls = {
                let world = Arc::clone(&world);
                let first = {
                    let world = Arc::clone(&world);
                    async move {
                        if kind == "a writer and a miss" {
                            assert_eq!(write(&world, one).await, 1);
                        } else {
                            assert_eq!(read(&world, one).await.id, one);
                        }
                    }
                };
                let second = async move { assert_eq!(read(&world, two).await, world.row(two)) };
                tokio::spawn(async { tokio::join!(first, second) })
            };
            for _ in 0..passes {
                proxy.wait_pending(1).await;
                proxy.release_one();
            }
            proxy.swap_next();
            proxy.release();
            // What is swapped waits for one more reply.
            let mut calls = calls;
            while tokio::time::timeout(ms(20), &mut calls).await.map(Result::unwrap).is_err() {
                let cache = world.cache.clone();
                let _ = tokio::time::timeout(ms(20), cache.ping()).await;
            }
            // A swap that found nothing to swap is used up.
            for _ in 0..2 {
                let _ = tokio::time::timeout(ms(100), world.cache.ping()).await;
            }
            world.check(one).await;
            world.check(two).await;
        }
    }
    assert!(proxy.swapped() >= 10, "{}", proxy.swapped());
    assert_ne!(server.command(&["DBSIZE"]), "0");
}

/// Many tasks, and a swap whenever there are two replies to swap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_swapped_replies_no_row_is_wrong() {
    const SWAPS: u64 = 15;
    let (_server, proxy, world) = warm(Kind::Valkey, "resp3").await;
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let (world, over) = (Arc::clone(&world), Arc::clone(&over));
        tasks.spawn(async move {
            for call in 0.. {
                if over.load(SeqCst) {
                    break;
                }
                let id = (task * 7 + call) % 40;
                assert_eq!(read(&world, id).await, world.row(id));
                let key = format!("by hand {id}");
                let got = world.cache.get_or_set(&key, secs(60), async || id.to_string()).await.unwrap();
                assert_eq!(got, id.to_string());
                tokio::time::sleep(ms(2)).await;
            }
        });
    }
    let mut hits = 0;
    sample::eventually("enough are swapped", || {
        // Not while a connection is made: that would only take longer.
        if world.cache.stats().hits > hits {
            hits = world.cache.stats().hits;
            proxy.swap_next();
        }
        proxy.swapped() >= SWAPS
    })
    .await;
    over.store(true, SeqCst);
    tasks.join_all().await;
    println!("{} replies were swapped, {:?}", proxy.swapped(), world.cache.stats());
}

// Two functions that share one key: no reply is out of step, so nothing is dropped for it.

mod before {
    use super::{Cache, cache};
    #[cache(ttl = 60, key = "shared:{id}", cache = cache)]
    pub(crate) async fn name(cache: &Cache, id: u64) -> String {
        format!("before {id}")
    }
}

mod after {
    use super::{Cache, cache};
    #[cache(ttl = 60, key = "shared:{id}", cache = cache)]
    pub(crate) async fn name(cache: &Cache, id: u64) -> String {
        format!("after {id}")
    }
}

#[tokio::test]
async fn a_key_that_two_functions_share_costs_no_connection() {
    let (_server, proxy, world) = warm(Kind::Redis, "resp3").await;
    for id in 0..100 {
        assert_eq!(before::name(&world.cache, id).await, format!("before {id}"));
    }
    proxy.seen.reset();
    for id in 0..100 {
        assert_eq!(after::name(&world.cache, id).await, format!("after {id}"));
        assert_eq!(after::name(&world.cache, id).await, format!("after {id}"));
    }
    assert!(proxy.seen.count("HELLO") <= 3, "{:?}", proxy.seen.counts());
    assert!(world.cache.stats().hits >= 90, "what is taken over is there: {:?}", world.cache.stats());
}

// Payloads bent on the way.

#[cache(ttl = 60, key = "text:{id}", cache = cache)]
async fn text(cache: &Cache, id: u64) -> Option<BTreeMap<String, Vec<Option<u64>>>> {
    (id > 0).then(|| BTreeMap::from([(format!("größe {id}"), vec![Some(id), None])]))
}

#[tokio::test]
async fn a_bent_payload_is_a_miss_or_the_right_value() {
    let (server, proxy, world) = warm(Kind::Redis, "resp3").await;
    let length: usize = server.command(&["STRLEN", "row:1"]).parse().unwrap();
    let before = world.cache.stats();
    let mut garbled = 0;
    let bends = (0..length).map(Garble::Flip).chain((0..length).map(Garble::Truncate));
    for bend in bends {
        world.until_hit(1).await;
        proxy.garble_next(bend.clone());
        let stats = world.cache.stats();
        world.check(1).await;
        garbled += 1;
        assert_eq!(proxy.garbled(), garbled, "{bend:?}");
        let now = world.cache.stats();
        let calls = |stats: Stats| stats.hits + stats.misses + stats.bypassed + stats.plain_hits;
        assert_eq!(calls(now), calls(stats) + 1, "{bend:?}: counted, and once: {now:?}");
    }
    println!("{garbled} bent payloads: {} misses", world.cache.stats().misses - before.misses);
    assert!(world.cache.stats().misses > before.misses + u64::try_from(length).unwrap());
}

#[tokio::test]
async fn a_bent_payload_of_another_type_is_a_miss_or_the_right_value() {
    let (server, proxy, world) = warm(Kind::Valkey, "resp2").await;
    for id in 0..2 {
        let right = text(&world.cache, id).await;
        let length: usize = server.command(&["STRLEN", &format!("text:{id}")]).parse().unwrap();
        for bend in (0..length).flat_map(|at| [Garble::Flip(at), Garble::Truncate(at)]) {
            while world.cache.ping().await.is_err() {
                tokio::time::sleep(ms(2)).await;
            }
            proxy.garble_next(bend.clone());
            assert_eq!(text(&world.cache, id).await, right, "{bend:?}");
        }
    }
}

/// What replaces a record altogether.
#[tokio::test]
async fn whatever_stands_there_instead_no_row_is_wrong() {
    let (_server, proxy, world) = warm(Kind::Redis, "resp3").await;
    let record =
        |kind: u8, format: u8, rest: &[u8]| [&[0xCA, 0x5E, format, kind][..], &[7; 16], rest].concat();
    let odd = [
        b"{}".to_vec(),
        b"null".to_vec(),
        b"{\"id\":1}".to_vec(),
        b"{\"id\":-1,\"version\":0}".to_vec(),
        vec![0],
        vec![0xff; 4096],
        vec![b'['; 4096],
        record(1, 1, b""),
        record(1, 1, &[0; 61]),
        record(1, 1, &[0xff; 61]),
        record(1, 1, &[0xff; 4096]),
        record(1, 2, &[0; 61]),
        record(1, 0, &[0; 61]),
        record(3, 1, b""),
        record(9, 1, b""),
        record(0, 255, b""),
    ];
    for bytes in odd {
        world.until_hit(1).await;
        proxy.garble_next(Garble::Replace(bytes.clone()));
        world.check(1).await;
        let got: Result<Option<Row>, _> = {
            while world.cache.ping().await.is_err() {
                tokio::time::sleep(ms(2)).await;
            }
            proxy.garble_next(Garble::Replace(bytes.clone()));
            world.cache.get("row:1").await
        };
        // What seems to have a grace is asked for again, and that answer is whole.
        let right = world.row(1);
        assert!(
            matches!(got, Ok(None)) || got.as_ref().is_ok_and(|got| *got == Some(right)),
            "{bytes:?} {got:?}"
        );
    }
}
