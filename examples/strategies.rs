//! Four ways to keep a cache and a database together: who asks the database, and when, when a title is read
//! twice, changed, and read again.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_aside::{Builder, Job, Settings, WriteBehind, cache, cache_invalidate, cache_put, global};
use rusqlite::{Connection, OptionalExtension, Result};

/// Cache-aside: the reader asks the database, the writer makes it forget.
#[cache(ttl = "10m", key = "strategies:aside:{id}")]
async fn title(db: &Db, id: i64) -> Result<Option<String>> {
    db.title(id).await
}

#[cache_invalidate(title(id))]
async fn retitle(db: &Db, id: i64, to: &str) -> Result<()> {
    db.update(id, to, 0).await.map(drop)
}

/// Write-through: what the writer returns is the next hit.
#[cache(ttl = "10m", key = "strategies:through:{id}")]
async fn title_through(db: &Db, id: i64) -> Result<Option<String>> {
    db.title(id).await
}

#[cache_put(title_through(id))]
async fn retitle_through(db: &Db, id: i64, to: &str) -> Result<Option<String>> {
    db.update(id, to, 0).await
}

/// Write-behind: the writer waits for a queue, and the database has it later.
#[cache(ttl = "10m", key = "strategies:behind:{id}", pending = "strategies")]
async fn title_behind(db: &Db, id: i64) -> Result<Option<String>> {
    db.title(id).await
}

async fn apply(job: Job<(i64, String)>, db: Db) -> Result<()> {
    let (id, to) = &job.payload;
    db.update(*id, to, job.seq()).await.map(drop)
}

/// Refresh-ahead: with less than a minute left it is renewed in the background, and nobody waits.
#[cache(ttl = "10m", refresh_ahead = "1m", key = "strategies:ahead:{id}")]
async fn title_ahead(db: &Db, id: i64) -> Result<Option<String>> {
    db.title(id).await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    let cache = global()?;
    cache.delete_pattern("strategies:*").await?; // a server may remember the last run
    let db = Db::new()?;

    println!("queries of          reading twice   a write   reading after it   later");
    title(&db, 1).await?;
    title(&db, 1).await?;
    let read = db.take_count();
    retitle(&db, 1, "aside").await?;
    let wrote = db.take_count();
    assert_eq!(title(&db, 1).await?.as_deref(), Some("aside"));
    row("cache-aside", [read, wrote, db.take_count(), 0], [1, 1, 1, 0]);

    title_through(&db, 2).await?;
    title_through(&db, 2).await?;
    let read = db.take_count();
    retitle_through(&db, 2, "through").await?;
    let wrote = db.take_count();
    assert_eq!(title_through(&db, 2).await?.as_deref(), Some("through"));
    row("write-through", [read, wrote, db.take_count(), 0], [1, 1, 0, 0]);

    let writes = WriteBehind::queue("strategies").build()?;
    title_behind(&db, 3).await?;
    title_behind(&db, 3).await?;
    let read = db.take_count();
    let entry = title_behind::cache_entry(3, &Some("behind".to_owned()))?;
    writes.put(entry).send("retitle", 3, &(3, "behind")).await?;
    let wrote = db.take_count();
    assert_eq!(title_behind(&db, 3).await?.as_deref(), Some("behind"));
    let read_after = db.take_count();
    // Until there is nothing to do: a worker would wait for a signal.
    writes.workers(db.clone()).handle("retitle", apply).run_until(async {}).await?;
    row("write-behind", [read, wrote, read_after, db.take_count()], [1, 0, 0, 1]);
    assert_eq!(db.title(3).await?.as_deref(), Some("behind"));
    db.take_count();

    title_ahead(&db, 4).await?;
    title_ahead(&db, 4).await?;
    let read = db.take_count();
    db.update(4, "ahead", 0).await?; // by somebody who knows nothing of the cache
    let wrote = db.take_count();
    cache.expire(&title_ahead::cache_key(4)?, Duration::from_secs(50)).await?; // nine minutes later
    assert_eq!(title_ahead(&db, 4).await?.as_deref(), Some("title 4"), "nobody waits for the new one");
    while title_ahead::cached(4).await? != Some(Ok(Some("ahead".to_owned()))) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    row("refresh-ahead", [read, wrote, 0, db.take_count()], [1, 1, 0, 1]);
    println!("  who reads after a write has what was written, but for the last: nobody told that function");
    Ok(())
}

fn row(strategy: &str, queries: [u64; 4], expected: [u64; 4]) {
    let [read, wrote, read_after, later] = queries;
    println!("  {strategy:<17} {read:>13}   {wrote:>7}   {read_after:>16}   {later:>5}");
    assert_eq!(queries, expected);
}

/// One connection, shared, and how often it was asked.
#[derive(Clone)]
struct Db {
    connection: Arc<Mutex<Connection>>,
    queries: Arc<AtomicU64>,
}

impl Db {
    fn new() -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE post (id INTEGER PRIMARY KEY, title TEXT, seq INTEGER NOT NULL DEFAULT 0);
             INSERT INTO post (id, title) VALUES (1, 'title 1'), (2, 'title 2'), (3, 'title 3'), (4, 'title 4')",
        )?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), queries: Arc::default() })
    }

    /// SQLite blocks, so it runs beside the runtime.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.queries.fetch_add(1, Relaxed);
        let connection = Arc::clone(&self.connection);
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.expect("queries don't panic")
    }

    async fn title(&self, id: i64) -> Result<Option<String>> {
        let select = "SELECT title FROM post WHERE id = ?";
        self.query(move |sql| sql.query_row(select, [id], |row| row.get(0)).optional()).await
    }

    /// What the title is now, if there is such a post. A number that isn't larger than the row's was overtaken.
    async fn update(&self, id: i64, to: &str, seq: u64) -> Result<Option<String>> {
        let update =
            "UPDATE post SET title = ?, seq = ? WHERE id = ? AND (seq < ? OR seq = 0) RETURNING title";
        let to = to.to_owned();
        self.query(move |sql| sql.query_row(update, (to, seq, id, seq), |row| row.get(0)).optional()).await
    }

    fn take_count(&self) -> u64 {
        self.queries.swap(0, Relaxed)
    }
}
