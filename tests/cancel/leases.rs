//! No lease outlives its caller, also when nobody comes after.

use std::sync::Arc;
use std::time::Duration;

use cache_aside::Cache;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Way;
use crate::callers::{Caches, Call, EVERY_END, HANGS, How, Key, LEASE, Reach, call, polled};
use crate::sample::patient;
use crate::support::server::Server;
use crate::support::{ms, secs};

/// A call that is cancelled while nobody else is there.
async fn alone(cache: &Cache, key: &Arc<Key>, how: How, way: Way, polls: usize) -> (Reach, Option<Call>) {
    let mut victim = call(cache, key, how, false);
    let reach = polled(&mut victim, polls, 4 * LEASE).await;
    (reach, (way != Way::Dropped && reach != Reach::Ended).then_some(victim))
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_its_caller() {
    let Caches { here: cache, .. } = Caches::embedded();
    for how in EVERY_END {
        for polls in 0.. {
            let key = Key::new();
            let (reach, _) = alone(&cache, &key, how, Way::Dropped, polls).await;
            let is_stored = cache.exists(&key.name).await.unwrap();
            // A lease is no value, but it counts as something that was removed.
            let removed = cache.delete_pattern(&key.name).await.unwrap();
            assert_eq!(removed, u64::from(is_stored), "{how:?} after {polls} polls: the lease stays");
            if reach != Reach::Stopped {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_lease_on_a_server_ends_with_its_caller_or_by_itself() {
    /// Nobody would wait for its end.
    const LONG: Duration = secs(60);
    let server = Arc::new(Server::redis().start());
    let [short, long] = [LEASE, LONG].map(|lease| patient(&server.url()).lease(lease).build().unwrap());
    short.ping().await.unwrap();
    long.ping().await.unwrap();
    let mut cases = JoinSet::new();
    for (how, way) in EVERY_END.into_iter().flat_map(|how| [Way::Dropped, Way::Idle].map(|way| (how, way))) {
        for polls in 0..20 {
            let (server, cache) =
                (Arc::clone(&server), if way == Way::Idle { &short } else { &long }.clone());
            cases.spawn(async move {
                let key = Key::new();
                let (_, victim) = alone(&cache, &key, how, way, polls).await;
                let begun = Instant::now();
                while server.command(&["GETRANGE", &key.name, "3", "3"]) == "\u{2}" {
                    assert!(begun.elapsed() < HANGS, "{how:?}, {way:?} after {polls} polls: the lease stays");
                    sleep(ms(5)).await;
                }
                drop(victim);
            });
        }
    }
    cases.join_all().await;
    assert_eq!(short.stats().store_errors + long.stats().store_errors, 0);
}
