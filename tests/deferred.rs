//! Invalidations of a transaction wait for its commit, and its reads go past the cache (SPEC 2.4, I1, I3).

mod support;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::{Context, Waker};

use cache_aside::{Cache, CacheManager, Expiry, Ttl, cache, cache_invalidate, cache_put, deferred};
use support::db::Row as Db;
use support::server::Server;
use support::{ms, secs};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// A row and how often it was read, and two processes' caches in front of it (one, if it is embedded).
struct Bench {
    db: Db,
    cache: Cache,
    other: Cache,
    server: Option<Server>,
}

fn benches() -> [Bench; 2] {
    let server = Server::redis().start();
    let builder = Cache::builder().store_budget(secs(3)).namespace("shop");
    let remote = || builder.clone().redis(server.url()).build().unwrap();
    let embedded = builder.clone().build().unwrap();
    let (cache, other) = (remote(), remote());
    [
        Bench { db: Db::default(), cache: embedded.clone(), other: embedded, server: None },
        Bench { db: Db::default(), cache, other, server: Some(server) },
    ]
}

impl Bench {
    /// Those of these keys that others see.
    async fn left<'a>(&self, keys: &[&'a str]) -> Vec<&'a str> {
        let (cache, mut left) = (self.other.clone(), Vec::new());
        for key in keys {
            let (cache, name) = (cache.clone(), (*key).to_owned());
            // In a task of its own, so that no transaction hides it.
            if tokio::spawn(async move { cache.exists(&name).await.unwrap() }).await.unwrap() {
                left.push(*key);
            }
        }
        left
    }

    async fn fill(&self, keys: &[&str]) {
        for key in keys {
            self.cache.set(key, &1, Ttl::Default).await.unwrap();
        }
    }

    /// Waits until nobody sees this key any more.
    async fn gone(&self, key: &str) {
        while !self.left(&[key]).await.is_empty() {
            tokio::time::sleep(ms(5)).await;
        }
    }
}

#[cache(ttl = 600, key = "row:{id}", cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.read()
}

#[cache(ttl = 600, key = "near:{id}", near = true, cache = cache)]
async fn near_row(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.read()
}

#[cache(ttl = 600, key = "slow:{id}", cache = cache)]
async fn slow_row(cache: &Cache, db: &Db, gate: &Semaphore, id: u64) -> u64 {
    let _ = id;
    let row = db.read();
    gate.acquire().await.unwrap().forget();
    row
}

#[cache(ttl = 600, key = "ahead:{id}", refresh_ahead = "20%", stale_if_error = "1h", cache = cache)]
async fn renewed_row(cache: &Cache, db: &Db, id: u64) -> Result<u64, String> {
    let _ = id;
    Ok(db.read())
}

#[cache(ttl = 600, key = "kept:{id}", stale_if_error = "1h", cache = cache)]
async fn kept_row(cache: &Cache, db: &Db, id: u64) -> Result<u64, String> {
    let _ = id;
    Ok(db.read())
}

#[cache_invalidate("row:{id}", "near:*", "from:{value}", cache = cache)]
async fn write(cache: &Cache, db: &Db, id: u64, row: u64) -> u64 {
    db.write(row);
    id
}

#[cache_invalidate("row:{id}", cache = cache)]
async fn stuck(cache: &Cache, id: u64) {
    let _ = id;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn invalidations_wait_until_they_are_applied() {
    for bench in benches() {
        let Bench { cache, db, .. } = &bench;
        let keys = ["row:1", "near:1", "from:1", "a", "b:1", "b:2", "c:1", "slow:1", "ahead:1", "kept"];
        bench.fill(&keys).await;
        let ((), invalidations) = deferred(async {
            write(cache, db, 1, 7).await;
            assert!(!cache.delete("a").await.unwrap());
            assert_eq!(cache.delete_pattern("b:*").await.unwrap(), 0);
            assert_eq!(CacheManager::new("c", secs(60)).on(cache).clear_all().await.unwrap(), 0);
            assert!(!slow_row::clear_cache(cache, 1).await.unwrap());
            renewed_row::clear_cache_all(cache).await.unwrap();
            assert_eq!(bench.left(&keys).await, keys, "nothing is committed yet");
        })
        .await;
        assert_eq!(bench.left(&keys).await, keys, "nothing is committed yet");
        let before = cache.stats().invalidations;
        invalidations.apply().await;
        assert_eq!(bench.left(&keys).await, ["kept"]);
        assert_eq!(cache.stats().invalidations - before, 8);
        assert!(!cache.delete("a").await.unwrap(), "outside it is as ever");
    }
}

#[tokio::test]
async fn reads_inside_go_past_the_cache_and_fill_nothing() {
    for bench in benches() {
        let Bench { cache, other, db, .. } = &bench;
        for _ in 0..2 {
            assert_eq!((row(cache, db, 1).await, near_row(cache, db, 1).await), (0, 0));
            assert_eq!((renewed_row(cache, db, 1).await, kept_row(cache, db, 1).await), (Ok(0), Ok(0)));
        }
        assert_eq!(db.reads(), 4);
        let ((), invalidations) = deferred(async {
            write(cache, db, 1, 7).await;
            for id in [1, 2] {
                assert_eq!((row(cache, db, id).await, near_row(cache, db, id).await), (7, 7));
                assert_eq!((renewed_row(cache, db, id).await, kept_row(cache, db, id).await), (Ok(7), Ok(7)));
                assert_eq!(row::cached(cache, id).await.unwrap(), None);
                let by_hand = cache.get_or_set(&format!("row:{id}"), secs(60), async || db.read()).await;
                assert_eq!(by_hand.unwrap(), 7);
                let by_hand = cache
                    .try_get_or_set(&format!("row:{id}"), secs(60), async || Err::<u64, _>(db.read()))
                    .await;
                assert_eq!(by_hand, Err(7));
            }
        })
        .await;
        assert_eq!(db.reads(), 16, "each of them asked the database");
        assert_eq!(bench.left(&["row:2", "near:2", "ahead:2", "kept:2"]).await, [""; 0]);
        assert_eq!((row(other, db, 1).await, near_row(cache, db, 1).await), (0, 0), "as it is committed");
        assert_eq!(db.reads(), 16, "others have their hits");
        invalidations.apply().await;
        assert_eq!((row(other, db, 1).await, near_row(cache, db, 1).await), (7, 7));
    }
}

#[tokio::test]
async fn a_load_inside_is_shared_with_nobody() {
    for bench in benches() {
        let Bench { cache, db, .. } = &bench;
        let gate = Semaphore::new(0);
        let mut inside = pin!(deferred(async {
            db.write(7);
            let uncommitted = slow_row(cache, db, &gate, 1).await;
            db.write(0); // ROLLBACK
            uncommitted
        }));
        // It runs, and waits.
        assert!(timeout(ms(20), inside.as_mut()).await.is_err());
        db.write(3);
        let ((), outside) = tokio::join!(
            async {
                gate.add_permits(1);
                let (uncommitted, invalidations) = inside.await;
                assert_eq!(uncommitted, 7);
                invalidations.discard();
                gate.add_permits(1);
            },
            async { slow_row(cache, db, &gate, 1).await }
        );
        assert_ne!(outside, 7);
        assert_ne!(slow_row::cached(cache, 1).await.unwrap(), Some(7));
    }
}

#[tokio::test]
async fn a_load_that_began_outside_and_goes_on_inside_is_stored_for_nobody() {
    for bench in benches() {
        let Bench { cache, db, .. } = &bench;
        let gate = Semaphore::new(0);
        let mut load = pin!(slow_row(cache, db, &gate, 1));
        assert!(timeout(ms(20), load.as_mut()).await.is_err());
        gate.add_permits(1);
        let (read, invalidations) = deferred(load).await;
        assert_eq!(read, 0);
        invalidations.discard();
        assert_eq!(slow_row::cached(cache, 1).await.unwrap(), None);
        gate.add_permits(1);
        assert_eq!(slow_row(cache, db, &gate, 1).await, 0, "and the next one loads");
    }
}

#[tokio::test]
async fn what_is_put_inside_is_forgotten_instead() {
    for bench in benches() {
        let Bench { cache, db, .. } = &bench;
        for id in [1, 2] {
            row(cache, db, id).await;
        }
        db.write(7);
        let ((), invalidations) = deferred(async {
            row::put_cache(cache, 1, &7).await.unwrap();
            assert_eq!(row::refresh_cache(cache, db, 2).await, 7);
        })
        .await;
        let reads = db.reads();
        assert_eq!((row(cache, db, 1).await, row(cache, db, 2).await), (0, 0));
        assert_eq!(db.reads(), reads);
        invalidations.apply().await;
        assert_eq!(bench.left(&["row:1", "row:2"]).await, [""; 0]);
    }
}

#[tokio::test]
async fn keys_made_by_hand_are_written_at_once_and_absent_once_deleted() {
    for bench in benches() {
        let Bench { cache, .. } = &bench;
        bench.fill(&["a", "b:1", "b:[", "c"]).await;
        let ((), invalidations) = deferred(async {
            assert_eq!(cache.get("a").await.unwrap(), Some(1));
            cache.delete("a").await.unwrap();
            cache.delete_pattern("b:?").await.unwrap();
            cache.set("d", &4, Ttl::Default).await.unwrap();
            assert_eq!(cache.increment("c").await.unwrap(), 2);
            assert_eq!(cache.get::<u8>("a").await.unwrap(), None);
            assert_eq!(cache.ttl("a").await.unwrap(), Expiry::Missing);
            assert!(!cache.exists("b:1").await.unwrap());
            let many = cache.get_many::<u8>(&["a", "b:[", "c", "d"]).await.unwrap();
            assert_eq!(many, [None, None, Some(2), Some(4)]);
            assert_eq!(bench.left(&["a", "b:1", "d"]).await, ["a", "b:1", "d"]);
        })
        .await;
        invalidations.discard();
        assert_eq!(cache.get_many::<u8>(&["a", "b:[", "d"]).await.unwrap(), [Some(1), Some(1), Some(4)]);
    }
}

#[tokio::test]
async fn a_writer_dropped_inside_waits_for_the_commit_too() {
    for bench in benches() {
        let Bench { cache, .. } = &bench;
        bench.fill(&["row:1", "row:2"]).await;
        let ((), invalidations) = deferred(async {
            let gave_up = timeout(ms(5), stuck(cache, 1)).await;
            assert!(gave_up.is_err());
        })
        .await;
        assert_eq!(bench.left(&["row:1"]).await, ["row:1"]);
        invalidations.apply().await;
        assert_eq!(bench.left(&["row:1", "row:2"]).await, ["row:2"]);
    }
}

#[tokio::test]
async fn a_list_that_nobody_gets_is_carried_out() {
    for bench in benches() {
        let Bench { cache, db, .. } = &bench;
        let keys = ["row:1", "near:1", "from:1"];
        bench.fill(&keys).await;
        let dropped = timeout(
            ms(20),
            deferred(async {
                write(cache, db, 1, 1).await;
                std::future::pending::<()>().await;
            }),
        );
        assert!(dropped.await.is_err());
        bench.gone("near:1").await;

        bench.fill(&keys).await;
        let dropped_with_its_writer = timeout(ms(20), deferred(stuck(cache, 1)));
        assert!(dropped_with_its_writer.await.is_err());
        bench.gone("row:1").await;

        bench.fill(&keys).await;
        let (of_task, db) = (cache.clone(), db.clone());
        let panics = tokio::spawn(deferred(AssertUnwindSafe(async move {
            write(&of_task, &db, 1, 1).await;
            panic!("after the commit");
        })));
        assert!(panics.await.unwrap_err().is_panic());
        bench.gone("from:1").await;
    }
}

#[tokio::test]
async fn a_dropped_list_is_carried_out_and_a_discarded_one_is_not() {
    for bench in benches() {
        let Bench { cache, .. } = &bench;
        bench.fill(&["a", "b"]).await;
        let (_, invalidations) = deferred(cache.delete("a")).await;
        invalidations.discard();
        let (_, invalidations) = deferred(cache.delete("b")).await;
        drop(invalidations);
        bench.gone("b").await;
        assert_eq!(bench.left(&["a"]).await, ["a"]);
    }
}

#[tokio::test]
async fn the_innermost_transaction_collects_and_its_commit_counts_for_the_outer_one_too() {
    for bench in benches() {
        let Bench { cache, .. } = &bench;
        let keys = ["outer", "applied", "dropped", "discarded"];
        bench.fill(&keys).await;
        let ((), outer) = deferred(async {
            cache.delete("outer").await.unwrap();
            let (_, inner) = deferred(cache.delete("applied")).await;
            assert!(cache.exists("applied").await.unwrap(), "it is the inner one's");
            inner.apply().await;
            assert_eq!(bench.left(&keys).await, ["outer", "dropped", "discarded"]);
            drop(deferred(cache.delete("dropped")).await);
            bench.gone("dropped").await;
            deferred(cache.delete("discarded")).await.1.discard();
        })
        .await;
        // Somebody read it before the outer one was committed.
        bench.fill(&keys).await;
        outer.apply().await;
        assert_eq!(bench.left(&keys).await, ["discarded"]);
    }
}

#[tokio::test]
async fn what_is_spawned_is_outside() {
    for bench in benches() {
        let cache = bench.cache.clone();
        bench.fill(&["a"]).await;
        let (deleted, invalidations) =
            deferred(async { tokio::spawn(async move { cache.delete("a").await }).await.unwrap() }).await;
        assert!(deleted.unwrap());
        invalidations.discard();
    }
}

#[tokio::test]
async fn each_cache_has_its_own() {
    let ([one, two], elsewhere) = (benches(), Cache::builder().build().unwrap());
    for bench in [&one, &two] {
        bench.fill(&["a"]).await;
    }
    elsewhere.set("a", &1, Ttl::Default).await.unwrap();
    let ((), invalidations) = deferred(async {
        one.cache.delete("a").await.unwrap();
        assert!(two.cache.exists("a").await.unwrap());
        two.cache.delete("a").await.unwrap();
    })
    .await;
    invalidations.apply().await;
    assert!(elsewhere.exists("a").await.unwrap());
    assert_eq!((one.left(&["a"]).await, two.left(&["a"]).await), (vec![], vec![]));
}

#[tokio::test]
async fn what_was_begun_to_be_applied_goes_on_without_its_caller() {
    for bench in benches() {
        let Bench { cache, server, .. } = &bench;
        let names: Vec<String> = (0..1200).map(|number| format!("k:{number}")).collect();
        cache.set_many(&names.iter().map(|name| (name, 1)).collect::<Vec<_>>(), Ttl::Default).await.unwrap();
        let ((), invalidations) = deferred(async {
            for name in &names {
                cache.delete(name).await.unwrap();
            }
        })
        .await;
        if let Some(server) = server {
            server.freeze();
        }
        {
            let mut apply = pin!(invalidations.apply());
            let polled = apply.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled.is_ready(), server.is_none());
        }
        if let Some(server) = server {
            server.thaw();
        }
        for name in [&names[0], &names[600], &names[1199]] {
            bench.gone(name).await;
        }
    }
}

#[tokio::test]
async fn what_the_server_cannot_take_is_kept() {
    let [_, Bench { cache, other, server: Some(server), .. }] = benches() else { unreachable!() };
    cache.set("a", &1, Ttl::Default).await.unwrap();
    let (_, invalidations) = deferred(cache.delete("a")).await;
    server.command(&["ACL", "SETUSER", "default", "-unlink", "-del"]);
    invalidations.apply().await;
    assert_eq!(cache.pending_invalidations(), 1);
    assert!(other.exists("a").await.unwrap());
    server.command(&["ACL", "SETUSER", "default", "+@all"]);
    while cache.pending_invalidations() > 0 {
        tokio::time::sleep(ms(5)).await;
    }
    assert!(!other.exists("a").await.unwrap());
}

#[cache_invalidate(row(cache, id), near_row::*(cache))]
async fn write_typed(cache: &Cache, db: &Db, id: u64, to: u64) {
    let _ = id;
    db.write(to);
}

#[cache_put(row(cache, id))]
async fn put(cache: &Cache, db: &Db, id: u64, to: u64) -> u64 {
    let _ = id;
    db.write(to);
    to
}

#[tokio::test]
async fn typed_targets_and_puts_wait_too() {
    for bench in benches() {
        let Bench { db, cache, .. } = &bench;
        db.write(1);
        let warm = async || (row(cache, db, 1).await, near_row(cache, db, 1).await);
        assert_eq!(warm().await, (1, 1));
        let ((), typed) = deferred(write_typed(cache, db, 1, 2)).await;
        assert_eq!(bench.left(&["row:1", "near:1"]).await, ["row:1", "near:1"]);
        typed.apply().await;
        assert_eq!(bench.left(&["row:1", "near:1"]).await, [""; 0]);
        assert_eq!(warm().await, (2, 2));
        let (stored, put) = deferred(put(cache, db, 1, 3)).await;
        assert_eq!((stored, row(cache, db, 1).await), (3, 2), "nobody sees it before the commit");
        put.apply().await;
        assert_eq!(bench.left(&["row:1", "near:1"]).await, ["near:1"]);
        assert_eq!(row(cache, db, 1).await, 3);
    }
}

#[cache(ttl = 600, key = "tagged:{id}", tags = ["row:{id}"], cache = cache)]
async fn tagged_row(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.read()
}

#[cache_invalidate(tags = ["row:{id}"], cache = cache)]
async fn write_tag(cache: &Cache, db: &Db, id: u64, to: u64) {
    let _ = (cache, id);
    db.write(to);
}

#[tokio::test]
async fn tags_wait_too() {
    for bench in benches() {
        let Bench { db, cache, other, .. } = &bench;
        for by_hand in [false, true] {
            db.write(1);
            tagged_row::clear_cache(cache, 1).await.unwrap();
            assert_eq!(tagged_row(cache, db, 1).await, 1);
            let ((), list) = deferred(async {
                if by_hand {
                    db.write(2);
                    cache.invalidate_tags(&["row:1"]).await.unwrap();
                } else {
                    write_tag(cache, db, 1, 2).await;
                }
                assert_eq!(tagged_row(cache, db, 1).await, 2, "its own write");
            })
            .await;
            assert_eq!(tagged_row(other, db, 1).await, 1, "not committed yet");
            list.apply().await;
            assert_eq!((tagged_row(cache, db, 1).await, tagged_row(other, db, 1).await), (2, 2));
        }
    }
}
