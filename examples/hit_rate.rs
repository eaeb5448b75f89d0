//! Hit rates: of each function in this process, and, on Redis, of the whole fleet: each process adds its
//! counters to a hash.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;
use std::time::Duration;

use cache_aside::redis::AsyncCommands;
use cache_aside::{Builder, Settings, Stats, cache, get_redis, redis};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query_scalar, raw_sql};

const FLEET: &str = "hit_rate:fleet";

/// Ten users are asked for again and again: that is what a cache is for.
#[cache(ttl = "10m", key = "hit_rate:user:{id}")]
async fn get_user(db: &SqlitePool, id: i64) -> sqlx::Result<Option<String>> {
    query_scalar("SELECT name FROM user WHERE id = ?").bind(id).fetch_optional(db).await
}

/// Everybody searches for something else: this costs more than it saves. The numbers say so.
#[cache(ttl = "10m", key = "hit_rate:search:{text}")]
async fn search(db: &SqlitePool, text: &str) -> sqlx::Result<Vec<String>> {
    query_scalar("SELECT name FROM user WHERE instr(name, ?)").bind(text).fetch_all(db).await
}

/// The functions that are watched.
fn watched() -> [(&'static str, Stats); 2] {
    [("get_user", get_user::cache_stats()), ("search", search::cache_stats())]
}

/// Adds what happened in this process. Once, here, at its end; a server would do it every few seconds, and
/// add what its counters have grown by since: they only grow.
async fn report() -> Result<(), Box<dyn Error>> {
    let mut pipe = redis::pipe();
    for (name, stats) in watched() {
        let hits = stats.near_hits + stats.hits + stats.plain_hits;
        pipe.hincr(FLEET, format!("{name} hits"), hits).hincr(FLEET, format!("{name} misses"), stats.misses);
    }
    pipe.hincr(FLEET, "processes", 1).expire(FLEET, 3600); // until nobody has reported for an hour
    Ok(pipe.exec_async(&mut get_redis().await?).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    let db = database().await?;
    if std::env::args().any(|word| word == "another") {
        work(&db).await?;
        return report().await;
    }

    let cache = cache_aside::global()?;
    cache.delete_pattern("hit_rate:*").await?; // a server may remember the last run
    work(&db).await?;
    println!("this process     hits   misses   hit rate");
    for (name, stats) in watched() {
        show(name, stats.hits, stats.misses);
    }
    if cache.store_name() == "embedded" {
        println!("With REDIS_URL set it shows those of a fleet, too.");
        return Ok(());
    }

    let () = get_redis().await?.del(FLEET).await?;
    report().await?;
    for _ in 0..2 {
        let another = Command::new(std::env::current_exe()?).arg("another").status()?;
        if !another.success() {
            return Err("another process failed".into());
        }
    }
    let sums: BTreeMap<String, u64> = get_redis().await?.hgetall(FLEET).await?;
    println!("{} processes", sums["processes"]);
    for (name, _) in watched() {
        show(name, sums[&format!("{name} hits")], sums[&format!("{name} misses")]);
    }
    Ok(())
}

async fn work(db: &SqlitePool) -> sqlx::Result<()> {
    for n in 0..100 {
        get_user(db, n % 10).await?;
        search(db, &format!("{n} of {}", std::process::id())).await?;
    }
    Ok(())
}

fn show(name: &str, hits: u64, misses: u64) {
    let percent = 100 * hits / (hits + misses).max(1);
    println!("{name:<14} {hits:>6} {misses:>8} {percent:>8} %");
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql("CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO user VALUES (1, 'Ada'), (2, 'Grace')")
        .execute(&db)
        .await?;
    Ok(db)
}
