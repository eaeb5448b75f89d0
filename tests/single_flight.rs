//! One load per key, whoever comes and goes (I1, I3, I5, I7, I8).

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cache_aside::{Cache, cache};
use support::{Loads, embedded, ms, secs};
use tokio::task::JoinSet;

/// Many tasks that ask for one key.
fn crowd(cache: &Cache, loads: &Arc<Loads>, how_many: usize, takes: u64) -> JoinSet<u64> {
    let mut tasks = JoinSet::new();
    for _ in 0..how_many {
        let (cache, loads) = (cache.clone(), Arc::clone(loads));
        tasks.spawn(async move { cache.get_or_set("k", secs(60), || loads.load(ms(takes))).await.unwrap() });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_one_load() {
    let (cache, loads) = (embedded(), Arc::new(Loads::new()));
    let got = crowd(&cache, &loads, 10_000, 100).join_all().await;
    assert_eq!(loads.count(), 1);
    assert!(got.into_iter().all(|value| value == 1));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.hits + stats.coalesced), (1, 9_999));
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_an_invalidation_never_gets_an_older_load() {
    let (cache, loads) = (embedded(), Arc::new(Loads::new()));
    let old = tokio::spawn({
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        async move { cache.get_or_set("k", secs(60), || loads.load(ms(200))).await.unwrap() }
    });
    tokio::time::sleep(ms(50)).await;
    cache.delete("k").await.unwrap();
    // The first load still runs; joining it would give what was deleted.
    let late = crowd(&cache, &loads, 5, 200).join_all().await;
    assert_eq!(old.await.unwrap(), 1, "who started the load may keep its value");
    assert_eq!(late, vec![2; 5], "the others share one load that began after they asked");
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
    assert_eq!(cache.stats().fills_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_older_than_an_invalidation_is_never_stored() {
    let cache = embedded();
    let loading = tokio::spawn({
        let cache = cache.clone();
        async move {
            cache
                .get_or_set("k", secs(60), || async {
                    tokio::time::sleep(ms(100)).await;
                    1
                })
                .await
        }
    });
    tokio::time::sleep(ms(10)).await;
    cache.delete_pattern("*").await.unwrap();
    loading.await.unwrap().unwrap();
    assert_eq!(cache.get::<u8>("k").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_hands_over() {
    let (cache, loads) = (embedded(), Arc::new(Loads::new()));
    let mut first = crowd(&cache, &loads, 1, 1000);
    tokio::time::sleep(ms(10)).await;
    let others = crowd(&cache, &loads, 50, 100);
    tokio::time::sleep(ms(10)).await;
    first.shutdown().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(others.join_all().await, vec![2; 50]);
    assert!(begun.elapsed() < ms(200), "nobody waits for the lease: {:?}", begun.elapsed());
    assert_eq!(loads.count(), 2);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_no_longer_polled_loses_the_lead() {
    let (cache, loads) = (embedded(), Arc::new(Loads::new()));
    let mut idle = pin!(cache.get_or_set("k", secs(60), || loads.load(ms(100))));
    assert!(poll_once(idle.as_mut()).is_pending());
    let begun = tokio::time::Instant::now();
    assert_eq!(crowd(&cache, &loads, 50, 100).join_all().await, vec![2; 50]);
    assert!(begun.elapsed() < secs(8), "at most two leases: {:?}", begun.elapsed());
    // Polled again, it ends in peace, and doesn't overwrite what came after (I10).
    assert_eq!(idle.await.unwrap(), 1);
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(2));
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn a_load_longer_than_its_lease_is_still_the_only_one() {
    let (cache, loads) = (embedded(), Arc::new(Loads::new()));
    let got = crowd(&cache, &loads, 20, 10_000).join_all().await;
    assert_eq!((got, loads.count()), (vec![1; 20], 1));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_the_load_deadline() {
    let cache = Cache::builder().load_deadline(secs(5)).build().unwrap();
    let loads = Arc::new(Loads::new());
    let mut slow = crowd(&cache, &loads, 1, 60_000);
    tokio::time::sleep(ms(10)).await;
    let begun = tokio::time::Instant::now();
    crowd(&cache, &loads, 3, 10).join_all().await;
    assert!(begun.elapsed() < secs(7), "{:?}", begun.elapsed());
    assert_eq!(slow.join_next().await.unwrap().unwrap(), 1, "the load itself goes on");
}

/// `Duration::MAX` is how one writes "for ever".
#[tokio::test(start_paused = true)]
async fn a_load_deadline_of_for_ever_is_waited_for() {
    let cache = Cache::builder().load_deadline(Duration::MAX).build().unwrap();
    let loads = Arc::new(Loads::new());
    assert_eq!(crowd(&cache, &loads, 3, 60_000).join_all().await, vec![1; 3]);
    assert_eq!(loads.count(), 1);
}

/// Followers on threads whose patience ends together: one of them leads, with the lease of the idle one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_idle_leader_is_followed_by_one() {
    let lease = ms(200);
    for round in 0..5 {
        let cache = Cache::builder().lease(lease).build().unwrap();
        let loads = Arc::new(Loads::new());
        let mut idle = pin!(cache.get_or_set("k", secs(60), || loads.load(ms(1))));
        assert!(poll_once(idle.as_mut()).is_pending());
        let begun = Instant::now();
        assert_eq!(crowd(&cache, &loads, 100, 100).join_all().await, vec![2; 100], "round {round}");
        assert!(begun.elapsed() < 2 * lease + ms(300), "round {round}: {:?}", begun.elapsed());
        assert_eq!((idle.await.unwrap(), loads.count()), (1, 2), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_each_callers_own() {
    let (cache, loads) = (embedded(), Arc::new(Loads::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        tasks.spawn(async move {
            cache
                .try_get_or_set("k", secs(60), || async { Err::<u8, u64>(loads.load(ms(100)).await) })
                .await
                .unwrap_err()
        });
    }
    let mut errors = tasks.join_all().await;
    errors.sort_unstable();
    assert_eq!(errors, (1..=10).collect::<Vec<_>>(), "no error is shared or lost");
    assert!(!cache.exists("k").await.unwrap());
    assert_eq!(cache.get_or_set("k", secs(60), || async { 9 }).await.unwrap(), 9, "nothing is poisoned");
    assert!(cache.exists("k").await.unwrap(), "and the lease was free at once");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_its_own_callers_and_frees_the_lease_at_once() {
    let cache = embedded();
    let panicking = tokio::spawn({
        let cache = cache.clone();
        async move {
            cache
                .get_or_set::<u8, _, _>("k", secs(60), || async {
                    tokio::time::sleep(ms(100)).await;
                    panic!("boom")
                })
                .await
        }
    });
    tokio::time::sleep(ms(10)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(cache.get_or_set("k", secs(60), || async { 2_u8 }).await.unwrap(), 2);
    assert!(begun.elapsed() < ms(200));
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(cache.get_or_set("k", secs(60), || async { 3_u8 }).await.unwrap(), 3);
    assert_eq!(cache.stats().load_errors, 1);
}

#[cache(ttl = 60, key = "fib:{n}")]
async fn fib(n: u64) -> u64 {
    if n < 2 { n } else { Box::pin(fib(n - 1)).await + Box::pin(fib(n - 2)).await }
}

#[cache(ttl = 60, key = "itself")]
async fn itself(left: u32) -> u32 {
    if left == 0 { 0 } else { 1 + Box::pin(itself(left - 1)).await }
}

#[tokio::test]
async fn recursion_loads_each_key_once_and_never_waits_for_itself() {
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        assert_eq!(fib(40).await, 102_334_155);
        assert_eq!(cache.stats().loads, 41);
        assert_eq!(tokio::time::timeout(secs(5), itself(3)).await, Ok(3));
    })
    .await;
}

#[cache(ttl = 60, key = "alone", single_flight = "off")]
async fn alone(loads: &Loads) -> u64 {
    loads.load(ms(50)).await
}

#[tokio::test(start_paused = true)]
async fn without_single_flight_everybody_loads_and_one_fills() {
    let cache = embedded();
    Cache::scope(cache.clone(), async {
        let loads = Loads::new();
        let (a, b, c) = tokio::join!(alone(&loads), alone(&loads), alone(&loads));
        assert_eq!((a, b, c), (1, 2, 3));
        assert_eq!(alone(&loads).await, 1, "the one that held the lease filled");
    })
    .await;
}
