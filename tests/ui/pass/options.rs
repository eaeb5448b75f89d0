//! Every option in every form.

#![deny(warnings)]

use cache_aside::{Cache, CacheEntry, CacheError, cache, cache_invalidate};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    seconds: u64,
    tags: (u64, u64),
}

struct Db(std::cell::Cell<u8>);

const TTL: Duration = Duration::from_secs(5);

fn life(id: u64) -> Duration {
    Duration::from_secs(id)
}

fn user(id: u64) -> User {
    User { id, seconds: 9, tags: (1, 2) }
}

#[cache(ttl = 300, key_prefix = "user", jitter = 60, version = 2, codec = "json", single_flight = "process")]
async fn plain(id: u64) -> User {
    user(id)
}

#[cache(jitter = "10%", ttl = "1h30m", single_flight = "off", cache_none = false, codec = "msgpack",)]
async fn times(id: u64) -> Option<User> {
    Some(user(id))
}

#[cache(ttl = TTL, none_ttl = "250ms", jitter = "30s", single_flight = "fleet", cache_none = true)]
async fn constants(id: u64) -> Result<Option<User>, String> {
    Ok(Some(user(id)))
}

#[cache(ttl = life(id.len() as u64), none_ttl = life(3))]
async fn from_arguments(id: String) -> Option<String> {
    Some(id)
}

#[cache(ttl = |value| Duration::from_secs(value.seconds), unless = |value| value.tags.0 == 7)]
async fn from_the_result(id: u64) -> Result<User, Box<dyn std::error::Error + Send + Sync>> {
    Ok(user(id))
}

#[cache(none_ttl = |value| life(if value.is_none() { 1 } else { 2 }), unless = |value: &Option<User>| value.is_some())]
async fn from_a_none(id: u64) -> Option<User> {
    Some(user(id))
}

#[cache(when = id > 0 && !name.is_empty())]
async fn sometimes(id: u64, name: &str) -> u64 {
    id + name.len() as u64
}

#[cache(key = "u:{{x}}:{user.id}:{user.tags.1}:{name}")]
async fn by_template(user: User, name: &str, db: &Db) -> User {
    db.0.set(name.len() as u8);
    user
}

#[cache(key = "all")]
async fn by_constant(db: &Db) -> u8 {
    db.0.get()
}

#[cache(key_builder = |id, name| format!("{id}:{name}"))]
async fn by_closure(id: u64, name: &str, db: &Db) -> u64 {
    id + name.len() as u64 + u64::from(db.0.get())
}

#[cache(key_builder = |id: &u64| format!("typed:{id}:{name}"))]
async fn by_typed_closure(id: u64, name: String) -> u64 {
    id + name.len() as u64
}

#[cache(key_builder = || "nothing")]
async fn by_empty_closure(id: u64) -> u64 {
    id
}

#[cache(key_builder = |name| -> String { if name.is_empty() { return "none".to_owned(); } name.to_uppercase() })]
async fn by_block_closure(name: &str) -> usize {
    name.len()
}

fn build(id: &u64, name: &str) -> String {
    format!("{id}:{name}")
}

#[cache(key_builder = build, skip(db))]
async fn by_path(id: u64, name: &str, db: &Db) -> u64 {
    id + name.len() as u64 + u64::from(db.0.get())
}

#[cache(ttl = life(id), tags = ["org:{value.tags.0}"], pending = "user_writes")]
async fn pending(id: u64) -> Result<User, String> {
    Ok(user(id))
}

#[cache(cache = cache, skip(cache))]
async fn in_a_cache(id: u64, cache: &Cache) -> u64 {
    let _ = cache;
    id
}

#[cache(crate = ::cache_aside)]
async fn found_elsewhere(id: u64) -> u64 {
    id
}

mod elsewhere {
    pub use cache_aside::*;
}

#[cache(crate = crate::elsewhere)]
async fn found_here(id: u64) -> Vec<u64> {
    vec![id]
}

mod clash {}

#[cache(helpers = "none")]
async fn clash(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*")]
async fn glob(id: u64) {
    let _ = id;
}

#[cache_invalidate("user:{id}:{name}:*", "feed:[0-9]:{name}", on = "always", crate = ::cache_aside)]
#[cache_invalidate("other:{id}")]
async fn by_arguments(id: u64, name: String) -> Result<(), String> {
    drop(name);
    if id == 0 { Err("zero".to_owned()) } else { Ok(()) }
}

#[cache_invalidate("user:{value.id}:{name}", "{name}:{value.tags.0}", "user:{id}", cache = cache)]
async fn by_result(id: u64, name: String, cache: &Cache) -> Result<User, std::cell::Cell<u8>> {
    drop(name);
    let _ = cache;
    Ok(user(id))
}

#[cache_invalidate("user:*")]
async fn borrowed<'a, T: ?Sized + Sync>(text: &'a T, value: u64) -> &'a T {
    let _ = value;
    text
}

#[cache_invalidate("n:{value}")]
async fn generic<T: std::fmt::Display + Default>() -> T {
    T::default()
}

struct Service(u64);

impl Service {
    #[cache_invalidate("user:{self.0}:*")]
    async fn save(&mut self, id: u64) -> Option<u64> {
        self.0 = id;
        None?;
        Some(id)
    }
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() -> Result<(), CacheError> {
    let db = Db(std::cell::Cell::new(0));
    assert_eq!(plain(1).await, user(1));
    assert!(plain::cache_key(1)?.starts_with("user:plain:"));
    assert_eq!(times(1).await, Some(user(1)));
    assert_eq!(constants(1).await, Ok(Some(user(1))));
    assert_eq!(is_send(from_arguments("abc".to_owned())).await.as_deref(), Some("abc"));
    from_arguments::put_cache("abc".to_owned(), &Some("d".to_owned())).await?;
    assert_eq!(from_arguments("abc".to_owned()).await.as_deref(), Some("d"));
    assert_eq!(is_send(from_the_result(1)).await.ok(), Some(user(1)));
    from_the_result::put_cache(1, &user(2)).await?;
    assert_eq!(from_the_result(1).await.ok(), Some(user(2)));
    assert_eq!(from_a_none(1).await, Some(user(1)));
    assert_eq!(from_a_none::cached(1).await?, None);
    assert_eq!(sometimes(0, "").await, 0);
    assert_eq!(sometimes::cached(0, "").await?, None);
    assert_eq!(by_template(user(1), "a b", &db).await, user(1));
    assert_eq!(by_template::cache_key(user(1), "a b")?, "u:{x}:1:2:a%20b");
    assert_eq!(by_constant(&db).await, 3);
    assert!(by_constant::clear_cache().await?);
    assert_eq!(by_closure(1, "a", &db).await, 5);
    assert_eq!(by_closure::cache_key(1, "a")?, "1:a");
    assert_eq!(by_typed_closure(1, "a".to_owned()).await, 2);
    assert_eq!(by_typed_closure::cache_key(1, "a".to_owned())?, "typed:1:a");
    assert_eq!(by_empty_closure(1).await, 1);
    assert_eq!(by_block_closure("ab").await, 2);
    assert_eq!(by_block_closure::cache_key("")?, "none");
    assert_eq!(by_path(1, "a", &db).await, 5);
    assert_eq!(by_path::cache_key(1, "b")?, "1:b");
    assert_eq!(is_send(pending(1)).await, Ok(user(1)));
    let _: CacheEntry = pending::cache_entry(1, &user(2))?;
    let own = Cache::builder().memory(1 << 20).build()?;
    assert_eq!(is_send(in_a_cache(1, &own)).await, 1);
    assert!(in_a_cache::clear_cache(1, &own).await?);
    in_a_cache::clear_cache_all(&own).await?;
    assert_eq!(found_elsewhere(1).await + found_here(1).await[0] + clash(1).await, 3);

    is_send(glob(1)).await;
    assert_eq!(is_send(by_arguments(1, "a".to_owned())).await, Ok(()));
    assert_eq!(by_result(1, "a".to_owned(), &own).await, Ok(user(1)));
    assert_eq!(is_send(borrowed("a", 1)).await, "a");
    assert_eq!(is_send(generic::<u64>()).await, 0);
    assert_eq!(is_send(Service(1).save(2)).await, None);
    Ok(())
}
