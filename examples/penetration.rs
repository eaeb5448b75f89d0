//! Penetration: what isn't there can't be cached, so each look-up of it reaches the database. Unless
//! "there is nothing" is cached, too.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cache_aside::{Builder, Settings, cache, cache_invalidate};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query, query_scalar, raw_sql};

static QUERIES: AtomicU64 = AtomicU64::new(0);

/// Without: who asks again for a user who isn't there asks the database again.
#[cache(ttl = "10m", cache_none = false, key = "penetration:without:{id}")]
async fn find_without(db: &SqlitePool, id: i64) -> sqlx::Result<Option<String>> {
    select(db, id).await
}

/// With: `None` is cached like any value; that is the default. Here with a shorter life, so that ids
/// that somebody made up don't fill the store for long.
#[cache(ttl = "10m", none_ttl = "5m", key = "penetration:with:{id}")]
async fn find(db: &SqlitePool, id: i64) -> sqlx::Result<Option<String>> {
    select(db, id).await
}

/// A cached `None` is forgotten like any value, so the new user is found at once.
#[cache_invalidate(find(id))]
async fn add(db: &SqlitePool, id: i64, name: &str) -> sqlx::Result<()> {
    query("INSERT INTO user VALUES (?, ?)").bind(id).bind(name).execute(db).await.map(drop)
}

async fn select(db: &SqlitePool, id: i64) -> sqlx::Result<Option<String>> {
    QUERIES.fetch_add(1, Relaxed);
    query_scalar("SELECT name FROM user WHERE id = ?").bind(id).fetch_optional(db).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    cache_aside::global()?.delete_pattern("penetration:*").await?; // a server may remember the last run
    let db = database().await?;

    println!("look-ups of users who aren't there         look-ups   database queries");
    for n in 0..10_000 {
        find_without(&db, n % 100).await?;
    }
    show("100 users, `None` isn't cached", 10_000);
    for n in 0..10_000 {
        find(&db, n % 100).await?;
    }
    show("100 users, `None` is cached", 10_000);
    // What it doesn't cure: the first look-up of each id. Against who invents a new one every time
    // helps a limit to how often anybody may ask.
    for n in 0..1000 {
        find(&db, 1_000_000 + n).await?;
    }
    show("1000 users, `None` is cached", 1000);

    add(&db, 7, "Ada").await?;
    println!("user 7 is added, and found: {:?}", find(&db, 7).await?);
    Ok(())
}

fn show(what: &str, lookups: u64) {
    println!("{what:<40} {lookups:>10} {:>18}", QUERIES.swap(0, Relaxed));
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql("CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT)").execute(&db).await?;
    Ok(db)
}
