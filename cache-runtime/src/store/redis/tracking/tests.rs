//! What real servers do to a tracked connection, and what its keeper hears of it, in which order.
#![allow(dead_code, unreachable_pub)] // of what all tests share, these take a part

#[path = "../../../../../tests/support/link.rs"]
mod link;
#[path = "../../../../../tests/support/log.rs"]
mod log;
#[path = "../../../../../tests/support/net.rs"]
mod net;
#[path = "../../../../../tests/support/process.rs"]
mod process;
#[path = "../../../../../tests/support/proxy.rs"]
mod proxy;
#[path = "../../../../../tests/support/resp.rs"]
mod resp;
#[path = "../../../../../tests/support/seen.rs"]
mod seen;
#[path = "../../../../../tests/support/server.rs"]
mod server;
#[path = "../../../../../tests/support/tricks.rs"]
mod tricks;

use std::time::Instant;

use proxy::{Half, Proxy};
use server::{Kind, Server};

use super::*;
use crate::recovery::{Kept, Target};
use crate::store::redis::tracker::tell;
use crate::store::redis::{Address, RedisStore};
use crate::store::{Store, Tracked};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];
/// Shorter than by default, so that tests are.
const DELTA: Duration = Duration::from_millis(900);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Forget(String),
    ForgetAll,
    Connected(u64),
    Alive(u64),
    Disconnected,
    Without,
}
use Heard::{Alive, Connected, Disconnected, Forget, ForgetAll, Without};

/// A keeper that writes down what it hears.
#[derive(Debug, Default)]
struct Book(Mutex<Vec<Heard>>);

impl Book {
    fn note(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }

    fn all(&self) -> Vec<Heard> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, of: impl Fn(&Heard) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|heard| of(heard)).count()
    }

    fn forgets(&self, key: &str) -> usize {
        self.count(|heard| matches!(heard, Forget(forgotten) if forgotten == key))
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// What was said of connections, without signs of life.
    fn ways(&self) -> Vec<Heard> {
        let of_keys = |heard: &Heard| matches!(heard, Forget(_) | ForgetAll | Alive(_));
        self.all().into_iter().filter(|heard| !of_keys(heard)).collect()
    }
}

impl Keeper for Book {
    fn forget(&self, key: &[u8]) {
        self.note(Forget(String::from_utf8_lossy(key).into_owned()));
    }

    fn forget_all(&self) {
        self.note(ForgetAll);
    }

    fn connected(&self, sent: u64) {
        self.note(Connected(sent));
    }

    fn alive(&self, sent: u64) {
        self.note(Alive(sent));
    }

    fn disconnected(&self) {
        self.note(Disconnected);
    }

    fn without_tracking(&self) {
        self.note(Without);
    }
}

fn options(delta: Duration) -> LinkOptions {
    LinkOptions {
        budget: Duration::from_millis(500),
        breaker: 50,
        reconnect: (Duration::from_millis(20), Duration::from_millis(200)),
        delta,
    }
}

struct World {
    store: RedisStore,
    book: Arc<Book>,
    kept: Arc<Kept>,
}

impl World {
    fn new(url: &str) -> Self {
        Self::with(url, DELTA)
    }

    fn with(url: &str, delta: Duration) -> Self {
        let (kept, book) = (Arc::new(Kept::new(100, "*".to_owned())), Arc::<Book>::default());
        let store = RedisStore::new(Address::parse(url).unwrap(), options(delta), Arc::clone(&kept));
        store.track(Arc::<Book>::clone(&book));
        Self { store, book, kept }
    }

    /// One that is connected.
    async fn tracked(url: &str) -> Self {
        let world = Self::new(url);
        world.until_tracked().await;
        world
    }

    /// As a caller of the cache would: within a budget.
    async fn read(&self, key: &str) -> Result<Tracked, StoreError> {
        tokio::time::timeout(Duration::from_millis(500), self.store.get_tracked(key))
            .await
            .unwrap_or_else(|_| Err(StoreError::Timeout("in the test".to_owned())))
    }

    /// Reads what will be watched.
    async fn watch(&self, key: &str) -> Option<String> {
        let read = self.read(key).await.unwrap();
        assert!(read.may_keep, "{:?}", self.book.all());
        read.found.map(|(value, _)| String::from_utf8(value.to_vec()).unwrap())
    }

    async fn until_tracked(&self) {
        until("tracked", async || self.read("until").await.is_ok_and(|read| read.may_keep)).await;
    }

    async fn until_heard(&self, heard: &Heard) {
        until(heard, async || self.book.all().contains(heard)).await;
    }
}

async fn until(what: impl std::fmt::Debug, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "not in ten seconds: {what:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The ids of the server's clients that track.
fn trackers(server: &Server) -> Vec<String> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let list = server.command(&["CLIENT", "LIST"]);
    list.lines().filter(|line| field(line, "flags=").contains('t')).map(|line| field(line, "id=")).collect()
}

// What is said of keys.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_heard_of_before_any_later_reply_is_handed_out() {
    for kind in BOTH {
        let server = Arc::new(Server::of(kind).start());
        let world = World::tracked(&server.url()).await;
        server.command(&["SET", "k", "0"]);
        world.watch("k").await;
        for change in 1..=500 {
            let setting = {
                let server = Arc::clone(&server);
                tokio::task::spawn_blocking(move || server.command(&["SET", "k", &change.to_string()]))
            };
            // Each value was read before it was changed, so each change is told.
            while {
                let is_set = setting.is_finished();
                let read: usize = world.watch("k").await.unwrap().parse().unwrap();
                assert!(world.book.forgets("k") >= read, "{read}");
                !is_set
            } {}
        }
        assert_eq!(world.book.forgets("k"), 500);
    }
}

#[tokio::test]
async fn all_keys_of_one_command_are_named() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        let keys: Vec<_> = (0..300).map(|number| format!("{{many}}:{number}")).collect();
        for key in &keys {
            server.command(&["SET", key, "v"]);
            world.watch(key).await;
        }
        server.command(&[&["DEL"][..], &keys.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        world.watch("after").await;
        for key in &keys {
            assert_eq!(world.book.forgets(key), 1, "{key}");
        }
        // By a script, in a transaction, and of a key that wasn't there.
        world.watch("absent").await;
        world.watch("{s}a").await;
        server.command(&[
            "EVAL",
            "redis.call('SET', KEYS[1], 1) return redis.call('SET', KEYS[2], 1)",
            "2",
            "absent",
            "{s}a",
        ]);
        world.watch("after").await;
        assert_eq!((world.book.forgets("absent"), world.book.forgets("{s}a")), (1, 1));
    }
}

#[tokio::test]
async fn what_this_process_writes_over_the_main_connection_is_heard_of_too() {
    let server = Server::redis().start();
    let world = World::tracked(&server.url()).await;
    world.watch("k").await;
    world.store.set("k", "v".into(), None).await.unwrap();
    assert_eq!(world.watch("k").await.as_deref(), Some("v"));
    assert_eq!(world.book.forgets("k"), 1);
    world.store.remove("k").await.unwrap();
    assert_eq!(world.watch("k").await, None);
    assert_eq!(world.book.forgets("k"), 2);
}

#[tokio::test]
async fn a_flush_is_about_all_keys() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        for (number, flush) in [(1, "FLUSHDB"), (2, "FLUSHALL")] {
            server.command(&["SET", "k", "v"]);
            world.watch("k").await;
            server.command(&[flush]);
            assert_eq!(world.watch("k").await, None);
            assert_eq!(world.book.count(|heard| *heard == ForgetAll), number, "{flush}");
        }
    }
}

#[tokio::test]
async fn expiry_and_eviction_are_heard_of() {
    for kind in BOTH {
        let server = Server::of(kind).config("maxmemory-policy", "allkeys-lru").start();
        let world = World::tracked(&server.url()).await;
        server.command(&["SET", "short", "v", "PX", "50"]);
        let read = world.read("short").await.unwrap();
        assert!(read.found.unwrap().1.unwrap() <= Duration::from_millis(50));
        world.until_heard(&Forget("short".to_owned())).await;

        for number in 0..50 {
            let key = format!("evicted {number}");
            server.command(&["SET", &key, &"v".repeat(10_000)]);
            world.watch(&key).await;
        }
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        world.until_heard(&Forget("evicted 7".to_owned())).await;
    }
}

#[tokio::test]
async fn keys_that_the_server_remembers_no_longer_are_named() {
    for kind in BOTH {
        let server = Server::of(kind).config("tracking-table-max-keys", "10").start();
        let world = World::tracked(&server.url()).await;
        for number in 0..200 {
            world.watch(&format!("k{number}")).await;
        }
        until("dropped keys", async || world.book.count(|heard| matches!(heard, Forget(_))) >= 190).await;
    }
}

#[test]
fn what_is_not_understood_is_about_all_keys() {
    let heard = |data: &[Value]| {
        let book = Arc::<Book>::default();
        tell(&*book, data);
        book.all()
    };
    let key = |key: &str| Value::BulkString(key.into());
    assert_eq!(
        heard(&[Value::Array(vec![key("a"), key("b")])]),
        [Forget("a".to_owned()), Forget("b".to_owned())]
    );
    assert_eq!(heard(&[Value::Array(vec![key("a"), Value::Int(1)])]), [Forget("a".to_owned()), ForgetAll]);
    assert_eq!(heard(&[Value::Nil]), [ForgetAll]);
    assert_eq!(heard(&[]), [ForgetAll]);
    assert_eq!(heard(&[Value::Array(vec![]), Value::Nil]), [ForgetAll]);
}

// When there is a connection.

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
    proxy.refuse(true);
    for _ in 0..50 {
        let begun = Instant::now();
        assert!(!world.read("k").await.unwrap().may_keep);
        assert!(begun.elapsed() < Duration::from_millis(300));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.book.all(), []);
    proxy.refuse(false);
    world.until_tracked().await;
}

#[tokio::test]
async fn signs_of_life_bear_the_time_of_their_question() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let before = clock::coarse();
        let world = World::tracked(&proxy.url()).await;
        proxy.delay(Duration::from_millis(200));
        world.book.clear();
        until("signs of life", async || world.book.count(|heard| matches!(heard, Alive(_))) >= 3).await;
        let mut last = before;
        for heard in world.book.all() {
            let Alive(sent) = heard else { panic!("{heard:?}") };
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
        // Its end is heard of, not missed with a sign of life.
        let world = World::with(&server.url(), Duration::from_secs(60));
        world.until_tracked().await;
        for _ in 0..3 {
            world.book.clear();
            world.watch("k").await;
            let [id] = &trackers(&server)[..] else { panic!("one") };
            server.command(&["CLIENT", "KILL", "ID", id]);
            // Without anybody who reads.
            world.until_heard(&Disconnected).await;
            world.until_tracked().await;
            assert!(matches!(world.book.ways()[..], [Disconnected, Connected(_)]), "{:?}", world.book.all());
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
        assert!(matches!(world.book.ways()[..], [Disconnected, Connected(_)]), "{:?}", world.book.all());
        assert_eq!(world.watch("k").await, None);
    }
}

#[tokio::test]
async fn a_frozen_server_gives_no_sign_of_life_and_is_given_up() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        world.book.clear();
        let frozen = clock::coarse();
        server.freeze();
        world.until_heard(&Disconnected).await;
        let took = Duration::from_millis(clock::coarse() - frozen);
        assert!(took > DELTA / 2 && took < DELTA * 2, "{took:?}");
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
        let world = World::tracked(&proxy.url()).await;
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
        let world = World::tracked(&server.url()).await;
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
        let server = Server::of(kind).user("app", "secret", "~* &* +@all -@dangerous").start();
        let world = World::tracked(&server.url()).await;
        world.watch("k").await;
        server.command(&["SET", "k", "v"]);
        assert_eq!(world.watch("k").await.as_deref(), Some("v"));
        assert_eq!(world.book.forgets("k"), 1);
        assert!(matches!(world.book.ways()[..], [Connected(_)]));
    }
}

// Beside the main connection.

#[tokio::test]
async fn distrust_ends_it_at_once() {
    let server = Server::redis().start();
    let world = World::tracked(&server.url()).await;
    for _ in 0..20 {
        world.book.clear();
        world.store.distrust("in a test");
        assert_eq!(world.book.ways(), [Disconnected], "before it returns");
        world.until_tracked().await;
        assert!(matches!(world.book.ways()[..], [Disconnected, Connected(_)]));
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
        server.command(&["CLIENT", "PAUSE", "400", "WRITE"]);
        world.book.clear();
        world.kept.keep(Target::Key("k".to_owned()), None);
        world.store.distrust("an invalidation waits");
        assert_eq!(world.book.ways(), [Disconnected]);
        let mut refused = 0;
        while let Err(error) = world.read("k").await {
            assert!(!world.kept.is_empty() || refused > 0, "{error}");
            refused += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(refused > 10 && world.kept.is_empty());
        assert_eq!(world.read("k").await.unwrap().found, None);
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
    let address = Address::parse(&server.url()).unwrap();
    let push = |_: redis::PushInfo| Ok::<(), ()>(());
    let connection = crate::store::redis::supervisor::open(&address, Some(push)).await.unwrap();
    let (tracking, book) = (Tracking::new(options(DELTA)), Arc::<Book>::default());
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
        assert!(matches!(world.book.ways()[..], [Disconnected, Connected(_)]), "{:?}", world.book.ways());
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
    let world = World::new(&server.url());
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
    assert_eq!(world.book.ways().len(), 2, "{:?}", world.book.all());
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
