//! The database that the writes are for: a row per key, and a journal of all that was handed over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use crate::check::Handed;
use crate::support::secs;

/// A connection. Clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct Db(Arc<Mutex<Connection>>);

impl Db {
    /// The database in this file; the first to open it is the parent.
    pub(crate) fn open(file: &Path) -> Self {
        let connection = Connection::open(file).expect("the directory is there");
        // A worker that stands still may hold the lock. What is written outlives a killed process, which is
        // all that happens here, without waiting for the disk.
        connection.busy_timeout(secs(30)).expect("it can wait");
        let tables = "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
             CREATE TABLE IF NOT EXISTS row (key INTEGER PRIMARY KEY, value INTEGER, seq INTEGER);
             CREATE TABLE IF NOT EXISTS journal
                 (id INTEGER PRIMARY KEY, key INTEGER, value INTEGER, seq INTEGER, attempt INTEGER, worker INTEGER, begun INTEGER)";
        connection.execute_batch(tables).expect("it is a database");
        Self(Arc::new(Mutex::new(connection)))
    }

    /// SQLite blocks, so it runs beside the runtime.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.query_now(work)).await.expect("queries don't panic")
    }

    fn query_now<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> T {
        work(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).expect("the database is there")
    }

    /// Notes that a write came to its handler.
    pub(crate) async fn note(&self, handed: Handed) {
        let Handed { key, value, seq, attempt, by, begun } = handed;
        let insert =
            "INSERT INTO journal (key, value, seq, attempt, worker, begun) VALUES (?, ?, ?, ?, ?, ?)";
        self.query(move |sql| sql.execute(insert, (key, value, seq, attempt, by, begun))).await;
    }

    /// What a handler is to do: nothing if a later write was quicker.
    pub(crate) async fn apply(&self, key: usize, value: u64, seq: u64) {
        let upsert = "INSERT INTO row VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE
             SET value = excluded.value, seq = excluded.seq WHERE row.seq < excluded.seq";
        self.query(move |sql| sql.execute(upsert, (key, value, seq))).await;
    }

    /// What a cached function reads; 0 if there is no row.
    pub(crate) async fn read(&self, key: usize) -> u64 {
        let select = "SELECT value FROM row WHERE key = ?";
        let value =
            self.query(move |sql| sql.query_row(select, [key], |row| row.get::<_, u64>(0)).optional());
        value.await.unwrap_or_default()
    }

    /// All rows.
    pub(crate) fn rows(&self) -> BTreeMap<usize, (u64, u64)> {
        self.query_now(|sql| {
            let mut select = sql.prepare("SELECT key, value, seq FROM row")?;
            select.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect()
        })
    }

    /// All that was handed over, in its order.
    pub(crate) fn journal(&self) -> Vec<Handed> {
        self.query_now(|sql| {
            let mut select =
                sql.prepare("SELECT key, value, seq, attempt, worker, begun FROM journal ORDER BY id")?;
            let handed = |row: &rusqlite::Row<'_>| {
                let (key, value, seq, attempt) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(Handed { key, value, seq, attempt, by: row.get(4)?, begun: row.get(5)? })
            };
            select.query_map([], handed)?.collect()
        })
    }
}
