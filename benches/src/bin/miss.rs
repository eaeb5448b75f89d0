//! A miss on Redis: the time that it adds to the loader's own, and the round trips around it.
//!
//! ```text
//! cargo xtask bench miss [--rounds N]
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use benches::server::{Server, Work};
use benches::tasks::{self, Client, Tasks};
use benches::{Better, Cell, Chart, Column, Options, Report};
use cache_aside::{Settings, cache};
use cached::AsyncRedisCache;
use cached::macros::concurrent_cached;
use clap::Parser;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

/// Kept by `main`: what a static keeps is never dropped, and a server ends with its handle.
static SERVER: OnceLock<Weak<Server>> = OnceLock::new();
/// Whether the loader waits for a millisecond, as for a database.
static SLOW: AtomicBool = AtomicBool::new(false);
/// What the server had done when the loader began, if that is to be known.
static BEGUN: Mutex<Option<Work>> = Mutex::new(None);
static WATCHED: AtomicBool = AtomicBool::new(false);

const TTL: u64 = 600;

/// Some hundred bytes as JSON.
#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: u64,
    org: u64,
    name: String,
    email: String,
    /// Nanoseconds that its loader took.
    spent: u64,
}

async fn load(id: u64) -> User {
    let begun = Instant::now();
    if WATCHED.load(Relaxed) {
        *BEGUN.lock().expect("nobody panics") = Some(server().work());
    }
    if SLOW.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (name, email) = (format!("user number {id:04}"), format!("user{id:08}@example.com"));
    User { id, org: id % 100, name, email, spent: begun.elapsed().as_nanos() as u64 }
}

fn server() -> Arc<Server> {
    SERVER.get().and_then(Weak::upgrade).expect("main has started it")
}

/// A number that nobody has asked for.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

mod ours {
    use super::*;

    #[cache(ttl = 600)]
    pub async fn user(id: u64) -> User {
        load(id).await
    }

    #[cache(ttl = 600, tags = ["users"])]
    pub async fn labelled(id: u64) -> User {
        load(id).await
    }

    #[cache(ttl = 600, tags = ["org:{value.org}"])]
    pub async fn by_result(id: u64) -> User {
        load(id).await
    }
}

#[concurrent_cached(
    map_error = |error| format!("{error:?}"),
    ty = "AsyncRedisCache<u64, User>",
    create = r##"{
        let redis = AsyncRedisCache::builder("user").ttl(Duration::from_secs(TTL));
        redis.connection_string(&server().url()).build().await.expect("it answers")
    }"##
)]
async fn cached_user(id: u64) -> Result<User, String> {
    Ok(load(id).await)
}

/// What most people write.
async fn by_hand(mut redis: MultiplexedConnection, id: u64) -> User {
    let key = format!("by-hand:{id}");
    let stored: Option<String> = redis.get(&key).await.expect("it answers");
    if let Some(stored) = stored {
        return serde_json::from_str(&stored).expect("JSON");
    }
    let user = load(id).await;
    let json = serde_json::to_string(&user).expect("JSON");
    let _: () = redis.set_ex(&key, json, TTL).await.expect("it answers");
    user
}

/// The time without the loader's.
macro_rules! adds {
    ($name:expr, |$id:ident| $call:expr) => {
        Client::timing($name, move |_| {
            let $id = fresh();
            let call = $call;
            async move {
                let begun = Instant::now();
                let user: User = call.await;
                begun.elapsed().saturating_sub(Duration::from_nanos(user.spent))
            }
        })
    };
}

fn clients(runtime: &Runtime) -> Vec<Client> {
    let client = redis::Client::open(server().url()).expect("a URL");
    let redis = runtime.block_on(client.get_multiplexed_async_connection()).expect("it answers");
    let settings = Settings::from_vars([("REDIS_URL", server().url())]).expect("a URL");
    runtime.block_on(cache_aside::init(settings)).expect("it answers");
    vec![
        adds!("by hand: GET, load, SET EX", |id| by_hand(redis.clone(), id)),
        adds!("cached: #[concurrent_cached]", |id| async move { cached_user(id).await.expect("it answers") }),
        adds!("#[cache]", |id| ours::user(id)),
        adds!("#[cache(tags = [\"users\"])]", |id| ours::labelled(id)),
        adds!("#[cache(tags = [\"org:{value.org}\"])]", |id| ours::by_result(id)),
    ]
}

/// What one miss makes the server do, before the loader and after it.
fn around(runtime: &Runtime, client: &Client) -> [Work; 2] {
    // Connected, with all scripts loaded.
    runtime.block_on(client.once(0));
    WATCHED.store(true, Relaxed);
    let before = server().work();
    runtime.block_on(client.once(0));
    let after = server().work();
    WATCHED.store(false, Relaxed);
    let begun = BEGUN.lock().expect("nobody panics").take().expect("it was loaded");
    [begun.since(before), after.since(begun)]
}

fn main() {
    let options = Options::parse();
    let rounds = options.rounds(15);
    let server = Arc::new(Server::start());
    SERVER.set(Arc::downgrade(&server)).expect("it is set once");
    let runtime = tasks::runtime(1);
    let clients = clients(&runtime);
    let work: Vec<[Work; 2]> = clients.iter().map(|client| around(&runtime, client)).collect();
    let mut report = Report::new("A miss: the time it adds to the loader's").peers(&["cached", "redis"]);
    report = report.server(&server);
    for (title, slow) in [("a loader that waits 1 ms", true), ("a loader that takes nothing", false)] {
        SLOW.store(slow, Relaxed);
        let loads = [Tasks::latency(1), Tasks::latency(64)];
        let mut table = tasks::compare(title, &runtime, &clients, &loads, [0], rounds);
        table = table.chart(Chart::Bars(vec![0, 2]));
        if !slow {
            for (at, name) in ["round trips before", "after"].into_iter().enumerate() {
                let cells = work.iter().map(|work| Cell::just(work[at].reads as f64));
                table.extend(Column::new(name, "", Better::Lower), cells);
            }
            let cells =
                work.iter().map(|[before, after]| Cell::just((before.commands + after.commands) as f64));
            table.extend(Column::new("commands", "", Better::Lower), cells);
        }
        report.add(table);
    }
    report.note("one worker, keys that nobody asked for before; commands: also those that scripts give");
    report.finish(&options);
}
