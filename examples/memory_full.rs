//! A full server: what calls do when it takes no more, how `delete_pattern` makes room, and what eviction
//! does instead.
//!
//! It fills a `redis-server` of its own, which it starts and ends: never one that is there already.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cache_aside::{Cache, CacheError, Ttl, cache, get_redis, redis};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{query_scalar, raw_sql};

const HOUR: Duration = Duration::from_secs(3600);

#[cache(ttl = "1h", key = "page:{id}")]
async fn page(db: &SqlitePool, id: i64) -> sqlx::Result<String> {
    query_scalar("SELECT text || ? FROM page").bind(id).fetch_one(db).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start()?;
    // Patient, so that the counts are right however slow the server is.
    cache_aside::init(Cache::builder().redis(server.url()).store_budget(Duration::from_secs(10))).await?;
    let cache = cache_aside::global()?;
    let db = database().await?;

    println!("maxmemory 8mb, noeviction               calls   errors   hits   loads");
    read(&db, "pages 1 to 50", 1).await;
    read(&db, "the same again", 1).await;
    let written = fill(&cache, usize::MAX).await?;
    println!("{written} keys old_data:* are written, then the server refuses");
    read(&db, "the same again", 1).await;
    read(&db, "pages 51 to 100", 51).await;
    read(&db, "the same again", 51).await;
    println!("{} keys old_data:* are deleted", cache.delete_pattern("old_data:*").await?);
    read(&db, "pages 51 to 100", 51).await;
    read(&db, "the same again", 51).await;

    // Now the server makes room itself: what was used least recently goes, whoever it belongs to.
    let mut redis = get_redis().await?;
    let mut set = redis::cmd("CONFIG");
    let () = set.arg(&["SET", "maxmemory-policy", "allkeys-lru"]).query_async(&mut redis).await?;
    println!("maxmemory 8mb, allkeys-lru              calls   errors   hits   loads");
    let twice = 2 * written;
    let written = fill(&cache, twice).await?;
    let stats: redis::InfoDict = redis::cmd("INFO").arg("stats").query_async(&mut redis).await?;
    let evicted: u64 = stats.get("evicted_keys").unwrap_or_default();
    println!("{written} of {twice} keys old_data:* are written, and {evicted} keys evicted");
    read(&db, "pages 1 to 50", 1).await;
    println!("{} keys old_data:* are deleted", cache.delete_pattern("old_data:*").await?);
    read(&db, "pages 1 to 50", 1).await;
    read(&db, "the same again", 1).await;
    cache_aside::close_redis().await;
    Ok(())
}

/// Old data until the server refuses, or so many; how many were taken.
async fn fill(cache: &Cache, most: usize) -> Result<usize, CacheError> {
    let text = "x".repeat(10_000);
    for n in 0..most {
        match cache.set(&format!("old_data:{n}"), &text, Ttl::After(HOUR)).await {
            Err(CacheError::Server(why)) if why.starts_with("OOM") => return Ok(n),
            other => other?,
        }
    }
    Ok(most)
}

/// Fifty calls, and what became of them.
async fn read(db: &SqlitePool, what: &str, from: i64) {
    let before = page::cache_stats();
    let mut errors = 0;
    for id in from..from + 50 {
        errors += u64::from(page(db, id).await.is_err());
    }
    let now = page::cache_stats();
    let (hits, loads) = (now.hits - before.hits, now.loads - before.loads);
    println!("  {what:<37} {:>5} {errors:>8} {hits:>6} {loads:>7}", 50);
}

/// A server on a socket, so it needs no port.
struct Server {
    keeper: Child,
    socket: PathBuf,
}

impl Server {
    fn start() -> Result<Self, Box<dyn Error>> {
        let program = std::env::var("CACHE_ASIDE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        if Command::new(&program).arg("--version").output().is_err() {
            return Err(format!("`{program}` isn't here: install Redis, 7 or later").into());
        }
        let socket = std::env::temp_dir().join(format!("cache-aside-{}.sock", std::process::id()));
        // The shell ends the server when our end of its input closes, however this program ends.
        let keeper = Command::new("sh")
            .args(["-c", r#"trap "" INT; "$@" >&2 & read -r _; kill $!; wait"#, "keeper", &program])
            .args(["--port", "0", "--save", "", "--maxmemory", "8mb", "--maxmemory-policy", "noeviction"])
            .args(["--logfile", "/dev/null", "--unixsocketperm", "700", "--unixsocket"])
            .arg(&socket)
            .stdin(Stdio::piped())
            .spawn()?;
        let server = Self { keeper, socket };
        for _ in 0..1000 {
            if UnixStream::connect(&server.socket).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("`{program}` doesn't answer").into())
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// In memory, so one connection: another would have a database of its own.
async fn database() -> sqlx::Result<SqlitePool> {
    let db = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    raw_sql("CREATE TABLE page AS SELECT hex(zeroblob(5000)) AS text").execute(&db).await?;
    Ok(db)
}
