//! What a server that is full, frozen or far away makes of stale and due values, and what is read by hand.

mod support;
use cache_aside::{Cache, cache};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::client::Client;
use support::proxy::Proxy;
use support::server::Server;
use support::{ms, secs};

#[derive(Debug, Clone, Default)]
struct Db(Arc<(AtomicU64, AtomicBool, AtomicU64)>);
impl Db {
    fn loads(&self) -> u64 {
        self.0.0.load(SeqCst)
    }
    async fn load(&self) -> Result<u64, String> {
        let n = self.0.0.fetch_add(1, SeqCst) + 1;
        let takes = self.0.2.load(SeqCst);
        if takes > 0 {
            tokio::time::sleep(ms(takes)).await;
        }
        if self.0.1.load(SeqCst) { Err("down".into()) } else { Ok(n) }
    }
}
async fn age(cache: &Cache, key: &str, left: Duration) {
    assert!(cache.expire(key, left).await.unwrap(), "{key} is gone");
}
#[cache(ttl = 60, stale_if_error = "1h", key = "row:{id}", cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> Result<u64, String> {
    let _ = id;
    db.load().await
}
#[cache(ttl = 60, refresh_ahead = 20, key = "due", cache = cache)]
async fn due(cache: &Cache, db: &Db) -> Result<u64, String> {
    db.load().await
}

#[cache(ttl = 60, stale_if_error = "1h", timeout = "100ms", key = "rec", cache = cache)]
async fn rec(cache: &Cache, db: &Db, deep: bool) -> Result<u64, String> {
    let n = db.load().await;
    if deep {
        let _ = Box::pin(rec(cache, db, false)).await;
    }
    n
}
#[tokio::test]
async fn recursion_with_a_stale_value() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::default();
    rec(&cache, &db, true).await.unwrap();
    age(&cache, "rec", secs(600)).await;
    let begun = Instant::now();
    let got = rec(&cache, &db, true).await;
    assert!(begun.elapsed() < ms(90));
    assert_ne!(got, Ok(1));
}

/// OOM between the claim and the fill.
#[tokio::test]
async fn a_fill_that_is_refused_for_want_of_memory_leaves_the_fresh_value() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::default();
    due(&cache, &db).await.unwrap();
    age(&cache, "due", secs(15)).await;
    let mut client = Client::to(&server.url()).await;
    db.0.2.store(100, SeqCst);
    due(&cache, &db).await.unwrap();
    tokio::time::sleep(ms(50)).await;
    assert_eq!(db.loads(), 2);
    client.ask("CONFIG SET maxmemory 1").await;
    tokio::time::sleep(ms(200)).await;
    assert_eq!(due::cached(&cache).await.unwrap(), Some(Ok(1)), "it had 15 s to live");
}
/// OOM before the claim: what each due hit costs.
#[tokio::test]
async fn a_claim_that_is_refused_is_not_tried_by_each_hit() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::default();
    due(&cache, &db).await.unwrap();
    age(&cache, "due", secs(15)).await;
    let mut client = Client::to(&server.url()).await;
    client.ask("CONFIG SET maxmemory 1").await;
    let before = cache.stats().store_errors;
    for _ in 0..50 {
        due(&cache, &db).await.unwrap();
        tokio::time::sleep(ms(1)).await;
    }
    let errors = cache.stats().store_errors - before;
    assert!(errors < 5, "{errors} refused claims in 50 hits");
}
/// a hot key and a frozen server: everybody pays one budget
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_key_and_a_frozen_server() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).build().unwrap();
    let db = Db::default();
    for _ in 0..50 {
        if cache.ping().await.is_ok() {
            break;
        }
    }
    row(&cache, &db, 1).await.unwrap();
    server.freeze();
    let mut tasks = vec![];
    for n in 0..300u64 {
        let (c, d) = (cache.clone(), db.clone());
        tasks.push(tokio::spawn(async move {
            tokio::time::sleep(ms(n / 10)).await;
            let b = Instant::now();
            row(&c, &d, 1).await.unwrap();
            b.elapsed()
        }));
    }
    let mut worst = ms(0);
    for t in tasks {
        worst = worst.max(t.await.unwrap());
    }
    assert!(worst < ms(250));
}

/// A server 30 ms away (a budget of 100 ms is enough for three round trips).
#[tokio::test]
async fn followers_of_a_failed_load_look_again_with_a_budget_of_their_own() {
    for delay in [10, 30] {
        let server = Server::redis().start();
        let proxy = Proxy::start(&server.url());
        let cache = Cache::builder().redis(proxy.url()).build().unwrap();
        let db = Db::default();
        for _ in 0..50 {
            if cache.ping().await.is_ok() {
                break;
            }
            tokio::time::sleep(ms(10)).await;
        }
        db.0.2.store(100, SeqCst);
        row(&cache, &db, 1).await.unwrap();
        assert!(cache.expire("row:1", secs(600)).await.unwrap());
        // The server knows the script.
        assert!(cache.expire("row:1", secs(600)).await.unwrap());
        row(&cache, &db, 1).await.unwrap();
        assert!(cache.expire("row:1", secs(600)).await.unwrap());
        proxy.delay(ms(delay));
        db.0.1.store(true, SeqCst);
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (c, d) = (cache.clone(), db.clone());
                tokio::spawn(async move { row(&c, &d, 1).await })
            })
            .collect();
        let mut errors = 0;
        for c in callers {
            if c.await.unwrap().is_err() {
                errors += 1;
            }
        }
        assert_eq!((errors, db.loads()), (0, 3), "{delay} ms away");
    }
}

#[tokio::test]
async fn a_get_by_hand_never_gives_a_value_past_its_time() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let direct = Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let cache = Cache::builder().redis(proxy.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::default();
    cache.ping().await.unwrap();
    row(&direct, &db, 1).await.unwrap();
    age(&direct, "row:1", secs(600)).await;
    proxy.hold();
    let get = tokio::spawn({
        let c = cache.clone();
        async move { c.get::<u64>("row:1").await }
    });
    proxy.wait_pending(1).await;
    row(&direct, &db, 1).await.unwrap();
    proxy.release();
    assert_ne!(get.await.unwrap().unwrap(), Some(1), "1 was past its time when it was read, and 2 is there");
}

#[tokio::test]
async fn many_values_by_hand_cost_two_flushes_however_many_there_are() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let cache = Cache::builder().redis(proxy.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::default();
    let mut keys: Vec<_> = (0..50).map(|id| format!("row:{id}")).collect();
    for id in 0..50 {
        row(&cache, &db, id).await.unwrap();
    }
    age(&cache, "row:7", secs(600)).await;
    keys.push("nobody".to_owned());
    proxy.delay(ms(100));
    let begun = Instant::now();
    let got = cache.get_many::<u64>(&keys).await.unwrap();
    // One after the other they would take ten seconds.
    assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());
    let missing: Vec<_> = (0..keys.len()).filter(|at| got[*at].is_none()).collect();
    assert_eq!(missing, [7, 50], "the one past its time, and the one that isn't there");
}
