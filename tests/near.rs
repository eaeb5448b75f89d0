//! Values kept decoded in this process: when they are hits, and what ends them.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_aside::{Cache, cache, cache_invalidate};
use serde::{Deserialize, Serialize};
use support::db::Row as Db;
use support::script::{Reply, Script};
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::sync::Semaphore;

/// A row, its loads, and two processes' caches in front of it.
struct Bench {
    db: Db,
    cache: Cache,
    other: Cache,
    server: Option<Server>,
}

fn on(kind: Kind) -> Bench {
    // What is seen within the patience of a test is seen because it was told.
    with_staleness(kind, secs(600))
}

fn with_staleness(kind: Kind, staleness: Duration) -> Bench {
    let server = Server::of(kind).start();
    let builder = Cache::builder().store_budget(secs(2)).near_staleness(staleness);
    let make = || builder.clone().redis(server.url()).build().unwrap();
    Bench { db: Db::default(), cache: make(), other: make(), server: Some(server) }
}

fn benches() -> [Bench; 3] {
    let cache = Cache::builder().build().unwrap();
    let embedded = Bench { db: Db::default(), other: cache.clone(), cache, server: None };
    [embedded, on(Kind::Redis), on(Kind::Valkey)]
}

#[cache(ttl = 600, near = true, key = "row:{id}", cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.read()
}

#[cache(ttl = 600, near = "300ms", skip(cache, db), cache = cache)]
async fn briefly(cache: &Cache, db: &Db, id: u64) -> Result<u64, String> {
    let _ = id;
    Ok(db.read())
}

#[cache(ttl = 600, near = true, skip(cache, db), cache = cache)]
async fn shared(cache: &Cache, db: &Db, name: &str) -> Arc<Vec<u64>> {
    Arc::new(vec![db.read(), name.len() as u64])
}

#[cache_invalidate("row:{id}", cache = cache)]
async fn write_one(cache: &Cache, db: &Db, id: u64, row: u64) {
    let _ = id;
    db.write(row);
}

#[cache_invalidate("row:*", cache = cache)]
async fn write_all(cache: &Cache, db: &Db, row: u64) {
    db.write(row);
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < secs(30), "never: {what}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Calls until the answer comes from this process.
async fn warm(cache: &Cache, db: &Db, id: u64) {
    until("a near hit", async || {
        let before = cache.stats().near_hits;
        row(cache, db, id).await;
        cache.stats().near_hits > before
    })
    .await;
}

#[tokio::test]
async fn what_was_read_once_is_a_hit_without_the_store() {
    for Bench { db, cache, server, .. } in benches() {
        db.write(7);
        warm(&cache, &db, 1).await;
        let (before, commands) = (cache.stats(), server.as_ref().map(gets));
        for _ in 0..100 {
            assert_eq!(row(&cache, &db, 1).await, 7);
        }
        let stats = cache.stats();
        assert_eq!((stats.near_hits - before.near_hits, stats.hits - before.hits, db.reads()), (100, 0, 1));
        assert_eq!(server.as_ref().map(gets), commands);
        assert!(row::cache_stats().near_hits >= 100);
        assert_eq!(row(&cache, &db, 2).await, 7, "other arguments are another entry");
        assert_eq!(db.reads(), 2);
    }
}

fn gets(server: &Server) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    calls.and_then(|calls| calls.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn who_invalidates_here_reads_the_new_value_at_once() {
    for Bench { db, cache, .. } in benches() {
        for round in 0..20 {
            for way in 0..8 {
                db.write(7);
                row::clear_cache(&cache, 1).await.unwrap();
                warm(&cache, &db, 1).await;
                let new = 100 + round * 10 + way;
                if way < 6 {
                    db.write(new);
                }
                match way {
                    0 => drop(row::clear_cache(&cache, 1).await.unwrap()),
                    1 => write_one(&cache, &db, 1, new).await,
                    2 => write_all(&cache, &db, new).await,
                    3 => row::clear_cache_all(&cache).await.unwrap(),
                    4 => drop(cache.delete("row:1").await.unwrap()),
                    5 => drop(cache.delete_pattern("r?w:*").await.unwrap()),
                    6 => row::put_cache(&cache, 1, &new).await.unwrap(),
                    _ => cache.set("row:1", &new, secs(60)).await.unwrap(),
                }
                assert_eq!(row(&cache, &db, 1).await, new, "way {way}");
            }
        }
    }
}

#[tokio::test]
async fn what_another_process_changes_is_seen_in_a_moment() {
    for Bench { db, cache, other, server } in benches() {
        for way in 0..6 {
            db.write(7);
            row::clear_cache(&cache, 1).await.unwrap();
            warm(&cache, &db, 1).await;
            db.write(8);
            match (way, &server) {
                (0, _) => drop(row::clear_cache(&other, 1).await.unwrap()),
                (1, _) => write_all(&other, &db, 8).await,
                (2, _) => other.set("row:1", &8, secs(60)).await.unwrap(),
                (3, Some(server)) => drop(server.command(&["DEL", "row:1"])),
                (4, Some(server)) => drop(server.command(&["FLUSHALL"])),
                (5, Some(server)) => drop(server.command(&["SET", "row:1", "8"])),
                (_, None) => continue,
                _ => unreachable!(),
            }
            until("the new value", async || row(&cache, &db, 1).await == 8).await;
        }
    }
}

#[tokio::test]
async fn a_life_of_its_own_is_shorter() {
    for Bench { db, cache, .. } in benches() {
        until("a near hit", async || {
            briefly(&cache, &db, 1).await.unwrap();
            cache.stats().near_hits > 0
        })
        .await;
        tokio::time::sleep(ms(400)).await;
        let before = cache.stats();
        briefly(&cache, &db, 1).await.unwrap();
        let stats = cache.stats();
        assert_eq!((stats.near_hits - before.near_hits, stats.hits - before.hits, db.reads()), (0, 1, 1));
    }
}

#[tokio::test]
async fn an_arc_is_handed_out_as_it_is() {
    for Bench { db, cache, .. } in benches() {
        until("a near hit", async || {
            shared(&cache, &db, "a").await;
            cache.stats().near_hits > 0
        })
        .await;
        let (one, two) = (shared(&cache, &db, "a").await, shared(&cache, &db, "a").await);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!((one[1], shared(&cache, &db, "bc").await[1]), (1, 2));
    }
}

#[tokio::test]
async fn a_lost_connection_drops_what_was_kept_and_hits_come_back() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let Bench { db, cache, server, .. } = on(kind);
        let server = server.unwrap();
        warm(&cache, &db, 1).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        db.write(8);
        server.command(&["DEL", "row:1"]);
        until("the new value", async || row(&cache, &db, 1).await == 8).await;
        warm(&cache, &db, 1).await;
    }
}

#[tokio::test]
async fn a_frozen_server_is_believed_for_so_long_and_no_longer() {
    let Bench { db, cache, server, .. } = with_staleness(Kind::Redis, secs(2));
    let server = server.unwrap();
    warm(&cache, &db, 1).await;
    server.freeze();
    // It answers nothing that is asked from now on.
    let frozen = Instant::now();
    db.write(8);
    until("the function runs", async || {
        let asked = frozen.elapsed();
        let got = row(&cache, &db, 1).await;
        assert!(got == 8 || asked < secs(2), "kept for too long");
        got == 8
    })
    .await;
    server.thaw();
}

/// Loads when it is let, and says so when it begins.
#[cache(ttl = 600, near = true, key = "slow", cache = cache)]
async fn slow(cache: &Cache, begun: &Semaphore, go: &Semaphore) -> u64 {
    begun.add_permits(1);
    go.acquire().await.unwrap().forget();
    7
}

#[tokio::test]
async fn who_waits_for_another_process_is_woken_when_it_is_done() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::of(kind).start();
        // Who isn't woken waits for an hour.
        let builder = Cache::builder().store_budget(secs(2)).poll(secs(7200), secs(7200)).lease(secs(9999));
        let (one, other) = (builder.clone(), builder);
        let [one, other] = [one, other].map(|builder| builder.redis(server.url()).build().unwrap());
        let db = Db::default();
        warm(&one, &db, 1).await;
        warm(&other, &db, 2).await; // both hear the server
        let (begun, go) = (Semaphore::new(0), Semaphore::new(0));
        let waits = async {
            begun.acquire().await.unwrap().forget();
            let waits = slow(&other, &begun, &go);
            let goes = async {
                until("the other one waits", async || other.stats().misses > 0).await;
                // If it doesn't listen yet, it will find the value where the lease was.
                tokio::time::sleep(ms(300)).await;
                go.add_permits(1);
            };
            tokio::join!(waits, goes).0
        };
        let both = async { tokio::join!(slow(&one, &begun, &go), waits) };
        let both = tokio::time::timeout(secs(60), both).await.expect("it isn't woken");
        assert_eq!(both, (7, 7));
        assert_eq!((one.stats().loads, other.stats().loads), (2, 1), "one load of it in all");
    }
}

#[tokio::test]
async fn what_is_put_where_the_store_has_nothing_any_more_is_seen() {
    let cache = Cache::builder().memory(64 << 10).build().unwrap();
    let db = Db::default();
    db.write(7);
    warm(&cache, &db, 1).await;
    until("evicted", async || {
        for number in 0..1000 {
            let key = format!("other:{number}");
            cache.set(&key, &"v".repeat(200), secs(60)).await.unwrap();
            let _: Option<String> = cache.get(&key).await.unwrap();
        }
        // Not more often: a look is a use.
        !cache.exists("row:1").await.unwrap()
    })
    .await;
    row::put_cache(&cache, 1, &8).await.unwrap();
    assert_eq!(row(&cache, &db, 1).await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_drives_lives() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::default();
    for hour in 0..3 {
        db.write(hour);
        for _ in 0..5 {
            assert_eq!(row(&cache, &db, 1).await, hour);
        }
        tokio::time::advance(secs(3600)).await;
    }
}

/// A value that counts how often it is cloned.
#[derive(Debug, Serialize, Deserialize)]
struct Counted;

static CLONES: AtomicU64 = AtomicU64::new(0);

impl Clone for Counted {
    fn clone(&self) -> Self {
        CLONES.fetch_add(1, SeqCst);
        Self
    }
}

#[cache(ttl = 600, near = true, key = "counted:{id}", cache = cache)]
async fn counted(cache: &Cache, id: u64) -> Counted {
    let _ = id;
    Counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_share_a_read_one_keeps_what_it_brought() {
    let Bench { cache, server, .. } = on(Kind::Redis);
    let server = server.unwrap();
    until("a near hit", async || {
        counted(&cache, 1).await;
        counted::cache_stats().near_hits > 0
    })
    .await;
    for _ in 0..10 {
        assert!(cache.expire("counted:1", secs(60)).await.unwrap());
        let (asked, cloned, near) = (gets(&server), CLONES.load(SeqCst), counted::cache_stats().near_hits);
        let callers = (0..500).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { counted(&cache, 1).await })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        let kept = CLONES.load(SeqCst) - cloned - (counted::cache_stats().near_hits - near);
        assert!(kept <= gets(&server) - asked, "{kept}");
    }
}

#[tokio::test]
async fn when_the_tracked_connection_alone_is_silent_the_main_one_is_asked() {
    let server = Server::of(Kind::Redis).start();
    let (silenced, is_silent) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let script = Script::over(&server.url(), {
        let (silenced, is_silent) = (Arc::clone(&silenced), Arc::clone(&is_silent));
        move |words| {
            // Only a sign of life is a greeting of two words.
            if silenced.load(SeqCst) && words[0] == "HELLO" && words.len() == 2 {
                is_silent.store(true, SeqCst);
                return Reply::Silence;
            }
            Reply::Default
        }
    });
    let builder = Cache::builder().redis(script.url()).store_budget(ms(200)).near_staleness(secs(20));
    let cache = builder.build().unwrap();
    let db = Db::default();
    warm(&cache, &db, 0).await;
    silenced.store(true, SeqCst);
    until("silent", async || is_silent.load(SeqCst)).await;
    let before = cache.stats().store_errors;
    for id in 1..30 {
        row(&cache, &db, id).await;
        // The main connection is well.
        cache.ping().await.unwrap();
    }
    let errors = cache.stats().store_errors - before;
    // Five, unless the machine is so busy that the main one is late as well.
    assert!((1..=15).contains(&errors), "{errors}");
}

#[test]
fn a_staleness_that_no_server_can_meet_is_refused() {
    let error = Cache::builder().near_staleness(ms(49)).build().unwrap_err().to_string();
    assert!(error.contains("`near_staleness` is below 50 ms"), "{error}");
    Cache::builder().near_staleness(ms(50)).build().unwrap();
}
