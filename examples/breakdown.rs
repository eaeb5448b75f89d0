//! Breakdown: a value that everybody reads expires, and a thousand callers who miss it run the same
//! query a thousand times. With single flight one runs it, and the others wait for what it finds.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cache_aside::{Builder, Settings, Stats, cache};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query_scalar, raw_sql};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

const CALLERS: u64 = 1000;

/// Without: nobody waits for anybody.
#[cache(ttl = "10m", single_flight = "off", key = "breakdown:without")]
async fn front_page_without(db: &SqlitePool) -> sqlx::Result<String> {
    select(db).await
}

/// With: the callers of all processes wait for one load; that is the default.
#[cache(ttl = "10m", key = "breakdown:with")]
async fn front_page(db: &SqlitePool) -> sqlx::Result<String> {
    select(db).await
}

static QUERIES: AtomicU64 = AtomicU64::new(0);

/// Opened when all have asked: it stands for a query that takes a while.
static DATABASE_ANSWERS: Semaphore = Semaphore::const_new(0);

async fn select(db: &SqlitePool) -> sqlx::Result<String> {
    QUERIES.fetch_add(1, Relaxed);
    let _answer = DATABASE_ANSWERS.acquire().await.expect("it is never closed");
    query_scalar("SELECT group_concat(title) FROM post").fetch_one(db).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    let cache = cache_aside::global()?;
    let db = database().await?;

    front_page_without::put_cache(&"the page".to_owned()).await?;
    front_page::put_cache(&"the page".to_owned()).await?;
    for key in ["breakdown:without", "breakdown:with"] {
        cache.expire(key, Duration::ZERO).await?; // instead of waiting for ten minutes
    }
    println!("{CALLERS} callers of an expired value   database queries   waited for another's");
    let pool = db.clone();
    let ask = move || {
        let db = pool.clone();
        async move { front_page_without(&db).await }
    };
    crowd(ask, || QUERIES.load(Relaxed) == CALLERS).await?; // each waits for the database
    show("without single flight", front_page_without::cache_stats());

    let ask = move || {
        let db = db.clone();
        async move { front_page(&db).await }
    };
    crowd(ask, || front_page::cache_stats().misses == CALLERS).await?; // each knows that the value is gone
    show("with single flight", front_page::cache_stats());
    Ok(())
}

/// All ask, and only then does the database answer.
async fn crowd<F>(ask: impl Fn() -> F, all_have_asked: impl Fn() -> bool) -> Result<(), Box<dyn Error>>
where
    F: Future<Output = sqlx::Result<String>> + Send + 'static,
{
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(ask());
    }
    while !all_have_asked() {
        yield_now().await;
    }
    DATABASE_ANSWERS.add_permits(1000);
    while let Some(page) = callers.join_next().await {
        page??;
    }
    DATABASE_ANSWERS.forget_permits(1000);
    Ok(())
}

fn show(how: &str, stats: Stats) {
    println!("{how:<32} {:>18} {:>22}", QUERIES.swap(0, Relaxed), stats.coalesced);
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql("CREATE TABLE post (title TEXT); INSERT INTO post VALUES ('first'), ('second')")
        .execute(&db)
        .await?;
    Ok(db)
}
