//! Cached functions, call by call: what is a hit, what is a miss, how to forget.
//!
//! `cargo run --example quickstart` uses the embedded store; with `REDIS_URL` set, that server.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cache_aside::{Settings, cache, cache_invalidate};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: i64,
    name: String,
}

static NAME: Mutex<String> = Mutex::new(String::new());

#[cache(ttl = 600, key_prefix = "quickstart")]
async fn get_user(id: i64) -> Option<User> {
    slow_database().await;
    (id == 1).then(|| User { id, name: NAME.lock().unwrap().clone() })
}

#[cache_invalidate("quickstart:*")]
async fn rename_user(name: &str) -> Result<(), std::io::Error> {
    slow_database().await;
    name.clone_into(&mut NAME.lock().unwrap());
    Ok(())
}

async fn slow_database() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    cache_aside::init(Settings::load()?).await?;
    get_user::clear_cache_all().await?; // a server may remember the last run

    rename_user("Ada").await?;

    println!("The first call runs the function, the second doesn't:");
    show("get_user(1)", "miss", get_user(1)).await;
    show("get_user(1)", "hit", get_user(1)).await;

    println!("\n`None` is remembered too, so that asking for what isn't there stays cheap:");
    show("get_user(2)", "miss", get_user(2)).await;
    show("get_user(2)", "hit", get_user(2)).await;

    println!("\nA writer forgets what it made wrong, here every `quickstart:` key:");
    rename_user("Grace").await?;
    show("get_user(1)", "miss", get_user(1)).await;
    show("get_user(2)", "miss", get_user(2)).await;

    println!("\nOne entry can be forgotten by hand:");
    let there_was_one = get_user::clear_cache(1).await?;
    println!("  get_user::clear_cache(1) -> {there_was_one}");
    assert!(there_was_one);
    show("get_user(1)", "miss", get_user(1)).await;
    show("get_user(2)", "hit", get_user(2)).await;

    let stats = get_user::cache_stats();
    println!("\n{} hits, {} misses: {:.0} % hits", stats.hits, stats.misses, 100.0 * stats.hit_rate());
    println!("store: {}", cache_aside::global()?.store_name());
    assert_eq!((stats.hits, stats.misses), (3, 5));
    Ok(())
}

/// Prints one call, and insists on what it should have been.
async fn show<T: Debug>(call: &str, expected: &str, run: impl Future<Output = T>) {
    let (before, begun) = (get_user::cache_stats(), Instant::now());
    let value = run.await;
    let took = begun.elapsed();
    let answer = if get_user::cache_stats().hits > before.hits { "hit" } else { "miss" };
    println!("  {call}  {answer:<4}  {:>7.3} ms  {value:?}", took.as_secs_f64() * 1000.0);
    assert_eq!(answer, expected, "{call}");
}
