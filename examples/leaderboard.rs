//! A leaderboard: points are rows in SQLite, ranks a sorted set in Redis, where who is first, and who is
//! how manieth of thousands, takes no sorting.
//!
//! It needs a server: `cargo xtask redis` starts a throw-away one and prints the `REDIS_URL` to set.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cache_aside::redis::AsyncCommands;
use cache_aside::{RedisConnection, Settings, get_redis, redis};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query, query_as, raw_sql};

const BOARD: &str = "leaderboard";

static QUERIES: AtomicU64 = AtomicU64::new(0);

/// The whole board from the rows: ZADD. In one transaction, so nobody sees half of it.
async fn rebuild(redis: &mut RedisConnection, db: &SqlitePool) -> Result<usize, Box<dyn Error>> {
    QUERIES.fetch_add(1, Relaxed);
    let sums = "SELECT sum(points), player FROM game GROUP BY player";
    let players: Vec<(i64, String)> = query_as(sums).fetch_all(db).await?;
    let mut both = redis::pipe();
    both.atomic().del(BOARD).zadd_multiple(BOARD, &players);
    let () = both.query_async(redis).await?;
    Ok(players.len())
}

/// One game: a row, and ZINCRBY. Should the program end between the two, `rebuild` sets it right.
async fn play(
    redis: &mut RedisConnection,
    db: &SqlitePool,
    player: &str,
    points: i64,
) -> Result<i64, Box<dyn Error>> {
    QUERIES.fetch_add(1, Relaxed);
    query("INSERT INTO game VALUES (?, ?)").bind(player).bind(points).execute(db).await?;
    Ok(redis.zincr(BOARD, player, points).await?)
}

/// ZREVRANGE: the best first, these places of them, counted from 0.
async fn places(
    redis: &mut RedisConnection,
    from: isize,
    to: isize,
) -> redis::RedisResult<Vec<(String, i64)>> {
    redis.zrevrange_withscores(BOARD, from, to).await
}

/// ZREVRANK: the place of one.
async fn place(redis: &mut RedisConnection, player: &str) -> redis::RedisResult<Option<isize>> {
    redis.zrevrank(BOARD, player).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    cache_aside::init(Settings::load()?).await?;
    let mut redis = get_redis().await.map_err(|error| error.to_string())?; // without a server it says so
    let db = database().await?;

    println!("{} players from SQLite: {} query", rebuild(&mut redis, &db).await?, take_queries());
    println!("the first three:");
    show(&mut redis, 0, 2).await?;

    println!(
        "ada plays, and has {} points: {} query",
        play(&mut redis, &db, "ada", 9004).await?,
        take_queries()
    );
    let ada = place(&mut redis, "ada").await?.ok_or("ada isn't on the board")?;
    println!("around her:");
    show(&mut redis, ada - 1, ada + 1).await?;
    println!("who never played has a place: {}", place(&mut redis, "nobody").await?.is_some());
    println!("queries for all that was read: {}", take_queries());
    let () = redis.del(BOARD).await?; // an example leaves nothing behind
    Ok(())
}

async fn show(redis: &mut RedisConnection, from: isize, to: isize) -> redis::RedisResult<()> {
    for (at, (player, points)) in (from + 1..).zip(places(redis, from, to).await?) {
        println!("  {at:>4}. {player:<10} {points:>6}");
    }
    Ok(())
}

fn take_queries() -> u64 {
    QUERIES.swap(0, Relaxed)
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql(
        "CREATE TABLE game (player TEXT, points INTEGER); INSERT INTO game VALUES ('ada', 500);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
         INSERT INTO game SELECT 'player ' || n, 10 * n FROM n",
    )
    .execute(&db)
    .await?;
    Ok(db)
}
