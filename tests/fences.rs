//! A writer that is killed, anywhere, leaves nothing stale beyond its fence (I18).

#[path = "support/log.rs"]
mod log;
mod support;

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::time::Instant;

use cache_aside::{Cache, cache, cache_invalidate, deferred};
use log::Log;
use support::fleet::{self, Folder, Lines, Member};
use support::server::{Kind, Server};
use support::{Loads, embedded, ms, secs};
use tokio::sync::{Notify, Semaphore};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

fn over(url: &str) -> Cache {
    Cache::builder().redis(url).store_budget(secs(10)).build().unwrap()
}

/// The row, in a file.
#[cache(ttl = 600, key = "row", cache = cache)]
async fn row(cache: &Cache, db: &Path) -> u64 {
    stored(db)
}

fn stored(db: &Path) -> u64 {
    fs::read_to_string(db).unwrap().parse().unwrap()
}

fn store(db: &Path, row: u64) {
    let new = db.with_extension("new");
    fs::write(&new, row.to_string()).unwrap();
    fs::rename(new, db).unwrap();
}

/// Where the writer waits to be killed; each is told to the parent.
async fn write_in_steps(db: &Path, row: u64, lines: &Lines, mut orders: impl AsyncFnMut()) {
    lines.say("begun");
    orders().await;
    store(db, row);
    lines.say("committed");
    orders().await;
}

#[cache_invalidate("row", fence = "3s", cache = cache)]
async fn write(cache: &Cache, db: &Path, row: u64, lines: &Lines, orders: impl AsyncFnMut()) {
    write_in_steps(db, row, lines, orders).await;
}

#[cache_invalidate("row", cache = cache)]
async fn write_without_fence(cache: &Cache, db: &Path, row: u64, lines: &Lines, orders: impl AsyncFnMut()) {
    write_in_steps(db, row, lines, orders).await;
}

/// A writer in a process of its own, which takes each step when it is told to.
fn member() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = over(&fleet::given("URL").unwrap());
        let (db, lines) = (fleet::given("DB").unwrap(), Lines::of_member());
        let mut told = fleet::orders();
        let orders = async || {
            if told.recv().await.is_none() {
                std::process::exit(0);
            }
        };
        let write = async {
            if fleet::number("FENCE") == 1 {
                write(&cache, db.as_ref(), 2, &lines, orders).await;
            } else {
                write_without_fence(&cache, db.as_ref(), 2, &lines, orders).await;
            }
        };
        write.await;
        lines.say("done");
    });
}

struct Scene {
    folder: Folder,
    server: Server,
    cache: Cache,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let server = Server::of(kind).start();
        let scene = Self { folder: Folder::new(), cache: over(&server.url()), server };
        store(&scene.db(), 1);
        assert_eq!(scene.read().await, 1);
        scene
    }

    fn db(&self) -> std::path::PathBuf {
        self.folder.path().join("row")
    }

    async fn read(&self) -> u64 {
        row(&self.cache, &self.db()).await
    }

    fn writer(&self, test: &str, fence: u8) -> Member {
        let (url, db) = (self.server.url(), self.db());
        let db = db.display();
        let file = self.folder.path().join(format!("said{fence}"));
        Member::start(test, file, &[("URL", &url), ("DB", &db), ("FENCE", &fence)])
    }

    /// Reads and checks until the value is a hit again.
    async fn until_hits(&self, row: u64) {
        let begun = Instant::now();
        let hits = || self.cache.stats().hits;
        let before = hits();
        while hits() == before {
            assert_eq!(self.read().await, row, "a stale value");
            assert!(begun.elapsed() < secs(20), "the fence has ended");
            tokio::time::sleep(ms(10)).await;
        }
    }
}

#[tokio::test]
async fn a_writer_killed_after_its_commit_leaves_nothing_stale() {
    const NAME: &str = "a_writer_killed_after_its_commit_leaves_nothing_stale";
    if fleet::is_member() {
        return tokio::task::spawn_blocking(member).await.unwrap();
    }
    for kind in BOTH {
        let scene = Scene::new(kind).await;
        let mut writer = scene.writer(NAME, 1);
        writer.until_says("begun").await;
        assert_eq!(scene.read().await, 1);
        writer.tell("commit");
        writer.until_says("committed").await;
        writer.kill();
        scene.until_hits(2).await;
    }
}

/// What the fence is for; were it not so, the tests beside it would show nothing.
#[tokio::test]
async fn without_a_fence_the_old_value_stays() {
    const NAME: &str = "without_a_fence_the_old_value_stays";
    if fleet::is_member() {
        return tokio::task::spawn_blocking(member).await.unwrap();
    }
    let scene = Scene::new(Kind::Redis).await;
    let mut writer = scene.writer(NAME, 0);
    writer.until_says("begun").await;
    writer.tell("commit");
    writer.until_says("committed").await;
    writer.kill();
    assert_eq!((scene.read().await, stored(&scene.db())), (1, 2));
}

/// With one token, or a fence that the first to finish takes away, the old row is stored between the two.
#[tokio::test]
async fn another_writer_who_is_done_does_not_end_the_fence_of_one_who_is_killed() {
    const NAME: &str = "another_writer_who_is_done_does_not_end_the_fence_of_one_who_is_killed";
    if fleet::is_member() {
        return tokio::task::spawn_blocking(member).await.unwrap();
    }
    for kind in BOTH {
        let scene = Scene::new(kind).await;
        let mut killed = scene.writer(NAME, 1);
        killed.until_says("begun").await;
        let lines = Lines::to(&scene.folder.path().join("mine"));
        write(&scene.cache, &scene.db(), 3, &lines, async || {}).await;
        assert_eq!(scene.read().await, 3);
        killed.tell("commit");
        killed.until_says("committed").await;
        killed.kill();
        scene.until_hits(2).await;
    }
}

/// A killed writer, at whatever moment: also while it puts up its fence or takes it away.
#[tokio::test]
async fn a_writer_killed_at_any_moment_leaves_nothing_stale() {
    const NAME: &str = "a_writer_killed_at_any_moment_leaves_nothing_stale";
    if fleet::is_member() {
        return tokio::task::spawn_blocking(member).await.unwrap();
    }
    let scene = Scene::new(Kind::Redis).await;
    for round in 0..10 {
        store(&scene.db(), 1);
        row::clear_cache(&scene.cache).await.unwrap();
        assert_eq!(scene.read().await, 1);
        let mut writer = scene.writer(NAME, 1);
        for _ in 0..2 {
            writer.tell("go on");
        }
        let begun = Instant::now();
        if round % 2 == 0 {
            // Some time after it has begun.
            while writer.said().is_empty() && begun.elapsed() < secs(20) {
                scene.read().await;
            }
            tokio::time::sleep(ms(fastrand::u64(..6))).await;
        } else {
            tokio::time::sleep(ms(fastrand::u64(..100))).await;
        }
        writer.kill();
        let _ = fs::remove_file(scene.folder.path().join("said1"));
        scene.until_hits(stored(&scene.db())).await;
    }
}

#[cache(ttl = 600, key = "near:{id}", near = true, cache = cache)]
async fn near(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

#[cache_invalidate("near:{id}", fence = 60, cache = cache)]
async fn write_near(cache: &Cache, id: u64, begun: &Notify, gate: &Semaphore) {
    let _ = id;
    begun.notify_one();
    gate.acquire().await.unwrap().forget();
}

/// How many loads two reads cost.
async fn cost(cache: &Cache, loads: &Loads) -> u64 {
    let before = loads.count();
    near(cache, loads, 1).await;
    near(cache, loads, 1).await;
    loads.count() - before
}

#[tokio::test]
async fn what_is_kept_in_a_process_goes_when_the_key_is_fenced() {
    let servers: Vec<Server> = BOTH.into_iter().map(|kind| Server::of(kind).start()).collect();
    let remote = servers.iter().map(|server| (over(&server.url()), over(&server.url())));
    let embedded = embedded();
    for (cache, other) in remote.chain([(embedded.clone(), embedded)]) {
        let (loads, begun, gate) = (Loads::new(), Notify::new(), Semaphore::new(0));
        for cache in [&cache, &other] {
            while cache.stats().near_hits == 0 {
                near(cache, &loads, 1).await;
            }
            cost(cache, &loads).await;
        }
        let mut write = pin!(write_near(&cache, 1, &begun, &gate));
        tokio::select! {
            () = write.as_mut() => panic!("it doesn't wait"),
            () = begun.notified() => {}
        }
        assert_eq!(cost(&cache, &loads).await, 2);
        while cost(&other, &loads).await < 2 {
            tokio::time::sleep(ms(5)).await;
        }
        gate.add_permits(1);
        write.await;
        assert_eq!(cost(&cache, &loads).await, 1);
    }
}

#[tokio::test]
async fn inside_a_transaction_the_fence_stands_until_it_is_known_how_it_ends() {
    let server = Server::redis().start();
    for cache in [embedded(), over(&server.url())] {
        let loads = Loads::new();
        for commits in [true, false] {
            assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (1, 0));
            let ((), invalidations) =
                deferred(write_near(&cache, 1, &Notify::new(), &Semaphore::new(1))).await;
            assert_eq!(cost(&cache, &loads).await, 2);
            if commits {
                invalidations.apply().await;
            } else {
                invalidations.discard();
                while cost(&cache, &loads).await == 2 {
                    tokio::time::sleep(ms(5)).await;
                }
                assert_eq!(cost(&cache, &loads).await, 0);
                near::clear_cache(&cache, 1).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_keeps_nobody_from_writing() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(2)).build().unwrap();
    let loads = Loads::new();
    assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (1, 0));
    server.freeze();
    let (log, _guard) = Log::new();
    write_near(&cache, 1, &Notify::new(), &Semaphore::new(1)).await;
    assert!(log.text().contains("a fence can't be put up"), "{}", log.text());
    assert_eq!(cache.pending_invalidations(), 1);
    server.thaw();
    while cache.pending_invalidations() > 0 {
        tokio::time::sleep(ms(5)).await;
    }
    while cost(&cache, &loads).await > 0 {
        tokio::time::sleep(ms(5)).await;
    }
}

#[cache_invalidate("row:{id}", fence = "50ms", cache = cache)]
async fn write_longer_than_its_fence(cache: &Cache, id: u64, rows: &Loads) {
    let _ = id;
    // The fence has ended, and a reader has stored the old row.
    while row_of::cached(cache, id).await.unwrap().is_none() {
        row_of(cache, rows, id).await;
        tokio::time::sleep(ms(5)).await;
    }
    rows.load(ms(0)).await;
}

#[cache(ttl = 600, key = "row:{id}", cache = cache)]
async fn row_of(cache: &Cache, rows: &Loads, id: u64) -> u64 {
    let _ = id;
    rows.count()
}

/// Taken away only if it is still there, the fence would leave what was stored after its end.
#[tokio::test]
async fn a_write_that_takes_longer_than_its_fence_leaves_nothing_stale_either() {
    let server = Server::redis().start();
    for cache in [embedded(), over(&server.url())] {
        let rows = Loads::new();
        write_longer_than_its_fence(&cache, 1, &rows).await;
        assert_eq!(row_of(&cache, &rows, 1).await, 1);
    }
}

#[cache(ttl = 600, skip(cache, loads), cache = cache)]
async fn hashed(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

#[cache_invalidate(hashed(cache, id), fence = "60s")]
async fn write_hashed(cache: &Cache, loads: &Loads, id: u64) -> [u64; 2] {
    [hashed(cache, loads, id).await, hashed(cache, loads, id).await]
}

#[tokio::test]
async fn a_typed_target_is_fenced_too() {
    let servers = BOTH.map(|kind| Server::of(kind).start());
    for cache in servers.iter().map(|server| over(&server.url())).chain([embedded()]) {
        let loads = Loads::default();
        assert_eq!(hashed(&cache, &loads, 1).await, 1);
        assert_eq!(write_hashed(&cache, &loads, 1).await, [2, 3], "nothing is stored behind the fence");
        assert_eq!([hashed(&cache, &loads, 1).await, hashed(&cache, &loads, 1).await], [4, 4]);
    }
}
