//! How often posts are viewed. A view is counted in the process, and SQLite hears of it with every
//! hundredth, and of the rest at a clean stop. What mustn't be lost isn't kept in a cache: that may forget.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::db::Db;
use crate::error::Result;

/// A handle: cloning it is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Views(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    board: Board,
    /// How many views of a post are written together.
    every: u32,
    counts: Mutex<Counts>,
    /// There is something to do for the writer.
    news: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// By post, those that SQLite doesn't know yet.
    unwritten: HashMap<i64, u32>,
    /// Posts of which there are enough.
    due: HashSet<i64>,
    /// By author and post, those that the board doesn't know yet.
    unranked: HashMap<(String, i64), u32>,
    stopped: bool,
}

impl Views {
    pub(crate) fn start(db: Db, board: Board, every: u32) -> (Self, Writer) {
        let shared = Shared { db, board, every, counts: Mutex::default(), news: Notify::new() };
        let views = Self(Arc::new(shared));
        let task = tokio::spawn(views.clone().write_until_stopped());
        (views.clone(), Writer { views, task })
    }

    /// Somebody looks at it. Waits for nothing.
    pub(crate) fn seen(&self, author: &str, post: i64) {
        let mut counts = self.counts();
        let unwritten = counts.unwritten.entry(post).or_default();
        *unwritten += 1;
        if unwritten.is_multiple_of(self.0.every) {
            counts.due.insert(post);
            self.0.news.notify_one();
        }
        if self.board().is_shared() {
            *counts.unranked.entry((author.to_owned(), post)).or_default() += 1;
            self.0.news.notify_one();
        }
    }

    /// What SQLite doesn't know yet of a post.
    pub(crate) fn unwritten_of(&self, post: i64) -> u32 {
        self.counts().unwritten.get(&post).copied().unwrap_or(0)
    }

    /// And of all.
    pub(crate) fn unwritten(&self) -> HashMap<i64, u32> {
        self.counts().unwritten.clone()
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    async fn write_until_stopped(self) -> Result<()> {
        loop {
            self.0.news.notified().await;
            let Work { due, unranked, last } = self.counts().take();
            let written = self.write(&due).await;
            self.board().add(unranked).await;
            match written {
                done if last => return done,
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(?error, "views weren't written; they still count");
                    self.counts().due.extend(due.keys());
                }
            }
        }
    }

    /// All or none, so that nothing counts twice.
    async fn write(&self, due: &HashMap<i64, u32>) -> Result<()> {
        if due.is_empty() {
            return Ok(());
        }
        let mut tx = self.db().begin().await?;
        for (post, views) in due {
            let update = sqlx::query("UPDATE posts SET views = views + ? WHERE id = ?");
            update.bind(views).bind(post).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        let mut counts = self.counts();
        for (post, views) in due {
            if let Some(left) = counts.unwritten.get_mut(post) {
                *left -= views;
            }
        }
        counts.unwritten.retain(|_, left| *left > 0);
        Ok(())
    }

    /// A plain mutex: it is never held across an await.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer has to do next.
struct Work {
    due: HashMap<i64, u32>,
    unranked: HashMap<(String, i64), u32>,
    last: bool,
}

impl Counts {
    fn take(&mut self) -> Work {
        let due = mem::take(&mut self.due);
        let due = if self.stopped {
            self.unwritten.clone()
        } else {
            due.into_iter()
                .filter_map(|post| self.unwritten.get_key_value(&post))
                .map(|(p, n)| (*p, *n))
                .collect()
        };
        Work { due, unranked: mem::take(&mut self.unranked), last: self.stopped }
    }
}

/// The one task that writes what was counted.
#[derive(Debug)]
pub(crate) struct Writer {
    views: Views,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    /// Writes all that is left. By now no request is under way.
    pub(crate) async fn stop(self) -> Result<()> {
        self.views.counts().stopped = true;
        self.views.0.news.notify_one();
        self.task.await.expect("the writer doesn't panic")
    }
}
