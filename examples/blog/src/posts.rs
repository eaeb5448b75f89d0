//! Posts: what is read often, and so cached, and what writes it.
//!
//! Two families of tags: `author:ada` is on all that is Ada's, `lists:ada` and `lists` on pages that name
//! several posts. So a write forgets what it changed, and nothing else.

use std::sync::Arc;

use cache_aside::{cache, cache_invalidate};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, query, query_as, query_scalar};

use crate::db::{Db, Tx};
use crate::error::{Error, Result};

/// How many posts are on a page.
const PAGE: u8 = 10;

#[derive(Debug, Serialize, Deserialize, FromRow)]
pub(crate) struct Post {
    pub(crate) id: i64,
    pub(crate) author: String,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) written: String,
    pub(crate) edited: Option<String>,
    pub(crate) comments: i64,
}

/// A post in a list.
#[derive(Debug, Serialize, Deserialize, FromRow)]
pub(crate) struct Summary {
    pub(crate) id: i64,
    pub(crate) author: String,
    pub(crate) title: String,
    pub(crate) excerpt: String,
    pub(crate) written: String,
    pub(crate) comments: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) posts: Vec<Summary>,
    pub(crate) more: bool,
}

/// What an author sends.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// A post that many read costs no round trip (`near`), and one that isn't there no query. Changes are
/// invalidated, so it may live long.
#[cache(ttl = "1h", none_ttl = "1m", key = "blog:post:{author}:{id}", tags = ["author:{author}"], near = true, when = db.cached)]
pub(crate) async fn get_post(db: &Db, author: &str, id: i64) -> sqlx::Result<Option<Arc<Post>>> {
    let select =
        "SELECT id, author, title, body, written, edited, comments FROM posts WHERE id = ? AND author = ?";
    let post = query_as(select).bind(id).bind(author).fetch_optional(db.query()).await?;
    Ok(post.map(Arc::new))
}

/// The front page: everybody asks for it, so it is renewed before it ends, and an old one is better than
/// none while the database fails.
#[cache(ttl = "1m", refresh_ahead = "20%", stale_if_error = "1h", key = "blog:recent:{page}", tags = ["lists"], near = true, when = db.cached)]
pub(crate) async fn recent(db: &Db, page: u32) -> sqlx::Result<Arc<Page>> {
    let select = "SELECT id, author, title, substr(body, 1, 280) AS excerpt, written, comments FROM posts
                  ORDER BY id DESC LIMIT ? OFFSET ?";
    let (limit, offset) = window(page);
    Ok(Page::of(query_as(select).bind(limit).bind(offset).fetch_all(db.query()).await?))
}

#[cache(ttl = "1h", jitter = "10%", key = "blog:by:{author}:{page}", tags = ["author:{author}", "lists:{author}"], near = true, when = db.cached)]
pub(crate) async fn posts_by(db: &Db, author: &str, page: u32) -> sqlx::Result<Arc<Page>> {
    let select = "SELECT id, author, title, substr(body, 1, 280) AS excerpt, written, comments FROM posts
                  WHERE author = ? ORDER BY id DESC LIMIT ? OFFSET ?";
    let (limit, offset) = window(page);
    Ok(Page::of(query_as(select).bind(author).bind(limit).bind(offset).fetch_all(db.query()).await?))
}

/// One statement needs no transaction. It forgets its own entry, too: somebody may have asked for this
/// number before there was such a post.
#[cache_invalidate(get_post(author, *value), tags = ["lists:{author}", "lists"])]
pub(crate) async fn publish(db: &Db, author: &str, draft: &Draft) -> Result<i64> {
    let (title, body) = draft.checked()?;
    let insert = "INSERT INTO posts (author, title, body) VALUES (?, ?, ?) RETURNING id";
    Ok(query_scalar(insert).bind(author).bind(title).bind(body).fetch_one(db.query()).await?)
}

#[cache_invalidate(get_post(author, id), tags = ["lists:{author}", "lists"])]
pub(crate) async fn edit(db: &Db, author: &str, id: i64, draft: &Draft) -> Result<()> {
    let (title, body) = draft.checked()?;
    let update = "UPDATE posts SET title = ?, body = ?, edited = strftime('%Y-%m-%dT%H:%M:%SZ')
                  WHERE id = ? AND author = ?";
    let done = query(update).bind(title).bind(body).bind(id).bind(author).execute(db.query()).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Its comments go with it.
#[cache_invalidate(get_post(author, id), tags = ["lists:{author}", "lists"])]
pub(crate) async fn delete(db: &Db, author: &str, id: i64) -> Result<()> {
    let delete = query("DELETE FROM posts WHERE id = ? AND author = ?").bind(id).bind(author);
    let done = delete.execute(db.query()).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// How many comments it has, after some were written or removed. Part of something larger: see
/// [`comments`](crate::comments).
#[cache_invalidate(get_post(author, id), tags = ["lists:{author}", "lists"])]
pub(crate) async fn count_comments(tx: &mut Tx, author: &str, id: i64) -> Result<()> {
    let update = "UPDATE posts SET comments = (SELECT count(*) FROM comments WHERE post = posts.id)
                  WHERE id = ? AND author = ?";
    let done = query(update).bind(id).bind(author).execute(tx).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// One more than a page shows, to know whether there are more.
fn window(page: u32) -> (i64, i64) {
    (i64::from(PAGE) + 1, i64::from(page) * i64::from(PAGE))
}

impl Page {
    fn of(mut posts: Vec<Summary>) -> Arc<Self> {
        let more = posts.len() > usize::from(PAGE);
        posts.truncate(PAGE.into());
        Arc::new(Self { posts, more })
    }
}

impl Draft {
    fn checked(&self) -> Result<(&str, &str)> {
        let (title, body) = (self.title.trim(), self.body.trim());
        match (title.chars().count(), body.chars().count()) {
            (0, _) => Err(Error::Invalid("A post needs a title.")),
            (201.., _) => Err(Error::Invalid("A title has at most 200 characters.")),
            (_, 0) => Err(Error::Invalid("A post needs a text.")),
            (_, 50_001..) => Err(Error::Invalid("A post has at most 50,000 characters.")),
            _ => Ok((title, body)),
        }
    }
}
