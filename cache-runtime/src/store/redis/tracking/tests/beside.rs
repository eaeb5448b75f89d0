//! The tracked connection beside the main one, and the runtimes that drive both.

use super::proxy::Proxy;
use super::*;
use crate::recovery::Target;

#[tokio::test]
async fn distrust_ends_it_at_once() {
    let server = Server::redis().start();
    let world = World::tracked(&server.url()).await;
    for _ in 0..20 {
        world.book.clear();
        world.store.distrust("in a test");
        assert_eq!(world.book.ways(), [Disconnected], "before it returns");
        world.until_tracked().await;
        world.assert_replaced();
    }
    world.store.close();
    assert_eq!(world.book.ways().last(), Some(&Disconnected));
    assert!(world.read("k").await.is_err());
}

#[tokio::test]
async fn nothing_is_read_before_what_was_kept_is_carried_out() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        server.command(&["SET", "k", "old"]);
        assert_eq!(world.watch("k").await.as_deref(), Some("old"));
        // Writes wait, reads don't.
        server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        world.book.clear();
        world.kept.keep(Target::Key("k".to_owned()), None);
        world.store.distrust("an invalidation waits");
        assert_eq!(world.book.ways(), [Disconnected]);
        for _ in 0..20 {
            assert!(world.read("k").await.is_err() && !world.kept.is_empty());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.command(&["CLIENT", "UNPAUSE"]);
        until("it is read again", async || {
            world.read("k").await.is_ok_and(|read| {
                assert!(world.kept.is_empty());
                assert_eq!(read.found, None);
                true
            })
        })
        .await;
        world.until_tracked().await;
        assert_eq!(world.watch("k").await, None);
    }
}

#[tokio::test]
async fn a_reply_over_a_connection_that_has_ended_is_not_kept() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::tracked(&proxy.url()).await;
    proxy.hold();
    let (read, ()) = tokio::join!(world.read("k"), async {
        until("asked", async || {
            proxy.seen.commands().iter().filter(|command| *command == "PTTL").count() > 1
        })
        .await;
        world.store.distrust("in a test");
        proxy.release();
    });
    assert!(!read.unwrap().may_keep);
    assert!(matches!(world.book.ways()[..], [Connected(_), Disconnected]), "{:?}", world.book.ways());
}

/// `lose` ends it and then takes the main connection away; one may begin in between.
#[tokio::test]
async fn one_beside_an_earlier_main_connection_is_never_read() {
    let server = Server::redis().start();
    let address = Address::parse(&server.url(), &TlsFiles::default()).unwrap();
    let push = |_: redis::PushInfo| Ok::<(), ()>(());
    let connection = crate::store::redis::supervisor::open(&address, Some(push)).await.unwrap();
    let (tracking, book) = (Tracking::new(options(PATIENT)), Arc::<Book>::default());
    let publish = |number, main| tracking.publish(number, connection.clone(), main, clock::coarse());
    assert!(matches!(tracking.route(1), Route::Main { may_keep: false }), "nobody keeps anything");
    tracking.tell(Arc::<Book>::clone(&book));

    assert!(matches!(tracking.route(1), Route::Hire { number: 1, main: 1 }));
    assert!(matches!(tracking.route(1), Route::Main { may_keep: false }), "one is being made");
    assert!(publish(1, 1) && !publish(1, 1));
    assert!(matches!(tracking.route(1), Route::Tracked { number: 1, .. }));
    assert!(matches!(tracking.route(2), Route::Main { may_keep: false }));
    assert!(matches!(book.all()[..], [Connected(_), Disconnected]));

    until("the pause is over", async || matches!(tracking.route(2), Route::Hire { number: 2, main: 2 }))
        .await;
    tracking.unable(1, "it is over");
    tracking.end(Some(1), "it is over");
    assert!(!publish(1, 2) && publish(2, 2));
    tracking.alive(1, u64::MAX);
    tracking.end(Some(1), "it is over");
    assert!(matches!(tracking.route(1), Route::Main { may_keep: false }), "who looked earlier");
    assert!(matches!(tracking.route(2), Route::Tracked { number: 2, .. }));
    assert!(matches!(book.all()[..], [Connected(_), Disconnected, Connected(_)]), "{:?}", book.all());

    tracking.close();
    assert!(matches!(tracking.route(2), Route::Main { may_keep: false }));
    assert_eq!(book.ways().last(), Some(&Disconnected));
}

#[tokio::test]
async fn a_lost_main_connection_takes_it_along() {
    let server = Server::redis().start();
    let world = World::tracked(&server.url()).await;
    for _ in 0..3 {
        world.book.clear();
        let tracked = trackers(&server);
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        until("replaced", async || world.book.ways().contains(&Disconnected)).await;
        world.until_tracked().await;
        assert_ne!(trackers(&server), tracked);
        world.assert_replaced();
    }
}

#[test]
fn a_runtime_that_ended_takes_it_along_and_the_next_makes_another() {
    let server = Server::redis().start();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new(&server.url());
    // The main connection is at home on another one, which stays.
    let main = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    main.block_on(async { world.store.ping().await.unwrap() });
    for _ in 0..3 {
        let one = runtime();
        one.block_on(world.until_tracked());
        world.book.clear();
        drop(one);
        assert_eq!(world.book.ways(), [Disconnected], "when its task is dropped");
    }
    // Both at once: one reads over a connection that the other drives.
    let (one, two) = (runtime(), main);
    two.block_on(world.until_tracked());
    one.block_on(async {
        for number in 0..100 {
            assert_eq!(world.book.forgets("k"), number);
            world.watch("k").await;
            server.command(&["SET", "k", "v"]);
            world.watch("k").await;
        }
    });
    drop(two);
    one.block_on(world.until_tracked());
}

#[test]
fn a_runtime_that_is_not_polled_any_more_is_replaced() {
    let server = Server::redis().start();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::with(&server.url(), DELTA);
    let main = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    main.block_on(async { world.store.ping().await.unwrap() });
    let idle = runtime();
    idle.block_on(world.until_tracked());
    world.book.clear();
    std::thread::sleep(DELTA + Duration::from_millis(100));
    assert_eq!(world.book.all(), [], "nobody polls");
    main.block_on(async {
        // Not over the connection that nobody drives.
        assert!(!world.read("k").await.unwrap().may_keep);
        assert_eq!(world.book.all(), [Disconnected]);
        world.until_tracked().await;
    });
    // What wakes up late says nothing of the new one.
    idle.block_on(async { tokio::time::sleep(Duration::from_millis(300)).await });
    world.assert_replaced();
}
