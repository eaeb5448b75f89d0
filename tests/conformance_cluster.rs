//! A cluster, and a primary that sentinels name, do what one server does (SPEC 3.2): every check in a namespace of its
//! own.

mod support;

use std::sync::Arc;

use cache_aside::{Cache, cache};
use support::cluster::Cluster;
use support::conformance::Check;
use support::sentinel::Trio;
use support::server::Kind;
use support::{ms, secs};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many at a time: some go by the clock, on a machine that may be busy.
const SIDE_BY_SIDE: usize = 6;

#[test]
fn a_cluster_does_what_one_server_does() {
    let cluster = Cluster::of(Kind::Redis, 3, 0);
    all_hold(&cluster.url());
}

#[test]
fn with_sentinels_all_is_as_with_one_server() {
    let trio = Trio::start(Kind::Redis);
    all_hold(&trio.url());
}

fn all_hold(url: &str) {
    let mut checks: Vec<(&'static str, Check)> = Vec::new();
    crate::conformance!(@into checks);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let failed: Vec<String> = runtime.block_on(async {
        let (turns, mut running, count) =
            (Arc::new(Semaphore::new(SIDE_BY_SIDE)), JoinSet::new(), checks.len());
        for (name, check) in checks {
            let (turns, url) = (Arc::clone(&turns), url.to_owned());
            running.spawn(async move {
                let _turn = turns.acquire_owned().await.unwrap();
                // With a budget that a busy machine doesn't exhaust.
                let cache =
                    Cache::builder().redis(url).namespace(name).store_budget(secs(10)).build().unwrap();
                // A task of its own, so that a panic is known by its name.
                match tokio::spawn(check(cache)).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{name}: {error}")),
                    Err(panic) => Some(format!("{name}: {panic}")),
                }
            });
        }
        let outcomes = running.join_all().await;
        assert_eq!(outcomes.len(), count);
        outcomes.into_iter().flatten().collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[cache(key = "own:{id}", ttl = 60, near = true)]
async fn own(id: u64) -> u64 {
    id
}

/// All that the crate asks for is in the namespace, also when it asks whether a node serves its slots.
#[test]
fn a_user_needs_no_key_beyond_the_namespace() {
    let cluster = Cluster::with(Kind::Redis, 3, 0, |node| node.user("app", "secret", "~shop:* &* +@all"));
    let url = cluster.url().replace("://", "://app:secret@");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = Cache::builder().redis(url).namespace("shop").near_staleness(ms(150)).build().unwrap();
        Cache::scope(cache, async {
            // Long enough for signs of life to be asked for.
            for _ in 0..50 {
                assert_eq!(own(1).await, 1);
                tokio::time::sleep(ms(10)).await;
            }
            own::clear_cache(1).await.unwrap();
        })
        .await;
    });
    for node in cluster.primaries() {
        assert_eq!(node.command(&["ACL", "LOG"]), "", "what it was refused");
    }
}
