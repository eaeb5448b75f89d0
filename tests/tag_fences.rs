//! Tags that are fenced: a writer that is killed, anywhere, leaves nothing stale beyond its fence (I18).

#[path = "support/log.rs"]
mod log;
mod support;

use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use cache_aside::{Cache, cache, cache_invalidate, cache_put, deferred};
use log::Log;
use support::fleet::{self, Folder, Lines, Member};
use support::server::{Kind, Server};
use support::{embedded, ms, secs};
use tokio::sync::{Notify, Semaphore};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

fn over(url: &str) -> Cache {
    Cache::builder().redis(url).store_budget(secs(10)).build().unwrap()
}

/// A row, whose loads can be held up once they have read it.
struct Db {
    row: AtomicU64,
    loads: AtomicU64,
    has_read: Notify,
    gate: Semaphore,
}

impl Db {
    fn new() -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self { row: 1.into(), loads: 0.into(), has_read: Notify::new(), gate }
    }

    async fn load(&self) -> u64 {
        self.loads.fetch_add(1, SeqCst);
        let row = self.row.load(SeqCst);
        self.has_read.notify_one();
        let _open = self.gate.acquire().await.unwrap();
        row
    }
}

#[cache(ttl = 600, key = "row", tags = ["row:1"], cache = cache)]
async fn row(cache: &Cache, db: &Db) -> u64 {
    db.load().await
}

#[cache(ttl = "10d", key = "long", tags = ["row:1"], cache = cache)]
async fn long(cache: &Cache, db: &Db) -> u64 {
    db.load().await
}

/// Only what it returns says which row it is.
#[cache(ttl = 600, key = "named", tags = ["row:{value.0}"], cache = cache)]
async fn named(cache: &Cache, db: &Db) -> (u64, u64) {
    (1, db.load().await)
}

#[cache(ttl = 600, key = "near", tags = ["row:1"], near = true, cache = cache)]
async fn near(cache: &Cache, db: &Db) -> u64 {
    db.load().await
}

#[cache_put(row(cache))]
async fn put_row(cache: &Cache, db: &Db) -> u64 {
    db.load().await
}

/// Goes on when it may.
struct Steps {
    begun: Notify,
    gate: Semaphore,
}

impl Steps {
    fn new(permits: usize) -> Self {
        Self { begun: Notify::new(), gate: Semaphore::new(permits) }
    }

    async fn take(&self) {
        self.begun.notify_one();
        self.gate.acquire().await.unwrap().forget();
    }
}

#[cache_invalidate(tags = ["row:{id}", "rows"], fence = 60, cache = cache)]
async fn write(cache: &Cache, id: u64, steps: &Steps) {
    let _ = id;
    steps.take().await;
}

#[cache_invalidate(tags = ["row:{id}"], fence = "1s", cache = cache)]
async fn write_quickly(cache: &Cache, id: u64, steps: &Steps) {
    let _ = id;
    steps.take().await;
}

/// Runs a future until its body has begun.
macro_rules! begin {
    ($future:expr, $begun:expr) => {
        tokio::select! {
            _ = $future.as_mut() => panic!("it doesn't wait"),
            () = $begun.notified() => {}
        }
    };
}

/// How many loads two reads of it cost.
macro_rules! cost {
    ($function:ident, $cache:expr, $db:expr) => {{
        let before = $db.loads.load(SeqCst);
        $function($cache, $db).await;
        $function($cache, $db).await;
        $db.loads.load(SeqCst) - before
    }};
}

/// Reads until there is a hit.
macro_rules! until_hits {
    ($function:ident, $cache:expr, $db:expr) => {{
        let begun = Instant::now();
        while cost!($function, $cache, $db) > 0 {
            assert!(begun.elapsed() < secs(20), "the fence has ended");
            tokio::time::sleep(ms(10)).await;
        }
    }};
}

#[tokio::test]
async fn what_has_a_fenced_tag_is_no_hit_and_is_not_stored() {
    let servers = BOTH.map(|kind| Server::of(kind).start());
    let remote = servers.iter().map(|server| (over(&server.url()), over(&server.url())));
    let local = embedded();
    for (cache, other) in remote.chain([(local.clone(), local)]) {
        let (db, steps, second) = (Db::new(), Steps::new(0), Steps::new(1));
        for cache in [&cache, &other] {
            until_hits!(row, cache, &db);
            until_hits!(named, cache, &db);
            while cache.stats().near_hits == 0 {
                near(cache, &db).await;
            }
        }
        let (log, _guard) = Log::new();
        let mut writer = pin!(write(&cache, 1, &steps));
        begin!(writer, steps.begun);
        assert_eq!([cost!(row, &cache, &db), cost!(named, &cache, &db), cost!(near, &cache, &db)], [2; 3]);
        assert_eq!([cost!(row, &other, &db), cost!(named, &other, &db)], [2; 2]);
        while cost!(near, &other, &db) < 2 {
            tokio::time::sleep(ms(5)).await;
        }
        // Nothing is put, either; and another writer, done before this one, changes nothing.
        row::put_cache(&cache, &7).await.unwrap();
        assert_eq!(put_row(&cache, &db).await, 1);
        write(&other, 1, &second).await;
        for cache in [&cache, &other] {
            assert_eq!(row::cached(cache).await.unwrap(), None);
            assert_eq!([cost!(row, cache, &db), cost!(named, cache, &db), cost!(near, cache, &db)], [2; 3]);
        }
        let log = log.text();
        assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
        assert_eq!((cache.stats().store_errors, other.stats().store_errors), (0, 0));
        steps.gate.add_permits(1);
        writer.await;
        for cache in [&cache, &other] {
            until_hits!(row, cache, &db);
            until_hits!(named, cache, &db);
            until_hits!(near, cache, &db);
        }
    }
}

/// Whoever reads behind the fence of a writer that is killed mustn't store it once the fence has ended.
#[tokio::test]
async fn a_load_from_behind_a_fence_that_ended_is_not_stored() {
    let servers = BOTH.map(|kind| Server::of(kind).start());
    for cache in servers.iter().map(|server| over(&server.url())).chain([embedded()]) {
        let (db, held, steps) = (Db::new(), Db::new(), Steps::new(0));
        held.gate.forget_permits(Semaphore::MAX_PERMITS);
        let mut writer = Box::pin(write_quickly(&cache, 1, &steps));
        begin!(writer, steps.begun);
        let mut late = pin!(named(&cache, &held));
        begin!(late, held.has_read);
        // Killed: nothing of it is run any more.
        mem::forget(writer);
        until_hits!(row, &cache, &db);
        held.row.store(2, SeqCst);
        held.gate.add_permits(10);
        assert_eq!(late.await, (1, 1));
        assert_eq!(named(&cache, &held).await, (1, 2), "the old row is stored");
    }
}

/// What is stored lengthens the life of its tags, and would that of a fence.
#[tokio::test]
async fn a_load_from_before_a_fence_does_not_make_it_longer() {
    let servers = BOTH.map(|kind| Server::of(kind).start());
    for cache in servers.iter().map(|server| over(&server.url())).chain([embedded()]) {
        let (db, held, steps) = (Db::new(), Db::new(), Steps::new(0));
        held.gate.forget_permits(Semaphore::MAX_PERMITS);
        let mut early = pin!(long(&cache, &held));
        begin!(early, held.has_read);
        let mut writer = Box::pin(write_quickly(&cache, 1, &steps));
        begin!(writer, steps.begun);
        held.row.store(2, SeqCst);
        held.gate.add_permits(10);
        assert_eq!(early.await, 1);
        assert_eq!(long(&cache, &held).await, 2);
        mem::forget(writer);
        until_hits!(row, &cache, &db);
        until_hits!(long, &cache, &held);
    }
}

#[cache_invalidate(tags = ["row:1"], fence = "50ms", cache = cache)]
async fn write_longer_than_its_fence(cache: &Cache, db: &Db) {
    // The fence has ended, and readers have stored the old row.
    until_hits!(row, cache, db);
    until_hits!(named, cache, db);
    db.row.store(2, SeqCst);
}

#[tokio::test]
async fn a_write_that_takes_longer_than_its_fence_leaves_nothing_stale_either() {
    let server = Server::redis().start();
    for cache in [embedded(), over(&server.url())] {
        let db = Db::new();
        write_longer_than_its_fence(&cache, &db).await;
        assert_eq!((row(&cache, &db).await, named(&cache, &db).await), (2, (1, 2)));
    }
}

#[tokio::test]
async fn inside_a_transaction_the_fence_stands_until_it_is_known_how_it_ends() {
    let server = Server::redis().start();
    for cache in [embedded(), over(&server.url())] {
        let db = Db::new();
        for commits in [true, false] {
            until_hits!(row, &cache, &db);
            let ((), invalidations) = deferred(write(&cache, 1, &Steps::new(1))).await;
            assert_eq!([cost!(row, &cache, &db), cost!(named, &cache, &db)], [2; 2]);
            if commits {
                invalidations.apply().await;
                assert_eq!([cost!(row, &cache, &db), cost!(named, &cache, &db)], [1; 2]);
            } else {
                invalidations.discard();
                until_hits!(row, &cache, &db);
                until_hits!(named, &cache, &db);
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_keeps_nobody_from_writing() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(2)).build().unwrap();
    let db = Db::new();
    until_hits!(row, &cache, &db);
    server.freeze();
    let (log, _guard) = Log::new();
    write(&cache, 1, &Steps::new(1)).await;
    assert!(log.text().contains("a fence can't be put up"), "{}", log.text());
    assert_eq!(cache.pending_invalidations(), 3, "two tags, and the gate");
    db.row.store(2, SeqCst);
    server.thaw();
    while cache.pending_invalidations() > 0 {
        assert_eq!(row(&cache, &db).await, 2);
        tokio::time::sleep(ms(5)).await;
    }
    until_hits!(row, &cache, &db);
    until_hits!(named, &cache, &db);
    assert_eq!((row(&cache, &db).await, server.command(&["EXISTS", "@tag:rows"])), (2, "0".to_owned()));
}

#[cache_invalidate(tags = ["row:1"], fence = "3s", cache = cache)]
async fn write_to_server(cache: &Cache, server: &Cache, lines: &Lines, mut orders: impl AsyncFnMut()) {
    let _ = cache;
    lines.say("begun");
    orders().await;
    server.set("db", &2, secs(600)).await.unwrap();
    lines.say("committed");
    orders().await;
}

/// A writer in a process of its own, which takes each step when it is told to.
fn member() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = over(&fleet::given("URL").unwrap());
        let (lines, mut told) = (Lines::of_member(), fleet::orders());
        let orders = async || {
            if told.recv().await.is_none() {
                std::process::exit(0);
            }
        };
        write_to_server(&cache, &cache, &lines, orders).await;
        lines.say("done");
    });
}

#[tokio::test]
async fn a_writer_killed_after_its_commit_leaves_nothing_stale() {
    const NAME: &str = "a_writer_killed_after_its_commit_leaves_nothing_stale";
    if fleet::is_member() {
        return tokio::task::spawn_blocking(member).await.unwrap();
    }
    for kind in BOTH {
        let (server, folder, db) = (Server::of(kind).start(), Folder::new(), Db::new());
        let (url, cache) = (server.url(), over(&server.url()));
        until_hits!(row, &cache, &db);
        until_hits!(named, &cache, &db);
        let mut writer = Member::start(NAME, folder.path().join("said"), &[("URL", &url)]);
        writer.until_says("begun").await;
        assert_eq!([cost!(row, &cache, &db), cost!(named, &cache, &db)], [2; 2]);
        writer.tell("commit");
        writer.until_says("committed").await;
        db.row.store(cache.get("db").await.unwrap().unwrap(), SeqCst);
        writer.kill();
        let begun = Instant::now();
        while cost!(row, &cache, &db) + cost!(named, &cache, &db) > 0 {
            assert_eq!((row(&cache, &db).await, named(&cache, &db).await), (2, (1, 2)), "a stale value");
            assert!(begun.elapsed() < secs(20), "the fence has ended");
            tokio::time::sleep(ms(10)).await;
        }
        assert_eq!((row(&cache, &db).await, named(&cache, &db).await), (2, (1, 2)));
    }
}
