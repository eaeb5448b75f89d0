//! A list that everybody reads: one query for a crowd, lists that don't expire together, and a list
//! that is made anew when it has become wrong, not at every like.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_aside::{Builder, Expiry, Settings, cache, cache_invalidate};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Post {
    id: i64,
    title: String,
    likes: i64,
}

/// Up to 20 % more than 30 s, at random: lists that were stored together don't expire together.
#[cache(ttl = "30s", jitter = "20%", key = "hot_posts:top:{count}")]
async fn hot_posts(db: &Db, count: u32) -> rusqlite::Result<Vec<Post>> {
    db.query(move |sql| {
        let mut select = sql.prepare("SELECT id, title, likes FROM post ORDER BY likes DESC, id LIMIT ?")?;
        let post =
            |row: &rusqlite::Row<'_>| Ok(Post { id: row.get(0)?, title: row.get(1)?, likes: row.get(2)? });
        select.query_map([count], post)?.collect()
    })
    .await
}

/// A new post belongs into every list at once.
#[cache_invalidate("hot_posts:top:*")]
async fn add_post(db: &Db, title: &str, likes: i64) -> rusqlite::Result<()> {
    let title = title.to_owned();
    db.query(move |sql| sql.execute("INSERT INTO post (title, likes) VALUES (?, ?)", (title, likes)))
        .await
        .map(drop)
}

/// A like changes little: only each tenth one makes the lists wrong enough.
async fn like(db: &Db, id: i64) -> Result<(), Box<dyn Error>> {
    let likes: i64 = db
        .query(move |sql| {
            let update = "UPDATE post SET likes = likes + 1 WHERE id = ? RETURNING likes";
            sql.query_row(update, [id], |row| row.get(0))
        })
        .await?;
    if likes % 10 == 0 {
        hot_posts::clear_cache_all().await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    const READERS: usize = 500;
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    hot_posts::clear_cache_all().await?; // a server may remember the last run
    let db = Db::with_posts()?;

    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let db = db.clone();
        readers.spawn(async move { hot_posts(&db, 3).await });
    }
    while let Some(list) = readers.join_next().await {
        assert_eq!(list??.len(), 3);
    }
    let (queries, stats) = (db.take_count(), hot_posts::cache_stats());
    println!(
        "{READERS} readers at once: {queries} query, {} waited for it, {} came later",
        stats.coalesced, stats.hits
    );
    assert_eq!((queries, stats.loads), (1, 1));

    println!("lists stored together live for");
    for count in 4..8 {
        hot_posts(&db, count).await?;
        let Expiry::In(left) = cache_aside::global()?.ttl(&hot_posts::cache_key(count)?).await? else {
            return Err("a list has no end".into());
        };
        println!("  top {count}: {left:.1?}");
        assert!((Duration::from_secs(29)..=Duration::from_secs(36)).contains(&left));
    }
    db.take_count();

    for _ in 0..9 {
        like(&db, 1).await?;
    }
    assert_eq!(db.take_count(), 9);
    let list = hot_posts(&db, 3).await?;
    let queries = db.take_count();
    println!("after 9 likes: {queries} queries, first is `{}`", list[0].title);
    assert_eq!((queries, list[0].id), (0, 3));

    like(&db, 1).await?;
    db.take_count();
    let list = hot_posts(&db, 3).await?;
    let queries = db.take_count();
    println!("after the 10th: {queries} query, first is `{}`", list[0].title);
    assert_eq!((queries, list[0].id), (1, 1));

    add_post(&db, "breaking news", 1000).await?;
    db.take_count();
    let list = hot_posts(&db, 3).await?;
    let queries = db.take_count();
    println!("after a new post: {queries} query, first is `{}`", list[0].title);
    assert_eq!((queries, list[0].title.as_str()), (1, "breaking news"));
    Ok(())
}

/// One connection, shared, and how often it was asked.
#[derive(Clone)]
struct Db {
    connection: Arc<Mutex<Connection>>,
    queries: Arc<AtomicU64>,
}

impl Db {
    fn with_posts() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE post (id INTEGER PRIMARY KEY, title TEXT, likes INTEGER NOT NULL)",
        )?;
        for id in 1..=10 {
            let likes = if id == 3 { 5 } else { 0 };
            connection.execute("INSERT INTO post VALUES (?, ?, ?)", (id, format!("post {id}"), likes))?;
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)), queries: Arc::default() })
    }

    /// SQLite blocks, so it runs beside the runtime; 20 ms stand for a database that has more to do.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        self.queries.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let connection = Arc::clone(&self.connection);
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.expect("queries don't panic")
    }

    fn take_count(&self) -> u64 {
        self.queries.swap(0, Relaxed)
    }
}
