//! Profiles that are answered now and written to SQLite later: what readers see meanwhile, a database that is
//! away, a write that can't be done and is done after all, and how it ends.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_aside::{Builder, Job, Settings, WriteBehind, cache};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    id: i64,
    name: String,
}

/// While a write of the profile is in the queue, it is the answer, whatever becomes of the entry.
#[cache(ttl = "10m", key = "write_behind:profile:{id}", pending = "write_behind_profiles")]
async fn profile(db: &Db, id: i64) -> Result<Option<Profile>, DbError> {
    let select = "SELECT name FROM profile WHERE id = ?";
    let name = db.query(move |sql| sql.query_row(select, [id], |row| row.get(0)).optional()).await?;
    Ok(name.map(|name| Profile { id, name }))
}

/// What a caller waits for: one command to the cache, none to the database.
async fn rename(writes: &WriteBehind, id: i64, name: &str) -> Result<u64, Box<dyn Error>> {
    let profile = Profile { id, name: name.to_owned() };
    let entry = profile::cache_entry(id, &Some(profile.clone()))?;
    Ok(writes.put(entry).send("rename", id, &profile).await?)
}

/// What is done later, perhaps twice, perhaps by a worker that was suspended for an hour: a write whose number
/// isn't above that of the row was overtaken.
async fn apply_rename(job: Job<Profile>, db: Db) -> Result<(), DbError> {
    let (Profile { id, name }, seq) = (job.payload.clone(), job.seq());
    let update = "UPDATE profile SET name = ?, seq = ? WHERE id = ? AND seq < ?";
    if db.query(move |sql| sql.execute(update, (name, seq, id, seq))).await? > 0 {
        return Ok(());
    }
    let found = "SELECT 1 FROM profile WHERE id = ?";
    let found = db.query(move |sql| sql.query_row(found, [id], |_| Ok(())).optional()).await?;
    found.ok_or_else(|| DbError("there is no such profile".to_owned()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    const RENAMES: i64 = 40;
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    cache_aside::global()?.delete_pattern("write_behind:*").await?; // a server may remember the last run
    let db = Db::with_profiles(1..=RENAMES)?;
    let writes = WriteBehind::queue("write_behind_profiles")
        .retries(3)
        .backoff(Duration::from_millis(20), Duration::from_millis(100))
        .build()?;

    println!("answered now");
    let begun = Instant::now();
    for id in 1..=RENAMES {
        rename(&writes, id, &format!("renamed {id}")).await?;
    }
    let (sent, stats) = (begun.elapsed(), writes.stats().await?);
    println!(
        "  {RENAMES} renames in {sent:.1?}, {} in the queue, {} queries",
        stats.pending,
        db.take_count()
    );
    assert_eq!(stats.pending, RENAMES.unsigned_abs());
    println!("  the row: {:?}, what readers get: {:?}", db.name(1)?, name(&db, 1).await?);
    assert_eq!((db.name(1)?.as_str(), name(&db, 1).await?.as_str()), ("user 1", "renamed 1"));
    profile::clear_cache(1).await?;
    println!("  without the entry, too: {:?}, {} queries", name(&db, 1).await?, db.take_count());
    assert_eq!(name(&db, 1).await?, "renamed 1");

    println!("written later");
    let worker = Worker::start(&writes, &db);
    settled(&writes).await?;
    println!("  {} queries, the row: {:?}", db.take_count(), db.name(1)?);
    assert_eq!(db.name(1)?, "renamed 1");

    println!("the database is away");
    db.is_away.store(true, Relaxed);
    let before = writes.stats().await?.retries;
    rename(&writes, 1, "renamed again").await?;
    while writes.stats().await?.retries == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("  readers get {:?}", name(&db, 1).await?);
    db.is_away.store(false, Relaxed);
    settled(&writes).await?;
    println!("  back; tried again until the row was {:?}", db.name(1)?);
    assert_eq!(db.name(1)?, "renamed again");

    println!("a write that can't be done");
    rename(&writes, 1000, "nobody").await?;
    settled(&writes).await?;
    let letters = writes.dead_letters(10).await?;
    let [letter] = &letters[..] else { panic!("one dead letter: {letters:?}") };
    println!(
        "  {} of {}: {}, after {} attempts",
        letter.kind(),
        letter.order_key(),
        letter.cause(),
        letter.attempts()
    );
    assert_eq!((letter.cause(), letter.attempts()), ("there is no such profile", 4));
    assert_eq!(profile(&db, 1000).await?, None, "its entry is gone");
    db.insert(1000)?;
    assert!(writes.replay(letter).await?);
    settled(&writes).await?;
    println!("  replayed, now that there is: {:?}", db.name(1000)?);
    assert_eq!((db.name(1000)?.as_str(), writes.stats().await?.dead_letters), ("nobody", 0));

    println!("the end");
    for id in 1..=RENAMES {
        rename(&writes, id, "the last name").await?;
    }
    let left = worker.stop().await?;
    let last = db.count("the last name")?;
    println!(
        "  told to stop with {RENAMES} writes in the queue, the worker left {left}; {last} rows are written"
    );
    assert_eq!((left, last), (0, RENAMES));
    Ok(())
}

async fn name(db: &Db, id: i64) -> Result<String, DbError> {
    Ok(profile(db, id).await?.expect("it is there").name)
}

/// Waits until nothing is in the queue.
async fn settled(writes: &WriteBehind) -> Result<(), Box<dyn Error>> {
    while writes.stats().await?.pending > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A worker. Usually a process of its own, and several of them.
struct Worker {
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<Result<u64, cache_aside::CacheError>>,
}

impl Worker {
    fn start(writes: &WriteBehind, db: &Db) -> Self {
        let (stop, told) = oneshot::channel();
        let workers = writes.workers(db.clone()).handle("rename", apply_rename);
        let running = tokio::spawn(workers.run_until(told)); // in a service until ctrl-c or SIGTERM
        Self { stop, running }
    }

    /// It applies what is queued, for up to ten seconds; how many writes are left.
    async fn stop(self) -> Result<u64, Box<dyn Error>> {
        drop(self.stop);
        Ok(self.running.await??)
    }
}

/// Why a query failed.
#[derive(Debug)]
struct DbError(String);

impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for DbError {}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// One connection, shared, and how often it was asked.
#[derive(Clone)]
struct Db {
    connection: Arc<Mutex<Connection>>,
    queries: Arc<AtomicU64>,
    is_away: Arc<AtomicBool>,
}

impl Db {
    fn with_profiles(ids: impl IntoIterator<Item = i64>) -> Result<Self, DbError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE profile (id INTEGER PRIMARY KEY, name TEXT, seq INTEGER NOT NULL DEFAULT 0)",
        )?;
        let (connection, queries) = (Arc::new(Mutex::new(connection)), Arc::default());
        let db = Self { connection, queries, is_away: Arc::default() };
        ids.into_iter().try_for_each(|id| db.insert(id))?;
        Ok(db)
    }

    /// SQLite blocks, so it runs beside the runtime; 10 ms stand for a database that has more to do.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DbError> {
        self.queries.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        if self.is_away.load(Relaxed) {
            return Err(DbError("the database is away".to_owned()));
        }
        let db = self.clone();
        Ok(tokio::task::spawn_blocking(move || db.now(work)).await.expect("queries don't panic")?)
    }

    fn now<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(&self, id: i64) -> Result<(), DbError> {
        let insert = "INSERT INTO profile (id, name) VALUES (?, ?)";
        Ok(self.now(|sql| sql.execute(insert, (id, format!("user {id}"))).map(drop))?)
    }

    /// What the row says, past everything.
    fn name(&self, id: i64) -> Result<String, DbError> {
        let select = "SELECT name FROM profile WHERE id = ?";
        Ok(self.now(|sql| sql.query_row(select, [id], |row| row.get(0)))?)
    }

    fn count(&self, name: &str) -> Result<i64, DbError> {
        let select = "SELECT COUNT(*) FROM profile WHERE name = ?";
        Ok(self.now(|sql| sql.query_row(select, [name], |row| row.get(0)))?)
    }

    fn take_count(&self) -> u64 {
        self.queries.swap(0, Relaxed)
    }
}
