//! How a connection begins, shows that it lives, and ends; and servers that don't tell.

use super::proxy::{Aim, Half, Proxy};
use super::*;

#[tokio::test]
async fn nothing_is_connected_before_something_is_read_for_keeping() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(&proxy.url());
    world.store.get("k").await.unwrap();
    world.store.get_aged("k").await.unwrap();
    assert_eq!((trackers(&server).len(), world.book.all().len()), (0, 0));
    assert!(proxy.seen.commands().iter().all(|command| command != "CLIENT TRACKING"));
    world.until_tracked().await;
    assert_eq!(trackers(&server).len(), 1);
    assert!(matches!(world.book.all()[..], [Connected(_), ..]));
    drop(world);
    until("the connection is gone", async || trackers(&server).is_empty()).await;
}

#[tokio::test]
async fn nobody_waits_for_the_connection() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(&proxy.url());
    world.store.ping().await.unwrap();
    // The question whether it may track gets no answer: who waited for that would wait for ever.
    proxy.aim(Aim::Tracking);
    proxy.black_hole(Half::Both);
    until("it is being made", async || {
        assert!(!world.read("k").await.unwrap().may_keep);
        proxy.tracking() > 0
    })
    .await;
    for _ in 0..50 {
        assert!(!world.read("k").await.unwrap().may_keep);
    }
    assert_eq!(world.book.all(), []);
    proxy.black_hole(None);
    world.until_tracked().await;
}

#[tokio::test]
async fn signs_of_life_bear_the_time_of_their_question() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let before = clock::coarse();
        let world = World::tracked_with(&proxy.url(), DELTA).await;
        proxy.delay(Duration::from_millis(200));
        world.book.clear();
        until("signs of life", async || world.book.count(|heard| matches!(heard, Alive(_))) >= 3).await;
        let mut last = before;
        for heard in world.book.all() {
            let Alive(sent) = heard else { continue };
            assert!(sent > last);
            last = sent;
        }
        assert!(last + 190 <= clock::coarse(), "not the time of the answer");
    }
}

#[tokio::test]
async fn a_killed_connection_is_dropped_and_replaced() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        // Its end is heard of, not missed with a sign of life: there is none for long.
        let world = World::tracked(&server.url()).await;
        for _ in 0..3 {
            world.book.clear();
            world.watch("k").await;
            let [id] = &trackers(&server)[..] else { panic!("one") };
            server.command(&["CLIENT", "KILL", "ID", id]);
            // Without anybody who reads.
            world.until_heard(&Disconnected).await;
            world.until_tracked().await;
            world.assert_replaced();
            assert_eq!(trackers(&server).len(), 1);
        }
    }
}

#[tokio::test]
async fn a_restarted_server_is_a_new_one() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        server.command(&["SET", "k", "old"]);
        world.watch("k").await;
        world.book.clear();
        server.kill();
        world.until_heard(&Disconnected).await;
        assert!(world.read("k").await.is_err());
        server.restart();
        world.until_tracked().await;
        world.assert_replaced();
        assert_eq!(world.watch("k").await, None);
    }
}

#[tokio::test]
async fn a_frozen_server_gives_no_sign_of_life_and_is_given_up() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked_with(&server.url(), DELTA).await;
        world.book.clear();
        server.freeze();
        let frozen = clock::coarse();
        world.until_heard(&Disconnected).await;
        assert_eq!(world.book.count(|heard| matches!(heard, Alive(sent) if *sent > frozen)), 0);
        server.thaw();
        world.until_tracked().await;
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_any_more_is_given_up() {
    for half in [Half::Requests, Half::Replies] {
        let server = Server::redis().start();
        let proxy = Proxy::start(&server.url());
        let world = World::tracked_with(&proxy.url(), DELTA).await;
        proxy.black_hole(half);
        world.until_heard(&Disconnected).await;
        proxy.black_hole(None);
        proxy.cut().await;
        world.until_tracked().await;
    }
}

#[tokio::test]
async fn a_demoted_server_is_no_longer_believed() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked_with(&server.url(), DELTA).await;
        world.book.clear();
        server.command(&["REPLICAOF", "127.0.0.1", "1"]);
        world.until_heard(&Disconnected).await;
        for _ in 0..20 {
            // It answers, and what it says isn't kept.
            assert!(world.read("k").await.is_ok_and(|read| !read.may_keep));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(world.book.ways(), [Disconnected]);
        server.command(&["REPLICAOF", "NO", "ONE"]);
        world.until_tracked().await;
    }
}

// Servers that don't tell.

#[tokio::test]
async fn a_server_without_tracking_is_read_over_the_main_connection() {
    for kind in BOTH {
        let (log, _guard) = log::Log::new();
        let server = Server::of(kind).user("app", "secret", "~* &* +@all -client|tracking").start();
        for url in [server.url(), format!("{}?protocol=resp2", server.url())] {
            let world = World::new(&url);
            for round in 1..=3 {
                world.until_tracked().await;
                assert!(world.watch("k").await.is_none());
                assert_eq!(world.book.ways().last(), Some(&Without));
                assert_eq!(world.book.ways().len(), round * 2 - 1);
                assert_eq!(trackers(&server).len(), 0);
                // Another server may be able to.
                world.store.distrust("in a test");
                assert_eq!(world.book.ways().last(), Some(&Disconnected));
            }
            drop(world);
        }
        assert_eq!(log.count("the server doesn't tell what changes"), 2, "once each: {}", log.text());
        assert!(!log.text().contains("secret"));
    }
}

#[tokio::test]
async fn a_user_without_dangerous_commands_is_told() {
    for kind in BOTH {
        // Before 7.0 all of `CLIENT` is called dangerous.
        let more = if kind.is_old() { " +client|tracking" } else { "" };
        let rules = format!("~* &* +@all -@dangerous{more}");
        let server = Server::of(kind).user("app", "secret", &rules).start();
        let world = World::tracked(&server.url()).await;
        world.watch("k").await;
        server.command(&["SET", "k", "v"]);
        assert_eq!(world.watch("k").await.as_deref(), Some("v"));
        assert_eq!(world.book.forgets("k"), 1);
        assert!(matches!(world.book.ways()[..], [Connected(_)]));
    }
}

#[test]
fn the_embedded_store_never_goes_away() {
    let store = crate::store::MemoryStore::new(1 << 20);
    let book = Arc::<Book>::default();
    store.track(Arc::<Book>::clone(&book));
    assert_eq!(book.all(), [Connected(crate::store::ALWAYS)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.set("k", "v".into(), None).await.unwrap();
        let read = store.get_tracked("k").await.unwrap();
        assert!(read.may_keep);
        assert_eq!(read.found, Some(("v".into(), None)));
    });
}
