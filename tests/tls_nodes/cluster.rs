//! `rediss+cluster://`.

use std::time::Instant;

use tokio::task::block_in_place;

use crate::sample::{World, eventually, write};
use crate::support::cluster::Cluster;
use crate::support::secs;
use crate::support::server::{Builder, Server};
use crate::{By, Papers};

impl Papers {
    fn node(&self, node: Builder) -> Builder {
        let node = self.secured(node);
        match self.by {
            By::Address => node,
            By::Name => node
                .config("cluster-announce-hostname", self.host)
                .config("cluster-preferred-endpoint-type", "hostname"),
        }
    }
}

/// How many rows all nodes have together.
fn rows(cluster: &Cluster) -> usize {
    let keys = |node: &Server| node.command(&["KEYS", "row:*"]).lines().filter(|key| !key.is_empty()).count();
    block_in_place(|| cluster.primaries().map(keys).sum())
}

/// The slot of a row goes to another node: asked for there when the key has gone, and when the slot has.
async fn moves(cluster: &Cluster, world: &World) {
    world.until_hit(1).await;
    let slot = cluster.slot_of("row:1");
    let from = cluster.primary_of_slot(slot);
    let to = cluster.primaries().find(|node| node.port() != from.port()).expect("there are three");
    let moving = block_in_place(|| cluster.migrate(slot, to));
    assert!(block_in_place(|| moving.keys(100)) > 0);
    let (hits, misses) = (world.cache.stats().hits, world.cache.stats().misses);
    world.check(1).await;
    assert_eq!(world.cache.stats().hits, hits + 1, "sent on with ASK");
    write(world, 1).await;
    world.check(1).await;
    assert_eq!(world.cache.stats().misses, misses + 1);
    block_in_place(|| moving.finish());
    world.check(1).await;
    assert_eq!(world.cache.stats().hits, hits + 2, "sent on with MOVED");
    write(world, 1).await;
    world.check(1).await;
    assert_eq!(to.command(&["EXISTS", "row:1"]), "1");
    block_in_place(|| cluster.settle());
}

/// Nothing is stale at any time, and values are cached again.
async fn fails_over(cluster: &Cluster, world: &World) {
    let old = cluster.primary_of("row:1");
    let new = cluster.replica_of(old);
    let is_primary = || new.command(&["ROLE"]).starts_with("master");
    let (begun, mut asked) = (Instant::now(), None::<Instant>);
    while !is_primary() {
        assert!(begun.elapsed() < secs(60), "no failover: {}", new.log());
        // Once asked, it may find that it can't, and has to be asked again.
        if asked.is_none_or(|asked| asked.elapsed() > secs(6)) {
            new.command(&["CLUSTER", "FAILOVER"]);
            asked = Some(Instant::now());
        }
        write(world, 1).await;
        for id in 0..10 {
            world.check(id).await;
        }
    }
    eventually("kept invalidations are carried out", || world.cache.pending_invalidations() == 0).await;
    for id in 0..10 {
        world.until_hit(id).await;
        write(world, id).await;
        world.check(id).await;
    }
    assert_eq!(new.command(&["EXISTS", "row:1"]), "1", "by the new primary");
}

async fn all_of(by: By) {
    let papers = Papers::of(by);
    let cluster = Cluster::with(papers.kind, 3, 3, |node| papers.node(node));
    let url = cluster.tls_url(papers.host);
    let (world, other) = papers.worlds(&url);
    crate::works(&world, &other, || rows(&cluster)).await;
    moves(&cluster, &world).await;
    fails_over(&cluster, &world).await;
    crate::tells(&world, &other).await;
    for node in &cluster.nodes {
        crate::heard_no_plain_word(node.port(), || node.log()).await;
    }
    papers.turn_others_away(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_by_its_addresses() {
    all_of(By::Address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_by_its_names_that_asks_who_we_are() {
    all_of(By::Name).await;
}
