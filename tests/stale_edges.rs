//! Stale values and background loads at the edges: memory full, idle runtimes, rules that panic, flights
//! of one process, lives at their limits.

mod support;

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;
use std::time::{Duration, Instant};

use cache_aside::{Cache, cache};
use support::client::Client;
use support::db::{Db, Down, age, until};
use support::server::Server;
use support::{ms, secs};

async fn poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    let mut future = std::pin::Pin::new(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[cache(ttl = 60, stale_if_error = "1h", key = "row", cache = cache)]
async fn row(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}
#[cache(ttl = 60, stale_if_error = "1h", timeout = "100ms", key = "timed", cache = cache)]
async fn timed(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}
#[cache(ttl = 60, stale_if_error = "1h", single_flight = "process", key = "proc", cache = cache)]
async fn proc(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}
#[cache(ttl = 60, stale_if_error = "1h", single_flight = "off", key = "off", cache = cache)]
async fn off(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}
#[cache(ttl = 60, stale_if_error = "1h", timeout = "2s", single_flight = "off", key = "offt", cache = cache)]
async fn offt(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

/// out of memory, a function that fails, and its callers: one after the other.
#[tokio::test]
async fn callers_of_a_failing_function_do_not_queue_up_when_memory_is_full() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::new(None);
    row(&cache, &db).await.unwrap();
    age(&cache, "row", secs(600)).await;
    let mut client = Client::to(&server.url()).await;
    client.ask("CONFIG SET maxmemory 1").await;
    db.write(-1);
    db.takes(100);
    let begun = Instant::now();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (c, d) = (cache.clone(), db.clone());
            tokio::spawn(async move { row(&c, &d).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(7));
    }
    assert!(begun.elapsed() < ms(600), "{:?}", begun.elapsed());
}

/// another process holds the claim; waiting is for this one alone.
#[tokio::test]
async fn callers_of_a_failing_function_do_not_queue_up_behind_another_process() {
    let server = Server::redis().start();
    let make = || Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let (cache, other) = (make(), make());
    let (db, slow) = (Db::new(None), Db::new(None));
    proc(&cache, &db).await.unwrap();
    age(&cache, "proc", secs(600)).await;
    slow.takes(20_000);
    let holder = tokio::spawn({
        let (c, d) = (other.clone(), slow.clone());
        async move { proc(&c, &d).await }
    });
    until("claimed", async || slow.loads() == 1).await;
    db.write(-1);
    db.takes(100);
    let begun = Instant::now();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (c, d) = (cache.clone(), db.clone());
            tokio::spawn(async move { proc(&c, &d).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Ok(7));
    }
    holder.abort();
    assert!(begun.elapsed() < ms(600), "{:?}", begun.elapsed());
}

/// a follower who has waited as long as it may takes the lead, and answers from what it saw first.
#[tokio::test]
async fn a_follower_that_takes_the_lead_asks_again() {
    let server = Server::redis().start();
    let make = || Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let (cache, other) = (make(), make());
    let (db, slow) = (Db::new(None), Db::new(None));
    timed(&cache, &db).await.unwrap();
    age(&cache, "timed", secs(600)).await;
    slow.takes(20_000);
    let holder = tokio::spawn({
        let (c, d) = (other.clone(), slow.clone());
        async move { timed(&c, &d).await }
    });
    until("claimed", async || slow.loads() == 1).await;
    db.write(8);
    let mut a = Box::pin(timed(&cache, &db));
    for _ in 0..10 {
        assert!(poll_once(&mut a).await);
        tokio::time::sleep(ms(2)).await;
    }
    let mut b = Box::pin(timed(&cache, &db));
    for _ in 0..10 {
        assert!(poll_once(&mut b).await);
        tokio::time::sleep(ms(2)).await;
    }
    timed::clear_cache(&other).await.unwrap();
    drop(a);
    tokio::time::sleep(ms(200)).await;
    let got = b.await;
    holder.abort();
    assert_eq!(got, Ok(8), "invalidated 200 ms before it answered");
}

/// a load without a claim fails, and another stale value is there by now.
#[tokio::test]
async fn a_failed_load_answers_with_what_is_there_now() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    off(&cache, &db).await.unwrap();
    age(&cache, "off", secs(600)).await;
    db.takes(300);
    let mut a = Box::pin(off(&cache, &db));
    assert!(poll_once(&mut a).await); // has the claim
    db.write(-1);
    let failing = tokio::spawn({
        let (c, d) = (cache.clone(), db.clone());
        async move { off(&c, &d).await }
    });
    until("it loads", async || db.loads() == 3).await;
    off::clear_cache(&cache).await.unwrap();
    drop(a);
    db.write(8);
    db.takes(0);
    assert_eq!(off(&cache, &db).await, Ok(8));
    age(&cache, "off", secs(600)).await;
    let got = failing.await.unwrap();
    assert_ne!(got, Ok(7), "7 was invalidated while it loaded");
}

#[cache(ttl = 600, none_ttl = Duration::from_secs(10), refresh_ahead = 60, key = "find", cache = cache)]
async fn find(cache: &Cache, db: &Db) -> Option<i64> {
    db.load().await.ok()
}
/// a cached None that lives for less than `refresh_ahead` is loaded again and again.
#[tokio::test]
async fn a_life_shorter_than_the_window_is_not_due_at_once() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    db.write(-1);
    for _ in 0..50 {
        assert_eq!(find(&cache, &db).await, None);
        tokio::time::sleep(ms(1)).await;
    }
    assert!(db.loads() <= 2, "{} loads in 50 ms of a None that is cached for 10 s", db.loads());
}

static JUDGED: AtomicU64 = AtomicU64::new(0);
#[cache(ttl = 60, refresh_ahead = 20, unless = |value| { assert!(JUDGED.fetch_add(1, SeqCst) == 0, "judge"); *value < 0 }, key = "judged", cache = cache)]
async fn judged(cache: &Cache, db: &Db) -> i64 {
    db.load().await.unwrap()
}
#[tokio::test]
async fn a_panic_of_a_rule_in_the_background_backs_off() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    judged(&cache, &db).await;
    age(&cache, "judged", secs(10)).await;
    for _ in 0..20 {
        judged(&cache, &db).await;
        tokio::time::sleep(ms(1)).await;
    }
    assert!(db.loads() <= 3, "{} loads", db.loads());
}

#[tokio::test]
async fn each_caller_without_flights_waits_for_its_timeout() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    offt(&cache, &db).await.unwrap();
    age(&cache, "offt", secs(600)).await;
    db.takes(100);
    db.write(8);
    let (one, two) = tokio::join!(offt(&cache, &db), offt(&cache, &db));
    assert_eq!((one, two), (Ok(8), Ok(8)), "a load takes 100 ms, the timeout is 2 s");
}

/// the load went on in a runtime that nobody polls.
#[test]
fn a_load_left_in_an_idle_runtime_keeps_nobody_from_loading() {
    let idle = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let live = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = Cache::builder().lease(ms(300)).build().unwrap();
    let db = Db::new(None);
    live.block_on(async {
        timed(&cache, &db).await.unwrap();
        age(&cache, "timed", secs(600)).await;
    });
    db.takes(200);
    assert_eq!(idle.block_on(timed(&cache, &db)), Ok(7));
    // `idle` is alive and isn't polled any more.
    db.takes(0);
    db.write(8);
    live.block_on(async {
        let loads = db.loads();
        let mut last = Ok(0);
        for _ in 0..20 {
            tokio::time::sleep(ms(100)).await;
            last = timed(&cache, &db).await;
        }
        assert_eq!(last, Ok(8), "two seconds (six leases) later; {} loads since", db.loads() - loads);
    });
    drop(idle);
}

/// The call itself moves to another runtime.
#[test]
fn a_call_whose_load_went_down_with_its_runtime_ends() {
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cache = Cache::builder().lease(ms(300)).build().unwrap();
    let db = Db::new(None);
    second.block_on(async {
        timed(&cache, &db).await.unwrap();
        age(&cache, "timed", secs(600)).await;
    });
    db.takes(10_000);
    let mut call = Box::pin(timed(&cache, &db));
    first.block_on(async {
        assert!(poll_once(&mut call).await);
    });
    drop(first);
    second.block_on(async {
        let ended = tokio::time::timeout(secs(2), call).await;
        assert!(ended.is_ok(), "it hangs, with a stale value at hand and a timeout of 100 ms");
    });
}

/// out of memory between the claim and the end of a failing load.
#[tokio::test]
async fn out_of_memory_a_stale_value_that_is_there_answers() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::new(None);
    row(&cache, &db).await.unwrap();
    age(&cache, "row", secs(600)).await;
    db.write(-1);
    db.takes(200);
    let mut client = Client::to(&server.url()).await;
    let (got, ()) = tokio::join!(row(&cache, &db), async {
        until("loading", async || db.loads() == 2).await;
        client.ask("CONFIG SET maxmemory 1").await;
    });
    assert_eq!(got, Ok(7));
}

/// what a frozen server costs after the load.
#[tokio::test]
async fn a_server_that_freezes_during_a_load_costs_no_right_answer() {
    for fails in [true, false] {
        let server = Server::redis().start();
        let cache = Cache::builder().redis(server.url()).build().unwrap();
        let db = Db::new(None);
        until("up", async || cache.ping().await.is_ok()).await;
        row(&cache, &db).await.unwrap();
        age(&cache, "row", secs(600)).await;
        db.write(if fails { -1 } else { 8 });
        db.takes(200);
        let (got, ()) = tokio::join!(row(&cache, &db), async {
            until("loading", async || db.loads() == 2).await;
            server.freeze();
        });
        // Whether the stale value is still there can't be asked.
        assert_eq!(got, if fails { Err(Down) } else { Ok(8) });
    }
}

/// stats
#[cache(ttl = 60, stale_if_error = "1h", timeout = "50ms", key = "counted", cache = cache)]
async fn counted(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}
#[tokio::test]
async fn one_stale_answer_counts_once() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    counted(&cache, &db).await.unwrap();
    age(&cache, "counted", secs(600)).await;
    db.takes(150);
    db.write(-1);
    assert_eq!(counted(&cache, &db).await, Ok(7));
    until("failed", async || counted::cache_stats().load_errors == 1).await;
    tokio::time::sleep(ms(20)).await;
    assert_eq!(counted::cache_stats().stale_served, 1);
}

/// a plain function's error needn't be `Send`.
#[cache(ttl = 60, key = "boxed", cache = cache)]
async fn boxed(cache: &Cache) -> Result<i64, Box<dyn std::error::Error>> {
    Ok(1)
}
#[tokio::test]
async fn plain_errors_need_not_be_send() {
    let cache = Cache::builder().build().unwrap();
    assert_eq!(tokio::spawn(async move { boxed(&cache).await.ok() }).await.unwrap(), Some(1));
}

/// a grace beyond what is kept.
#[cache(ttl = 60, stale_if_error = "400000d", key = "ages", cache = cache)]
async fn ages(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}
#[tokio::test]
async fn a_very_long_grace_leaves_a_value_fresh() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    for _ in 0..3 {
        ages(&cache, &db).await.unwrap();
    }
    assert_eq!(db.loads(), 1);
}
