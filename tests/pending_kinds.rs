//! What is queued for functions of every kind: what they return, how they are keyed, tagged and fenced.

#[path = "support/log.rs"]
mod log;
mod support;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use cache_aside::{Cache, CacheEntry, Job, WriteBehind, cache, cache_invalidate};
use log::Log;
use serde::{Deserialize, Serialize};
use support::db::Row as Db;
use support::server::{Kind, Server};
use support::{embedded, secs};
use tokio::sync::Semaphore;

/// A database, a cache in front of it, and a queue of writes.
struct World {
    db: Db,
    cache: Cache,
    writes: WriteBehind,
    _server: Option<Server>,
}

/// On the embedded store and on a server.
fn worlds() -> [World; 2] {
    let server = Server::of(Kind::Redis).start();
    let remote = Cache::builder().store_budget(secs(10)).redis(server.url()).build().unwrap();
    [(embedded(), None), (remote, Some(server))].map(|(cache, server)| {
        let writes = WriteBehind::queue("writes").cache(&cache).build().unwrap();
        World { db: Db::default(), cache, writes, _server: server }
    })
}

impl World {
    async fn send(&self, entry: CacheEntry) {
        self.writes.put(entry).send("write", 1, &()).await.unwrap();
    }

    async fn settle(&self) {
        let nothing = async |_: Job<()>, ()| Ok::<_, Infallible>(());
        let workers = self.writes.workers(()).handle("write", nothing);
        assert_eq!(workers.run_until(async {}).await.unwrap(), 0);
    }

    /// Whatever is in the cache goes.
    async fn lose(&self) {
        self.cache.delete_pattern("*:*").await.unwrap();
    }

    /// How often a function ran, and how often a queued write answered instead.
    fn counts(&self) -> (u64, u64) {
        (self.db.reads(), self.cache.stats().pending_hits)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    org: u64,
    name: String,
}

fn user(name: &str) -> User {
    User { org: 1, name: name.to_owned() }
}

#[cache(ttl = 60, skip(cache, db), key_prefix = "option", pending = "writes", cache = cache)]
async fn option(cache: &Cache, db: &Db, id: u64) -> Option<User> {
    db.read();
    Some(user("the old one"))
}

#[cache(ttl = 60, key = "result:{id}", pending = "writes", cache = cache)]
async fn result(cache: &Cache, db: &Db, id: u64) -> Result<Option<()>, String> {
    db.read();
    Err("there is no such row yet".to_owned())
}

struct Users {
    tenant: &'static str,
}

impl Users {
    #[cache(key = "user:{self.tenant}:{name}", pending = "writes", cache = cache)]
    async fn find(&self, cache: &Cache, db: &Db, name: &str) -> User {
        db.read();
        user(name)
    }
}

#[cache(skip(cache, db), key_prefix = "generic", single_flight = "off", pending = "writes", cache = cache)]
async fn generic<T: Serialize + for<'de> Deserialize<'de> + Default>(
    cache: &Cache,
    db: &Db,
    id: T,
) -> Vec<T> {
    db.read();
    Vec::new()
}

#[tokio::test]
async fn whatever_a_function_returns_and_however_it_is_keyed() {
    for world in worlds() {
        let World { db, cache, .. } = &world;
        let users = Users { tenant: "a" };
        world.send(option::cache_entry(cache, 1, &None).unwrap()).await;
        world.send(option::cache_entry(cache, 2, &Some(user("Ada"))).unwrap()).await;
        world.send(result::cache_entry(cache, 1, &Some(())).unwrap()).await;
        world.send(result::cache_entry(cache, 2, &None).unwrap()).await;
        world.send(users.find_cache_entry(cache, "Ada", &user("Grace")).unwrap()).await;
        world.send(generic::cache_entry(cache, 1_u8, &vec![2, 3]).unwrap()).await;
        for pass in ["lost", "there", "lost"] {
            if pass == "lost" {
                world.lose().await;
            }
            assert_eq!(option(cache, db, 1).await, None, "{pass}");
            assert_eq!(option(cache, db, 2).await, Some(user("Ada")), "{pass}");
            assert_eq!(result(cache, db, 1).await, Ok(Some(())), "{pass}");
            assert_eq!(result(cache, db, 2).await, Ok(None), "{pass}");
            assert_eq!(users.find(cache, db, "Ada").await, user("Grace"), "{pass}");
            assert_eq!(generic(cache, db, 1_u8).await, vec![2, 3], "{pass}");
        }
        assert_eq!(world.counts(), (0, 12));
        // Nothing is queued for these.
        assert_eq!(users.find(cache, db, "Grace").await, user("Grace"));
        assert_eq!(Users { tenant: "b" }.find(cache, db, "Ada").await, user("Ada"));
        assert!(generic(cache, db, 1_u16).await.is_empty());
        assert_eq!(world.counts(), (3, 12));
        world.settle().await;
        world.lose().await;
        assert_eq!(option(cache, db, 1).await, Some(user("the old one")));
        assert!(result(cache, db, 2).await.is_err());
    }
}

#[cache(ttl = |value| Duration::from_secs(*value), key = "zero:{id}", pending = "writes", cache = cache)]
async fn zero(cache: &Cache, db: &Db, id: u64) -> u64 {
    db.read() + 60
}

#[cache(ttl = 60, cache_none = false, key = "none:{id}", pending = "writes", cache = cache)]
async fn none(cache: &Cache, db: &Db, id: u64) -> Option<u64> {
    Some(db.read() + 60)
}

#[tokio::test]
async fn what_the_rules_do_not_store_is_the_answer_all_the_same() {
    for world in worlds() {
        let World { db, cache, .. } = &world;
        assert_eq!((zero(cache, db, 1).await, none(cache, db, 1).await), (60, Some(60)));
        world.send(zero::cache_entry(cache, 1, &0).unwrap()).await;
        world.send(none::cache_entry(cache, 1, &None).unwrap()).await;
        for count in 1..=2 {
            assert_eq!((zero(cache, db, 1).await, none(cache, db, 1).await), (0, None));
            assert_eq!(world.counts(), (2, 2 * count), "nothing stands in the entry");
        }
        world.settle().await;
        assert_eq!((zero(cache, db, 1).await, none(cache, db, 1).await), (60, Some(60)));
    }
}

#[cache(ttl = 60, key = "tagged:{id}", tags = ["user:{id}", "org:{value.org}"], pending = "writes", cache = cache)]
async fn tagged(cache: &Cache, db: &Db, id: u64) -> User {
    db.read();
    user("the old one")
}

#[tokio::test]
async fn tags_end_what_was_stored_with_the_write_and_what_was_brought_back() {
    for world in worlds() {
        let World { db, cache, .. } = &world;
        world.send(tagged::cache_entry(cache, 1, &user("Ada")).unwrap()).await;
        for count in 0..3 {
            for _ in 0..2 {
                assert_eq!(tagged(cache, db, 1).await, user("Ada"));
                assert_eq!(world.counts(), (0, 3 * count), "it is stored, with its tags");
            }
            for (more, tag) in [(1, "user:1"), (2, "org:1")] {
                cache.invalidate_tags(&[tag]).await.unwrap();
                assert_eq!(tagged(cache, db, 1).await, user("Ada"), "{tag}");
                assert_eq!(world.counts(), (0, 3 * count + more), "{tag}");
            }
            tagged::clear_cache_all(cache).await.unwrap();
            assert_eq!(tagged(cache, db, 1).await, user("Ada"));
        }
        world.settle().await;
        assert_eq!(tagged(cache, db, 1).await, user("the old one"));
    }
}

/// Of writers whose fences are up, and who wait.
struct Steps {
    begun: Semaphore,
    done: Semaphore,
}

impl Steps {
    async fn wait(&self) {
        self.begun.add_permits(1);
        self.done.acquire().await.unwrap().forget();
    }
}

#[cache_invalidate(tags = ["user:1"], fence = "1m", cache = cache)]
async fn rename(cache: &Cache, steps: &Steps) {
    steps.wait().await;
}

#[cache_invalidate("fenced:1", fence = "1m", cache = cache)]
async fn replace(cache: &Cache, steps: &Steps) {
    steps.wait().await;
}

#[cache(ttl = 60, key = "fenced:{id}", pending = "writes", cache = cache)]
async fn fenced(cache: &Cache, db: &Db, id: u64) -> User {
    db.read();
    user("the old one")
}

#[tokio::test]
async fn behind_a_fence_the_copy_answers_and_nothing_is_stored() {
    for world in worlds() {
        let World { db, cache, .. } = &world;
        assert_eq!((tagged(cache, db, 1).await, fenced(cache, db, 1).await).0, user("the old one"));
        let steps = Steps { begun: Semaphore::new(0), done: Semaphore::new(0) };
        let mut writers = pin!(async { tokio::join!(rename(cache, &steps), replace(cache, &steps)) });
        tokio::select! {
            _ = &mut writers => unreachable!("they wait"),
            both = steps.begun.acquire_many(2) => both.unwrap().forget(),
        }
        world.send(tagged::cache_entry(cache, 1, &user("Ada")).unwrap()).await;
        world.send(fenced::cache_entry(cache, 1, &user("Ada")).unwrap()).await;
        for count in 1..=2 {
            assert_eq!((tagged(cache, db, 1).await, fenced(cache, db, 1).await), (user("Ada"), user("Ada")));
            assert_eq!(world.counts(), (2, 2 * count));
        }
        steps.done.add_permits(2);
        writers.await;
        for _ in 0..2 {
            assert_eq!((tagged(cache, db, 1).await, fenced(cache, db, 1).await), (user("Ada"), user("Ada")));
            assert_eq!(world.counts(), (2, 6), "it is stored again");
        }
    }
}

#[tokio::test]
async fn a_copy_that_is_no_value_of_the_function_stores_nothing() {
    #[cache(ttl = 60, key = "shared:{id}", pending = "writes", cache = cache)]
    async fn theirs(cache: &Cache, db: &Db, id: u64) -> u64 {
        db.read()
    }
    #[cache(ttl = 60, key = "shared:{id}", pending = "writes", cache = cache)]
    async fn ours(cache: &Cache, db: &Db, id: u64) -> u64 {
        db.read() + 100
    }
    // Two blocks of one body: the two functions have one path, like those of two programs.
    async fn newer(cache: &Cache, db: &Db) -> User {
        #[cache(ttl = 60, key = "shared:{id}", version = 2, pending = "writes", cache = cache)]
        async fn theirs(cache: &Cache, db: &Db, id: u64) -> User {
            db.read();
            user("the old one")
        }
        theirs(cache, db, 2).await
    }
    for world in worlds() {
        let World { db, cache, .. } = &world;
        world.send(theirs::cache_entry(cache, 1, &5).unwrap()).await;
        world.writes.put_json("shared:2", "no user", secs(60)).send("write", 1, &()).await.unwrap();
        world.lose().await;
        for count in 0..3 {
            assert_eq!(ours(cache, db, 1).await, 100);
            assert_eq!(newer(cache, db).await, user("the old one"));
            assert_eq!(world.counts(), (2 * (count + 1), 0), "it was stored");
        }
        assert_eq!(theirs(cache, db, 1).await, 5);
        world.settle().await;
        assert_eq!((ours(cache, db, 1).await, ours(cache, db, 1).await), (100, 100));
        assert_eq!(world.counts().0, 7, "it is stored");
    }
}

#[tokio::test]
async fn no_log_line_and_no_error_shows_a_value() {
    const CANARY: &str = "c4n4ry";
    let (log, _guard) = Log::new();
    for world in worlds() {
        let World { db, cache, .. } = &world;
        let entry = option::cache_entry(cache, 1, &Some(user(CANARY))).unwrap();
        assert!(!format!("{entry:?}").contains(CANARY));
        world.send(entry).await;
        world.lose().await;
        assert_eq!(option(cache, db, 1).await, Some(user(CANARY)));
        // It is no user.
        world.writes.put_json("tagged:1", CANARY, secs(60)).send("write", 1, &()).await.unwrap();
        world.lose().await;
        assert_eq!(tagged(cache, db, 1).await, user("the old one"));
        world.send(tagged::cache_entry(cache, 1, &user(CANARY)).unwrap()).await;
        world.lose().await;
        assert_eq!(tagged(cache, db, 1).await, user(CANARY));
        world.settle().await;
    }
    let text = log.text();
    for event in ["a queued write", "fill", "miss"] {
        assert!(text.contains(event), "the test saw no {event}: {text}");
    }
    assert!(!text.contains(CANARY), "{text}");
}
