//! The database: one SQLite file, which several instances may share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cache_aside::Invalidations;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{SqliteConnection, Transaction};

use crate::error::Result;

/// What the statements of a transaction run on.
pub(crate) type Tx = SqliteConnection;

/// A handle: cloning it is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    pool: SqlitePool,
    queries: Arc<AtomicU64>,
    /// False: every function with `when = db.cached` asks the database. To compare with.
    pub(crate) cached: bool,
}

impl Db {
    pub(crate) async fn open(file: &Path, cached: bool) -> Result<Self> {
        // With a write-ahead log nobody who reads waits for who writes.
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true);
        let pool = SqlitePool::connect_with(options).await?;
        sqlx::raw_sql(include_str!("schema.sql")).execute(&pool).await?;
        Ok(Self { pool, queries: Arc::default(), cached })
    }

    /// For one query, which is counted.
    pub(crate) fn query(&self) -> &SqlitePool {
        self.queries.fetch_add(1, Relaxed);
        &self.pool
    }

    /// For several that hold together; counted as one. It takes the right to write at once: SQLite refuses
    /// it to a transaction that has read before another wrote.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.queries.fetch_add(1, Relaxed);
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// How many queries and transactions there were in this process.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Ends what [`deferred`](cache_aside::deferred) ran in a transaction. If it went well it is committed, and
/// what was invalidated is forgotten, in this order; else nothing happened, and what is cached is right.
///
/// If a commit fails, or the caller goes away, nobody knows: the list is dropped, and so carried out.
pub(crate) async fn end<T>(
    transaction: Transaction<'static, Sqlite>,
    (done, invalidations): (Result<T>, Invalidations),
) -> Result<T> {
    match done {
        Ok(value) => {
            transaction.commit().await?;
            invalidations.apply().await;
            Ok(value)
        }
        Err(error) => {
            transaction.rollback().await?;
            invalidations.discard();
            Err(error)
        }
    }
}
