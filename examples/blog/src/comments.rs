//! Comments: each write is two, so they are transactions.

use cache_aside::{cache, cache_invalidate, deferred};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, query, query_as};

use crate::db::{self, Db, Tx};
use crate::error::{Error, Result};
use crate::posts;

#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
pub(crate) struct Comment {
    pub(crate) id: i64,
    pub(crate) author: String,
    pub(crate) text: String,
    pub(crate) written: String,
}

/// Not `near`: what changes often would only push others' copies out.
#[cache(ttl = "10m", key = "blog:comments:{post}", when = db.cached)]
pub(crate) async fn comments_on(db: &Db, post: i64) -> sqlx::Result<Vec<Comment>> {
    let select = "SELECT id, author, text, written FROM comments WHERE post = ? ORDER BY id LIMIT 500";
    query_as(select).bind(post).fetch_all(db.query()).await
}

/// The comment and the number of comments, or neither. What both invalidate is collected, and forgotten
/// after the commit: before it, the next reader would store the old rows again.
pub(crate) async fn comment(db: &Db, author: &str, id: i64, by: &str, text: &str) -> Result<()> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 2_000 {
        return Err(Error::Invalid("A comment has 1 to 2,000 characters."));
    }
    let mut tx = db.begin().await?;
    let work = deferred(async {
        add(&mut tx, author, id, by, text).await?;
        posts::count_comments(&mut tx, author, id).await
    })
    .await;
    db::end(tx, work).await
}

#[cache_invalidate(comments_on(id))]
async fn add(tx: &mut Tx, author: &str, id: i64, by: &str, text: &str) -> Result<()> {
    let insert =
        "INSERT INTO comments (post, author, text) SELECT id, ?, ? FROM posts WHERE id = ? AND author = ?";
    let done = query(insert).bind(by).bind(text).bind(id).bind(author).execute(tx).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// All of this author's, under whatever posts they are. Part of something larger: see
/// [`authors`](crate::authors).
pub(crate) async fn remove_by(tx: &mut Tx, by: &str) -> Result<()> {
    let select = "SELECT DISTINCT posts.author, posts.id FROM comments JOIN posts ON posts.id = post
                  WHERE comments.author = ?";
    let under: Vec<(String, i64)> = query_as(select).bind(by).fetch_all(&mut *tx).await?;
    query("DELETE FROM comments WHERE author = ?").bind(by).execute(&mut *tx).await?;
    for (author, id) in under {
        changed(tx, &author, id).await?;
    }
    Ok(())
}

#[cache_invalidate(comments_on(id))]
async fn changed(tx: &mut Tx, author: &str, id: i64) -> Result<()> {
    posts::count_comments(tx, author, id).await
}
