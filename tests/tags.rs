//! Tags: what an invalidation reaches, what it leaves alone, and what it ends on its way (I2, I3).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use cache_aside::{Cache, CacheError, CacheManager, Expiry, Ttl, cache, cache_invalidate};
use serde::{Deserialize, Serialize};
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::sync::Semaphore;

/// A table, and two processes' caches in front of it.
struct Bench {
    db: Db,
    cache: Cache,
    other: Cache,
    server: Option<Server>,
}

/// Rows whose loads can be held up. Clones are handles.
#[derive(Debug, Clone)]
struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    row: AtomicU64,
    org: AtomicU64,
    loads: AtomicU64,
    is_down: AtomicBool,
    /// While it has no permits, loads have read and don't return.
    gate: Semaphore,
    /// Has one for each load that has read.
    has_read: Semaphore,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    number: u64,
    org: u64,
}

impl Default for Db {
    fn default() -> Self {
        Self(Arc::new(Inner {
            row: 7.into(),
            org: 1.into(),
            loads: 0.into(),
            is_down: false.into(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            has_read: Semaphore::new(0),
        }))
    }
}

impl Db {
    async fn load(&self) -> Row {
        self.0.loads.fetch_add(1, SeqCst);
        let row = Row { number: self.0.row.load(SeqCst), org: self.0.org.load(SeqCst) };
        self.0.has_read.add_permits(1);
        let _open = self.0.gate.acquire().await.unwrap();
        row
    }

    fn write(&self, number: u64) {
        self.0.row.store(number, SeqCst);
    }

    fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }

    /// Loads from now on read and then wait.
    fn hold(&self) {
        self.0.gate.forget_permits(Semaphore::MAX_PERMITS);
        self.0.has_read.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Waits until a load that is held has read.
    async fn has_read(&self) {
        self.0.has_read.acquire().await.unwrap().forget();
    }

    fn release(&self) {
        self.0.gate.add_permits(Semaphore::MAX_PERMITS);
    }
}

fn on(kind: Kind) -> Bench {
    let server = Server::of(kind).start();
    let make = || Cache::builder().store_budget(secs(3)).redis(server.url()).build().unwrap();
    Bench { db: Db::default(), cache: make(), other: make(), server: Some(server) }
}

fn benches() -> [Bench; 3] {
    let cache = Cache::builder().build().unwrap();
    let embedded = Bench { db: Db::default(), other: cache.clone(), cache, server: None };
    [embedded, on(Kind::Redis), on(Kind::Valkey)]
}

/// Waits until that holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < secs(10), "never: {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

impl Bench {
    /// Deletes the key of a tag, as an eviction does.
    async fn evict(&self, key: &str) {
        match &self.server {
            Some(server) => assert_eq!(server.command(&["DEL", key]), "1", "{key}"),
            None => assert!(self.cache.delete(key).await.unwrap(), "{key}"),
        }
    }
}

#[cache(ttl = 600, key = "row:{id}", tags = ["user:{id}", "users"], cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.load().await.number
}

#[cache(ttl = 600, key_prefix = "t", skip(cache, db), tags = ["user:{id}", "org:{value.org}"], cache = cache)]
async fn member(cache: &Cache, db: &Db, id: u64) -> Result<Row, CacheError> {
    let _ = id;
    Ok(db.load().await)
}

#[cache(ttl = 600, key = "plain:{id}", cache = cache)]
async fn plain(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.load().await.number
}

#[cache_invalidate(tags = ["user:{id}"], cache = cache)]
async fn write_user(cache: &Cache, db: &Db, id: u64, number: u64) {
    let _ = id;
    db.write(number);
}

#[cache_invalidate(tags = ["org:{value.org}"], cache = cache)]
async fn write_org(cache: &Cache, db: &Db, number: u64) -> Row {
    db.write(number);
    Row { number, org: db.0.org.load(SeqCst) }
}

#[tokio::test]
async fn a_tag_ends_what_has_it_and_nothing_else() {
    for Bench { db, cache, other, .. } in benches() {
        for id in [1, 2] {
            assert_eq!((row(&cache, &db, id).await, plain(&cache, &db, id).await), (7, 7));
            assert_eq!(member(&cache, &db, id).await.unwrap().number, 7);
        }
        assert_eq!(db.loads(), 6);
        write_user(&other, &db, 1, 8).await;
        for cache in [&cache, &other] {
            assert_eq!((row(cache, &db, 1).await, row(cache, &db, 2).await), (8, 7));
            assert_eq!(member(cache, &db, 1).await.unwrap().number, 8);
            assert_eq!(member(cache, &db, 2).await.unwrap().number, 7);
            assert_eq!((plain(cache, &db, 1).await, plain(cache, &db, 2).await), (7, 7));
        }
        assert_eq!(db.loads(), 8);
        db.write(9);
        cache.invalidate_tags(&["users"]).await.unwrap();
        assert_eq!((row(&other, &db, 1).await, row(&other, &db, 2).await), (9, 9));
        assert_eq!(member(&other, &db, 1).await.unwrap().number, 8, "it hasn't that tag");
        assert_eq!(cache.stats().pending_invalidations, 0);
    }
}

#[tokio::test]
async fn a_tag_of_the_result_is_one_as_any_other() {
    for Bench { db, cache, other, .. } in benches() {
        assert_eq!(member(&cache, &db, 1).await.unwrap(), Row { number: 7, org: 1 });
        db.0.org.store(2, SeqCst);
        assert_eq!(member(&cache, &db, 2).await.unwrap(), Row { number: 7, org: 2 });
        assert_eq!(member(&other, &db, 1).await.unwrap(), Row { number: 7, org: 1 });
        assert_eq!(db.loads(), 2);
        write_org(&other, &db, 8).await;
        assert_eq!(member(&cache, &db, 1).await.unwrap(), Row { number: 7, org: 1 }, "of another org");
        assert_eq!(member(&cache, &db, 2).await.unwrap(), Row { number: 8, org: 2 });
        assert_eq!(db.loads(), 3);
    }
}

#[tokio::test]
async fn the_key_of_a_tag_that_is_gone_ends_what_has_it() {
    for bench in benches() {
        let Bench { db, cache, .. } = &bench;
        assert_eq!((row(cache, db, 1).await, row(cache, db, 2).await), (7, 7));
        bench.evict("@tag:user:1").await;
        db.write(8);
        assert_eq!((row(cache, db, 1).await, row(cache, db, 2).await), (8, 7));
        assert_eq!((row(cache, db, 1).await, db.loads()), (8, 3));
    }
}

/// The load began before the write: what it returns is its own caller's, and nobody else's.
#[tokio::test]
async fn what_was_loaded_before_an_invalidation_is_never_served_after_it() {
    for Bench { db, cache, other, .. } in benches() {
        db.hold();
        let (early, late) = (db.clone(), cache.clone());
        let begun = tokio::spawn(async move { row(&late, &early, 1).await });
        db.has_read().await;
        // Joins while it runs, and asked before the write.
        write_user(&other, &db, 1, 8).await;
        // Asked after it, in the same process.
        let (after, late) = (db.clone(), cache.clone());
        let waits = tokio::spawn(async move { row(&late, &after, 1).await });
        tokio::task::yield_now().await;
        db.release();
        assert_eq!(begun.await.unwrap(), 7);
        assert_eq!(waits.await.unwrap(), 8, "it joined a load older than its question");
        assert_eq!((row(&cache, &db, 1).await, row(&other, &db, 1).await), (8, 8));
    }
}

/// Its tag isn't known before: only the epoch tells.
#[tokio::test]
async fn a_result_whose_tag_was_invalidated_during_its_load_is_not_stored() {
    for Bench { db, cache, other, .. } in benches() {
        for write_of in ["org:1", "something:else"] {
            let before = cache.stats().fills_refused;
            cache.invalidate_tags(&["user:1"]).await.unwrap();
            db.write(7);
            db.hold();
            let (early, late) = (db.clone(), cache.clone());
            let begun = tokio::spawn(async move { member(&late, &early, 1).await.unwrap().number });
            db.has_read().await;
            db.write(8);
            other.invalidate_tags(&[write_of]).await.unwrap();
            db.release();
            assert_eq!(begun.await.unwrap(), 7);
            assert_eq!(cache.stats().fills_refused, before + 1);
            assert_eq!(member(&other, &db, 1).await.unwrap().number, 8);
        }
    }
}

#[cache(ttl = 600, stale_if_error = "1h", key = "stale:{id}", tags = ["stale:{id}"], cache = cache)]
async fn stale(cache: &Cache, db: &Db, id: u64) -> Result<u64, String> {
    let _ = id;
    let row = db.load().await;
    if db.0.is_down.load(SeqCst) { Err("down".to_owned()) } else { Ok(row.number) }
}

#[tokio::test]
async fn a_dead_value_answers_no_error() {
    for Bench { db, cache, other, .. } in benches() {
        let make_stale = async || assert!(cache.expire("stale:1", secs(1800)).await.unwrap());
        assert_eq!(stale(&cache, &db, 1).await, Ok(7));
        db.0.is_down.store(true, SeqCst);
        make_stale().await;
        assert_eq!(stale(&cache, &db, 1).await, Ok(7), "nobody invalidated it");
        assert_eq!(cache.get::<u64>("stale:1").await.unwrap(), None, "it is past its time");
        other.invalidate_tags(&["stale:1"]).await.unwrap();
        assert_eq!(stale(&cache, &db, 1).await, Err("down".to_owned()));
        // Invalidated while the function fails.
        db.0.is_down.store(false, SeqCst);
        assert_eq!(stale(&cache, &db, 1).await, Ok(7));
        make_stale().await;
        db.0.is_down.store(true, SeqCst);
        db.hold();
        let (late, handle) = (cache.clone(), db.clone());
        let fails = tokio::spawn(async move { stale(&late, &handle, 1).await });
        db.has_read().await;
        other.invalidate_tags(&["stale:1"]).await.unwrap();
        db.release();
        assert_eq!(fails.await.unwrap(), Err("down".to_owned()));
    }
}

#[cache(ttl = 600, refresh_ahead = 300, key = "ahead:{id}", tags = ["ahead:{id}"], cache = cache)]
async fn ahead(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.load().await.number
}

#[tokio::test]
async fn a_refresh_ahead_captures_the_tags_before_its_load() {
    for Bench { db, cache, other, .. } in benches() {
        assert_eq!(ahead(&cache, &db, 1).await, 7);
        assert!(cache.expire("ahead:1", secs(100)).await.unwrap());
        db.hold();
        assert_eq!(ahead(&cache, &db, 1).await, 7, "and refreshes");
        db.has_read().await;
        db.write(8);
        other.invalidate_tags(&["ahead:1"]).await.unwrap();
        let refused = cache.stats().fills_refused;
        db.release();
        until("the refresh is refused", async || cache.stats().fills_refused > refused).await;
        assert_eq!((ahead(&cache, &db, 1).await, ahead(&other, &db, 1).await), (8, 8));
        // And one that nobody disturbs is stored.
        assert!(cache.expire("ahead:1", secs(100)).await.unwrap());
        db.write(9);
        until("the refresh is stored", async || ahead(&other, &db, 1).await == 9).await;
        other.invalidate_tags(&["ahead:1"]).await.unwrap();
        db.write(10);
        assert_eq!(ahead(&cache, &db, 1).await, 10);
    }
}

#[tokio::test]
async fn a_value_that_is_put_has_the_tags_of_its_arguments_and_its_own() {
    for Bench { db, cache, other, .. } in benches() {
        for tag in ["user:1", "org:5"] {
            member::put_cache(&cache, 1, &Row { number: 3, org: 5 }).await.unwrap();
            assert_eq!(member(&other, &db, 1).await.unwrap().number, 3);
            assert!(member::cached(&other, 1).await.unwrap().is_some());
            other.invalidate_tags(&[tag]).await.unwrap();
            assert!(member::cached(&cache, 1).await.unwrap().is_none());
            assert_eq!(member(&cache, &db, 1).await.unwrap().number, 7);
        }
        row::put_cache(&cache, 1, &4).await.unwrap();
        assert_eq!((row(&cache, &db, 1).await, row(&cache, &db, 2).await), (4, 7));
        other.invalidate_tags(&["users"]).await.unwrap();
        assert_eq!(row(&cache, &db, 1).await, 7);
        assert_eq!(row::refresh_cache(&cache, &db, 1).await, 7);
        other.invalidate_tags(&["user:1"]).await.unwrap();
        db.write(8);
        assert_eq!(row(&cache, &db, 1).await, 8);
    }
}

#[tokio::test]
async fn looks_by_hand_see_what_is_valid() {
    for Bench { db, cache, other, .. } in benches() {
        row(&cache, &db, 1).await;
        row(&cache, &db, 2).await;
        assert_eq!(cache.get::<u64>("row:1").await.unwrap(), Some(7));
        other.invalidate_tags(&["user:1"]).await.unwrap();
        assert_eq!(cache.get::<u64>("row:1").await.unwrap(), None);
        let keys = ["row:1", "row:2", "row:3"];
        assert_eq!(cache.get_many::<u64>(&keys).await.unwrap(), [None, Some(7), None]);
        assert_eq!(row::cached(&cache, 1).await.unwrap(), None);
        assert_eq!(row::cached(&cache, 2).await.unwrap(), Some(7));
        assert!(!cache.exists("row:1").await.unwrap());
        assert_eq!(cache.ttl("row:1").await.unwrap(), Expiry::Missing);
        assert!(matches!(cache.ttl("row:2").await.unwrap(), Expiry::In(left) if left > secs(500)));
    }
}

/// What another program, or `set`, stored has no tags, so nobody could invalidate it by one.
#[tokio::test]
async fn plain_json_is_no_hit_of_a_function_with_tags() {
    for Bench { db, cache, .. } in benches() {
        cache.set("row:1", &1, secs(60)).await.unwrap();
        assert_eq!(row(&cache, &db, 1).await, 7);
        assert_eq!(cache.get::<u64>("row:1").await.unwrap(), Some(1), "it is left alone");
        cache.delete("row:1").await.unwrap();
        assert_eq!((row(&cache, &db, 1).await, row(&cache, &db, 1).await, db.loads()), (7, 7, 2));
    }
}

#[tokio::test]
async fn a_manager_stores_with_tags() {
    for Bench { db, cache, other, .. } in benches() {
        let posts = CacheManager::new("posts", secs(60)).on(&cache);
        posts.set_with_tags("1", &1, &["user:1", "posts"]).await.unwrap();
        posts.set_with_tags("2", "two", &["posts".to_owned()]).await.unwrap();
        posts.set_with_tags("3", &3, &[""; 0]).await.unwrap();
        row(&cache, &db, 1).await;
        assert_eq!(posts.get_or_set("1", async || 9).await.unwrap(), 1);
        assert_eq!(posts.get::<String>("2").await.unwrap().as_deref(), Some("two"));
        other.invalidate_tags(&["user:1"]).await.unwrap();
        assert_eq!(posts.get::<u64>("1").await.unwrap(), None);
        assert_eq!((row(&cache, &db, 1).await, db.loads()), (7, 2));
        assert_eq!(posts.get_or_set("1", async || 9).await.unwrap(), 9);
        assert_eq!(posts.get::<String>("2").await.unwrap().as_deref(), Some("two"));
        posts.invalidate_tags(&["posts", "users"]).await.unwrap();
        assert_eq!(posts.get::<String>("2").await.unwrap(), None);
        assert_eq!(posts.get::<u64>("3").await.unwrap(), Some(3));
        posts.set_with_tags("3", &3, &["a"]).await.unwrap();
        CacheManager::new("posts", Ttl::After(secs(0)))
            .on(&cache)
            .set_with_tags("3", &3, &["a"])
            .await
            .unwrap();
        assert_eq!(posts.get::<u64>("3").await.unwrap(), None);
    }
}

#[cache(ttl = 600, key = "asked:{id}", tags = ["by:{who}"], cache = cache)]
async fn asked(cache: &Cache, db: &Db, id: u64, who: &str) -> u64 {
    let _ = (id, who);
    db.load().await.number
}

/// An argument that isn't part of the key: who asks for another tag doesn't take what hasn't it.
#[tokio::test]
async fn a_value_answers_those_whose_tags_it_has() {
    for Bench { db, cache, other, .. } in benches() {
        assert_eq!(
            (asked(&cache, &db, 1, "a").await, asked(&cache, &db, 1, "a").await, db.loads()),
            (7, 7, 1)
        );
        db.write(8);
        assert_eq!(
            (asked(&cache, &db, 1, "b").await, asked(&cache, &db, 1, "b").await, db.loads()),
            (8, 8, 2)
        );
        // Nor does it join a load for the other tag that is older than its question.
        cache.invalidate_tags(&["by:b"]).await.unwrap();
        db.hold();
        let (early, late) = (db.clone(), cache.clone());
        let begun = tokio::spawn(async move { asked(&late, &early, 1, "a").await });
        db.has_read().await;
        db.write(9);
        other.invalidate_tags(&["by:b"]).await.unwrap();
        let (after, late) = (db.clone(), cache.clone());
        let waits = tokio::spawn(async move { asked(&late, &after, 1, "b").await });
        tokio::task::yield_now().await;
        db.release();
        assert_eq!((begun.await.unwrap(), waits.await.unwrap()), (8, 9));
    }
}

#[cache(ttl = 600, key = "named:{name}", tags = ["name:{name}"], cache = cache)]
async fn named(cache: &Cache, db: &Db, name: &str) -> u64 {
    let _ = name;
    db.load().await.number
}

#[cache_invalidate(tags = ["name:{name}"], cache = cache)]
async fn rename(cache: &Cache, name: &str) {
    let _ = (cache, name);
}

#[tokio::test]
async fn values_in_a_tag_are_escaped() {
    for Bench { db, cache, .. } in benches() {
        for name in ["a", "a:b", "*", "a b", "{x}"] {
            named(&cache, &db, name).await;
        }
        let loads = db.loads();
        rename(&cache, "*").await;
        rename(&cache, "a:b").await;
        for name in ["a", "a b", "{x}"] {
            named(&cache, &db, name).await;
        }
        assert_eq!(db.loads(), loads);
        cache.invalidate_tags(&["name:a%20b", "name:%7Bx%7D"]).await.unwrap();
        for name in ["a:b", "*", "a b", "{x}"] {
            named(&cache, &db, name).await;
        }
        assert_eq!(db.loads(), loads + 4);
    }
}

#[tokio::test]
async fn a_tag_that_is_too_long_is_not_cached() {
    for Bench { db, cache, .. } in benches() {
        let name = "x".repeat(5000);
        named(&cache, &db, &name).await;
        named(&cache, &db, &name).await;
        assert_eq!((db.loads(), cache.stats().bypassed), (2, 2));
        rename(&cache, &name).await;
        let error = cache.invalidate_tags(&[name]).await.unwrap_err();
        assert!(matches!(error, CacheError::KeyTooLong { .. }), "{error}");
        assert_eq!(cache.pending_invalidations(), 0);
    }
}

#[tokio::test]
async fn a_namespace_has_tags_of_its_own() {
    let server = Server::redis().start();
    let builder = Cache::builder().store_budget(secs(3)).redis(server.url());
    let make = |name: &str| builder.clone().namespace(name).build().unwrap();
    let (one, two, db) = (make("one"), make("two"), Db::default());
    for cache in [&one, &two] {
        member(cache, &db, 1).await.unwrap();
    }
    for key in ["one:@tag:user:1", "one:@tag:org:1", "one:@tags", "two:@tag:user:1"] {
        assert_eq!(server.command(&["EXISTS", key]), "1", "{key}");
    }
    one.invalidate_tags(&["user:1", "org:1"]).await.unwrap();
    assert_eq!(server.command(&["EXISTS", "one:@tag:user:1", "one:@tag:org:1", "one:@tags"]), "0");
    member(&two, &db, 1).await.unwrap();
    assert_eq!(db.loads(), 2);
    member(&one, &db, 1).await.unwrap();
    assert_eq!(db.loads(), 3);
}

#[cache(ttl = 600, key = "by:{tenant}", tags = ["tenant:{tenant}", "all", "{tenant}"], when = *use_it, unless = |row| row.number == 0, single_flight = "off", cache = cache)]
async fn optional(cache: &Cache, db: &Db, tenant: &str, use_it: &bool) -> Row {
    let _ = (tenant, use_it);
    db.load().await
}

struct Service {
    cache: Cache,
    db: Db,
    region: String,
}

impl Service {
    #[cache(ttl = 600, key = "of:{self.region}:{id}", tags = ["region:{self.region}", "of:{id}:{value.org}"], refresh_ahead = "10%", near = true, cache = &self.cache)]
    async fn find(self: Arc<Self>, id: u64) -> Row {
        let _ = id;
        self.db.load().await
    }

    #[cache_invalidate("no:such:{id}", tags = ["of:{id}:{value}"], cache = &self.cache)]
    async fn change(&self, id: u64) -> u64 {
        let _ = id;
        self.db.write(8);
        1
    }
}

#[tokio::test]
async fn tags_go_with_every_other_option() {
    for Bench { db, cache, .. } in benches() {
        optional(&cache, &db, "a", &true).await;
        optional(&cache, &db, "a", &true).await;
        optional(&cache, &db, "a", &false).await;
        assert_eq!(db.loads(), 2);
        cache.invalidate_tags(&["a"]).await.unwrap();
        optional(&cache, &db, "a", &true).await;
        assert_eq!(db.loads(), 3);
        let service = Arc::new(Service { cache: cache.clone(), db: db.clone(), region: "eu".to_owned() });
        assert_eq!(Arc::clone(&service).find(1).await.number, 7);
        assert_eq!(Arc::clone(&service).find(1).await.number, 7);
        assert_eq!(db.loads(), 4);
        service.change(1).await;
        assert_eq!(Arc::clone(&service).find(1).await.number, 8);
        assert!(Service::find_cached(&service, 1).await.unwrap().is_some());
        Service::find_put_cache(&service, 1, &Row { number: 9, org: 1 }).await.unwrap();
        assert_eq!(Arc::clone(&service).find(1).await.number, 9);
        service.cache.invalidate_tags(&["region:eu"]).await.unwrap();
        assert_eq!(Arc::clone(&service).find(1).await.number, 8);
    }
}
