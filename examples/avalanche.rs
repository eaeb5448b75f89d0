//! Avalanche: what is stored together expires together, and then all of it is asked of the database at
//! once. `jitter` spreads the ends.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::{Duration, Instant};

use cache_aside::{Builder, Expiry, Settings, cache};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query_scalar, raw_sql};

const KEYS: i64 = 1000;
const HOUR: Duration = Duration::from_secs(3600);

/// Without: each price lives for an hour.
#[cache(ttl = "1h", key = "avalanche:without:{id}")]
async fn price_without(db: &SqlitePool, id: i64) -> sqlx::Result<i64> {
    select(db, id).await
}

/// With: up to ten minutes more, at random.
#[cache(ttl = "1h", jitter = "10m", key = "avalanche:with:{id}")]
async fn price(db: &SqlitePool, id: i64) -> sqlx::Result<i64> {
    select(db, id).await
}

async fn select(db: &SqlitePool, id: i64) -> sqlx::Result<i64> {
    query_scalar("SELECT cents FROM price WHERE id = ?").bind(id).fetch_one(db).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    cache_aside::global()?.delete_pattern("avalanche:*").await?; // a server may remember the last run
    let db = database().await?;

    // A cold cache after a deploy: within a moment all prices are asked for, and stored.
    let begun = Instant::now();
    for id in 1..=KEYS {
        price_without(&db, id).await?;
        price(&db, id).await?;
    }

    println!("{KEYS} keys stored together with a ttl of 1 h; they expire in minute");
    println!("without jitter");
    let without = histogram(begun, "avalanche:without").await?;
    println!("with 10 m of jitter");
    let with = histogram(begun, "avalanche:with").await?;
    println!("queries in the worst minute, without and with: {without} {with}");
    Ok(())
}

/// Draws how many keys expire in which minute, and gives the largest number. Nothing is waited for: the
/// store says what is left of each key's life.
async fn histogram(begun: Instant, keys: &str) -> Result<u64, Box<dyn Error>> {
    let cache = cache_aside::global()?;
    let mut minutes = [0; 11]; // from the 60th on
    for id in 1..=KEYS {
        let Expiry::In(left) = cache.ttl(&format!("{keys}:{id}")).await? else {
            return Err("a price has no end".into());
        };
        let after_the_hour = (begun.elapsed() + left).saturating_sub(HOUR);
        minutes[usize::try_from(after_the_hour.as_secs() / 60)?.min(10)] += 1;
    }
    for (minute, &count) in (60..).zip(&minutes) {
        println!("  {minute} {count:>5} {}", "#".repeat(usize::try_from(count)?.div_ceil(20)));
    }
    Ok(minutes.into_iter().max().unwrap_or(0))
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql(
        "CREATE TABLE price (id INTEGER PRIMARY KEY, cents INTEGER);
         WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < 1000)
         INSERT INTO price SELECT id, id * 10 FROM ids",
    )
    .execute(&db)
    .await?;
    Ok(db)
}
