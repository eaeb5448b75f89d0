//! Globs while slots move: they end, and miss nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_aside::Cache;

use crate::support::cluster::Cluster;
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::{runtime, turn};

const ROWS: u64 = 300;
/// So many slots move, unless it is over before.
const SLOTS: u64 = 5_000;

fn cache(cluster: &Cluster) -> Cache {
    Cache::builder().redis(cluster.url()).store_budget(secs(10)).build().expect("the settings are good")
}

fn rows(node: &Server) -> usize {
    node.command(&["KEYS", "row:*"]).lines().filter(|key| !key.is_empty()).count()
}

async fn fill(cache: &Cache) {
    for row in 0..ROWS {
        cache.set(&format!("row:{row}"), &row, secs(600)).await.expect("it is stored");
    }
}

#[test]
fn a_glob_ends_while_a_resharding_goes_on() {
    let _turn = turn();
    end_while_slots_move(Kind::Redis);
    end_while_slots_move(Kind::Valkey);
}

/// Every slot of the first node goes to the second, one after the other, and three globs meet some of them.
fn end_while_slots_move(kind: Kind) {
    let cluster = Cluster::of(kind, 3, 0);
    // To go through so many takes longer than to move a slot.
    for (number, node) in cluster.nodes.iter().enumerate() {
        assert_eq!(node.command(&["DEBUG", "POPULATE", "40000", &format!("filler{number}")]), "OK");
    }
    let (is_over, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reshard = || {
            let to = &cluster.nodes[1];
            for slot in 0..u16::try_from(SLOTS).expect("there are fewer") {
                if is_over.load(SeqCst) {
                    return;
                }
                let moving = cluster.migrate(slot, to);
                moving.keys(1);
                moving.finish();
                moved.fetch_add(1, SeqCst);
            }
        };
        scope.spawn(reshard);
        // Told also if this fails: else the other would go on for long.
        let _over = Over(&is_over);
        let cache = cache(&cluster);
        runtime().block_on(async {
            let mut met = 0;
            while met < 3 {
                assert!(moved.load(SeqCst) < SLOTS, "no glob met a slot that moved");
                fill(&cache).await;
                let before = moved.load(SeqCst);
                let removed = cache.delete_pattern("row:*").await.expect("it comes to an end");
                met += u64::from(moved.load(SeqCst) > before);
                assert_eq!(removed, ROWS);
                for row in 0..ROWS {
                    let left = cache.get::<u64>(&format!("row:{row}")).await;
                    assert_eq!(left.expect("it answers"), None, "row:{row}");
                }
            }
        });
    });
    let left: usize = cluster.nodes.iter().map(rows).sum();
    assert_eq!(left, 0);
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// It has no slot yet, so it is in nobody's map.
#[test]
fn a_glob_finds_what_has_gone_to_a_new_node() {
    let _turn = turn();
    let mut cluster = Cluster::of(Kind::Redis, 3, 0);
    let new = Server::redis().config("cluster-enabled", "yes").config("cluster-node-timeout", "1000").start();
    assert_eq!(new.command(&["CLUSTER", "MEET", "127.0.0.1", &cluster.nodes[0].port().to_string()]), "OK");
    cluster.nodes.push(new);
    let knows_all = |node: &Server| node.command(&["CLUSTER", "NODES"]).lines().count() == 4;
    let begun = Instant::now();
    while !cluster.nodes.iter().all(knows_all) {
        assert!(begun.elapsed() < Duration::from_secs(60), "they don't meet");
        std::thread::sleep(ms(20));
    }
    cluster.settle();
    let new = &cluster.nodes[3];
    let cache = cache(&cluster);
    let runtime = runtime();
    runtime.block_on(fill(&cache));
    let moving = cluster.migrate(cluster.slot_of("row:1"), new);
    while moving.keys(100) > 0 {}
    assert_eq!(rows(new), 1, "it is there, and the slot isn't");
    assert_eq!(runtime.block_on(cache.delete_pattern("row:*")).expect("it is done"), ROWS);
    assert_eq!(cluster.nodes.iter().map(rows).sum::<usize>(), 0);
    assert_eq!(runtime.block_on(cache.get::<u64>("row:1")).expect("it answers"), None);
    moving.finish();
}
