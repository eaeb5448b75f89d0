//! Values with tags that are kept decoded in this process: a change of any of their tags ends them (I2, I4).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use cache_aside::{Cache, cache, cache_invalidate};
use serde::{Deserialize, Serialize};
use support::server::{Kind, Server};
use support::{ms, secs};

/// A row, and two processes' caches in front of it.
struct Bench {
    db: Db,
    cache: Cache,
    other: Cache,
    server: Option<Server>,
}

#[derive(Debug, Clone, Default)]
struct Db(Arc<AtomicU64>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    number: u64,
    org: u64,
}

impl Db {
    fn write(&self, number: u64) {
        self.0.store(number, SeqCst);
    }

    fn row(&self, id: u64) -> Row {
        Row { number: self.0.load(SeqCst), org: id + 10 }
    }
}

fn on(kind: Kind) -> Bench {
    let server = Server::of(kind).start();
    let builder = Cache::builder().store_budget(secs(2)).near_staleness(secs(2));
    let make = || builder.clone().redis(server.url()).build().unwrap();
    Bench { db: Db::default(), cache: make(), other: make(), server: Some(server) }
}

fn benches() -> [Bench; 3] {
    let cache = Cache::builder().build().unwrap();
    let embedded = Bench { db: Db::default(), other: cache.clone(), cache, server: None };
    [embedded, on(Kind::Redis), on(Kind::Valkey)]
}

#[cache(ttl = 600, near = true, key = "row:{id}", tags = ["user:{id}", "rows", "org:{value.org}"], cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> Row {
    db.row(id)
}

#[cache_invalidate(tags = ["org:{value.org}"], cache = cache)]
async fn write_org(cache: &Cache, db: &Db, id: u64, number: u64) -> Row {
    db.write(number);
    db.row(id)
}

#[cache_invalidate(tags = ["user:{id}"], cache = cache)]
async fn write_user(cache: &Cache, db: &Db, id: u64, number: u64) {
    let _ = id;
    db.write(number);
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < secs(10), "never: {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Whether the next call is answered by this process.
async fn is_near(cache: &Cache, db: &Db, id: u64) -> bool {
    let before = cache.stats().near_hits;
    row(cache, db, id).await;
    cache.stats().near_hits > before
}

async fn warm(cache: &Cache, db: &Db, id: u64) {
    until("a near hit", async || is_near(cache, db, id).await).await;
}

#[tokio::test]
async fn who_invalidates_a_tag_here_reads_the_new_value_at_once() {
    for Bench { db, cache, .. } in benches() {
        for round in 1..20 {
            for way in 0..3 {
                warm(&cache, &db, 1).await;
                let new = 10 * round + way;
                match way {
                    0 => write_user(&cache, &db, 1, new).await,
                    1 => assert_eq!(write_org(&cache, &db, 1, new).await.number, new),
                    _ => {
                        db.write(new);
                        cache.invalidate_tags(&["rows"]).await.unwrap();
                    }
                }
                assert_eq!(row(&cache, &db, 1).await.number, new, "way {way}");
            }
        }
    }
}

#[tokio::test]
async fn a_tag_that_another_process_invalidates_is_heard_of() {
    for Bench { db, cache, other, server } in benches() {
        for (way, new) in (1..).enumerate() {
            warm(&cache, &db, 1).await;
            warm(&cache, &db, 2).await;
            match (way, &server) {
                (0, _) => write_user(&other, &db, 1, new).await,
                (1, _) => assert_eq!(write_org(&other, &db, 1, new).await.number, new),
                (2, Some(server)) => {
                    db.write(new);
                    assert_eq!(server.command(&["DEL", "@tag:org:11"]), "1");
                }
                (_, _) => break,
            }
            until("the new value", async || row(&cache, &db, 1).await.number == new).await;
            assert!(is_near(&cache, &db, 2).await, "it has other tags");
            cache.invalidate_tags(&["rows"]).await.unwrap();
            assert_eq!(row(&cache, &db, 2).await.number, new);
        }
    }
}

/// An entry more with a tag is no change of the tag.
#[tokio::test]
async fn a_fill_leaves_what_has_the_same_tag() {
    for Bench { db, cache, other, .. } in benches() {
        warm(&cache, &db, 1).await;
        for id in 2..20 {
            row(&other, &db, id).await;
        }
        // Were there a push, it would be here before this is answered.
        warm(&cache, &db, 20).await;
        assert!(is_near(&cache, &db, 1).await);
    }
}

/// What was read while an invalidation was kept is dropped before hits come back.
#[tokio::test]
async fn what_is_kept_here_ends_with_an_invalidation_that_could_not_be_sent() {
    let Bench { db, cache, server, .. } = on(Kind::Redis);
    let server = server.unwrap();
    warm(&cache, &db, 1).await;
    server.kill();
    write_user(&cache, &db, 1, 5).await;
    assert_eq!(row(&cache, &db, 1).await.number, 5);
    server.restart();
    until("all is carried out", async || cache.pending_invalidations() == 0).await;
    assert_eq!(row(&cache, &db, 1).await.number, 5);
    warm(&cache, &db, 1).await;
}
