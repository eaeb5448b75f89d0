//! A function with `pending` never brings the old row back while a write of its entry is queued (I3, I20).

mod support;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use cache_aside::{Cache, Expiry, Job, Ttl, WriteBehind, cache};
use support::db::{Db, Down, age, until};
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::task::JoinSet;

/// What the database holds, until a worker writes what was sent.
const OLD: i64 = 7;
const NEW: i64 = 8;

#[cache(ttl = 60, key = "row:{id}", pending = "writes", cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> i64 {
    db.load().await.unwrap()
}

/// A database that holds the old row, two processes' caches in front of it, as far as they can tell, and a
/// queue of writes for it.
struct World {
    db: Db,
    cache: Cache,
    other: Cache,
    writes: WriteBehind,
}

fn world(db: Db, [cache, other]: [Cache; 2]) -> World {
    let queue = WriteBehind::queue("writes").cache(&cache).retries(0);
    World { db, writes: queue.build().unwrap(), cache, other }
}

/// On the embedded store, which both caches then share, and on servers.
fn worlds() -> [World; 3] {
    let builder = Cache::builder().store_budget(secs(10)).near_staleness(secs(600));
    let embedded = builder.clone().build().unwrap();
    let on = |kind| {
        let server = Server::of(kind).start();
        let caches = [(); 2].map(|()| builder.clone().redis(server.url()).build().unwrap());
        world(Db::new(Some(server)), caches)
    };
    [world(Db::new(None), [embedded.clone(), embedded.clone()]), on(Kind::Redis), on(Kind::Valkey)]
}

impl World {
    /// As another process than that of the sender sees it.
    async fn row(&self) -> i64 {
        row(&self.other, &self.db, 1).await
    }

    /// Queues a row, with its entry.
    async fn send(&self, new: i64) {
        let entry = row::cache_entry(&self.cache, 1, &new).unwrap();
        self.writes.put(entry).send("set", 1, &new).await.unwrap();
    }

    /// Applies all that is queued.
    async fn settle(&self) {
        let write = async |job: Job<i64>, db: Db| {
            db.write(job.payload);
            Ok::<_, Infallible>(())
        };
        let workers = self.writes.workers(self.db.clone()).handle("set", write);
        assert_eq!(workers.run_until(async {}).await.unwrap(), 0);
    }

    /// How often the reader's function ran, and how often a queued write answered it instead.
    fn counts(&self) -> (u64, u64) {
        (self.db.loads(), self.other.stats().pending_hits)
    }
}

/// A way in which an entry goes.
type Loss = (&'static str, fn(&Cache) -> Pin<Box<dyn Future<Output = ()> + '_>>);

const LOSSES: [Loss; 5] = [
    ("clear_cache", |cache| Box::pin(async { assert!(row::clear_cache(cache, 1).await.unwrap()) })),
    ("clear_cache_all", |cache| Box::pin(async { row::clear_cache_all(cache).await.unwrap() })),
    ("delete", |cache| Box::pin(async { assert!(cache.delete("row:1").await.unwrap()) })),
    ("a pattern", |cache| Box::pin(async { assert_eq!(cache.delete_pattern("row:*").await.unwrap(), 1) })),
    ("its life ends", |cache| {
        Box::pin(async {
            age(cache, "row:1", ms(1)).await;
            until("it has ended", async || !cache.exists("row:1").await.unwrap()).await;
        })
    }),
];

#[tokio::test]
async fn however_the_entry_goes_the_old_row_stays_away_until_the_new_one_is_written() {
    for world in worlds() {
        assert_eq!(world.row().await, OLD);
        world.send(NEW).await;
        assert_eq!(world.row().await, NEW);
        for (count, (loss, lose)) in (1..).zip(LOSSES) {
            lose(&world.cache).await;
            assert_eq!(world.row().await, NEW, "{loss}");
            assert_eq!(world.counts(), (1, count), "{loss}");
            assert_eq!(world.row().await, NEW, "{loss}");
            assert_eq!(world.counts(), (1, count), "{loss}: it wasn't stored again");
            assert!(matches!(world.cache.ttl("row:1").await.unwrap(), Expiry::In(left) if left > secs(50)));
        }
        world.settle().await;
        row::clear_cache(&world.cache, 1).await.unwrap();
        assert_eq!(world.row().await, NEW);
        assert_eq!(world.counts(), (2, 5), "nothing is pending any more");
    }
}

#[tokio::test]
async fn what_was_stored_with_the_write_stays_when_that_is_settled() {
    for world in worlds() {
        world.send(NEW).await;
        world.settle().await;
        assert_eq!(world.row().await, NEW);
        assert_eq!((world.counts(), world.other.stats().hits), ((0, 0), 1));
    }
}

#[tokio::test]
async fn what_was_brought_back_goes_when_the_write_is_settled() {
    for world in worlds() {
        world.send(NEW).await;
        // Somebody changes another column past the queue.
        row::clear_cache(&world.cache, 1).await.unwrap();
        assert_eq!(world.row().await, NEW);
        let both = async |job: Job<i64>, db: Db| {
            db.write(job.payload + 1);
            Ok::<_, Infallible>(())
        };
        let workers = world.writes.workers(world.db.clone()).handle("set", both);
        assert_eq!(workers.run_until(async {}).await.unwrap(), 0);
        assert_eq!(world.row().await, NEW + 1, "the copy outlived its write");
    }
}

#[tokio::test]
async fn the_last_write_counts_and_a_dead_letter_does_not() {
    for world in worlds() {
        world.send(NEW).await;
        world.send(NEW + 1).await;
        row::clear_cache(&world.cache, 1).await.unwrap();
        assert_eq!((world.row().await, world.counts()), (NEW + 1, (0, 1)));
        let fail = async |_: Job<i64>, ()| Err("no such table");
        let workers = world.writes.workers(()).handle("set", fail);
        assert_eq!(workers.run_until(async {}).await.unwrap(), 0);
        assert_eq!(world.writes.stats().await.unwrap().dead_letters, 2);
        assert_eq!((world.row().await, world.counts()), (OLD, (1, 1)));
    }
}

#[tokio::test]
async fn a_load_that_began_before_the_write_is_not_stored() {
    for world in worlds() {
        world.db.takes(150);
        let load = tokio::spawn({
            let (cache, db) = (world.other.clone(), world.db.clone());
            async move { row(&cache, &db, 1).await }
        });
        until("it loads", async || world.db.loads() == 1).await;
        world.send(NEW).await;
        // Who asks now doesn't join it.
        assert_eq!(world.row().await, NEW);
        row::clear_cache(&world.cache, 1).await.unwrap();
        assert_eq!(world.row().await, NEW);
        assert_eq!(load.await.unwrap(), OLD, "it asked before");
        assert_eq!(world.row().await, NEW);
        assert_eq!(world.db.loads(), 1);
    }
}

#[tokio::test]
async fn a_refresh_by_hand_gives_what_is_queued() {
    for world in worlds() {
        world.send(NEW).await;
        for is_there in [true, false] {
            assert_eq!(row::refresh_cache(&world.other, &world.db, 1).await, NEW);
            assert_eq!(row::cached(&world.cache, 1).await.unwrap(), Some(NEW), "{is_there}");
            row::clear_cache(&world.cache, 1).await.unwrap();
        }
        assert_eq!(world.counts(), (0, 2));
        world.settle().await;
        assert_eq!(row::refresh_cache(&world.other, &world.db, 1).await, NEW);
        assert_eq!(world.counts(), (1, 2));
    }
}

#[cache(ttl = 60, refresh_ahead = 20, key = "ahead", pending = "writes", cache = cache)]
async fn ahead(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[tokio::test]
async fn a_refresh_in_the_background_stores_what_is_queued() {
    for world in worlds() {
        let entry = ahead::cache_entry(&world.cache, &NEW).unwrap();
        world.writes.put(entry).send("set", 1, &NEW).await.unwrap();
        age(&world.cache, "ahead", secs(10)).await;
        assert_eq!(ahead(&world.other, &world.db).await, Ok(NEW));
        let renewed =
            async || matches!(world.cache.ttl("ahead").await.unwrap(), Expiry::In(left) if left > secs(50));
        until("it is renewed", renewed).await;
        assert_eq!(ahead(&world.other, &world.db).await, Ok(NEW));
        assert_eq!(world.counts(), (0, 0));
    }
}

#[cache(ttl = 60, stale_if_error = "1h", key = "kept", pending = "writes", cache = cache)]
async fn kept(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[tokio::test]
async fn a_value_past_its_life_is_renewed_by_what_is_queued() {
    for world in worlds() {
        let entry = kept::cache_entry(&world.cache, &NEW).unwrap();
        world.writes.put(entry).send("set", 1, &NEW).await.unwrap();
        age(&world.cache, "kept", secs(1800)).await;
        assert_eq!(kept(&world.other, &world.db).await, Ok(NEW));
        assert_eq!(world.counts(), (0, 1));
        assert!(matches!(world.cache.ttl("kept").await.unwrap(), Expiry::In(left) if left > secs(50)));
    }
}

#[cache(ttl = 60, near = true, key = "near", pending = "writes", cache = cache)]
async fn near(cache: &Cache, db: &Db) -> i64 {
    db.load().await.unwrap()
}

#[tokio::test]
async fn what_is_brought_back_is_kept_in_the_process_and_goes_with_its_write() {
    for world in worlds() {
        let read = async || near(&world.other, &world.db).await;
        let until_near = async |value: i64| {
            let before = world.other.stats().near_hits;
            let is_near = async || read().await == value && world.other.stats().near_hits > before;
            until("it is kept", is_near).await;
        };
        until_near(OLD).await;
        let entry = near::cache_entry(&world.cache, &NEW).unwrap();
        world.writes.put(entry).send("set", 1, &NEW).await.unwrap();
        until_near(NEW).await;
        near::clear_cache(&world.cache).await.unwrap();
        until_near(NEW).await;
        assert_eq!(world.counts(), (1, 1));
        world.settle().await;
        world.db.write(NEW + 1);
        until("it has gone", async || read().await == NEW + 1).await;
    }
}

#[tokio::test]
async fn a_crowd_gets_what_is_queued() {
    for world in worlds() {
        world.send(NEW).await;
        row::clear_cache(&world.cache, 1).await.unwrap();
        let mut crowd = JoinSet::new();
        for _ in 0..200 {
            let (cache, db) = (world.other.clone(), world.db.clone());
            crowd.spawn(async move { row(&cache, &db, 1).await });
        }
        assert!(crowd.join_all().await.iter().all(|value| *value == NEW));
        let stats = world.other.stats();
        let answered = stats.hits + stats.pending_hits + stats.coalesced;
        assert_eq!((world.db.loads(), stats.pending_hits, answered), (0, 1, 200), "{stats:?}");
    }
}

#[tokio::test]
async fn plain_json_is_the_answer_and_is_not_stored_again() {
    for world in worlds() {
        world.writes.put_json("row:1", &NEW, Ttl::Default).send("set", 1, &NEW).await.unwrap();
        assert_eq!((world.row().await, world.counts()), (NEW, (0, 0)));
        world.cache.delete("row:1").await.unwrap();
        assert_eq!((world.row().await, world.row().await, world.counts()), (NEW, NEW, (0, 2)));
        assert!(!world.cache.exists("row:1").await.unwrap());
        world.settle().await;
        assert_eq!((world.row().await, world.counts()), (NEW, (1, 2)));
    }
}
