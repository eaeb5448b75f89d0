//! Servers that are there and put everything off: a cluster whose majority is gone, a server that loads its data for
//! long. A few calls spend their budget on finding that out, and then none does: functions run uncached until
//! the server serves again, invalidations are kept until then, and nothing older is read.

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::time::Instant;

use cache_aside::{cache, cache_invalidate};
use sample::{World, eventually, hasty};
use support::cluster::Cluster;
use support::server::{Kind, Server};
use support::{ms, secs};
use tokio::task::block_in_place;

// In one slot, whatever the id: so on one node. What is asked of it in one command, and in several at once.
#[cache(ttl = 600, key = "plain:{{a}}:{id}", cache = &world.cache)]
async fn plain(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache(ttl = 600, key = "near:{{a}}:{id}", near = true, cache = &world.cache)]
async fn near(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache(ttl = 600, key = "tagged:{{a}}:{id}", tags = ["{{a}}:{id}"], cache = &world.cache)]
async fn tagged(world: &World, id: u64) -> u64 {
    world.row(id).version
}

#[cache_invalidate(plain(world, id), near(world, id), tagged(world, id))]
async fn write(world: &World, id: u64) -> u64 {
    world.touch(id)
}

/// Each function gives what the table holds.
async fn check(world: &World, id: u64) {
    let version = world.row(id).version;
    assert_eq!(plain(world, id).await, version);
    assert_eq!(near(world, id).await, version);
    assert_eq!(tagged(world, id).await, version);
}

/// Calls until all are hits.
async fn until_hits(world: &World) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < secs(30), "no hits: {:?}", world.cache.stats());
        let before = world.cache.stats();
        check(world, 1).await;
        let after = world.cache.stats();
        if after.hits + after.near_hits >= before.hits + before.near_hits + 3 {
            return;
        }
        tokio::time::sleep(ms(2)).await;
    }
}

/// Until no invalidation waits; all the time nothing older is read.
async fn until_carried_out(world: &World) {
    let begun = Instant::now();
    while world.cache.pending_invalidations() > 0 {
        assert!(begun.elapsed() < secs(30), "it waits still");
        check(world, 1).await;
        tokio::time::sleep(ms(2)).await;
    }
}

/// How many commands it has refused.
fn refused(server: &Server) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let counts = stats.split("rejected_calls=").skip(1);
    counts
        .map(|rest| rest.split(',').next().and_then(|count| count.parse::<u64>().ok()).expect("a count"))
        .sum()
}

/// So many calls of each function.
const CALLS: u64 = 100;

/// The server refuses everything: and is asked by few.
async fn is_done_without(world: &World, server: &Server) {
    // Enough of them to open the breaker.
    for id in 0..5 {
        check(world, id).await;
    }
    let before = block_in_place(|| refused(server));
    for id in 0..CALLS {
        check(world, id).await;
    }
    let asked = block_in_place(|| refused(server)) - before;
    assert!(asked < CALLS, "{CALLS} calls of three functions, and the server was asked {asked} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_majority_is_done_without() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let cluster = block_in_place(|| Cluster::of(kind, 3, 0));
        let here = cluster.primary_of("{a}");
        let world = World::new(hasty(&cluster.url()).build().unwrap());
        until_hits(&world).await;
        let others: Vec<&Server> = cluster.nodes.iter().filter(|node| node.port() != here.port()).collect();
        for node in &others {
            node.kill();
        }
        let is_down = || here.command(&["GET", "{a}"]).starts_with("-CLUSTERDOWN");
        eventually("it knows that it is alone", is_down).await;

        is_done_without(&world, here).await;
        // Who comes now has never known it otherwise.
        let urls = cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect::<Vec<_>>();
        let late = World::new(hasty(&format!("redis+cluster://{}", urls.join(","))).build().unwrap());
        is_done_without(&late, here).await;

        // One table, of which each process has a copy.
        late.touch(1);
        write(&world, 1).await;
        assert!(world.cache.pending_invalidations() > 0);
        check(&world, 1).await;
        for node in &others {
            block_in_place(|| node.restart());
        }
        until_carried_out(&world).await;
        until_hits(&world).await;
        until_hits(&late).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loads_for_long_is_done_without() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let slow = Server::of(kind).config("key-load-delay", "1000");
        let server = slow.config("loading-process-events-interval-bytes", "1024").start();
        let world = World::new(hasty(&server.url()).build().unwrap());
        until_hits(&world).await;
        server.command(&["DEBUG", "POPULATE", "100000"]);
        server.send(&["DEBUG", "RELOAD"]);
        let is_loading = || server.command(&["GET", "k"]).starts_with("-LOADING");
        eventually("it loads", is_loading).await;

        is_done_without(&world, &server).await;
        let late = World::new(hasty(&server.url()).build().unwrap());
        is_done_without(&late, &server).await;

        // One table, of which each process has a copy.
        late.touch(1);
        write(&world, 1).await;
        assert!(is_loading() && world.cache.pending_invalidations() > 0);
        check(&world, 1).await;
        assert_eq!(server.command(&["CONFIG", "SET", "key-load-delay", "0"]), "OK");
        until_carried_out(&world).await;
        until_hits(&world).await;
        until_hits(&late).await;
    }
}
