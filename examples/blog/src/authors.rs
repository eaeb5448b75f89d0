//! Authors: who may log in, and what the others see of them.

use cache_aside::{cache, cache_invalidate, cache_put, deferred};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, query, query_as, query_scalar};

use crate::comments;
use crate::db::{self, Db, Tx};
use crate::error::{Error, Result};
use crate::passwords;

/// What all may see. The password's hash is never cached: `password_of` asks the database.
#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
pub(crate) struct Author {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) joined: String,
}

#[cache(ttl = "1h", none_ttl = "1m", key = "blog:author:{name}", tags = ["author:{name}"], near = true, when = db.cached)]
pub(crate) async fn get_author(db: &Db, name: &str) -> sqlx::Result<Option<Author>> {
    let select = "SELECT name, about, joined FROM authors WHERE name = ?";
    query_as(select).bind(name).fetch_optional(db.query()).await
}

/// Somebody may have looked for this name before it was taken: `None` is cached, too.
#[cache_invalidate(get_author(name))]
pub(crate) async fn join(db: &Db, name: &str, password: &str) -> Result<()> {
    check_name(name)?;
    let hash = passwords::hash(password).await?;
    let insert = query("INSERT INTO authors (name, password) VALUES (?, ?)").bind(name).bind(hash);
    match insert.execute(db.query()).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Err(Error::Invalid("This name is taken."))
        }
        done => Ok(done.map(drop)?),
    }
}

/// Who logs in with these. Unknown names take as long as wrong passwords.
pub(crate) async fn verify(db: &Db, name: &str, password: &str) -> Result<bool> {
    let hash: Option<String> = query_scalar("SELECT password FROM authors WHERE name = ?")
        .bind(name)
        .fetch_optional(db.query())
        .await?;
    passwords::verify(password, hash).await
}

/// Write-through: what the statement returns is the next hit.
#[cache_put(get_author(name))]
pub(crate) async fn describe(db: &Db, name: &str, about: &str) -> Result<Option<Author>> {
    let about = about.trim();
    if about.chars().count() > 500 {
        return Err(Error::Invalid("That is longer than 500 characters."));
    }
    let update = "UPDATE authors SET about = ? WHERE name = ? RETURNING name, about, joined";
    Ok(query_as(update).bind(about).bind(name).fetch_optional(db.query()).await?)
}

/// All of this author goes: posts with what is under them, comments under others' posts. Gives the numbers
/// of the posts.
pub(crate) async fn leave(db: &Db, name: &str) -> Result<Vec<i64>> {
    let mut tx = db.begin().await?;
    let work = deferred(async {
        comments::remove_by(&mut tx, name).await?;
        remove(&mut tx, name).await
    })
    .await;
    db::end(tx, work).await
}

/// One tag, however many posts and lists there are.
#[cache_invalidate(tags = ["author:{name}", "lists"])]
async fn remove(tx: &mut Tx, name: &str) -> Result<Vec<i64>> {
    let posts = query_scalar("SELECT id FROM posts WHERE author = ?").bind(name).fetch_all(&mut *tx).await?;
    query("DELETE FROM authors WHERE name = ?").bind(name).execute(tx).await?;
    Ok(posts)
}

/// Names stand in addresses.
fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (2..=30).contains(&name.len()) && name.chars().all(good) {
        return Ok(());
    }
    Err(Error::Invalid("A name has 2 to 30 characters: a to z, 0 to 9 and -."))
}
