//! A transaction over SQLite: it reads its own writes, and others see none of it, neither from the
//! database nor from the cache, before it is committed.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::time::Duration;

use cache_aside::{Builder, Settings, cache, cache_invalidate, deferred};
use sqlx::sqlite::{SqliteConnectOptions, SqliteExecutor, SqliteJournalMode, SqlitePool};
use sqlx::{SqliteConnection, query, query_scalar, raw_sql};

/// `db` is a pool or a transaction: the entry is the same.
#[cache(ttl = "10m", key = "transaction:balance:{account}")]
async fn balance(db: impl SqliteExecutor<'_>, account: i64) -> sqlx::Result<i64> {
    query_scalar("SELECT balance FROM account WHERE id = ?").bind(account).fetch_one(db).await
}

/// It doesn't know whether it is part of something larger.
#[cache_invalidate("transaction:balance:{account}")]
async fn add(db: &mut SqliteConnection, account: i64, amount: i64) -> sqlx::Result<()> {
    query("UPDATE account SET balance = balance + ? WHERE id = ?")
        .bind(amount)
        .bind(account)
        .execute(db)
        .await
        .map(drop)
}

/// Both or neither.
async fn transfer(pool: &SqlitePool, from: i64, to: i64, amount: i64) -> Result<(), Box<dyn Error>> {
    let mut tx = pool.begin().await?;
    let (done, invalidations) = deferred(async {
        add(&mut tx, from, -amount).await?;
        add(&mut tx, to, amount).await?;
        let left = balance(&mut *tx, from).await?; // its own write
        let pool = pool.clone();
        let others = tokio::spawn(async move { balance(&pool, from).await }); // outside
        let others_see = others.await.expect("it doesn't panic")?;
        println!("  in the transaction {left}, for others {others_see}");
        Ok::<_, sqlx::Error>(left)
    })
    .await;
    // An early return drops the list, and with it the entries: how the transaction ended isn't known here.
    if done? < 0 {
        tx.rollback().await?;
        invalidations.discard(); // what is cached is right
        return Err(format!("{from} can't pay {amount}").into());
    }
    tx.commit().await?;
    invalidations.apply().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    cache_aside::global()?.delete_pattern("transaction:*").await?; // a server may remember the last run
    let file = std::env::temp_dir().join(format!("cache-aside-transaction-{}.db", std::process::id()));
    let pool = open(&file).await?;
    let shown = show(&pool).await;
    pool.close().await;
    std::fs::remove_file(file)?;
    shown
}

async fn show(pool: &SqlitePool) -> Result<(), Box<dyn Error>> {
    let balances = async || Ok::<_, sqlx::Error>((balance(pool, 1).await?, balance(pool, 2).await?));
    println!("before: {:?}", balances().await?);

    println!("1 pays 30 to 2");
    transfer(pool, 1, 2, 30).await?;
    println!("after the commit: {:?}", balances().await?);
    assert_eq!(balances().await?, (70, 130));

    println!("1 pays 100 to 2");
    let refused = transfer(pool, 1, 2, 100).await.expect_err("it has 70");
    println!("after the rollback ({refused}): {:?}", balances().await?);
    assert_eq!(balances().await?, (70, 130));

    let stats = balance::cache_stats();
    println!("{} loads, {} hits, {} went past the cache", stats.loads, stats.hits, stats.bypassed);
    assert_eq!((stats.loads, stats.bypassed), (4, 2));
    Ok(())
}

async fn open(file: &std::path::Path) -> sqlx::Result<SqlitePool> {
    // With a write-ahead log nobody who reads waits for who writes.
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await?;
    raw_sql("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER); INSERT INTO account VALUES (1, 100), (2, 100)")
        .execute(&pool)
        .await?;
    Ok(pool)
}
