//! `codec = "msgpack"`: whatever stores or reads a value of such a function does it as MessagePack, and none of
//! it is ever taken for the JSON of others, or theirs for it.

mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use cache_aside::{Cache, Job, WriteBehind, cache, cache_invalidate, cache_put};
use serde::{Deserialize, Serialize};
use support::server::{Kind, Server};
use support::{embedded, secs};

/// Its keys are what JSON can't write: whatever goes through that is never a hit.
type Board = BTreeMap<(u8, u8), u64>;

struct World {
    cache: Cache,
    loads: AtomicU64,
    is_down: AtomicBool,
    server: Option<Server>,
}

/// On the embedded store and on both servers.
fn worlds() -> Vec<World> {
    let on = |kind| {
        let server = Server::of(kind).start();
        let cache = Cache::builder().store_budget(secs(10)).redis(server.url()).build().unwrap();
        World::new(cache, Some(server))
    };
    vec![World::new(embedded(), None), on(Kind::Redis), on(Kind::Valkey)]
}

impl World {
    fn new(cache: Cache, server: Option<Server>) -> Self {
        Self { cache, loads: AtomicU64::new(0), is_down: AtomicBool::new(false), server }
    }

    fn board(&self) -> Board {
        of(self.loads.fetch_add(1, SeqCst) + 1)
    }

    fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }
}

#[cache(ttl = 600, key = "board:{id}", codec = "msgpack", pending = "boards", cache = &world.cache)]
async fn board(world: &World, id: u64) -> Board {
    let _ = id;
    world.board()
}

fn number(board: &Board) -> u64 {
    board[&(1, 2)]
}

fn of(number: u64) -> Board {
    BTreeMap::from([((1, 2), number)])
}

#[tokio::test]
async fn a_load_and_what_is_put_by_hand() {
    for world in worlds() {
        let get = async || number(&board(&world, 1).await);
        assert_eq!((get().await, get().await, world.loads()), (1, 1, 1));
        board::put_cache(&world, 1, &of(50)).await.unwrap();
        assert_eq!((get().await, world.loads()), (50, 1));
        assert_eq!(board::cached(&world, 1).await.unwrap(), Some(of(50)));
        assert_eq!(world.cache.get::<Board>("board:1").await.unwrap(), Some(of(50)));
        let many = world.cache.get_many::<Board>(&["board:1", "board:2"]).await.unwrap();
        assert_eq!(many, [Some(of(50)), None]);
        assert_eq!(number(&board::refresh_cache(&world, 1).await), 2);
        assert_eq!((get().await, world.loads()), (2, 2));
        assert!(board::clear_cache(&world, 1).await.unwrap());
        assert_eq!((get().await, world.loads()), (3, 3));
        if let Some(server) = &world.server {
            assert_eq!(server.command(&["GETRANGE", "board:1", "29", "29"]), "\u{1}");
        }
    }
}

#[cache_put(board(world, id))]
async fn write(world: &World, id: u64, number: u64) -> Result<Board, String> {
    if number == 0 { Err("nothing".to_owned()) } else { Ok(of(number)) }
}

#[tokio::test]
async fn what_a_writer_returned() {
    for world in worlds() {
        write(&world, 1, 70).await.unwrap();
        assert_eq!((number(&board(&world, 1).await), world.loads()), (70, 0));
        write(&world, 1, 0).await.unwrap_err();
        until_forgotten(&world, 1).await;
    }
}

/// The entry of a put that failed goes in the background.
async fn until_forgotten(world: &World, id: u64) {
    while number(&board(world, id).await) == 70 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_queued() {
    for world in worlds() {
        let writes = WriteBehind::queue("boards").cache(&world.cache).build().unwrap();
        writes.put(board::cache_entry(&world, 1, &of(90)).unwrap()).send("write", 1, &()).await.unwrap();
        assert_eq!((number(&board(&world, 1).await), world.loads()), (90, 0));
        for hits in 1..3 {
            assert!(board::clear_cache(&world, 1).await.unwrap());
            assert_eq!((number(&board(&world, 1).await), world.loads()), (90, 0), "the queue's copy");
            assert_eq!(world.cache.stats().pending_hits, hits);
            assert_eq!((number(&board(&world, 1).await), world.loads()), (90, 0), "which was stored");
        }
        let nothing = async |_: Job<()>, ()| Ok::<_, Infallible>(());
        assert_eq!(writes.workers(()).handle("write", nothing).run_until(async {}).await.unwrap(), 0);
        assert_eq!(number(&board(&world, 1).await), 1);
    }
}

#[cache(ttl = 600, key = "near:{id}", codec = "msgpack", near = true, tags = ["n:{id}", "first:{value.0}"], cache = &world.cache)]
async fn near(world: &World, id: u64) -> (u64, Board) {
    (id, world.board())
}

#[cache_invalidate(tags = ["first:{id}"], cache = &world.cache)]
async fn touch(world: &World, id: u64) {
    let _ = (world, id);
}

#[tokio::test]
async fn with_tags_behind_it_and_kept_in_the_process() {
    for world in worlds() {
        near(&world, 1).await;
        while world.cache.stats().near_hits == 0 {
            assert_eq!(near(&world, 1).await, (1, of(1)));
            tokio::task::yield_now().await;
        }
        assert_eq!(world.loads(), 1);
        touch(&world, 1).await;
        assert_eq!((near(&world, 1).await, world.loads()), ((1, of(2)), 2));
        assert_eq!(world.cache.get::<(u64, Board)>("near:1").await.unwrap(), Some((1, of(2))));
    }
}

#[cache(ttl = 600, key = "aged:{id}", codec = "msgpack", stale_if_error = "1h", refresh_ahead = "1m", cache = cache)]
async fn aged(cache: &Cache, id: u64) -> Result<Board, u64> {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    let _ = cache;
    match LOADS.fetch_add(1, SeqCst) {
        0 => Ok(of(id)),
        1 => Ok(of(id + 1)),
        load => Err(load),
    }
}

#[tokio::test]
async fn renewed_ahead_and_past_its_life() {
    let cache = embedded();
    assert_eq!(aged(&cache, 1).await.map(|board| number(&board)), Ok(1));
    cache.expire("aged:1", secs(3600 + 30)).await.unwrap();
    assert_eq!(aged(&cache, 1).await.map(|board| number(&board)), Ok(1));
    while aged(&cache, 1).await.map(|board| number(&board)) == Ok(1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(aged(&cache, 1).await.map(|board| number(&board)), Ok(2));
    cache.expire("aged:1", secs(1800)).await.unwrap();
    assert_eq!(aged(&cache, 1).await.map(|board| number(&board)), Ok(2), "the load fails");
    assert_eq!(cache.stats().stale_served, 1);
}

#[cache(ttl = 600, key = "maybe:{id}", codec = "msgpack", cache = &world.cache)]
async fn maybe(world: &World, id: u64) -> Result<Option<Option<()>>, String> {
    world.loads.fetch_add(1, SeqCst);
    match id {
        0 => Ok(None),
        1 => Ok(Some(None)),
        2 => Ok(Some(Some(()))),
        _ if world.is_down.load(SeqCst) => Err("down".to_owned()),
        _ => Ok(None),
    }
}

#[tokio::test]
async fn a_none_and_an_error() {
    for world in worlds() {
        for (id, value) in [(0, None), (1, Some(None))] {
            for _ in 0..2 {
                assert_eq!(maybe(&world, id).await, Ok(value));
            }
            assert_eq!(maybe::cached(&world, id).await.unwrap(), Some(Ok(value)));
        }
        assert_eq!(world.loads(), 2);
        world.is_down.store(true, SeqCst);
        maybe(&world, 3).await.unwrap_err();
        world.is_down.store(false, SeqCst);
        assert_eq!(maybe(&world, 3).await, Ok(None));
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    #[serde(default)]
    name: String,
}

#[cache(ttl = 600, key = "user:{id}", codec = "msgpack", cache = &world.cache)]
async fn user(world: &World, id: u64) -> Option<User> {
    world.loads.fetch_add(1, SeqCst);
    Some(User { id, name: "loaded".to_owned() })
}

#[tokio::test]
async fn plain_json_is_a_hit_as_ever() {
    for world in worlds() {
        world.cache.set("user:1", &serde_json::json!({"id": 1, "more": []}), secs(60)).await.unwrap();
        assert_eq!(user(&world, 1).await, Some(User { id: 1, name: String::new() }));
        world.cache.set("user:2", &(), secs(60)).await.unwrap();
        assert_eq!(user(&world, 2).await, None);
        assert_eq!((world.loads(), world.cache.stats().plain_hits), (0, 2));
        // Numbers are texts, not the bytes of MessagePack.
        world.cache.set("maybe:7", "x", secs(60)).await.unwrap();
        assert_eq!((maybe(&world, 7).await, world.loads()), (Ok(None), 1));
        assert_eq!(world.cache.get::<String>("maybe:7").await.unwrap().as_deref(), Some("x"), "left alone");
    }
}

/// A program without the feature is told by the header, and so is one that is older than the codec.
#[tokio::test]
async fn a_codec_that_is_unknown_is_a_miss() {
    for world in worlds() {
        let Some(server) = &world.server else { continue };
        user(&world, 1).await;
        server.command(&["SETRANGE", "user:1", "29", "\u{7}"]);
        assert_eq!(user::cached(&world, 1).await.unwrap(), None);
        assert_eq!(world.cache.get::<User>("user:1").await.unwrap(), None);
        user(&world, 1).await;
        assert_eq!(world.loads(), 2);
        user(&world, 1).await;
        assert_eq!(world.loads(), 2, "it was replaced");
        // Of a newer version it is left alone.
        for (at, byte) in [("29", "\u{7}"), ("30", "\u{1}")] {
            server.command(&["SETRANGE", "user:1", at, byte]);
        }
        for loads in 3..5 {
            user(&world, 1).await;
            assert_eq!(world.loads(), loads);
        }
        assert_eq!(server.command(&["GETRANGE", "user:1", "29", "29"]), "\u{7}");
    }
}

/// A value that its codec can't write.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

#[cache(ttl = 600, key = "stubborn:{id}", codec = "msgpack", cache = &world.cache)]
async fn stubborn(world: &World, id: u64) -> Vec<Stubborn> {
    world.loads.fetch_add(1, SeqCst);
    vec![Stubborn; usize::try_from(id).unwrap()]
}

#[cache(ttl = 600, key = "long:{id}", codec = "msgpack", cache = cache)]
async fn long(cache: &Cache, id: u64) -> String {
    let _ = cache;
    "x".repeat(usize::try_from(id).unwrap())
}

#[tokio::test]
async fn what_can_not_be_stored_is_its_callers_all_the_same() {
    let world = World::new(embedded(), None);
    for _ in 0..2 {
        assert_eq!(stubborn(&world, 1).await, [Stubborn]);
    }
    assert_eq!((world.loads(), stubborn::cache_stats().fills_refused), (2, 2));
    let error = stubborn::put_cache(&world, 1, &vec![Stubborn]).await.unwrap_err();
    assert!(matches!(error, cache_aside::CacheError::Serialize(_)), "{error}");

    let cache = Cache::builder().value_size(100).build().unwrap();
    for (length, is_stored) in [(90, true), (200, false)] {
        assert_eq!(long(&cache, length).await.len(), usize::try_from(length).unwrap());
        assert_eq!(long::cached(&cache, length).await.unwrap().is_some(), is_stored);
    }
    let error = long::put_cache(&cache, 200, &"x".repeat(200)).await.unwrap_err();
    assert!(matches!(error, cache_aside::CacheError::ValueTooLarge { max: 100 }), "{error}");
}
