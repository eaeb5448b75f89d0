//! Each call that asks the cache is counted once: a hit, a miss or bypassed; and a function's numbers are
//! its own.

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::sync::Arc;

use cache_aside::{Cache, Settings, Stats, cache, cache_invalidate};
use sample::{eventually, patient};
use support::proxy::Proxy;
use support::server::Server;
use support::{Loads, embedded, ms, secs};
use tokio::task::JoinSet;

/// The calls that these numbers tell of.
fn calls(stats: Stats) -> u64 {
    stats.near_hits + stats.hits + stats.plain_hits + stats.misses + stats.bypassed
}

#[tokio::test]
async fn who_waits_for_another_process_is_one_miss() {
    let server = Server::redis().start();
    let [a, b] = [(), ()].map(|()| patient(&server.url()).build().unwrap());
    let loads = Arc::new(Loads::new());
    let leading = tokio::spawn({
        let (a, loads) = (a.clone(), Arc::clone(&loads));
        async move { a.get_or_set("k", secs(60), || loads.load(ms(300))).await.unwrap() }
    });
    eventually("the load runs", || loads.count() == 1).await;
    let tasks = (0..10).map(|_| {
        let (b, loads) = (b.clone(), Arc::clone(&loads));
        async move { b.get_or_set("k", secs(60), || loads.load(ms(0))).await.unwrap() }
    });
    let got = tasks.collect::<JoinSet<_>>().join_all().await;
    assert_eq!((leading.await.unwrap(), got), (1, vec![1; 10]));
    let (leader, waiting) = (a.stats(), b.stats());
    assert_eq!((leader.misses, leader.loads, calls(leader)), (1, 1, 1), "{leader:?}");
    assert_eq!((waiting.misses, waiting.coalesced, calls(waiting)), (10, 10, 10), "{waiting:?}");
    assert!(waiting.hit_rate() < f64::EPSILON, "{waiting:?}");
    assert_eq!(b.get_or_set("k", secs(60), || loads.load(ms(0))).await.unwrap(), 1);
    assert_eq!((b.stats().hits, calls(b.stats())), (1, 11));
}

#[cache(ttl = 60, key = "itself", cache = cache)]
async fn itself(cache: &Cache, left: u32) -> u32 {
    if left == 0 { 0 } else { 1 + Box::pin(itself(cache, left - 1)).await }
}

#[tokio::test]
async fn a_call_inside_itself_is_bypassed_and_no_miss() {
    let cache = embedded();
    assert_eq!(itself(&cache, 2).await, 2);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.bypassed, calls(stats)), (1, 2, 3), "{stats:?}");
    assert_eq!(itself(&cache, 2).await, 2);
    assert_eq!((cache.stats().hits, calls(cache.stats())), (1, 4));
}

#[cache_invalidate("storm:{id}", cache = cache)]
async fn write(cache: &Cache, id: u64) {}

/// Whatever calls meet: hits, flights, leases of other processes, refused fills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_each_call_is_counted_once() {
    let server = Server::redis().start();
    let url = server.url();
    let (one, other) = (patient(&url).build().unwrap(), patient(&url).build().unwrap());
    for caches in [vec![embedded()], vec![one, other]] {
        let loads = Arc::new(Loads::new());
        let mut tasks = JoinSet::new();
        for task in 0..16 {
            let (cache, loads) = (caches[task % caches.len()].clone(), Arc::clone(&loads));
            tasks.spawn(async move {
                for n in 0..100 {
                    let id = fastrand::u64(..4);
                    let load = || loads.load(ms(fastrand::u64(..3)));
                    cache.get_or_set(&format!("storm:{id}"), secs(60), load).await.unwrap();
                    if n % 10 == 0 {
                        write(&cache, id).await;
                    }
                }
            });
        }
        tasks.join_all().await;
        let stats: Vec<Stats> = caches.iter().map(Cache::stats).collect();
        let sum = |of: fn(&Stats) -> u64| stats.iter().map(of).sum::<u64>();
        assert_eq!(sum(|stats| calls(*stats)), 1600, "{stats:?}");
        assert_eq!(sum(|stats| stats.misses), sum(|stats| stats.loads + stats.coalesced), "{stats:?}");
        assert_eq!(sum(|stats| stats.loads), loads.count());
    }
}

#[cache(ttl = 60, key = "own:{id}", cache = cache)]
async fn own(cache: &Cache, id: u64) -> u64 {
    id
}

#[cache_invalidate("own:{id}", cache = cache)]
async fn write_own(cache: &Cache, id: u64) {}

/// The only test here that touches the global cache.
#[tokio::test]
async fn the_numbers_of_a_function_are_not_those_of_a_cache() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let cache = patient(&proxy.url()).build().unwrap();
    assert_eq!((own(&cache, 1).await, own(&cache, 1).await), (1, 1));
    proxy.refuse(true);
    proxy.cut().await;
    write_own(&cache, 1).await;
    assert_eq!(cache.stats().pending_invalidations, 1);
    let stats = own::cache_stats();
    assert_eq!((stats.hits, stats.misses, stats.pending_invalidations), (1, 1, 0));
    let settings = Settings::from_vars([("CACHE_NAMESPACE", "late")]).unwrap();
    cache_aside::init(settings).await.expect("looking at numbers makes no global cache");
}
