//! A service over SQLite: static methods, `skip(db)`, and a write that forgets what it changed.
//!
//! Every query is counted, once without the cache and once with it.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_aside::{Builder, Settings, cache, cache_invalidate};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: i64,
    name: String,
    city: String,
}

struct UserService;

impl UserService {
    /// The handle isn't part of the key: `skip(db)`.
    #[cache(ttl = "10m", key_prefix = "user_service", skip(db), helpers = "method")]
    async fn get_user_by_id(db: &Db, id: i64) -> rusqlite::Result<Option<User>> {
        db.query(move |sql| sql.query_row("SELECT * FROM user WHERE id = ?", [id], user).optional()).await
    }

    /// A `key` says all that counts, so `db` needs no `skip`.
    #[cache(ttl = "1m", key = "user_service:city:{city}", helpers = "method")]
    async fn list_by_city(db: &Db, city: &str) -> rusqlite::Result<Vec<User>> {
        let city = city.to_owned();
        db.query(move |sql| {
            let mut select = sql.prepare("SELECT * FROM user WHERE city = ? ORDER BY id")?;
            select.query_map([city], user)?.collect()
        })
        .await
    }

    /// Forgets what may hold the old name: all users by id, and the one city that the user lives in,
    /// which only the result knows. When the caller goes on, both are gone.
    #[cache_invalidate("user_service:get_user_by_id:*", "user_service:city:{value.city}")]
    async fn rename(db: &Db, id: i64, name: &str) -> rusqlite::Result<User> {
        let name = name.to_owned();
        db.query(move |sql| {
            sql.query_row("UPDATE user SET name = ? WHERE id = ? RETURNING *", (name, id), user)
        })
        .await
    }
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User { id: row.get("id")?, name: row.get("name")?, city: row.get("city")? })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Builder::from(Settings::load()?).store_budget(Duration::from_secs(10))).await?;
    cache_aside::global()?.delete_pattern("user_service:*").await?; // a server may remember the last run
    let db = Db::with_ten_users()?;

    for round in 0..100 {
        let id = round % 10;
        db.query(move |sql| sql.query_row("SELECT * FROM user WHERE id = ?", [id], user)).await?;
    }
    let without = db.take_count();

    for round in 0..100 {
        UserService::get_user_by_id(&db, round % 10).await?;
    }
    let with = db.take_count();
    println!("100 reads of 10 users: {without} queries without the cache, {with} with it");
    assert_eq!((without, with), (100, 10));

    UserService::get_user_by_id(&db, 404).await?;
    UserService::get_user_by_id(&db, 404).await?;
    let missing = db.take_count();
    println!("2 reads of a user who isn't there: {missing} query");
    assert_eq!(missing, 1);

    UserService::list_by_city(&db, "Bern").await?;
    UserService::list_by_city(&db, "Rome").await?;
    db.take_count();
    let renamed = UserService::rename(&db, 2, "Grace").await?;
    println!("renamed: {renamed:?}");
    assert_eq!(db.take_count(), 1);

    assert_eq!(UserService::get_user_by_id(&db, 2).await?.as_ref(), Some(&renamed));
    let in_bern = UserService::list_by_city(&db, "Bern").await?;
    assert!(in_bern.contains(&renamed), "{in_bern:?}");
    let fresh = db.take_count();
    UserService::list_by_city(&db, "Rome").await?;
    let untouched = db.take_count();
    println!("after it: {fresh} queries for the user and the list of Bern, {untouched} for the list of Rome");
    assert_eq!((fresh, untouched), (2, 0));

    assert!(UserService::get_user_by_id_clear_cache(2).await?);
    UserService::get_user_by_id(&db, 2).await?;
    println!("cleared by hand: {} query", db.take_count());

    let stats = UserService::get_user_by_id_cache_stats();
    println!("get_user_by_id: {} loads, {:.0} % hits", stats.loads, 100.0 * stats.hit_rate());
    assert_eq!((stats.loads, stats.hits), (13, 91));
    Ok(())
}

/// One connection, shared, and how often it was asked.
#[derive(Clone)]
struct Db {
    connection: Arc<Mutex<Connection>>,
    queries: Arc<AtomicU64>,
}

impl Db {
    fn with_ten_users() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch("CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT, city TEXT)")?;
        for id in 0..10 {
            let city = if id % 2 == 0 { "Bern" } else { "Rome" };
            connection.execute("INSERT INTO user VALUES (?, ?, ?)", (id, format!("user {id}"), city))?;
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)), queries: Arc::default() })
    }

    /// SQLite blocks, so it runs beside the runtime.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        self.queries.fetch_add(1, Relaxed);
        let connection = Arc::clone(&self.connection);
        let work = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await.expect("queries don't panic")
    }

    fn take_count(&self) -> u64 {
        self.queries.swap(0, Relaxed)
    }
}
