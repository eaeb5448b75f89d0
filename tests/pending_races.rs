//! What comes between the steps of a reader who finds, or doesn't find, a queued write; and readers who can't
//! ask. Step by step, on a server.

mod support;

use std::convert::Infallible;
use std::pin::pin;

use cache_aside::{Cache, Expiry, Job, WriteBehind, cache};
use support::db::{Db, Down, age, until};
use support::proxy::Proxy;
use support::script::{Reply, Script};
use support::secs;
use support::server::Server;

const OLD: i64 = 7;
const NEW: i64 = 8;
/// What somebody writes past the queue.
const PAST: i64 = 9;
const NEWER: i64 = 10;

#[cache(ttl = 60, key = "row:{id}", pending = "writes", cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> i64 {
    db.load().await.unwrap()
}

#[cache(ttl = 60, key = "bare:{id}", cache = cache)]
async fn bare(cache: &Cache, db: &Db, id: u64) -> i64 {
    db.load().await.unwrap()
}

#[cache(ttl = 60, refresh_ahead = 20, key = "ahead", pending = "writes", cache = cache)]
async fn ahead(cache: &Cache, db: &Db) -> Result<i64, Down> {
    db.load().await
}

fn over(url: &str) -> Cache {
    Cache::builder().store_budget(secs(10)).redis(url).build().unwrap()
}

/// Who sends, invalidates and works, beside the readers.
struct Others {
    cache: Cache,
    writes: WriteBehind,
}

impl Others {
    fn of(server: &Server) -> Self {
        let cache = over(&server.url());
        let writes = WriteBehind::queue("writes").cache(&cache).build().unwrap();
        Self { cache, writes }
    }

    async fn send(&self, id: u64, new: i64) {
        let entry = row::cache_entry(&self.cache, id, &new).unwrap();
        self.writes.put(entry).send("set", id, &new).await.unwrap();
    }

    async fn clear(&self, id: u64) {
        row::clear_cache(&self.cache, id).await.unwrap();
    }

    /// Applies all that is queued to this row, which never goes back.
    async fn settle(&self, db: &Db) {
        let write = async |job: Job<i64>, db: Db| {
            db.write(db.load().await.unwrap_or_default().max(job.payload));
            Ok::<_, Infallible>(())
        };
        let workers = self.writes.workers(db.clone()).handle("set", write);
        assert_eq!(workers.run_until(async {}).await.unwrap(), 0);
    }
}

/// What there is when a reader comes: in no case an entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    NothingQueued,
    Queued,
    /// And somebody has written past the queue, and invalidated.
    Past,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    Append,
    AppendAndLoss,
    AppendAndSettling,
    Settling,
    Invalidation,
}

/// The server has answered so many commands, and the last of these answers is held.
async fn answered(proxy: &Proxy, commands: usize) {
    until("it is sent", async || proxy.seen.commands().len() == commands).await;
    proxy.wait_pending(1).await;
}

#[tokio::test]
async fn whatever_comes_between_the_steps_of_a_reader() {
    use Between::*;
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let (others, reader) = (Others::of(&server), over(&proxy.url()));
    // The server learns the scripts, so that each step is one command.
    row(&reader, &Db::new(None), 0).await;
    let mut id = 0;
    for start in [Start::NothingQueued, Start::Queued, Start::Past] {
        for between in [Nothing, Append, AppendAndLoss, AppendAndSettling, Settling, Invalidation] {
            // Its look, its lease, its question, its fill: so many have been answered.
            for step in 0..4 {
                id += 1;
                let (db, case) = (Db::new(None), (start, between, step));
                if start != Start::NothingQueued {
                    others.send(id, NEW).await;
                    others.clear(id).await;
                }
                if start == Start::Past {
                    db.write(PAST);
                    others.clear(id).await;
                }
                proxy.seen.reset();
                proxy.hold();
                let read = tokio::spawn({
                    let (reader, db) = (reader.clone(), db.clone());
                    async move { row(&reader, &db, id).await }
                });
                for command in 1..=step {
                    answered(&proxy, command).await;
                    proxy.release_one();
                }
                answered(&proxy, step + 1).await;
                let is_sent = matches!(between, Append | AppendAndLoss | AppendAndSettling);
                if is_sent {
                    others.send(id, NEWER).await;
                }
                match between {
                    AppendAndLoss | Invalidation => others.clear(id).await,
                    AppendAndSettling | Settling => others.settle(&db).await,
                    Nothing | Append => {}
                }
                proxy.release();
                let read = read.await.unwrap();
                let first = if start == Start::NothingQueued { OLD } else { NEW };
                assert!([first, NEWER, PAST].contains(&read), "{case:?}: read {read}");

                // Who asks now gets the last write that was acknowledged, or what was written past it.
                let last = match start {
                    _ if is_sent => NEWER,
                    Start::Past if between == Settling => PAST,
                    _ => first,
                };
                assert_eq!(row(&others.cache, &db, id).await, last, "{case:?}: then");
                others.clear(id).await;
                assert_eq!(row(&others.cache, &db, id).await, last, "{case:?}: and when it was lost");
                others.settle(&db).await;
                let last = if start == Start::Past { PAST.max(last) } else { last };
                assert_eq!(row(&others.cache, &db, id).await, last, "{case:?}: in the end");
            }
        }
    }
}

#[tokio::test]
async fn who_joins_between_the_question_and_the_load_does_not_get_the_old_row() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let (others, reader, db) = (Others::of(&server), over(&proxy.url()), Db::new(None));
    row(&reader, &db, 0).await;
    let before = (reader.stats().misses, db.loads());
    proxy.seen.reset();
    proxy.hold();
    let mut leader = pin!(row(&reader, &db, 1));
    for command in 1..=3 {
        tokio::select! {
            value = &mut leader => unreachable!("{value} after {command}"),
            () = answered(&proxy, command) => {}
        }
        // The last one is what its question found: nothing.
        if command < 3 {
            proxy.release_one();
        }
    }
    // From here on it isn't polled: it hasn't begun to load when the others come.
    others.send(1, NEW).await;
    others.clear(1).await;
    proxy.release();
    let follower = tokio::spawn({
        let (reader, db) = (reader.clone(), db.clone());
        async move { row(&reader, &db, 1).await }
    });
    until("it has joined", async || reader.stats().misses == before.0 + 2).await;
    assert_eq!(leader.await, OLD, "it asked before");
    assert_eq!(follower.await.unwrap(), NEW);
    assert_eq!(db.loads(), before.1 + 1);
}

/// In front of a server: nobody is told what is queued.
fn dumb(server: &Server) -> Script {
    Script::over(&server.url(), |words| match &*words[0] {
        "HGET" => Reply::Error("ERR not today"),
        _ => Reply::Default,
    })
}

#[tokio::test]
async fn where_the_queue_cannot_be_asked_nothing_is_stored() {
    let server = Server::redis().start();
    let (others, script, db) = (Others::of(&server), dumb(&server), Db::new(None));
    let reader = over(&script.url());
    others.send(1, NEW).await;
    assert_eq!(row(&reader, &db, 1).await, NEW, "a hit asks nothing");
    others.clear(1).await;
    for loads in 1..=3 {
        let value = match loads {
            3 => row::refresh_cache(&reader, &db, 1).await,
            _ => row(&reader, &db, 1).await,
        };
        assert_eq!((value, db.loads()), (OLD, loads));
        assert_eq!(row::cached(&others.cache, 1).await.unwrap(), None);
    }
    assert_eq!(bare(&reader, &db, 1).await, OLD);
    assert_eq!(bare::cached(&others.cache, 1).await.unwrap(), Some(OLD));
    assert_eq!(row(&others.cache, &db, 1).await, NEW);
}

#[tokio::test]
async fn a_background_refresh_that_cannot_ask_loads_nothing_and_gives_its_claim_back() {
    let server = Server::redis().start();
    let (others, script, db) = (Others::of(&server), dumb(&server), Db::new(None));
    let reader = over(&script.url());
    let entry = ahead::cache_entry(&others.cache, &NEW).unwrap();
    others.writes.put(entry).send("set", 1, &NEW).await.unwrap();
    age(&others.cache, "ahead", secs(10)).await;
    assert_eq!(ahead(&reader, &db).await, Ok(NEW));
    until("it was tried", async || reader.stats().store_errors == 1).await;
    // Others may claim it at once, and know more.
    let renewed = async || {
        assert_eq!(ahead(&others.cache, &db).await, Ok(NEW));
        matches!(others.cache.ttl("ahead").await.unwrap(), Expiry::In(left) if left > secs(50))
    };
    until("it is renewed", renewed).await;
    assert_eq!(db.loads(), 0);
}

#[tokio::test]
async fn it_costs_one_command_before_a_load_and_a_hit_nothing() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let (others, reader, db) = (Others::of(&server), over(&proxy.url()), Db::new(None));
    row(&reader, &db, 0).await;
    let commands = async |id: u64| {
        proxy.seen.reset();
        row(&reader, &db, id).await;
        proxy.seen.commands()
    };
    assert_eq!(commands(1).await, ["GET", "SET", "HGET", "EVALSHA"]);
    assert_eq!(commands(1).await, ["GET"]);
    others.send(1, NEW).await;
    assert_eq!(commands(1).await, ["GET"]);
    others.clear(1).await;
    assert_eq!(commands(1).await, ["GET", "SET", "HGET", "EVALSHA"]);
    proxy.seen.reset();
    bare(&reader, &db, 1).await;
    assert_eq!(proxy.seen.commands(), ["GET", "SET", "EVALSHA"]);
}
