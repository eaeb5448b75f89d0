//! What is cached, and the ways to it.

use std::sync::OnceLock;
use std::time::Duration;

use benches::server::Server;
use cache_aside::redis::aio::MultiplexedConnection;
use cache_aside::redis::{AsyncCommands, Client};
use cache_aside::{Cache, cache};
use cached::AsyncRedisCache;
use cached::macros::concurrent_cached;
use serde::{Deserialize, Serialize};

pub const LIFE: u64 = 3600;
pub const OURS: &str = "#[cache]";
pub const BY_HAND: &str = "GET and serde_json by hand";
pub const CACHED: &str = "cached: #[concurrent_cached] on Redis";

/// A hundred bytes as JSON, whatever its number.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    pub id: u64,
    pub name: String,
    pub email: String,
}

impl User {
    pub fn new(id: u64) -> Self {
        let id = id + 1_000_000;
        Self { id, name: format!("user number {id:016}"), email: format!("user{id:013}@example.com") }
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("JSON")
    }
}

#[cache(ttl = 3600, skip(cache), cache = cache)]
pub async fn user(cache: &Cache, id: u64) -> User {
    let _ = cache;
    User::new(id)
}

#[cache(ttl = 3600, near = true, skip(cache), cache = cache)]
pub async fn near_user(cache: &Cache, id: u64) -> User {
    let _ = cache;
    User::new(id)
}

#[cache(ttl = 3600, tags = ["users"], skip(cache), cache = cache)]
pub async fn user_of_all(cache: &Cache, id: u64) -> User {
    let _ = cache;
    User::new(id)
}

#[cache(ttl = 3600, tags = ["user:{id}"], skip(cache), cache = cache)]
pub async fn user_with_tag(cache: &Cache, id: u64) -> User {
    let _ = cache;
    User::new(id)
}

/// `cached` has one connection for a function, which lives on the runtime where it was first called: so each
/// place has a function of its own.
macro_rules! cached_users {
    ($($place:ident),*) => { $(
        pub mod $place {
            use super::*;

            static URL: OnceLock<String> = OnceLock::new();

            /// Where it stores.
            pub fn on(server: &Server) {
                URL.get_or_init(|| server.url());
            }

            #[concurrent_cached(
                map_error = |error| error.to_string(),
                ty = "AsyncRedisCache<u64, User>",
                create = {
                    let url = URL.get().expect("there is a server");
                    let builder = AsyncRedisCache::builder("user").ttl(Duration::from_secs(LIFE));
                    builder.connection_string(url).build().await.expect("it answers")
                }
            )]
            pub async fn user(id: u64) -> Result<User, String> {
                Ok(User::new(id))
            }
        }
    )* };
}
/// Of the first one, which `cached` doesn't tell.
pub const CACHED_KEY: &str = "cached-redis-store:user:0";

cached_users!(cached_by_one, cached_by_two, cached_entries);

pub fn key_by_hand(id: u64) -> String {
    format!("user:{id}")
}

/// As it stands in most programs that do it themselves.
pub async fn user_by_hand(mut redis: MultiplexedConnection, id: u64) -> User {
    let key = key_by_hand(id);
    let json: Option<String> = redis.get(&key).await.expect("it answers");
    if let Some(json) = json {
        return serde_json::from_str(&json).expect("JSON");
    }
    let user = User::new(id);
    let _: () = redis.set_ex(&key, user.json(), LIFE).await.expect("it answers");
    user
}

pub async fn connect(server: &Server) -> MultiplexedConnection {
    let client = Client::open(server.url()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("it answers")
}
