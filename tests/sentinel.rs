//! A primary that sentinels name: found, followed through every kind of failover, and no longer believed
//! when it is none any more.

#[path = "support/sample.rs"]
mod sample;
mod support;

use cache_aside::redis::AsyncCommands;
use cache_aside::{Cache, CacheError, cache, get_redis};
use sample::{World, eventually, hasty, patient, write};
use support::sentinel::{NAME, Trio};
use support::server::{Kind, Server};
use support::{Loads, ms, secs};
use tokio::task::block_in_place;

#[cache(ttl = 600, near = true, key = "near:{id}", cache = cache)]
async fn near(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

/// Calls until a value that nobody has read is stored by this server.
async fn until_stored(world: &World, by: &Server) {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_000);
    let begun = std::time::Instant::now();
    loop {
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        world.check(id).await;
        if by.command(&["EXISTS", &format!("row:{id}")]) == "1" {
            return;
        }
        assert!(begun.elapsed() < secs(15), "nothing comes to it: {:?}", world.cache.stats());
        tokio::time::sleep(ms(2)).await;
    }
}

/// Nothing is sent by the cache meanwhile: it is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_command_is_followed_and_ends_what_is_near() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let trio = Trio::start(kind);
        let old = trio.primary();
        // It would be used for a minute without a word from the server.
        let cache = patient(&trio.url()).near_staleness(secs(60)).build().unwrap();
        let world = World::new(cache.clone());
        world.until_hit(1).await;
        let loads = Loads::new();
        while cache.stats().near_hits == 0 {
            assert_eq!(near(&cache, &loads, 1).await, 1);
            tokio::task::yield_now().await;
        }
        trio.failover(&[]);
        let new = block_in_place(|| trio.wait_for_another(old));
        // Before 7.0 the list doesn't say who speaks RESP3; sentinels and replicas ask other things.
        let ours: &[&str] = if kind.is_old() { &["cmd=eval", "cmd=get"] } else { &["resp=3"] };
        let is_there = || ours.iter().any(|word| new.command(&["CLIENT", "LIST"]).contains(word));
        eventually("the new one is connected to", is_there).await;
        new.command(&["DEL", "near:1"]);
        while near(&cache, &loads, 1).await == 1 {
            assert_eq!(cache.stats().near_hits, 1, "what was near is near no more");
        }
        until_stored(&world, new).await;
        write(&world, 1).await;
        world.check(1).await;
        world.until_hit(1).await;
        // And near again, told by the new one.
        let before = cache.stats().near_hits;
        while cache.stats().near_hits == before {
            near(&cache, &loads, 2).await;
            tokio::task::yield_now().await;
        }
        let had = loads.count();
        new.command(&["DEL", "near:2"]);
        while near(&cache, &loads, 2).await <= had {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_has_a_successor_and_is_none_when_it_comes_back() {
    let trio = Trio::with(Kind::Redis, Some("hunter2"), Some("sesame"));
    let old = trio.primary();
    let world = World::new(hasty(&trio.url()).build().unwrap());
    world.until_hit(1).await;
    old.kill();
    // Answered by its function, all the time.
    let moving = async {
        let new = block_in_place(|| trio.wait_for_another(old));
        until_stored(&world, new).await;
        new
    };
    let new = moving.await;
    write(&world, 1).await;
    world.check(1).await;
    world.until_hit(1).await;
    assert_eq!(world.cache.stats().pending_invalidations, 0);

    // It comes back as the primary that it was, and empty.
    old.restart();
    let late = World::new(hasty(&trio.url()).build().unwrap());
    until_stored(&late, new).await;
    for id in 0..20 {
        write(&world, id).await;
        world.check(id).await;
        world.check(id).await;
    }
    assert!(old.command(&["ROLE"]).starts_with("master"), "it is as sure of itself as ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_is_left_and_not_believed_when_it_goes_on() {
    let trio = Trio::start(Kind::Redis);
    let old = trio.primary();
    let cache = hasty(&trio.url()).near_staleness(secs(60)).build().unwrap();
    let world = World::new(cache.clone());
    world.until_hit(1).await;
    let loads = Loads::new();
    while cache.stats().near_hits == 0 {
        near(&cache, &loads, 1).await;
        tokio::task::yield_now().await;
    }
    old.freeze();
    let new = block_in_place(|| trio.wait_for_another(old));
    until_stored(&world, new).await;
    // These have an old value in the old one, and none in the new one.
    new.command(&["DEL", "near:1"]);
    assert_ne!(near(&cache, &loads, 1).await, 1, "what was near is near no more");
    world.until_hit(1).await;
    write(&world, 1).await;
    old.thaw();
    let late = hasty(&trio.url()).build().unwrap();
    while !old.command(&["ROLE"]).starts_with("slave") {
        world.check(1).await;
        write(&world, 1).await;
        // Who comes now isn't led astray either.
        assert_eq!(late.get::<sample::Row>("row:1").await.unwrap_or_default(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_by_hand_are_to_the_primary() {
    let trio = Trio::start(Kind::Redis);
    let old = trio.primary();
    Cache::scope(patient(&trio.url()).build().unwrap(), async {
        let mut kept = get_redis().await.unwrap();
        let () = kept.set("n", 1).await.unwrap();
        let given_back = get_redis().await.unwrap();
        drop(given_back);
        trio.failover(&[]);
        let new = block_in_place(|| trio.wait_for_another(old));
        let number = loop {
            let mut redis = get_redis().await.unwrap();
            // Until this process has heard of it, its writes are refused.
            match redis.incr::<_, _, u64>("n", 1).await {
                Ok(number) => break number,
                Err(error) => assert_eq!(error.code(), Some("READONLY"), "{error}"),
            }
        };
        assert_eq!(new.command(&["GET", "n"]), number.to_string());
        // One that was out meanwhile isn't given to the next.
        drop(kept);
        for _ in 0..20 {
            let mut redis = get_redis().await.unwrap();
            let () = redis.incr::<_, _, u64>("n", 1).await.map(drop).unwrap();
        }
        new.kill();
        let begun = std::time::Instant::now();
        while let Err(error) = set_five().await {
            assert!(begun.elapsed() < secs(15), "{error}");
        }
        assert_eq!(old.command(&["GET", "n"]), "5");
    })
    .await;
}

async fn set_five() -> Result<(), CacheError> {
    let mut redis = get_redis().await?;
    redis.set::<_, _, ()>("n", 5).await.map_err(|error| CacheError::Unavailable(error.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_that_are_away_are_passed_over() {
    let trio = Trio::start(Kind::Redis);
    let hosts =
        |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let [one, two, three] = [0, 1, 2].map(|at: usize| trio.sentinels[at].port());
    trio.sentinels[0].freeze();
    trio.sentinels[1].kill();
    let world = World::new(
        patient(&format!("redis+sentinel://{}/{NAME}", hosts(&[one, two, three]))).build().unwrap(),
    );
    assert!(world.until_hit(1).await < secs(1), "nobody waits for the frozen one to the end");
    trio.sentinels[0].thaw();

    for (url, says) in [
        (format!("redis+sentinel://{}/other", hosts(&[one, three])), "knows no `other`"),
        (format!("redis+sentinel://{}/{NAME}", hosts(&[two])), "no sentinel names the primary"),
        (
            format!("redis+sentinel://{}/{NAME}?sentinel_password=hunter2", hosts(&[three])),
            "no sentinel names",
        ),
    ] {
        let world = World::new(patient(&url).build().unwrap());
        let error = world.cache.ping().await.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
        world.check(1).await;
        assert_eq!(world.cache.stats().hits, 0);
    }
}

/// One that is told of only one learns of the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_sentinels_are_learnt() {
    let trio = Trio::start(Kind::Redis);
    let old = trio.primary();
    let only = trio.sentinels[0].port();
    let world = World::new(hasty(&format!("redis+sentinel://127.0.0.1:{only}/{NAME}")).build().unwrap());
    world.until_hit(1).await;
    let knows = || {
        trio.sentinels[1]
            .command(&["CLIENT", "LIST"])
            .lines()
            .any(|line| line.contains("sub=2") && (Kind::Redis.is_old() || line.contains("resp=3")))
    };
    eventually("one that it wasn't told of is listened to", knows).await;
    trio.sentinels[0].kill();
    old.kill();
    let new = trio.other(old);
    until_stored(&world, new).await;
}

/// What the old primary takes while its replica is promoted is lost with it, so it is sent nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_on_its_way_out_is_sent_nothing_though_it_is_well() {
    let trio = Trio::start(Kind::Redis);
    let old = trio.primary();
    let new = trio.other(old);
    let world = World::new(patient(&trio.url()).build().unwrap());
    world.until_hit(1).await;
    // It is told to be a primary, and obeys when it goes on.
    new.freeze();
    block_in_place(|| trio.failover(&[]));
    while world.cache.ping().await.is_ok() {
        tokio::task::yield_now().await;
    }
    write(&world, 1).await;
    world.check(1).await;
    let late = World::new(hasty(&trio.url()).build().unwrap());
    late.check(1_000_000).await;
    let stats = (world.cache.stats().pending_invalidations, old.command(&["EXISTS", "row:1000000"]));
    new.thaw();
    assert_eq!(stats, (1, "0".to_owned()), "by no process, also one that began later");
    block_in_place(|| trio.wait_for_another(old));
    until_stored(&world, new).await;
    assert_eq!(world.cache.stats().pending_invalidations, 0);
    world.check(1).await;
}
