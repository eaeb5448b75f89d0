//! A primary is gone, and its replica with it: what is elsewhere goes on, what was there runs uncached, invalidations
//! are kept until they can be carried out, and nothing hangs.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_aside::{Cache, cache, cache_invalidate};

use crate::scene::{Longest, three_and_three};
use crate::support::cluster::Cluster;
use crate::support::fleet::report;
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::{runtime, turn};

/// Both the database and what counts its reads.
#[derive(Debug, Default)]
struct Db {
    version: AtomicU64,
    loads: AtomicU64,
}

impl Db {
    fn read(&self) -> u64 {
        self.loads.fetch_add(1, SeqCst);
        self.version.load(SeqCst)
    }

    fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }
}

#[cache(key = "row:{key}", ttl = 600)]
async fn row(key: usize, db: &Db) -> u64 {
    db.read()
}

#[cache(key = "kept:{key}", ttl = 600, near = true)]
async fn kept(key: usize, db: &Db) -> u64 {
    db.read()
}

#[cache_invalidate(row(key), kept(key))]
async fn write(key: usize, db: &Db) {
    let _ = key;
    db.version.fetch_add(1, SeqCst);
}

/// How a primary is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Killed,
    /// Its connections stay.
    Frozen,
}

/// More than any budget, for a machine that has other things to do.
const HANG: Duration = secs(20);

/// Keys of which both functions' entries are on this server, and others of which none is.
fn keys(cluster: &Cluster, server: &Server) -> (Vec<usize>, Vec<usize>) {
    let is_there = |key: usize| {
        ["row", "kept"].map(|name| cluster.primary_of(&format!("away:{name}:{key}")).port() == server.port())
    };
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    for key in 0.. {
        match is_there(key) {
            [true, true] if there.len() < 4 => there.push(key),
            [false, false] if elsewhere.len() < 4 => elsewhere.push(key),
            _ if there.len() + elsewhere.len() == 8 => break,
            _ => {}
        }
    }
    (there, elsewhere)
}

/// One call, which ends; what it gave.
async fn call<T>(longest: &mut Longest, call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let got = tokio::time::timeout(HANG, call).await.expect("every call ends");
    longest.note(begun.elapsed());
    got
}

/// Waits until this is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < secs(60), "never: {what}");
        tokio::time::sleep(ms(10)).await;
    }
    begun.elapsed()
}

/// Both functions answer without the database.
async fn are_hits(keys: &[usize], db: &Db) -> bool {
    let before = db.loads();
    for key in keys {
        row(*key, db).await;
        kept(*key, db).await;
    }
    db.loads() == before
}

/// The rows of keys that are there, and elsewhere.
type Dbs = [Db; 2];

async fn watch(cluster: &Cluster, cache: &Cache, [there_db, elsewhere_db]: &Dbs, gone: Gone, covered: bool) {
    let name = format!("{gone:?}, cluster-require-full-coverage {}", if covered { "yes" } else { "no" });
    let primary = cluster.primaries().next().expect("there are three");
    let replica = cluster.replica_of(primary);
    let (there, elsewhere) = keys(cluster, primary);
    eventually("all are hits", async || {
        are_hits(&there, there_db).await && are_hits(&elsewhere, elsewhere_db).await
    })
    .await;

    replica.kill();
    match gone {
        Gone::Killed => primary.kill(),
        Gone::Frozen => primary.freeze(),
    }
    // Long enough for the others to agree that it is gone.
    let (begun, mut here_longest, mut gone_longest) =
        (Instant::now(), Longest::default(), Longest::default());
    let (mut calls, near_before) = (0_u64, cache.stats().near_hits);
    let (there_before, loads_before) = (there_db.loads(), elsewhere_db.loads());
    let (mut last_hit, mut without_hits) = (Instant::now(), Longest::default());
    while begun.elapsed() < secs(3) {
        for key in &elsewhere {
            let loads = elsewhere_db.loads();
            call(&mut here_longest, row(*key, elsewhere_db)).await;
            call(&mut here_longest, kept(*key, elsewhere_db)).await;
            without_hits.note(last_hit.elapsed());
            if elsewhere_db.loads() == loads {
                last_hit = Instant::now();
            }
            calls += 2;
        }
        for key in &there {
            call(&mut gone_longest, row(*key, there_db)).await;
            call(&mut gone_longest, kept(*key, there_db)).await;
        }
        tokio::time::sleep(ms(5)).await;
    }
    let loads = elsewhere_db.loads() - loads_before;
    let near_hits = cache.stats().near_hits - near_before;
    report(format_args!(
        "a primary is gone, {name}: elsewhere {calls} calls, {loads} loads, {near_hits} near hits, {:.0?} without a \
         hit, longest call {:.0?}; of keys that were there {} loads, longest call {:.0?}",
        without_hits.0,
        here_longest.0,
        there_db.loads() - there_before,
        gone_longest.0
    ));
    if covered {
        assert!(loads > 0, "{name}: the cluster refuses, so functions run");
    } else {
        assert_eq!(loads, 0, "{name}: what is elsewhere is a hit");
        assert!(near_hits > 0, "{name}");
    }

    // Invalidations of both are kept if they must be, and nobody reads what is older from then on.
    for key in there.iter().take(2) {
        call(&mut gone_longest, write(*key, there_db)).await;
    }
    call(&mut here_longest, write(elsewhere[0], elsewhere_db)).await;
    assert!(cache.pending_invalidations() > 0, "{name}: it can't be carried out");
    let is_fresh = async || {
        let written = there.iter().take(2).map(|key| (*key, there_db));
        for (key, db) in written.chain([(elsewhere[0], elsewhere_db)]) {
            let newest = db.version.load(SeqCst);
            assert_eq!(row(key, db).await, newest, "{name}: an old row");
            assert_eq!(kept(key, db).await, newest, "{name}: an old row");
        }
    };
    is_fresh().await;

    match gone {
        Gone::Killed => primary.restart(),
        Gone::Frozen => primary.thaw(),
    }
    let carried_out = eventually("what was kept is carried out", async || {
        is_fresh().await;
        cache.pending_invalidations() == 0
    })
    .await;
    let recovered = eventually("all are hits again", async || {
        is_fresh().await;
        are_hits(&there, there_db).await && are_hits(&elsewhere, elsewhere_db).await
    })
    .await;
    report(format_args!(
        "a primary is back, {name}: kept invalidations carried out after {carried_out:.1?}, all are hits again after \
         {:.1?}",
        carried_out + recovered
    ));
    replica.restart();
    cluster.settle();
}

fn holds(covered: bool) {
    let _turn = turn();
    let cluster = three_and_three(Kind::Redis, covered);
    let runtime = runtime();
    let cache = {
        let _inside = runtime.enter();
        Cache::builder().redis(cluster.url()).namespace("away").near_staleness(secs(1)).build()
    };
    let cache = cache.expect("the settings are good");
    let dbs = Dbs::default();
    // A cluster that refuses does so in one way.
    let gone = if covered { &[Gone::Frozen][..] } else { &[Gone::Killed, Gone::Frozen] };
    for gone in gone.iter().copied() {
        runtime.block_on(Cache::scope(cache.clone(), watch(&cluster, &cache, &dbs, gone, covered)));
    }
    assert_eq!(cache.pending_invalidations(), 0);
}

#[test]
fn what_is_elsewhere_goes_on() {
    holds(false);
}

#[test]
fn a_cluster_that_refuses_is_done_without_and_comes_back() {
    holds(true);
}

#[test]
fn a_cluster_that_was_gone_altogether_is_used_again() {
    let _turn = turn();
    let cluster = three_and_three(Kind::Redis, true);
    let runtime = runtime();
    let make = || {
        let _inside = runtime.enter();
        Cache::builder().redis(cluster.url()).namespace("away").near_staleness(secs(1)).build().expect("good")
    };
    // One that has known it, and one that comes while it is away.
    let known = make();
    let (keys, db) = ([1, 2, 3, 4], Db::default());
    let hits = async || eventually("all are hits", async || are_hits(&keys, &db).await).await;
    runtime.block_on(Cache::scope(known.clone(), hits()));
    cluster.nodes.iter().for_each(Server::kill);
    let new = make();
    for cache in [&known, &new] {
        let mut longest = Longest::default();
        let calls = async {
            for _ in 0..20 {
                for key in keys {
                    call(&mut longest, row(key, &db)).await;
                }
            }
            write(keys[0], &db).await;
        };
        runtime.block_on(Cache::scope(cache.clone(), calls));
        report(format_args!("all nodes are gone: the longest of 80 calls took {:.0?}", longest.0));
        assert!(cache.pending_invalidations() > 0);
    }
    cluster.nodes.iter().for_each(Server::restart);
    for cache in [&known, &new] {
        let recovered = runtime.block_on(Cache::scope(cache.clone(), async {
            hits().await + eventually("nothing waits", async || cache.pending_invalidations() == 0).await
        }));
        report(format_args!("all nodes are back: all are hits again after {recovered:.1?}"));
    }
}
