//! Stale read: a reader who has missed reads the old row; a writer changes it and deletes what is cached;
//! the reader stores the old row. By hand it stays until its ttl ends. A lease refuses it.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use cache_aside::{Builder, Cache, Settings, cache, cache_invalidate};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query, query_scalar, raw_sql};
use tokio::sync::Barrier;

const BY_HAND: &str = "stale_read:by_hand";

/// Cache-aside as it is usually written: get, load, set.
async fn name_by_hand(cache: &Cache, db: &SqlitePool, race: &Barrier) -> Result<String, Box<dyn Error>> {
    if let Some(known) = cache.get(BY_HAND).await? {
        return Ok(known);
    }
    let row = select(db, race).await?;
    cache.set(BY_HAND, &row, Duration::from_secs(600)).await?;
    Ok(row)
}

async fn rename_by_hand(cache: &Cache, db: &SqlitePool, race: &Barrier) -> Result<(), Box<dyn Error>> {
    race.wait().await; // 1
    update(db).await?;
    cache.delete(BY_HAND).await?;
    race.wait().await; // 2
    Ok(())
}

/// The same: a miss leaves a lease under the key, and the value is stored only if it is still there.
#[cache(ttl = 600, key = "stale_read:leases")]
async fn name(db: &SqlitePool, race: &Barrier) -> sqlx::Result<String> {
    select(db, race).await
}

/// An invalidation removes values and leases alike.
#[cache_invalidate(name())]
async fn rename(db: &SqlitePool, race: &Barrier) -> sqlx::Result<()> {
    race.wait().await; // 1
    update(db).await
}

/// The unlucky moment: the row is read, and before it is stored a writer does all it has to do.
async fn select(db: &SqlitePool, race: &Barrier) -> sqlx::Result<String> {
    let row = query_scalar("SELECT name FROM user").fetch_one(db).await?;
    race.wait().await; // 1: the row is read, the writer begins
    race.wait().await; // 2: the writer has returned
    Ok(row)
}

async fn update(db: &SqlitePool) -> sqlx::Result<()> {
    query("UPDATE user SET name = 'Grace'").execute(db).await.map(drop)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    let cache = cache_aside::global()?;
    cache.delete_pattern("stale_read:*").await?; // a server may remember the last run
    let race = Barrier::new(2); // who comes first waits for the other: nothing here depends on time

    let alone = Barrier::new(1); // waits for nobody

    println!("after the race   the database has   the next reader gets   stores refused");
    let db = database().await?;
    let (read, renamed) = tokio::join!(name_by_hand(&cache, &db, &race), rename_by_hand(&cache, &db, &race));
    assert_eq!((read?.as_str(), renamed?), ("Ada", ())); // right: it asked before the write
    show("by hand", &db, &name_by_hand(&cache, &db, &alone).await?, 0).await?;

    let db = database().await?;
    let writer = async {
        let renamed = rename(&db, &race).await;
        race.wait().await; // 2
        renamed
    };
    let (read, renamed) = tokio::join!(name(&db, &race), writer);
    assert_eq!((read?.as_str(), renamed?), ("Ada", ()));
    let next = name(&db, &alone).await?;
    show("with leases", &db, &next, name::cache_stats().fills_refused).await
}

async fn show(how: &str, db: &SqlitePool, next: &str, refused: u64) -> Result<(), Box<dyn Error>> {
    let row: String = query_scalar("SELECT name FROM user").fetch_one(db).await?;
    println!("{how:<14} {row:>18} {next:>22} {refused:>16}");
    Ok(())
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql("CREATE TABLE user (name TEXT); INSERT INTO user VALUES ('Ada')").execute(&db).await?;
    Ok(db)
}
