//! What a cluster does in its own way: where keys are, who tells of them, and queues.

use std::sync::Weak;
use std::time::Instant;

use super::*;
use crate::record::{Kind as RecordKind, fresh};
use crate::recovery::Target;
use crate::settings::TlsFiles;
use crate::store::queue::NewWrite;
use crate::store::queue::conformance::{BASE, Bench, LIMITS, entry, queue_conformance};
use crate::store::redis::support::cluster::Cluster;
use crate::store::redis::support::process::Kind;
use crate::store::redis::support::server::Server;
use crate::store::redis::{Deployment, Part, RedisStore};

const SECOND: Duration = Duration::from_secs(1);
const BRIEF: LinkOptions =
    LinkOptions { budget: SECOND, breaker: 5, reconnect: (SECOND, SECOND), delta: SECOND, part: Part::Whole };

fn seeds(url: &str) -> Vec<Address> {
    match Deployment::parse(url, &TlsFiles::default()).unwrap() {
        Deployment::Cluster(seeds) => seeds,
        _ => panic!("it is the URL of one"),
    }
}

fn store(cluster: &Cluster) -> ClusterStore {
    store_that_keeps(cluster, Arc::new(Kept::new(100, "*".to_owned())))
}

fn store_that_keeps(cluster: &Cluster, kept: Arc<Kept>) -> ClusterStore {
    let options = LinkOptions {
        budget: 10 * SECOND,
        breaker: 50,
        reconnect: (Duration::from_millis(20), Duration::from_millis(200)),
        delta: 60 * SECOND,
        part: Part::Whole,
    };
    ClusterStore::new(seeds(&cluster.url()), options, kept, None)
}

/// One cluster for tests that run at the same time; it goes with the last of them. What each of them finds in its
/// queue is its own.
fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::of(Kind::Redis, 3, 0));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < 30 * SECOND, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

mod queues {
    use super::*;

    #[allow(clippy::unused_async)] // for others who do wait
    async fn make() -> (ClusterStore, Cluster) {
        let cluster = Cluster::of(Kind::Redis, 3, 0);
        (store(&cluster), cluster)
    }

    // All but those that find entries which are stored in the step of the append.
    queue_conformance! { make:
        a_write_comes_back_whole numbers_grow writes_of_a_shard_come_in_their_order
        figures_say_what_there_is arrivals_are_heard_of
        the_first_number_of_shards_stays
        a_worker_has_its_share_and_no_more who_leaves_frees_its_shards_at_once a_lease_ends
        a_term_ends_when_another_begins
        what_another_was_handed_is_recovered_in_order deliveries_are_counted_when_tried_again
        the_last_copy_is_pending
        a_letter_is_discarded_once
    }

    #[tokio::test]
    async fn an_entry_goes_with_the_append_and_once_more_when_it_is_settled() {
        let (store, _cluster) = make().await;
        let bench = Bench::new(&store);
        let fence = fresh(RecordKind::Fence);
        for key in ["e", "other"] {
            bench.set(key, "old").await;
        }
        store.fence("fenced", fence, 60 * SECOND).await.unwrap();
        bench.append("k", "1", &[entry("e", "1", "c1"), entry("fenced", "1", "c2")]).await;
        assert_eq!((bench.get("e").await, bench.pending("e").await), (None, Some("c1".to_owned())));
        assert!(bench.get("fenced").await.is_some(), "a fence stays");
        // Somebody brings it back.
        bench.set("e", "1").await;
        let term = bench.term("w", "k").await;
        let write = bench.read_one("w", term).await;
        assert!(bench.queue.settle("w", term, std::slice::from_ref(&write)).await.unwrap());
        assert_eq!((bench.get("e").await, bench.pending("e").await), (None, None));
        assert!(bench.get("fenced").await.is_some());
        assert_eq!(bench.get("other").await, Some(Bytes::from("old")));
        // A dead one takes its entry along too.
        bench.append("k", "2", &[entry("e", "2", "c1")]).await;
        bench.set("e", "2").await;
        let write = bench.read_one("w", term).await;
        bench.queue.bury("w", term, &write, "it failed", LIMITS).await.unwrap();
        assert_eq!((bench.get("e").await, bench.pending("e").await), (None, None));
        assert!(store.queue(BASE).letters(1).await.unwrap()[0].cause.contains("failed"));
    }

    #[tokio::test]
    async fn nothing_is_appended_while_an_old_entry_of_it_can_be_read() {
        let (store, cluster) = make().await;
        let bench = Bench::new(&store);
        let of_queue = cluster.primary_of(BASE).port();
        let key = keys("e").into_iter().find(|key| cluster.primary_of(key).port() != of_queue).unwrap();
        bench.set(&key, "old").await;
        cluster.primary_of(&key).kill();
        let write = NewWrite {
            kind: "save",
            order_key: "k",
            payload: b"1",
            entries: &[entry(&key, "1", "c1")],
            synced: false,
        };
        bench.queue.append(&write, LIMITS).await.unwrap_err();
        assert_eq!(cluster.command(BASE, &["KEYS", "*"]), "", "nothing was taken");
    }
}

/// Keys of three slots, so of three nodes as a rule.
fn keys(name: &str) -> Vec<String> {
    (0..30).map(|n| format!("{name}:{n}")).collect()
}

#[tokio::test]
async fn what_is_asked_of_many_keys_is_answered_in_their_order() {
    let (cluster, name) = (shared(), "order");
    let store = store(&cluster);
    let keys = keys(name);
    let value = |key: &String| Bytes::from(format!("value of {key}"));
    let pairs = keys.iter().map(|key| (key.clone(), value(key))).collect();
    store.set_many(pairs, Some(60 * SECOND)).await.unwrap();
    let mut asked = keys.clone();
    asked.insert(7, "order:none".to_owned());
    asked.push(keys[3].clone());
    let expected: Vec<_> = asked.iter().map(|key| (!key.ends_with("none")).then(|| value(key))).collect();
    assert_eq!(store.get_many(&asked).await.unwrap(), expected);
    let aged = store.get_many_aged(&asked).await.unwrap();
    assert_eq!(
        aged.iter().map(|aged| aged.as_ref().map(|(value, _)| value.clone())).collect::<Vec<_>>(),
        expected
    );
    assert!(aged.iter().flatten().all(|(_, left)| left.is_some_and(|left| left > 50 * SECOND)));
    assert_eq!(store.remove_many(&asked).await.unwrap(), 30);
    assert_eq!(store.get_many(&asked).await.unwrap(), vec![None; asked.len()]);
    assert_eq!(store.remove_many(&[]).await.unwrap(), 0);
}

#[tokio::test]
async fn keys_of_a_slot_that_moves_are_found_wherever_they_are() {
    let cluster = Cluster::of(Kind::Redis, 2, 0);
    let store = store(&cluster);
    let keys: Vec<String> = (0..12).map(|n| format!("{{moves}}:{n}")).collect();
    let value = Bytes::from("1");
    for key in &keys {
        store.set(key, value.clone(), None).await.unwrap();
    }
    let from = cluster.primary_of("{moves}").port();
    let to = cluster.primaries().find(|node| node.port() != from).unwrap();
    let moving = cluster.migrate(cluster.slot_of("{moves}"), to);
    assert_eq!(moving.keys(6), 6);
    for round in ["while some have moved", "when all have"] {
        assert_eq!(store.get_many(&keys).await.unwrap(), vec![Some(value.clone()); 12], "{round}");
        for key in &keys {
            assert_eq!(store.get(key).await.unwrap(), Some(value.clone()), "{round}");
            assert_eq!(store.increment(key, 1, None).await.unwrap(), 2);
            let lease = fresh(RecordKind::Lease);
            // Nothing but what is there is changed.
            assert!(!store.swap(key, lease, value.clone(), None).await.unwrap());
            store.set(key, value.clone(), Some(60 * SECOND)).await.unwrap();
        }
        let pairs = keys.iter().map(|key| (key.clone(), value.clone())).collect();
        store.set_many(pairs, None).await.unwrap();
        if round.starts_with("while") {
            // A new one is made where the slot is going.
            store.set("{moves}:new", value.clone(), None).await.unwrap();
            assert_eq!(to.command(&["CLUSTER", "COUNTKEYSINSLOT", &moving_slot(&cluster)]), "7");
            while moving.keys(100) > 0 {}
        }
    }
    moving.finish();
    assert_eq!(store.get_many(&keys).await.unwrap(), vec![Some(value); 12]);
    assert_eq!(store.remove_many(&keys).await.unwrap(), 12);
}

fn moving_slot(cluster: &Cluster) -> String {
    cluster.slot_of("{moves}").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_glob_finds_keys_that_move_meanwhile() {
    let cluster = Arc::new(Cluster::of(Kind::Redis, 2, 0));
    let store = store(&cluster);
    let (slot, from) = (cluster.slot_of("{moves}"), cluster.primary_of("{moves}").port());
    let other = cluster.primaries().find(|node| node.port() != from).unwrap().port();
    for round in 0..4 {
        let pairs = (0..3000).map(|n| (format!("{{moves}}:{n}"), Bytes::from("1"))).collect();
        store.set_many(pairs, None).await.unwrap();
        store.set("stays", Bytes::from("1"), None).await.unwrap();
        let to = if round % 2 == 0 { other } else { from };
        let cluster_too = Arc::clone(&cluster);
        let moving = tokio::task::spawn_blocking(move || {
            let to = cluster_too.nodes.iter().find(|node| node.port() == to).unwrap();
            let moving = cluster_too.migrate(slot, to);
            while moving.keys(50) > 0 {}
            moving.finish();
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.remove_matching("{moves}:*", Reach::Any).await.unwrap();
        moving.await.unwrap();
        for node in &cluster.nodes {
            assert_eq!(
                node.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]),
                "0",
                "round {round}"
            );
        }
        assert!(store.get("stays").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_glob_removes_what_has_arrived_of_a_slot_that_is_on_its_way() {
    let cluster = Cluster::of(Kind::Redis, 2, 0);
    let store = store(&cluster);
    let pairs = (0..10).map(|n| (format!("{{moves}}:{n}"), Bytes::from("1"))).collect();
    store.set_many(pairs, None).await.unwrap();
    let from = cluster.primary_of("{moves}").port();
    let to = cluster.primaries().find(|node| node.port() != from).unwrap();
    let moving = cluster.migrate(cluster.slot_of("{moves}"), to);
    assert_eq!(moving.keys(5), 5);
    assert_eq!(store.remove_matching("{moves}:*", Reach::Any).await.unwrap(), 10);
    for node in &cluster.nodes {
        assert_eq!(node.command(&["CLUSTER", "COUNTKEYSINSLOT", &moving_slot(&cluster)]), "0");
    }
    moving.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_glob_goes_on_at_the_replica_that_took_over_meanwhile() {
    let cluster = Arc::new(Cluster::of(Kind::Redis, 3, 1));
    let (primary, replica) = (cluster.nodes[0].port(), cluster.nodes[3].port());
    let store = Arc::new(store(&cluster));
    let asked: Vec<String> =
        keys("asked").into_iter().filter(|key| cluster.primary_of(key).port() == primary).collect();
    for (_, new) in [(primary, replica), (replica, primary)] {
        let pairs = (0..30_000).map(|n| (format!("many:{n}"), Bytes::from("1"))).collect();
        store.set_many(pairs, None).await.unwrap();
        let (cluster_too, store_too) = (Arc::clone(&cluster), Arc::clone(&store));
        let removing =
            tokio::spawn(async move { store_too.remove_matching("many:*", Reach::Any).await.unwrap() });
        let failing_over = tokio::task::spawn_blocking(move || {
            let new = cluster_too.nodes.iter().find(|node| node.port() == new).unwrap();
            assert_eq!(new.command(&["CLUSTER", "FAILOVER"]), "OK");
            while !new.command(&["ROLE"]).starts_with("master") {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // Others ask meanwhile, and learn where the slots are.
        while !(removing.is_finished() && failing_over.is_finished()) {
            for key in &asked {
                let _ = store.get(key).await;
            }
        }
        removing.await.unwrap();
        failing_over.await.unwrap();
        cluster.settle();
        for node in cluster.primaries() {
            assert_eq!(node.command(&["DBSIZE"]), "0");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_not_answered_and_all_else_is() {
    let cluster = Cluster::with(Kind::Redis, 2, 0, |node| {
        node.config("cluster-require-full-coverage", "no").config("cluster-node-timeout", "60000")
    });
    let kept = Arc::new(Kept::new(100, "*".to_owned()));
    let store = store_that_keeps(&cluster, Arc::clone(&kept));
    let frozen = &cluster.nodes[0];
    let is_there = |key: &&String| cluster.primary_of(key).port() == frozen.port();
    let names = keys("waits");
    let (away, here) =
        (names.iter().find(is_there).unwrap(), names.iter().find(|key| !is_there(key)).unwrap());
    for key in [away, here] {
        store.set(key, Bytes::from("old"), None).await.unwrap();
    }
    frozen.freeze();
    kept.keep(Target::Key(away.clone()), None);
    store.invalidation_waits();
    assert!(matches!(store.get(away).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.get(here).await.unwrap(), Some(Bytes::from("old")));
    let many = store.get_many(&[here.clone(), away.clone()]).await;
    assert!(matches!(many, Err(StoreError::Unavailable(_))));
    frozen.thaw();
    eventually("it is carried out", || kept.is_empty()).await;
    assert_eq!(store.get(away).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_node_keeps_nothing_else_waiting() {
    let cluster = Cluster::with(Kind::Redis, 2, 0, |node| {
        node.config("cluster-require-full-coverage", "no").config("cluster-node-timeout", "60000")
    });
    let kept = Arc::new(Kept::new(100, "*".to_owned()));
    let store = store_that_keeps(&cluster, Arc::clone(&kept));
    let frozen = &cluster.nodes[0];
    let (away, here): (Vec<String>, Vec<String>) =
        keys("kept").into_iter().partition(|key| cluster.primary_of(key).port() == frozen.port());
    // Its turn comes first.
    let here = here.into_iter().max().unwrap();
    let away = away.into_iter().min().unwrap();
    assert!(away < here);
    store.set(&here, Bytes::from("old"), None).await.unwrap();
    frozen.freeze();
    for key in [&away, &here] {
        kept.keep(Target::Key(key.clone()), None);
    }
    store.invalidation_waits();
    eventually("what can be carried out is", || !kept.covers(&here)).await;
    assert_eq!(store.get(&here).await.unwrap(), None);
    assert!(kept.covers(&away));
    frozen.thaw();
    eventually("all is carried out", || kept.is_empty()).await;
}

#[tokio::test]
async fn a_key_of_a_cluster_that_is_asked_for_as_a_server_says_what_to_write() {
    let (log, _listening) = crate::store::redis::support::log::Log::new();
    let cluster = shared();
    let url = format!("redis://127.0.0.1:{}", cluster.nodes[0].port());
    let store = RedisStore::new(
        Address::parse(&url, &TlsFiles::default()).unwrap(),
        BRIEF,
        Arc::new(Kept::new(1, "*".to_owned())),
    );
    let elsewhere =
        keys("elsewhere").into_iter().find(|key| cluster.primary_of(key).port() != cluster.nodes[0].port());
    assert!(store.get(&elsewhere.unwrap()).await.is_err());
    assert!(log.text().contains("write REDIS_URL=redis+cluster://127.0.0.1:"), "{}", log.text());
}

#[tokio::test]
async fn a_server_that_is_asked_for_its_cluster_says_what_to_write() {
    let server = Server::redis().start();
    let url = format!("redis+cluster://127.0.0.1:{}", server.port());
    let store = ClusterStore::new(seeds(&url), BRIEF, Arc::new(Kept::new(1, "*".to_owned())), None);
    let error = store.get("k").await.unwrap_err().to_string();
    assert!(error.contains(&format!("write REDIS_URL=redis://127.0.0.1:{}", server.port())), "{error}");
}
