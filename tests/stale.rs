//! Values past their time to live: who is answered with them, and who never is.
//!
//! Nothing here waits for a time to live: `expire` says how much of a key's life is left.

mod support;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use cache_aside::{Cache, Expiry, cache};
use support::db::{Bench, Db, Down, age, benches, until};
use support::{ms, secs};

const TTL: Duration = secs(60);
const GRACE: Duration = secs(3600);

#[cache(ttl = 60, stale_if_error = "1h", key = "row", cache = cache)]
async fn row(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

/// For the one test that counts.
#[cache(ttl = 60, stale_if_error = "1h", key = "tried", cache = cache)]
async fn tried(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

/// For the one test that counts.
#[cache(ttl = 60, stale_if_error = "1h", timeout = "100ms", key = "overdue", cache = cache)]
async fn overdue(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[cache(ttl = 60, stale_if_error = "1h", timeout = "100ms", key = "timed", cache = cache)]
async fn timed(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

#[cache(ttl = 60, stale_if_error = "1h", timeout = 0, key = "at_once", cache = cache)]
async fn at_once(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

/// Past its time to live, and kept for ten minutes more.
async fn make_stale(cache: &Cache, key: &str) {
    age(cache, key, secs(600)).await;
}

#[tokio::test]
async fn a_value_is_kept_past_its_time_to_live_and_not_shown() {
    for Bench { db, cache, .. } in benches() {
        assert_eq!(row(&cache, &db).await, Ok(7));
        assert!(
            matches!(cache.ttl("row").await.unwrap(), Expiry::In(left) if left <= TTL && left > secs(50))
        );
        assert_eq!(cache.get::<i64>("row").await.unwrap(), Some(7));
        // Past its grace the key itself ends.
        age(&cache, "row", GRACE + secs(1)).await;
        assert_eq!(row::cached(&cache).await.unwrap(), Some(Ok(7)), "a second is left");
        age(&cache, "row", ms(3_599_999)).await;
        assert_eq!(row::cached(&cache).await.unwrap(), None);
        assert_eq!(cache.get::<i64>("row").await.unwrap(), None);
        assert_eq!(cache.get_many::<i64>(&["row", "row"]).await.unwrap(), [None, None]);
        assert_eq!(cache.ttl("row").await.unwrap(), Expiry::Missing);
        assert!(!cache.exists("row").await.unwrap());
        db.write(8);
        assert_eq!((row(&cache, &db).await, row(&cache, &db).await), (Ok(8), Ok(8)));
        assert_eq!((db.loads(), row::cached(&cache).await.unwrap()), (2, Some(Ok(8))));
        assert!(row::clear_cache(&cache).await.unwrap());
    }
}

#[tokio::test]
async fn an_error_is_answered_with_the_stale_value_and_then_backs_off() {
    for Bench { db, cache, other } in benches() {
        assert_eq!(tried(&cache, &db).await, Ok(7));
        for (number, broken) in [(0, -1), (1, -2)] {
            make_stale(&cache, "tried").await;
            db.write(broken);
            let before = (db.loads(), tried::cache_stats());
            for cache in [&cache, &cache, &other] {
                assert_eq!(tried(cache, &db).await, Ok(7), "{number}");
            }
            let stats = tried::cache_stats();
            assert_eq!(db.loads() - before.0, 1, "one try, and the others don't try again so soon");
            assert_eq!(stats.stale_served - before.1.stale_served, 3);
            assert_eq!(stats.load_errors - before.1.load_errors, 1);
            // The pause is over: five seconds of its life have gone.
            age(&cache, "tried", secs(594)).await;
            assert_eq!((tried(&other, &db).await, db.loads() - before.0), (Ok(7), 2));
            age(&cache, "tried", secs(588)).await;
            db.write(8);
            assert_eq!(
                (tried(&cache, &db).await, tried(&other, &db).await, db.loads() - before.0),
                (Ok(8), Ok(8), 3)
            );
            db.write(7);
            assert_eq!(tried::refresh_cache(&cache, &db).await, Ok(7));
        }
    }
}

#[tokio::test]
async fn without_a_value_the_error_is_the_callers_own() {
    for Bench { db, cache, .. } in benches() {
        db.write(-1);
        assert_eq!((row(&cache, &db).await, row(&cache, &db).await, db.loads()), (Err(Down), Err(Down), 2));
        db.write(7);
        assert_eq!(row(&cache, &db).await, Ok(7));
        db.write(-1);
        assert_eq!(row::refresh_cache(&cache, &db).await, Err(Down), "who asks for a load gets its error");
        assert_eq!(row(&cache, &db).await, Ok(7), "and what was there stays");
        row::clear_cache(&cache).await.unwrap();
        assert_eq!(row(&cache, &db).await, Err(Down));
        db.write(-2);
        let panic = tokio::spawn(async move { row(&cache, &db).await }).await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the loader's own panic"));
    }
}

#[tokio::test]
async fn what_was_invalidated_answers_nobody() {
    for Bench { db, cache, other } in benches() {
        for broken in [-1, -2] {
            db.write(7);
            assert_eq!(row(&cache, &db).await, Ok(7));
            make_stale(&cache, "row").await;
            db.write(broken);
            db.takes(200);
            let load = tokio::spawn({
                let (cache, db) = (cache.clone(), db.clone());
                async move { row(&cache, &db).await }
            });
            let before = db.loads();
            until("the load has begun", async || db.loads() > before).await;
            row::clear_cache(&other).await.unwrap();
            match load.await {
                Ok(returned) => assert_eq!(returned, Err(Down)),
                Err(error) => assert!(error.is_panic()),
            }
            db.takes(0);
            db.write(-1);
            assert_eq!(row(&cache, &db).await, Err(Down));
        }
    }
}

#[tokio::test]
async fn callers_of_a_stale_value_share_one_load() {
    for Bench { db, cache, other } in benches() {
        for (next, want) in [(8, Ok(8)), (-1, Ok(8)), (-2, Ok(8))] {
            row(&cache, &db).await.unwrap();
            make_stale(&cache, "row").await;
            db.write(next);
            db.takes(150);
            let before = db.loads();
            let callers: Vec<_> = (0..40)
                .map(|number| {
                    let cache = if number % 2 == 0 { cache.clone() } else { other.clone() };
                    let db = db.clone();
                    tokio::spawn(async move { row(&cache, &db).await })
                })
                .collect();
            for caller in callers {
                assert_eq!(caller.await.unwrap(), want, "{next}");
            }
            assert_eq!(db.loads() - before, 1, "{next}");
            db.takes(0);
            db.write(8);
            age(&cache, "row", secs(500)).await;
            assert_eq!(row(&cache, &db).await, Ok(8));
        }
    }
}

/// Polls until the load runs, and then never again.
async fn begin(future: impl Future, db: &Db) {
    let before = db.loads();
    let mut future = pin!(future);
    until("the load has begun", async || {
        assert!(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await);
        db.loads() > before
    })
    .await;
    // Dropped here.
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_claim_along() {
    for Bench { db, cache, other } in benches() {
        row(&cache, &db).await.unwrap();
        make_stale(&cache, "row").await;
        db.write(8);
        db.takes(100_000);
        begin(row(&cache, &db), &db).await;
        db.takes(0);
        let begun = Instant::now();
        assert_eq!((row(&other, &db).await, db.loads()), (Ok(8), 3));
        assert!(begun.elapsed() < ms(700), "a lease was waited for: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_claim_whose_holder_is_not_polled_ends_after_a_lease() {
    for Bench { db, cache, other } in benches() {
        row(&cache, &db).await.unwrap();
        make_stale(&cache, "row").await;
        db.write(8);
        db.takes(100_000);
        let mut stuck = Box::pin(row(&cache, &db));
        until("the load has begun", async || {
            assert!(poll_fn(|cx| Poll::Ready(stuck.as_mut().poll(cx).is_pending())).await);
            db.loads() == 2
        })
        .await;
        db.takes(0);
        let begun = Instant::now();
        assert_eq!((row(&other, &db).await, db.loads()), (Ok(8), 3));
        assert!(begun.elapsed() > ms(300), "the claim was not waited for: {:?}", begun.elapsed());
        drop(stuck);
        tokio::time::sleep(ms(50)).await;
        assert_eq!((row(&cache, &db).await, db.loads()), (Ok(8), 3), "the late one has undone nothing");
    }
}

#[tokio::test]
async fn a_slow_load_keeps_its_claim() {
    for Bench { db, cache, other } in benches() {
        row(&cache, &db).await.unwrap();
        make_stale(&cache, "row").await;
        db.write(8);
        db.takes(2000); // twice the lease
        let (one, two) = tokio::join!(row(&cache, &db), async {
            tokio::time::sleep(ms(100)).await;
            row(&other, &db).await
        });
        assert_eq!((one, two, db.loads()), (Ok(8), Ok(8), 2));
    }
}

#[tokio::test]
async fn a_load_outlives_the_value_that_it_replaces() {
    for Bench { db, cache, other } in benches() {
        row(&cache, &db).await.unwrap();
        age(&cache, "row", ms(700)).await;
        db.write(8);
        db.takes(1500);
        let (one, two) = tokio::join!(row(&cache, &db), async {
            tokio::time::sleep(ms(1000)).await;
            row(&other, &db).await
        });
        assert_eq!((one, two, db.loads()), (Ok(8), Ok(8), 2), "the value is gone, its load isn't lost");
        // Past its end it answers no error.
        age(&cache, "row", ms(400)).await;
        db.write(-1);
        assert_eq!(row(&cache, &db).await, Err(Down));
    }
}

#[tokio::test]
async fn a_timeout_is_answered_with_the_stale_value_and_the_load_goes_on() {
    for Bench { db, cache, other } in benches() {
        assert_eq!(overdue(&cache, &db).await, Ok(7));
        make_stale(&cache, "overdue").await;
        db.write(8);
        db.takes(600);
        let before = overdue::cache_stats().stale_served;
        let begun = Instant::now();
        let (one, two, third) =
            tokio::join!(overdue(&cache, &db), overdue(&cache, &db), overdue(&other, &db));
        assert_eq!((one, two, third, db.loads()), (Ok(7), Ok(7), Ok(7), 2));
        assert!(begun.elapsed() >= ms(90) && begun.elapsed() < ms(500), "{:?}", begun.elapsed());
        assert_eq!(overdue::cache_stats().stale_served - before, 3);
        until("the load has stored its value", async || {
            overdue::cached(&cache).await.unwrap() == Some(Ok(8))
        })
        .await;
        assert_eq!((overdue(&cache, &db).await, db.loads()), (Ok(8), 2));
        // In time: the new value.
        make_stale(&cache, "overdue").await;
        db.write(9);
        db.takes(1);
        assert_eq!((overdue(&cache, &db).await, db.loads()), (Ok(9), 3));
    }
}

#[tokio::test]
async fn a_timeout_of_nothing_answers_at_once() {
    for Bench { db, cache, .. } in benches() {
        assert_eq!(at_once(&cache, &db).await, Ok(7));
        make_stale(&cache, "at_once").await;
        db.write(8);
        db.takes(300);
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(at_once(&cache, &db).await, Ok(7));
        }
        assert!(begun.elapsed() < ms(250), "{:?}", begun.elapsed());
        until("the load has stored its value", async || {
            at_once::cached(&cache).await.unwrap() == Some(Ok(8))
        })
        .await;
        assert_eq!(db.loads(), 2);
    }
}

#[tokio::test]
async fn a_timeout_never_answers_with_what_was_invalidated() {
    for Bench { db, cache, other } in benches() {
        timed(&cache, &db).await.unwrap();
        make_stale(&cache, "timed").await;
        db.write(8);
        db.takes(400);
        let (got, ()) = tokio::join!(timed(&cache, &db), async {
            until("the load has begun", async || db.loads() == 2).await;
            timed::clear_cache(&other).await.unwrap();
        });
        assert_eq!(got, Ok(8), "the caller's own load");
        assert_eq!(timed::cached(&cache).await.unwrap(), None, "whose fill was refused");
        // A load that fails after its caller has gone says so to the next.
        db.takes(0);
        timed(&cache, &db).await.unwrap();
        make_stale(&cache, "timed").await;
        db.write(-1);
        db.takes(300);
        let loads = db.loads();
        assert_eq!(timed(&cache, &db).await, Ok(8));
        tokio::time::sleep(ms(400)).await;
        let begun = Instant::now();
        assert_eq!((timed(&cache, &db).await, db.loads() - loads), (Ok(8), 1));
        assert!(begun.elapsed() < ms(90), "it rests: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_panic_in_the_background_is_no_callers() {
    for Bench { db, cache, .. } in benches() {
        timed(&cache, &db).await.unwrap();
        make_stale(&cache, "timed").await;
        db.write(-2);
        db.takes(300);
        assert_eq!(timed(&cache, &db).await, Ok(7));
        until("it rests", async || {
            let loads = db.loads();
            timed(&cache, &db).await == Ok(7) && db.loads() == loads
        })
        .await;
        assert_eq!(db.loads(), 2);
    }
}

#[tokio::test]
async fn a_load_goes_on_when_its_caller_is_dropped() {
    for Bench { db, cache, .. } in benches() {
        timed(&cache, &db).await.unwrap();
        make_stale(&cache, "timed").await;
        db.write(8);
        db.takes(100);
        begin(timed(&cache, &db), &db).await;
        until("the load has stored its value", async || timed::cached(&cache).await.unwrap() == Some(Ok(8)))
            .await;
        assert_eq!(db.loads(), 2);
    }
}
