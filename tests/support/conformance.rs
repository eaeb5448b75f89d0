//! What every store does alike. Each check is given a cache over an empty store.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cache_aside::{Cache, CacheError, CacheManager, Expiry, Ttl, cache};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Loads, ms, secs};

type Checked = Result<(), CacheError>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: i64,
    name: String,
    tags: Vec<String>,
}

fn user(id: i64) -> User {
    User { id, name: "Ada".into(), tags: vec!["a".into()] }
}

pub async fn values_come_back(cache: Cache) -> Checked {
    assert_eq!(cache.get::<User>("user:1").await?, None);
    cache.set("user:1", &user(1), Ttl::Default).await?;
    assert_eq!(cache.get::<User>("user:1").await?, Some(user(1)));
    cache.set("user:1", &user(2), Ttl::Never).await?;
    assert_eq!(cache.get::<User>("user:1").await?, Some(user(2)));
    cache.set("map", &BTreeMap::from([("k", 1.5)]), secs(9)).await?;
    assert_eq!(cache.get("map").await?, Some(BTreeMap::from([("k".to_owned(), 1.5)])));
    cache.set("text", "plain", secs(9)).await?;
    assert_eq!(cache.get::<String>("text").await?.as_deref(), Some("plain"));
    cache.set("none", &None::<u8>, secs(9)).await?;
    assert_eq!(cache.get::<Option<u8>>("none").await?, Some(None));
    Ok(())
}

pub async fn what_does_not_decode_is_a_miss_and_stays(cache: Cache) -> Checked {
    cache.set("k", "text", secs(9)).await?;
    assert_eq!(cache.get::<u64>("k").await?, None);
    assert_eq!(cache.get::<String>("k").await?.as_deref(), Some("text"));
    assert_eq!(cache.get_or_set::<u64, _, _>("k", secs(9), || async { 7 }).await?, 7);
    assert_eq!(cache.get::<String>("k").await?.as_deref(), Some("text"));
    Ok(())
}

pub async fn keys_are_deleted_once(cache: Cache) -> Checked {
    cache.set("k", &1, Ttl::Default).await?;
    assert!(cache.exists("k").await?);
    assert!(cache.delete("k").await?);
    assert!(!cache.delete("k").await?);
    assert!(!cache.exists("k").await?);
    Ok(())
}

pub async fn lives_end(cache: Cache) -> Checked {
    cache.set("short", &1, ms(500)).await?;
    cache.set("long", &1, secs(60)).await?;
    cache.set("ever", &1, Ttl::Never).await?;
    assert!(matches!(cache.ttl("short").await?, Expiry::In(left) if left <= ms(500)));
    assert!(matches!(cache.ttl("long").await?, Expiry::In(left) if left > secs(50) && left <= secs(60)));
    assert_eq!(cache.ttl("ever").await?, Expiry::Never);
    assert_eq!(cache.ttl("nothing").await?, Expiry::Missing);
    tokio::time::sleep(ms(550)).await;
    assert_eq!(cache.get::<u8>("short").await?, None);
    assert_eq!(cache.ttl("short").await?, Expiry::Missing);
    assert_eq!(cache.get::<u8>("long").await?, Some(1));
    Ok(())
}

pub async fn lives_are_changed(cache: Cache) -> Checked {
    assert!(!cache.expire("k", secs(5)).await?);
    cache.set("k", &1, Ttl::Never).await?;
    assert!(cache.expire("k", secs(5)).await?);
    assert!(matches!(cache.ttl("k").await?, Expiry::In(left) if left <= secs(5)));
    assert!(cache.expire("k", Ttl::Never).await?);
    assert_eq!(cache.ttl("k").await?, Expiry::Never);
    assert!(cache.expire("k", Duration::ZERO).await?);
    assert!(!cache.exists("k").await?);
    cache.set("k", &1, secs(5)).await?;
    cache.set("k", &2, Duration::ZERO).await?;
    assert_eq!(cache.get::<u8>("k").await?, None, "a life of zero leaves nothing older behind");
    cache.set("tiny", &1, Duration::from_nanos(1)).await?;
    Ok(())
}

pub async fn integers_count(cache: Cache) -> Checked {
    assert_eq!(cache.increment("n").await?, 1);
    assert_eq!(cache.increment_by("n", 41).await?, 42);
    assert_eq!(cache.decrement("n").await?, 41);
    assert_eq!(cache.get::<i64>("n").await?, Some(41));
    cache.set("n", &i64::MAX, secs(9)).await?;
    assert!(matches!(cache.increment("n").await, Err(CacheError::Server(text)) if text.contains("overflow")));
    assert!(matches!(cache.ttl("n").await?, Expiry::In(_)), "a refused increment keeps the life");
    cache.set("s", "text", secs(9)).await?;
    assert!(
        matches!(cache.increment("s").await, Err(CacheError::Server(text)) if text.contains("not an integer"))
    );
    assert_eq!(cache.get::<String>("s").await?.as_deref(), Some("text"));
    Ok(())
}

pub async fn a_window_keeps_its_end(cache: Cache) -> Checked {
    let window = ms(300);
    // Until one is seen that hasn't ended before it was looked at.
    for key in (0..).map(|number| format!("w{number}")) {
        let begun = Instant::now();
        assert_eq!(cache.increment_with_ttl(&key, window).await?, 1);
        let counted = Instant::now();
        tokio::time::sleep(ms(150)).await;
        let second = cache.increment_with_ttl(&key, window).await?;
        let left = cache.ttl(&key).await?;
        if begun.elapsed() >= window {
            continue;
        }
        assert_eq!(second, 2);
        let is_as_before = matches!(left, Expiry::In(left) if left <= ms(160));
        assert!(is_as_before, "the second call doesn't prolong it: {left:?}");
        tokio::time::sleep_until(counted + window + ms(50)).await;
        assert_eq!(cache.increment_with_ttl(&key, window).await?, 1);
        break;
    }
    cache.increment("bare").await?;
    assert_eq!(cache.increment_with_ttl("bare", secs(9)).await?, 2);
    assert!(matches!(cache.ttl("bare").await?, Expiry::In(_)), "a window without an end gets one");
    Ok(())
}

pub async fn increments_are_atomic(cache: Cache) -> Checked {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let cache = cache.clone();
        tasks.spawn(async move {
            for _ in 0..50 {
                cache.increment("n").await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(cache.get::<u64>("n").await?, Some(1000));
    Ok(())
}

pub async fn globs_are_those_of_redis(cache: Cache) -> Checked {
    let keys = ["user:1", "user:2", "user:10", "order:1", "user:[x]", "user:é", "user:*"];
    let rows = [
        ("user:?", 3),
        ("user:*", 6),
        ("user:[12]", 2),
        ("user:[^1]", 2),
        ("user:1*", 2),
        ("user:\\*", 1),
        ("user:\\[x\\]", 1),
        ("*:1", 2),
        ("none:*", 0),
        ("user:[1-2]", 2),
        ("user:[2-1]", 2),
        ("", 7),
        ("*", 7),
        ("user:??", 2),
    ];
    for (glob, count) in rows {
        for key in keys {
            cache.set(key, &1, secs(60)).await?;
        }
        assert_eq!(cache.delete_pattern(glob).await?, count, "{glob}");
        cache.delete_pattern("*").await?;
    }
    Ok(())
}

pub async fn many_at_once(cache: Cache) -> Checked {
    cache.set_many(&[("a", 1), ("b", 2), ("c", 3)], secs(60)).await?;
    assert_eq!(cache.get_many::<u8>(&["c", "x", "a"]).await?, [Some(3), None, Some(1)]);
    assert!(matches!(cache.ttl("b").await?, Expiry::In(left) if left <= secs(60)));
    cache.set_many(&[("a", 9)], Ttl::Never).await?;
    assert_eq!(cache.ttl("a").await?, Expiry::Never);
    cache.set_many(&[("a", 9), ("b", 9)], Duration::ZERO).await?;
    assert_eq!(cache.get_many::<u8>(&["a", "b", "c"]).await?, [None, None, Some(3)]);
    assert!(cache.get_many::<u8>(&[] as &[&str]).await?.is_empty());
    cache.set_many(&[] as &[(&str, u8)], secs(1)).await?;
    Ok(())
}

pub async fn get_or_set_loads_once(cache: Cache) -> Checked {
    let loads = Arc::new(Loads::new());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        tasks.spawn(async move { cache.get_or_set("k", secs(60), || loads.load(ms(50))).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await, vec![1; 50]);
    assert_eq!(loads.count(), 1);
    assert_eq!(cache.get::<u64>("k").await?, Some(1), "`get` reads what `get_or_set` stored");
    assert!(matches!(cache.ttl("k").await?, Expiry::In(left) if left <= secs(60)));
    assert_eq!(cache.get_or_set("ever", Ttl::Never, || async { 1 }).await?, 1);
    assert_eq!(cache.ttl("ever").await?, Expiry::Never);
    Ok(())
}

pub async fn errors_are_not_stored(cache: Cache) -> Checked {
    let failed = cache.try_get_or_set("k", secs(60), || async { Err::<u8, _>("down") }).await;
    assert_eq!(failed, Err("down"));
    assert!(!cache.exists("k").await?);
    assert_eq!(cache.try_get_or_set("k", secs(60), || async { Ok::<_, &str>(1) }).await, Ok(1));
    Ok(())
}

pub async fn a_load_in_progress_is_no_value(cache: Cache) -> Checked {
    let loading = cache.clone();
    let load = tokio::spawn(async move {
        let loads = Loads::new();
        loading.get_or_set("k", secs(60), || loads.load(ms(1000))).await
    });
    tokio::time::sleep(ms(100)).await;
    assert_eq!(cache.get::<u64>("k").await?, None);
    assert!(!cache.exists("k").await?);
    assert_eq!(cache.ttl("k").await?, Expiry::Missing);
    assert!(!cache.delete("k").await?, "deleting it forgets the load, but there was no value");
    assert_eq!(load.await.unwrap()?, 1, "its caller has the value");
    assert_eq!(cache.get::<u64>("k").await?, None, "and the store hasn't");
    Ok(())
}

pub async fn a_manager_keeps_to_its_prefix(cache: Cache) -> Checked {
    let posts = CacheManager::new("posts", secs(60)).on(&cache);
    posts.set("1", &user(1)).await?;
    posts.set_with_ttl("2", &user(2), Ttl::Never).await?;
    cache.set("posts", &1, secs(9)).await?;
    assert_eq!(posts.get::<User>("1").await?, Some(user(1)));
    assert_eq!(cache.get::<User>("posts:1").await?, Some(user(1)));
    assert_eq!(cache.ttl("posts:2").await?, Expiry::Never);
    assert!(posts.delete("1").await?);
    assert_eq!(posts.get_or_set("3", || async { 3 }).await?, 3);
    assert_eq!(posts.get_or_set_with_ttl("4", Ttl::Never, || async { 4 }).await?, 4);
    assert_eq!(cache.ttl("posts:4").await?, Expiry::Never);
    assert_eq!(posts.clear_all().await?, 3);
    assert!(cache.exists("posts").await?);
    CacheManager::new("p*", secs(60)).on(&cache).clear_all().await?;
    assert!(cache.exists("posts").await?, "a prefix is no glob");
    Ok(())
}

pub async fn limits_are_errors_that_lose_nothing(cache: Cache) -> Checked {
    let long = "k".repeat(5000);
    assert!(matches!(cache.get::<u8>(&long).await, Err(CacheError::KeyTooLong { bytes: 5000.., max: 4096 })));
    assert_eq!(cache.try_get_or_set(&long, secs(9), || async { Ok::<_, ()>(1) }).await, Ok(1));
    cache.set("big", &1, secs(60)).await?;
    let huge = "x".repeat(9 << 20);
    assert!(matches!(cache.set("big", &huge, secs(60)).await, Err(CacheError::ValueTooLarge { .. })));
    assert_eq!(cache.get::<u8>("big").await?, Some(1), "what is stored stays");
    assert_eq!(cache.get_or_set("huge", secs(60), || async { huge.clone() }).await?.len(), huge.len());
    assert!(!cache.exists("huge").await?);
    let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(cache.set("big", &unwritable, secs(60)).await, Err(CacheError::Serialize(_))));
    cache.ping().await
}

/// How often each caller's function ran: the value that it gives.
#[cache(ttl = 60, key = "load")]
async fn load(loads: &Loads, takes: Duration) -> Result<Option<u64>, u64> {
    match loads.load(takes).await {
        3 => Ok(None),
        4 => Err(4),
        number => Ok(Some(number)),
    }
}

pub async fn records_are_filled_refreshed_put_and_cleared(cache: Cache) -> Checked {
    Cache::scope(cache.clone(), async {
        let (loads, quick) = (Loads::new(), Duration::ZERO);
        assert_eq!(load(&loads, quick).await, Ok(Some(1)));
        assert_eq!(load(&loads, quick).await, Ok(Some(1)));
        assert_eq!(load::cached().await?, Some(Ok(Some(1))));
        assert!(matches!(cache.ttl("load").await?, Expiry::In(left) if left <= secs(60)));
        assert_eq!(load::refresh_cache(&loads, quick).await, Ok(Some(2)));
        assert_eq!(load(&loads, quick).await, Ok(Some(2)), "the refresh was stored");
        assert_eq!(load::refresh_cache(&loads, quick).await, Ok(None));
        assert_eq!(load::cached().await?, Some(Ok(None)), "`None` is stored too");
        assert_eq!(load::refresh_cache(&loads, quick).await, Err(4));
        assert_eq!(load(&loads, quick).await, Ok(None), "a refresh that fails leaves what is there");
        load::put_cache(&Some(9)).await?;
        assert_eq!(load(&loads, quick).await, Ok(Some(9)));
        assert!(load::clear_cache().await?);
        assert!(!load::clear_cache().await?);
        assert_eq!(load::cached().await?, None);
        Ok(())
    })
    .await
}

pub async fn a_refresh_answers_meanwhile_and_gives_way_to_an_invalidation(cache: Cache) -> Checked {
    Cache::scope(cache.clone(), async {
        let loads = Loads::new();
        assert_eq!(load(&loads, Duration::ZERO).await, Ok(Some(1)));
        let slow = ms(1000);
        let (refreshed, during, ()) =
            tokio::join!(load::refresh_cache(&loads, slow), load(&loads, slow), async {
                tokio::time::sleep(ms(100)).await;
                assert_eq!(
                    load(&loads, slow).await,
                    Ok(Some(1)),
                    "the old value answers while it is refreshed"
                );
                assert!(load::clear_cache().await.unwrap());
            });
        assert_eq!((refreshed, during), (Ok(Some(2)), Ok(Some(1))));
        assert_eq!(load::cached().await?, None, "the refresh began before the invalidation");
        Ok(())
    })
    .await
}

pub async fn an_error_releases_the_lease(cache: Cache) -> Checked {
    Cache::scope(cache.clone(), async {
        let loads = Loads::new();
        for _ in 0..3 {
            loads.load(Duration::ZERO).await;
        }
        assert_eq!(load(&loads, Duration::ZERO).await, Err(4));
        let begun = std::time::Instant::now();
        assert_eq!(load(&loads, ms(50)).await, Ok(Some(5)));
        assert!(begun.elapsed() < secs(3), "it didn't wait for the lease of the call that failed");
        assert_eq!(load::cached().await?, Some(Ok(Some(5))));
        Ok(())
    })
    .await
}

/// A check that is run by whoever has a cache for it.
pub type Check = fn(Cache) -> Pin<Box<dyn Future<Output = Checked> + Send>>;

/// Every check by name, each as a test of its own: `conformance!(make_cache)` where `make_cache` is
/// a function that gives a cache and whatever must live as long. Or as many checks as there are, for who runs
/// them: `conformance!(@into all)` puts names and [`Check`]s into a `Vec`.
#[macro_export]
macro_rules! conformance {
    ($make:path) => { $crate::conformance! { @all tests $make } };
    (@into $all:ident) => { $crate::conformance! { @all cases $all } };
    (@all $how:ident $with:tt) => {
        $crate::conformance! { @$how $with, conformance:
            values_come_back what_does_not_decode_is_a_miss_and_stays keys_are_deleted_once lives_end
            lives_are_changed integers_count a_window_keeps_its_end increments_are_atomic
            globs_are_those_of_redis many_at_once get_or_set_loads_once errors_are_not_stored
            a_load_in_progress_is_no_value a_manager_keeps_to_its_prefix limits_are_errors_that_lose_nothing
            records_are_filled_refreshed_put_and_cleared an_error_releases_the_lease
            a_refresh_answers_meanwhile_and_gives_way_to_an_invalidation
        }
        $crate::conformance! { @$how $with, fences:
            a_fenced_key_is_loaded_and_not_stored a_fence_stands_until_its_last_writer_is_done
            a_fence_ends_with_its_own_time whatever_stands_there_a_fence_takes_its_place
        }
        $crate::conformance! { @$how $with, rate_limit:
            calls_are_counted_until_the_limit after_the_time_that_is_told_a_call_is_allowed
            what_is_limited_is_not_counted limits_are_told_apart_by_name_or_by_size any_id_will_do
            odd_limits_are_no_surprise a_limit_may_change_while_calls_count callers_at_once_get_no_more
            what_is_not_ours_is_an_error_and_stays
        }
        $crate::conformance! { @$how $with, session:
            a_session_is_kept_until_it_is_destroyed another_id_ends_the_one_before users_have_their_own_sessions
            stores_of_other_names_know_nothing_of_them sessions_end a_user_has_a_hundred_at_most
            any_user_and_any_data_will_do what_does_not_decode_counts_as_dead ids_that_nobody_was_given_are_dead
        }
    };
    (@tests $make:path, $room:ident: $($check:ident)*) => { $(
        #[tokio::test]
        async fn $check() {
            let (cache, _kept) = $make();
            $crate::support::$room::$check(cache).await.unwrap();
        }
    )* };
    (@cases $all:ident, $room:ident: $($check:ident)*) => {
        $all.extend([$((
            stringify!($check),
            (|cache| Box::pin($crate::support::$room::$check(cache))) as $crate::support::conformance::Check,
        )),*]);
    };
}
