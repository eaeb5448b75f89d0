//! Values that are renewed before their end: who waits, who loads, what is stored.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use cache_aside::{Cache, Expiry, cache, cache_invalidate};
use support::db::{Bench, Db, Down, age, benches, until};
use support::{ms, secs};

#[cache(ttl = 60, refresh_ahead = 20, key = "row", cache = cache)]
async fn row(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

/// For the one test that counts.
#[cache(ttl = 60, refresh_ahead = 20, key = "late", cache = cache)]
async fn late(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[cache(ttl = 60, refresh_ahead = "50%", key = "share", cache = cache)]
async fn share(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[cache(ttl = 60, refresh_ahead = 20, stale_if_error = "1h", key = "kept", cache = cache)]
async fn kept(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[cache_invalidate("row", cache = cache)]
async fn write(cache: &Cache, db: &Db, row: i64) {
    db.write(row);
}

#[tokio::test]
async fn who_comes_late_in_a_life_is_answered_at_once_and_it_begins_anew() {
    for Bench { db, cache, other } in benches() {
        assert_eq!(late(&cache, &db).await, Ok(7));
        db.write(8);
        age(&cache, "late", secs(21)).await;
        assert_eq!(late(&cache, &db).await, Ok(7));
        tokio::time::sleep(ms(20)).await;
        assert_eq!(db.loads(), 1, "enough is left");

        age(&cache, "late", secs(19)).await;
        db.takes(200);
        let before = late::cache_stats();
        let begun = Instant::now();
        for number in 0..50 {
            let cache = if number % 2 == 0 { &cache } else { &other };
            assert_eq!(late(cache, &db).await, Ok(7));
        }
        assert!(begun.elapsed() < ms(190), "{:?}", begun.elapsed());
        until("it is renewed", async || late::cached(&other).await.unwrap() == Some(Ok(8))).await;
        let stats = late::cache_stats();
        assert_eq!(db.loads(), 2, "one for all");
        assert_eq!((stats.refreshes - before.refreshes, stats.hits - before.hits), (1, 50));
        assert!(matches!(cache.ttl("late").await.unwrap(), Expiry::In(left) if left > secs(55)));
    }
}

#[tokio::test]
async fn a_share_is_one_of_the_entrys_own_life() {
    for Bench { db, cache, .. } in benches() {
        assert_eq!(share(&cache, &db).await, Ok(7));
        db.write(8);
        age(&cache, "share", secs(31)).await;
        assert_eq!(share(&cache, &db).await, Ok(7));
        tokio::time::sleep(ms(20)).await;
        assert_eq!(db.loads(), 1);
        age(&cache, "share", secs(29)).await;
        assert_eq!(share(&cache, &db).await, Ok(7));
        until("it is renewed", async || share::cached(&cache).await.unwrap() == Some(Ok(8))).await;
    }
}

#[tokio::test]
async fn a_refresh_that_fails_is_no_callers_business_and_rests() {
    for Bench { db, cache, other } in benches() {
        for broken in [-1, -2] {
            db.write(7);
            row::refresh_cache(&cache, &db).await.unwrap();
            db.write(broken);
            age(&cache, "row", secs(15)).await;
            let before = db.loads();
            assert_eq!(row(&cache, &db).await, Ok(7));
            until("it was tried", async || db.loads() > before).await;
            tokio::time::sleep(ms(20)).await;
            for cache in [&cache, &other] {
                assert_eq!(row(cache, &db).await, Ok(7));
            }
            tokio::time::sleep(ms(20)).await;
            assert_eq!(db.loads() - before, 1, "{broken}");
            // Five seconds later.
            age(&cache, "row", secs(9)).await;
            db.write(8);
            assert_eq!(row(&other, &db).await, Ok(7));
            until("it is renewed", async || row::cached(&cache).await.unwrap() == Some(Ok(8))).await;
        }
    }
}

#[tokio::test]
async fn a_refresh_that_began_before_an_invalidation_is_not_stored() {
    for Bench { db, cache, other } in benches() {
        row(&cache, &db).await.unwrap();
        age(&cache, "row", secs(15)).await;
        db.takes(200);
        assert_eq!(row(&cache, &db).await, Ok(7));
        until("it has begun", async || db.loads() == 2).await;
        db.takes(0);
        write(&other, &db, 9).await;
        assert_eq!((row(&cache, &db).await, db.loads()), (Ok(9), 3), "a miss waits for no refresh");
        tokio::time::sleep(ms(300)).await;
        assert_eq!((row(&cache, &db).await, db.loads()), (Ok(9), 3));
    }
}

#[tokio::test]
async fn a_refresh_outlives_the_value_that_it_renews() {
    for Bench { db, cache, other } in benches() {
        row(&cache, &db).await.unwrap();
        age(&cache, "row", ms(500)).await;
        db.write(8);
        db.takes(1200);
        assert_eq!(row(&cache, &db).await, Ok(7));
        tokio::time::sleep(ms(600)).await;
        assert_eq!(
            (row(&other, &db).await, db.loads()),
            (Ok(8), 2),
            "the value is gone, its refresh isn't lost"
        );
    }
}

#[tokio::test]
async fn beside_a_stale_value_both_rules_hold() {
    for Bench { db, cache, .. } in benches() {
        kept(&cache, &db).await.unwrap();
        db.write(8);
        age(&cache, "kept", secs(3600 + 10)).await;
        assert_eq!(kept(&cache, &db).await, Ok(7));
        until("it is renewed", async || kept::cached(&cache).await.unwrap() == Some(Ok(8))).await;
        age(&cache, "kept", secs(3000)).await;
        db.write(9);
        assert_eq!((kept(&cache, &db).await, db.loads()), (Ok(9), 3), "past its time it is waited for");
        age(&cache, "kept", secs(3000)).await;
        db.write(-1);
        assert_eq!(kept(&cache, &db).await, Ok(9));
    }
}

/// Counts its copies.
#[derive(Debug, Default)]
struct Argument {
    copies: Arc<AtomicU64>,
}

impl Clone for Argument {
    fn clone(&self) -> Self {
        self.copies.fetch_add(1, SeqCst);
        Self { copies: Arc::clone(&self.copies) }
    }
}

#[cache(ttl = 60, refresh_ahead = 20, key = "copies", cache = cache)]
async fn copies(cache: &Cache, db: &Db, argument: &Argument) -> Result<i64, Down> {
    let _ = argument;
    db.load().await
}

#[tokio::test]
async fn arguments_are_copied_when_a_refresh_begins_and_not_before() {
    for Bench { db, cache, .. } in benches() {
        let argument = Argument::default();
        for _ in 0..3 {
            copies(&cache, &db, &argument).await.unwrap();
        }
        assert_eq!(argument.copies.load(SeqCst), 0);
        age(&cache, "copies", secs(19)).await;
        db.takes(50);
        for _ in 0..3 {
            copies(&cache, &db, &argument).await.unwrap();
        }
        assert_eq!(argument.copies.load(SeqCst), 1);
        until("it is renewed", async || db.loads() == 2).await;
    }
}

#[cache(ttl = 60, refresh_ahead = 20, key = "scoped")]
async fn scoped(db: &Db) -> Result<i64, Down> {
    inner(db).await
}

#[cache(ttl = 60, key = "inner")]
async fn inner(db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[tokio::test]
async fn a_refresh_stays_in_the_scope_of_its_caller() {
    for Bench { db, cache, .. } in benches() {
        Cache::scope(cache.clone(), async {
            scoped(&db).await.unwrap();
            inner::clear_cache().await.unwrap();
            age(&cache, "scoped", secs(10)).await;
            db.write(8);
            assert_eq!(scoped(&db).await, Ok(7));
        })
        .await;
        Cache::scope(cache.clone(), async {
            until("it is renewed", async || scoped::cached().await.unwrap() == Some(Ok(8))).await;
            assert_eq!(inner::cached().await.unwrap(), Some(Ok(8)), "the inner one is in the same cache");
        })
        .await;
    }
}

#[test]
fn without_a_runtime_a_hit_is_a_hit() {
    let cache = Cache::builder().build().unwrap();
    let db = Db::new(None);
    let run = |future: std::pin::Pin<Box<dyn Future<Output = Result<i64, Down>> + '_>>| {
        let mut future = future;
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(got) => got,
            std::task::Poll::Pending => panic!("the embedded store never waits"),
        }
    };
    assert_eq!(run(Box::pin(row(&cache, &db))), Ok(7));
    let expire = Box::pin(async { cache.expire("row", secs(9)).await.map(i64::from).map_err(|_| Down) });
    assert_eq!(run(expire), Ok(1));
    assert_eq!((run(Box::pin(row(&cache, &db))), db.loads()), (Ok(7), 1));
}
