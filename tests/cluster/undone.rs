//! The honest limit (I19): how many acknowledged invalidations a failover undoes, of each kind; and that it undoes
//! none that `WAIT` confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cache_aside::Cache;
use fastrand::Rng;

use crate::confirmed::Nodes;
use crate::scene::{fail_over, three_and_three, until_it_took_over};
use crate::support::cluster::Cluster;
use crate::support::fleet::report;
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::{runtime, seconds, turn};

/// Entries of one failover.
const ENTRIES: usize = 3000;

/// How a primary goes.
#[derive(Debug, Clone, Copy)]
enum End {
    Agreed,
    TakenOver,
    Killed,
    Frozen,
}

/// What became of the entries of one failover.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    acknowledged: usize,
    undone: usize,
    confirmed: usize,
    undone_though_confirmed: usize,
}

/// Keys of this server: what is about them is about the failover.
fn keys_of(cluster: &Cluster, primary: &Server) -> Vec<String> {
    // A slot and its keys by hash tag: asking for each key's slot would take longer than the test.
    let tag = (0..).map(|number: u64| format!("{{{number}}}"));
    let tag = tag.into_iter().find(|tag| cluster.primary_of(tag).port() == primary.port());
    let tag = tag.expect("it has slots");
    (0..ENTRIES).map(|number| format!("{tag}:{number}")).collect()
}

/// Invalidates entry by entry, and fails over amid that.
fn fail_over_once(cluster: &Cluster, cache: &Cache, end: End, rng: &mut Rng) -> Count {
    let runtime = runtime();
    let primaries: Vec<&Server> = cluster.primaries().collect();
    let primary = primaries[rng.usize(..primaries.len())];
    let replica = cluster.replica_of(primary);
    let keys = keys_of(cluster, primary);
    runtime.block_on(async {
        for key in &keys {
            cache.set(key, &1_u64, secs(600)).await.expect("all is well");
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (cache, keys, stop) = (cache.clone(), keys.clone(), Arc::clone(&stop));
        let nodes = Nodes::at(cluster.nodes.iter().map(Server::port));
        runtime.spawn(async move {
            // Which returned Ok, and which of them were confirmed; a confirmation is of all before it.
            let (mut acknowledged, mut confirmed) = (Vec::new(), Vec::new());
            let mut since = 0;
            let mut before = nodes.primaries().await;
            for (number, key) in keys.iter().enumerate() {
                if stop.load(Relaxed) {
                    break;
                }
                if cache.delete(key).await.is_ok() {
                    acknowledged.push(number);
                }
                if number % 100 == 99 {
                    if let Some(primaries) = &before
                        && Nodes::have_replicated(primaries).await
                    {
                        confirmed.extend_from_slice(&acknowledged[since..]);
                    }
                    since = acknowledged.len();
                    before = nodes.primaries().await;
                }
            }
            (acknowledged, confirmed)
        })
    };
    std::thread::sleep(ms(rng.u64(20..150)));
    match end {
        End::Agreed => fail_over(replica, None),
        End::TakenOver => fail_over(replica, Some("TAKEOVER")),
        End::Killed => {
            primary.kill();
            until_it_took_over(replica);
        }
        End::Frozen => {
            primary.freeze();
            until_it_took_over(replica);
            primary.thaw();
        }
    }
    std::thread::sleep(ms(100));
    stop.store(true, Relaxed);
    let (acknowledged, confirmed) = runtime.block_on(writer).expect("it doesn't panic");
    if let End::Killed = end {
        primary.restart();
    }
    cluster.settle();
    let has = |number: &usize| replica.command(&["EXISTS", &format!("undone:{}", keys[*number])]) == "1";
    // What a kept invalidation takes along later is another's.
    let undone: Vec<usize> = acknowledged.iter().copied().filter(has).collect();
    Count {
        acknowledged: acknowledged.len(),
        undone: undone.len(),
        confirmed: confirmed.len(),
        undone_though_confirmed: undone.iter().filter(|number| confirmed.contains(number)).count(),
    }
}

#[test]
fn a_failover_undoes_nothing_that_was_confirmed() {
    let _turn = turn();
    let cluster = three_and_three(Kind::Redis, true);
    let cache = {
        let _inside = runtime();
        let cache = Cache::builder().redis(cluster.url()).namespace("undone").store_budget(secs(5));
        cache.build().expect("the settings are good")
    };
    let mut rng = Rng::new();
    let rounds = seconds().map_or(1, |time| time.as_secs() / 10 + 1);
    for end in [End::Agreed, End::TakenOver, End::Killed, End::Frozen] {
        let mut all = Count::default();
        for _ in 0..rounds {
            let count = fail_over_once(&cluster, &cache, end, &mut rng);
            all.acknowledged += count.acknowledged;
            all.undone += count.undone;
            all.confirmed += count.confirmed;
            all.undone_though_confirmed += count.undone_though_confirmed;
        }
        report(format_args!(
            "undone by {rounds} failovers, {end:?}: {} of {} acknowledged invalidations, {} of {} that WAIT confirmed",
            all.undone, all.acknowledged, all.undone_though_confirmed, all.confirmed
        ));
        assert!(all.acknowledged > 0, "{end:?}");
        assert_eq!(all.undone_though_confirmed, 0, "{end:?}");
    }
}
