//! What `get_redis` hands out: all of Redis' commands, beside the cache and never in its way; and not a
//! word of one user's to the next (SPEC 3, I11).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::collections::HashMap;
use std::time::Instant;

use cache_aside::redis::{self, AsyncCommands, Value};
use cache_aside::{Cache, CacheError, close_redis, get_redis};
use sample::{World, patient};
use support::proxy::Proxy;
use support::server::{Kind, Server};
use support::{embedded, ms, secs};
use tokio::task::JoinSet;
use tokio::time::timeout;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

#[tokio::test]
async fn everything_that_is_no_cache_works() -> redis::RedisResult<()> {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let cache = patient(&server.url()).namespace("shop").build().unwrap();
        Cache::scope(cache, async {
            let mut redis = get_redis().await.unwrap();
            // Hash, list, set, sorted set.
            let () = redis.hset_multiple("user:1", &[("name", "Ada"), ("age", "36")]).await?;
            let user: HashMap<String, String> = redis.hgetall("user:1").await?;
            assert_eq!(
                (user["name"].as_str(), redis.hincr::<_, _, _, i64>("user:1", "age", 1).await?),
                ("Ada", 37)
            );
            assert_eq!(redis.rpush::<_, _, u64>("jobs", &[1, 2, 3]).await?, 3);
            assert_eq!(redis.lrange::<_, Vec<u64>>("jobs", 0, -1).await?, [1, 2, 3]);
            assert_eq!(redis.sadd::<_, _, u64>("tags", &["a", "b", "a"]).await?, 2);
            assert!(redis.sismember::<_, _, bool>("tags", "b").await?);
            let () = redis.zadd_multiple("ranking", &[(1, "one"), (3, "three"), (2, "two")]).await?;
            assert_eq!(redis.zrevrange::<_, Vec<String>>("ranking", 0, 1).await?, ["three", "two"]);
            // Many at once, and as one.
            let (first, second): (u64, Option<String>) =
                redis::pipe().incr("n", 5).get("none").query_async(&mut redis).await?;
            assert_eq!((first, second), (5, None));
            let (n, all): (u64, Vec<String>) =
                redis::pipe().atomic().incr("n", 1).hkeys("user:1").query_async(&mut redis).await?;
            assert_eq!((n, all.len()), (6, 2));
            // Errors are the server's.
            let wrong = redis.lpush::<_, _, u64>("user:1", 1).await.unwrap_err();
            assert_eq!(wrong.code(), Some("WRONGTYPE"));
            assert_eq!(redis.incr::<_, _, u64>("n", 1).await?, 7, "and the connection goes on");
            redis::RedisResult::Ok(())
        })
        .await?;
        assert_eq!(server.command(&["GET", "n"]), "7", "the keys are the user's: no namespace");
    }
    Ok(())
}

#[tokio::test]
async fn a_watched_transaction_sees_who_was_quicker() -> redis::RedisResult<()> {
    let server = Server::redis().start();
    Cache::scope(patient(&server.url()).build().unwrap(), async {
        let (mut one, mut two) = (get_redis().await.unwrap(), get_redis().await.unwrap());
        let () = redis::cmd("WATCH").arg("n").query_async(&mut one).await?;
        let () = two.set("n", 5).await?;
        let lost: Value = redis::pipe().atomic().set("n", 1).query_async(&mut one).await?;
        assert_eq!((lost, one.get::<_, u64>("n").await?), (Value::Nil, 5));
        Ok(())
    })
    .await
}

/// Each has a connection of its own, so one that blocks holds up nobody.
#[tokio::test]
async fn a_blocking_command_is_in_nobodys_way() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::new(patient(&server.url()).build().unwrap());
        world.check(1).await;
        world.until_hit(1).await;
        Cache::scope(world.cache.clone(), async {
            let mut blocked = get_redis().await.unwrap();
            let waiting = tokio::spawn(async move { blocked.blpop::<_, (String, u64)>("queue", 0.0).await });
            sample::eventually("it blocks", || {
                server.command(&["INFO", "clients"]).lines().any(|line| line == "blocked_clients:1")
            })
            .await;
            let hits = world.cache.stats().hits;
            for _ in 0..100 {
                assert!(world.check(1).await < secs(1));
            }
            assert_eq!(world.cache.stats().hits, hits + 100, "the cache works beside it");
            let mut other = get_redis().await.unwrap();
            let () = other.rpush("queue", 7).await.unwrap();
            assert_eq!(waiting.await.unwrap().unwrap(), ("queue".to_owned(), 7));
        })
        .await;
    }
}

/// The way that `RedisConnection`'s page advises: a timeout around what may hang.
#[tokio::test]
async fn a_command_that_was_given_up_harms_neither_the_next_user_nor_the_data() {
    let server = Server::redis().start();
    Cache::scope(patient(&server.url()).build().unwrap(), async {
        let mut redis = get_redis().await.unwrap();
        assert!(timeout(ms(200), redis.blpop::<_, Value>("queue", 0.0)).await.is_err());
        drop(redis);
        let begun = Instant::now();
        let mut next = get_redis().await.unwrap();
        assert!(begun.elapsed() < secs(2), "the next user waited {:?}", begun.elapsed());
        let () = next.rpush("queue", 7).await.unwrap();
        tokio::time::sleep(ms(100)).await;
        assert_eq!(next.llen::<_, u64>("queue").await.unwrap(), 1, "nobody takes what nobody waits for");
    })
    .await;
}

#[tokio::test]
async fn what_one_user_leaves_behind_is_not_the_next_ones() {
    let server = Server::redis().start();
    Cache::scope(patient(&server.url()).build().unwrap(), async {
        for leave in ["MULTI", "WATCH k", "SELECT 3", "CLIENT SETNAME mine", "CLIENT REPLY OFF"] {
            let mut redis = get_redis().await.unwrap();
            let mut command = redis::Cmd::new();
            command.arg(leave.split(' ').collect::<Vec<_>>());
            let _ = timeout(ms(200), command.query_async::<Value>(&mut redis)).await;
            drop(redis);
            let mut next = timeout(secs(3), get_redis()).await.expect("nobody waits long").unwrap();
            let () = timeout(secs(3), next.set("k", leave)).await.expect("it answers").unwrap();
            assert_eq!(server.command(&["GET", "k"]), leave, "after {leave}");
        }
    })
    .await;
}

#[tokio::test]
async fn connections_are_given_back_and_used_again() {
    let server = Server::redis().start();
    Cache::scope(patient(&server.url()).build().unwrap(), async {
        let mut tasks = JoinSet::new();
        for number in 0..200u64 {
            let redis = get_redis();
            let connection = redis.await.unwrap();
            tasks.spawn(async move {
                let mut redis = connection;
                redis.set::<_, _, ()>(format!("k{number}"), number).await.unwrap();
                redis.get::<_, u64>(format!("k{number}")).await.unwrap()
            });
        }
        let mut got = tasks.join_all().await;
        got.sort_unstable();
        assert_eq!(got, (0..200).collect::<Vec<_>>());
        let clients = server.command(&["CLIENT", "LIST"]).lines().count();
        println!("{clients} connections for 200 users");
        assert!(clients <= 40, "{clients}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_away_is_connected_to_again() {
    let server = Server::redis().start();
    Cache::scope(patient(&server.url()).build().unwrap(), async {
        for _ in 0..3 {
            let mut redis = get_redis().await.unwrap();
            let () = redis.set("k", 1).await.unwrap();
            server.kill();
            assert!(redis.get::<_, Value>("k").await.is_err(), "who has a connection is told");
            drop(redis);
            assert!(matches!(get_redis().await, Err(CacheError::Unavailable(_))));
            server.restart();
        }
        // Cut while nobody had it.
        drop(get_redis().await.unwrap());
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let mut redis = get_redis().await.unwrap();
        let () = redis.set("k", 1).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn cached_calls_never_go_this_way() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(patient(&proxy.url()).build().unwrap());
    for id in 0..20 {
        world.check(id).await;
        world.check(id).await;
    }
    assert_eq!(proxy.seen.count("PING"), 1, "one connection for all: {:?}", proxy.seen.counts());
}

#[tokio::test]
async fn a_password_is_in_no_error_of_it() {
    let server = Server::redis().password("another").start();
    let url = format!("redis://:c4n4ry@127.0.0.1:{}", server.port());
    Cache::scope(patient(&url).build().unwrap(), async {
        let refused = get_redis().await.unwrap_err();
        assert!(matches!(&refused, CacheError::Server(text) if text.contains("authentication failed") || text.contains("WRONGPASS")), "{refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("c4n4ry"));
    })
    .await;
    let url = format!("redis://:another@127.0.0.1:{}/3", server.port());
    Cache::scope(patient(&url).build().unwrap(), async {
        let mut redis = get_redis().await.unwrap();
        assert!(!format!("{redis:?}").contains("another"));
        let () = redis.set("k", 1).await.unwrap();
        server.command(&["SELECT", "3"]);
        assert_eq!(server.command(&["GET", "k"]), "1", "in the database of the URL");
    })
    .await;
}

#[tokio::test]
async fn the_embedded_store_has_none() {
    Cache::scope(embedded(), async {
        let none = get_redis().await.unwrap_err();
        assert!(matches!(none, CacheError::NotRedis), "{none:?}");
        assert!(none.to_string().contains("REDIS_URL"), "and says what to do: {none}");
        close_redis().await;
        let cache = cache_aside::global().unwrap();
        assert_eq!(cache.get_or_set("k", secs(9), async || 1).await.unwrap(), 1, "there is nothing to close");
        assert!(cache.exists("k").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn closing_ends_all_connections_and_is_for_good() {
    let server = Server::redis().start();
    let clients = || server.command(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count();
    let before = clients();
    let world = World::new(patient(&server.url()).build().unwrap());
    world.check(1).await;
    Cache::scope(world.cache.clone(), async {
        drop(get_redis().await.unwrap());
        assert_eq!(clients(), before + 2);
        close_redis().await;
        sample::eventually("all are closed", || clients() == before).await;
        assert!(matches!(get_redis().await, Err(CacheError::Unavailable(_))));
        for _ in 0..3 {
            world.check(1).await; // uncached
        }
        assert_eq!(world.loads(), 4);
        close_redis().await; // once more is nothing
        assert_eq!(clients(), before);
    })
    .await;
}

/// What still waits to be invalidated is waited for, but not for ever.
#[tokio::test]
async fn closing_waits_a_moment_for_kept_invalidations() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let world = World::new(patient(&proxy.url()).build().unwrap());
    Cache::scope(world.cache.clone(), async {
        world.check(1).await;
        proxy.refuse(true);
        proxy.cut().await;
        sample::write(&world, 1).await;
        assert_eq!(world.cache.pending_invalidations(), 1);
        let back = async {
            tokio::time::sleep(ms(300)).await;
            proxy.refuse(false);
        };
        tokio::join!(close_redis(), back);
        assert_eq!(
            (world.cache.pending_invalidations(), server.command(&["EXISTS", "row:1"])),
            (0, "0".to_owned())
        );
    })
    .await;
    let world = World::new(patient(&proxy.url()).build().unwrap());
    Cache::scope(world.cache.clone(), async {
        world.check(1).await;
        server.kill();
        sample::write(&world, 1).await;
        let begun = Instant::now();
        close_redis().await;
        assert!(begun.elapsed() < secs(3), "{:?}", begun.elapsed());
    })
    .await;
}
