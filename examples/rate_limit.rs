//! Ten requests in three seconds for each address: counted in fixed windows, and in a sliding one. Then a
//! log-in that can't be guessed at, whatever happens to the store.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::{Duration, Instant};

use cache_aside::{Builder, Cache, CacheError, Decision, RateLimiter, Settings};

const MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(3);

static REQUESTS: RateLimiter = RateLimiter::new(MAX, WINDOW);
static PASSWORDS: RateLimiter = RateLimiter::new(3, Duration::from_secs(300));

/// What a web service answers.
async fn request(address: &str) -> (u16, Option<u64>) {
    match REQUESTS.check(address).await {
        Ok(Decision::Limited { retry_after }) => {
            // `Retry-After` has whole seconds: rounded up, or the client comes too early.
            (429, Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)))
        }
        // Also while the store is away: better no limit than no service.
        Ok(Decision::Allowed { .. }) | Err(_) => (200, None),
    }
}

async fn log_in(limiter: &RateLimiter, user: &str, password: &str) -> &'static str {
    // The store is away: better no log-in than any number of guesses.
    if !limiter.check(user).await.is_ok_and(Decision::is_allowed) {
        return "too many tries";
    }
    if password == "correct horse" { "welcome" } else { "wrong" }
}

/// What many do: a counter that ends with its window.
async fn in_fixed_window(cache: &Cache) -> Result<bool, CacheError> {
    Ok(cache.increment_with_ttl("rate_limit:fixed", WINDOW).await? <= i64::from(MAX))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    let cache = cache_aside::global()?;
    cache.delete("rate_limit:fixed").await?; // a server may remember the last run
    cache.delete_pattern("@rate:*").await?;

    println!("{MAX} requests in {WINDOW:?} are allowed; 20 come before the end of a window, 20 after it");
    let begun = Instant::now();
    let (mut fixed, mut sliding) = (0, 0);
    for (at, calls) in [(0.0, 1), (0.7, 20), (1.02, 20)] {
        tokio::time::sleep(WINDOW.mul_f64(at).saturating_sub(begun.elapsed())).await;
        for _ in 0..calls {
            let allowed = (in_fixed_window(&cache).await?, request("10.0.0.7").await.0 == 200);
            fixed += u32::from(allowed.0);
            sliding += u32::from(allowed.1);
        }
        if at == 0.0 {
            (fixed, sliding) = (0, 0); // it only begins the windows
        }
    }
    println!("  fixed window    {fixed:>2} within a third of it");
    println!("  sliding window  {sliding:>2}");
    assert_eq!((fixed, sliding), (2 * MAX - 1, MAX));

    let (status, retry_after) = request("10.0.0.7").await;
    println!("the next request: status {status}, Retry-After: {}", retry_after.unwrap_or_default());
    assert_eq!((status, request("10.0.0.8").await.0), (429, 200));

    for guess in ["12345", "letmein", "ada1815", "correct horse"] {
        println!("log in with {guess:?}: {}", log_in(&PASSWORDS, "ada", guess).await);
    }
    assert_eq!(log_in(&PASSWORDS, "ada", "correct horse").await, "too many tries");

    let nowhere = PASSWORDS.clone().cache(&Cache::builder().redis("redis://127.0.0.1:1").build()?);
    let answer = log_in(&nowhere, "bob", "correct horse").await;
    println!("without a store: {answer}");
    assert_eq!(answer, "too many tries");
    Ok(())
}
