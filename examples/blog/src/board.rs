//! The most read posts: with Redis a sorted set that all instances count in, else what SQLite knows, and what
//! this process hasn't told it yet.

use std::collections::HashMap;
use std::time::Duration;

use cache_aside::redis::{AsyncCommands, RedisError, pipe};
use cache_aside::{CacheError, RedisConnection, Settings, cache, get_redis};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, query_as, query_scalar};
use tokio::time::timeout;

use crate::db::Db;
use crate::views::Views;

/// How many posts are on it.
const PLACES: u8 = 5;

/// The pool hands out plain connections: how long to wait for a command is for whoever sends it. Somebody
/// waits for the page, nobody for what is told.
const ASKED: Duration = Duration::from_millis(200);
const TOLD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Board {
    /// The sorted set's key. Keys by hand have no namespace, so it is put in front here.
    key: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, FromRow)]
pub(crate) struct Place {
    pub(crate) author: String,
    pub(crate) id: i64,
    pub(crate) views: i64,
}

/// A board that is two seconds old is as good, and one caller looks for all.
#[cache(ttl = "2s", refresh_ahead = "50%", key = "blog:most_read", near = true, when = views.db().cached)]
pub(crate) async fn most_read(views: &Views) -> sqlx::Result<Vec<Place>> {
    match views.board().top().await {
        Some(places) => Ok(places),
        None => most_read_here(views).await,
    }
}

#[cache(ttl = "2s", key = "blog:views:{author}:{id}", near = true, when = views.db().cached)]
pub(crate) async fn views_of(views: &Views, author: &str, id: i64) -> sqlx::Result<i64> {
    if let Some(score) = views.board().score(author, id).await {
        return Ok(score);
    }
    let written: Option<i64> = query_scalar("SELECT views FROM posts WHERE id = ?")
        .bind(id)
        .fetch_optional(views.db().query())
        .await?;
    Ok(written.unwrap_or(0) + i64::from(views.unwritten_of(id)))
}

/// Those that SQLite thinks first, and those that it doesn't know all of: the others can't be among the first.
async fn most_read_here(views: &Views) -> sqlx::Result<Vec<Place>> {
    let unwritten = views.unwritten();
    let ids: serde_json::Value = unwritten.keys().copied().collect();
    let select = "SELECT author, id, views FROM posts WHERE id IN (SELECT value FROM json_each(?))
                  OR id IN (SELECT id FROM posts WHERE views > 0 ORDER BY views DESC LIMIT ?)";
    let mut places: Vec<Place> =
        query_as(select).bind(ids.to_string()).bind(PLACES).fetch_all(views.db().query()).await?;
    for place in &mut places {
        place.views += i64::from(unwritten.get(&place.id).copied().unwrap_or(0));
    }
    places.sort_by_key(|place| (-place.views, place.id));
    places.truncate(PLACES.into());
    Ok(places)
}

impl Board {
    /// Tells a server what SQLite knows: it may be new, or have lost it.
    pub(crate) async fn open(settings: &Settings, db: &Db) -> sqlx::Result<Self> {
        let key = settings.redis_url().map(|_| match settings.namespace() {
            Some(namespace) => format!("{namespace}:blog:board"),
            None => "blog:board".to_owned(),
        });
        let board = Self { key };
        if board.is_shared() {
            let known: Vec<Place> =
                query_as("SELECT author, id, views FROM posts WHERE views > 0").fetch_all(db.query()).await?;
            board.raise(&known).await;
        }
        Ok(board)
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.key.is_some()
    }

    /// `GT`: never less than it is, for others may have counted on.
    async fn raise(&self, known: &[Place]) {
        self.ask(TOLD, async |key, redis| {
            let mut pipe = pipe();
            for place in known {
                pipe.cmd("ZADD")
                    .arg(key)
                    .arg("GT")
                    .arg(place.views)
                    .arg(member(&place.author, place.id))
                    .ignore();
            }
            pipe.exec_async(redis).await
        })
        .await;
    }

    /// What can't be told is missing until the next start.
    pub(crate) async fn add(&self, counts: HashMap<(String, i64), u32>) {
        if counts.is_empty() {
            return;
        }
        self.ask(TOLD, async |key, redis| {
            let mut pipe = pipe();
            for ((author, id), views) in counts {
                pipe.zincr(key, member(&author, id), views).ignore();
            }
            pipe.exec_async(redis).await
        })
        .await;
    }

    pub(crate) async fn remove(&self, author: &str, ids: &[i64]) {
        let members: Vec<String> = ids.iter().map(|&id| member(author, id)).collect();
        if !members.is_empty() {
            self.ask(ASKED, async |key, redis| redis.zrem::<_, _, ()>(key, members).await).await;
        }
    }

    async fn score(&self, author: &str, id: i64) -> Option<i64> {
        self.ask(ASKED, async |key, redis| redis.zscore::<_, _, Option<i64>>(key, member(author, id)).await)
            .await?
    }

    async fn top(&self) -> Option<Vec<Place>> {
        let scores: Vec<(String, i64)> = self
            .ask(ASKED, async |key, redis| redis.zrevrange_withscores(key, 0, isize::from(PLACES) - 1).await)
            .await?;
        let place = |(member, views): (String, i64)| {
            let (author, id) = member.split_once('/')?;
            Some(Place { author: author.to_owned(), id: id.parse().ok()?, views })
        };
        Some(scores.into_iter().filter_map(place).collect())
    }

    /// `None` without a server, and if it doesn't answer: nobody waits for a board.
    async fn ask<T>(
        &self,
        patience: Duration,
        command: impl AsyncFnOnce(&str, &mut RedisConnection) -> Result<T, RedisError>,
    ) -> Option<T> {
        let key = self.key.as_deref()?;
        let answer = timeout(patience, async {
            let mut redis = get_redis().await.map_err(|error: CacheError| error.to_string())?;
            command(key, &mut redis).await.map_err(|error| error.to_string())
        });
        match answer.await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::warn!(error, "the board can't be reached");
                None
            }
            Err(_) => {
                tracing::warn!("the board doesn't answer");
                None
            }
        }
    }
}

fn member(author: &str, id: i64) -> String {
    format!("{author}/{id}")
}
