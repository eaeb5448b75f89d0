//! A view counter: counting is one step in the cache, and each 100th view carries the hundred into
//! SQLite. What is left goes there when the program stops, so a clean stop loses none.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cache_aside::{Builder, Cache, CacheError, Settings};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query, query_scalar, raw_sql};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

const EVERY: i64 = 100;
const POSTS: [i64; 3] = [1, 2, 3];
const VIEWERS: i64 = 50;

static WRITES: AtomicU64 = AtomicU64::new(0);

type Done<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Under each post's key: the views that aren't in SQLite yet. If the cache is a server, they outlive a
/// process that is killed, but for the hundred that it may be carrying. The server mustn't evict them: they
/// have no ttl, so `noeviction` and the `volatile-..` policies leave them alone.
#[derive(Clone)]
struct Views {
    cache: Cache,
    db: SqlitePool,
    carrying: Arc<RwLock<()>>,
}

impl Views {
    async fn count(&self, post: i64) -> Done {
        let waiting = self.cache.increment(&key(post)).await?;
        // Of all callers, in all processes, one gets this number.
        if waiting % EVERY == 0 {
            // In a task: a caller who goes away doesn't leave it half done.
            let views = self.clone();
            tokio::spawn(async move { views.carry(post, EVERY).await }).await??;
        }
        Ok(())
    }

    /// Takes so many views from the counter and adds them to the row.
    async fn carry(&self, post: i64, views: i64) -> Done {
        let _carrying = self.carrying.read().await;
        if self.cache.increment_by(&key(post), -views).await? < 0 {
            // Another process that stops has just taken some of them.
            self.cache.increment_by(&key(post), views).await?;
            return Ok(());
        }
        WRITES.fetch_add(1, Relaxed);
        let update = query("UPDATE post SET views = views + ? WHERE id = ?").bind(views).bind(post);
        if let Err(error) = update.execute(&self.db).await {
            self.cache.increment_by(&key(post), views).await?; // they wait for the next hundred
            return Err(error.into());
        }
        Ok(())
    }

    /// When no more views are counted: the rest.
    async fn stop(&self) -> Done {
        drop(self.carrying.write().await); // who has begun to carry has arrived
        for post in POSTS {
            while let rest @ 1.. = self.waiting(post).await? {
                self.carry(post, rest).await?;
            }
        }
        Ok(())
    }

    async fn waiting(&self, post: i64) -> Result<i64, CacheError> {
        Ok(self.cache.get(&key(post)).await?.unwrap_or(0))
    }

    async fn show(&self, when: &str) -> Done {
        let in_sqlite: i64 = query_scalar("SELECT sum(views) FROM post").fetch_one(&self.db).await?;
        let mut waiting = 0;
        for post in POSTS {
            waiting += self.waiting(post).await?;
        }
        let (views, writes) = (in_sqlite + waiting, WRITES.load(Relaxed));
        println!("{when:<17} {views:>7} {in_sqlite:>12} {waiting:>10} {writes:>8}");
        Ok(())
    }
}

fn key(post: i64) -> String {
    format!("view_counter:{post}")
}

#[tokio::main]
async fn main() -> Done {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    let cache = cache_aside::global()?;
    cache.delete_pattern("view_counter:*").await?; // a server may remember the last run
    let views = Views { cache, db: database().await?, carrying: Arc::default() };

    println!("                    views    in SQLite    waiting   writes");
    let mut viewers = JoinSet::new();
    for _ in 0..VIEWERS {
        let views = views.clone();
        viewers.spawn(async move {
            for post in POSTS.repeat(21) {
                views.count(post).await?;
            }
            Done::Ok(())
        });
    }
    while let Some(viewer) = viewers.join_next().await {
        viewer??;
    }
    views.show("before the stop").await?;
    views.stop().await?; // in a server: after its graceful shutdown, so nobody counts any more
    views.show("after the stop").await?;
    views.cache.delete_pattern("view_counter:*").await?; // an example leaves nothing behind
    Ok(())
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql(
        "CREATE TABLE post (id INTEGER PRIMARY KEY, views INTEGER); INSERT INTO post VALUES (1, 0), (2, 0), (3, 0)",
    )
    .execute(&db)
    .await?;
    Ok(db)
}
