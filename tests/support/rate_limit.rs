//! What every store does alike about rate limits. Each check is given a cache over an empty store.

use std::time::Duration;

use cache_aside::{Cache, CacheError, Decision, RateLimiter};

use super::{ms, secs};

type Checked = Result<(), CacheError>;

fn limiter(cache: &Cache, max: u32, window: Duration) -> RateLimiter {
    RateLimiter::new(max, window).name("api").cache(cache)
}

/// How many of so many calls at once are allowed.
async fn allowed(limiter: &RateLimiter, id: &str, calls: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..calls {
        allowed += usize::from(limiter.check(id).await.unwrap().is_allowed());
    }
    allowed
}

pub async fn calls_are_counted_until_the_limit(cache: Cache) -> Checked {
    // One that is exact, and one that batches.
    for max in [3, 100] {
        let limiter = limiter(&cache, max, secs(600)).name(max.to_string());
        for left in (0..max).rev() {
            let Decision::Allowed { remaining, reset_after } = limiter.check("ada").await? else {
                panic!("limited, with {left} left");
            };
            assert_eq!(remaining, left);
            assert!(reset_after > secs(300) && reset_after <= secs(600), "{reset_after:?}");
        }
        for _ in 0..3 {
            let Decision::Limited { retry_after } = limiter.check("ada").await? else { panic!("allowed") };
            assert!(retry_after > secs(300) && retry_after <= secs(600), "{retry_after:?}");
        }
        assert!(limiter.check("bob").await?.is_allowed(), "another id");
    }
    Ok(())
}

pub async fn after_the_time_that_is_told_a_call_is_allowed(cache: Cache) -> Checked {
    for (max, window) in [(2, ms(200)), (40, ms(500))] {
        let limiter = limiter(&cache, max, window).name(max.to_string());
        for _ in 0..2 {
            let told = loop {
                if let Decision::Limited { retry_after } = limiter.check("ada").await? {
                    break retry_after;
                }
            };
            assert!(told <= window);
            tokio::time::sleep(told + ms(1)).await;
            assert!(limiter.check("ada").await?.is_allowed(), "it was told so");
        }
    }
    Ok(())
}

pub async fn what_is_limited_is_not_counted(cache: Cache) -> Checked {
    let limiter = limiter(&cache, 2, ms(300));
    let begun = tokio::time::Instant::now();
    assert_eq!(allowed(&limiter, "ada", 2).await, 2);
    // If it was counted, whoever asks all the time would be limited for ever.
    while !limiter.check("ada").await?.is_allowed() {
        tokio::time::sleep(ms(5)).await;
        assert!(begun.elapsed() < secs(20), "limited for ever");
    }
    assert!(begun.elapsed() >= ms(300));
    Ok(())
}

pub async fn limits_are_told_apart_by_name_or_by_size(cache: Cache) -> Checked {
    let minute = secs(60);
    let nameless = |max| RateLimiter::new(max, minute).cache(&cache);
    let named = |name: &'static str| RateLimiter::new(1, minute).name(name).cache(&cache);
    for limiter in [nameless(1), nameless(2), named("api"), named("login"), named("a:b"), named("a")] {
        assert!(limiter.check("ada").await?.is_allowed(), "{limiter:?}");
    }
    for limiter in [nameless(1), named("api"), named("login"), named("a:b"), named("a")] {
        assert!(!limiter.check("ada").await?.is_allowed(), "{limiter:?}");
    }
    assert!(named("a").check("b:ada").await?.is_allowed(), "it isn't `ada` of `a:b`");
    assert!(nameless(2).check("ada").await?.is_allowed());
    Ok(())
}

pub async fn any_id_will_do(cache: Cache) -> Checked {
    let limiter = limiter(&cache, 1, secs(60));
    let long = "x".repeat(5000);
    let ids = ["", " ", "a:b", "*", "{a}", "a\r\nDEL b", "\0", "\u{1F980}", &long];
    for id in ids {
        assert!(limiter.check(id).await?.is_allowed(), "{id:?}");
    }
    for id in ids {
        assert!(!limiter.check(id).await?.is_allowed(), "{id:?}");
    }
    assert!(limiter.check(7).await?.is_allowed() && !limiter.check("7").await?.is_allowed());
    Ok(())
}

pub async fn odd_limits_are_no_surprise(cache: Cache) -> Checked {
    let none = limiter(&cache, 0, secs(9));
    assert_eq!(none.check("ada").await?, Decision::Limited { retry_after: secs(9) });
    assert!(limiter(&cache, 1, Duration::ZERO).check("ada").await?.is_allowed(), "a millisecond");
    let ever = limiter(&cache, 1, Duration::MAX);
    assert!(ever.check("bob").await?.is_allowed());
    let Decision::Limited { retry_after } = ever.check("bob").await? else { panic!("allowed") };
    assert!(retry_after > secs(3_000_000_000), "a hundred years");
    let most = limiter(&cache, u32::MAX, secs(60)).check("eve").await?;
    assert!(matches!(most, Decision::Allowed { remaining, .. } if remaining == u32::MAX - 1));
    Ok(())
}

pub async fn a_limit_may_change_while_calls_count(cache: Cache) -> Checked {
    let of = |max| limiter(&cache, max, secs(600));
    assert_eq!(allowed(&of(5), "ada", 9).await, 5);
    assert_eq!(allowed(&of(3), "ada", 9).await, 0, "lowered");
    assert_eq!(allowed(&of(40), "ada", 99).await, 35, "raised, and from exact to batches");
    assert_eq!(allowed(&of(20), "ada", 9).await, 0, "and back");
    let shorter = limiter(&cache, 1, ms(1));
    tokio::time::sleep(ms(2)).await;
    assert!(shorter.check("ada").await?.is_allowed(), "all are older than this window");
    Ok(())
}

pub async fn callers_at_once_get_no_more(cache: Cache) -> Checked {
    for max in [10, 50] {
        let limiter = limiter(&cache, max, secs(600)).name(max.to_string());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let limiter = limiter.clone();
            tasks.spawn(async move { limiter.check("ada").await.unwrap().is_allowed() });
        }
        let allowed = tasks.join_all().await.into_iter().filter(|is_allowed| *is_allowed).count();
        assert_eq!(allowed, max as usize);
    }
    Ok(())
}

pub async fn what_is_not_ours_is_an_error_and_stays(cache: Cache) -> Checked {
    let limiter = limiter(&cache, 5, secs(60));
    for other in ["short", "a text of just 24 digits"] {
        cache.set("@rate:api:ada", other, secs(60)).await?;
        let error = limiter.check("ada").await.unwrap_err();
        assert!(matches!(&error, CacheError::Server(text) if text.contains("something else")), "{error}");
        assert_eq!(cache.get::<String>("@rate:api:ada").await?.as_deref(), Some(other));
    }
    Ok(())
}
