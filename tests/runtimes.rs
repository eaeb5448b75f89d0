//! One global cache for every runtime of the process, and another within a scope (SPEC 3.2; I5, I7).
//!
//! The global cache is the environment's: with `REDIS_URL` set, this runs on that server.

mod support;

use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cache_aside::{Cache, CacheManager, Ttl, cache, cache_invalidate, global};
use support::server::{Kind, Server};
use support::{Loads, embedded, ms, secs};
use tokio::runtime::{Builder, Runtime};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn the_global_cache_outlives_the_runtime_that_first_used_it() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, key_prefix = "runtimes_outlive")]
    async fn get(id: u64) -> u64 {
        LOADS.load(ms(1)).await + id
    }
    current_thread().block_on(async { get::clear_cache_all().await.unwrap() });
    for runtime in [current_thread(), multi_thread(), current_thread(), multi_thread()] {
        assert_eq!(runtime.block_on(get(10)), 11);
        drop(runtime);
    }
    assert_eq!(LOADS.count(), 1);
    let runtime = current_thread();
    assert!(runtime.block_on(get::clear_cache(10)).unwrap());
    assert_eq!(multi_thread().block_on(get(10)), 12);
}

#[test]
fn two_runtimes_at_once_share_one_load() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, key_prefix = "runtimes_share")]
    async fn get(id: u64) -> u64 {
        LOADS.load(ms(200)).await + id
    }
    current_thread().block_on(async { get::clear_cache_all().await.unwrap() });
    let begin = Barrier::new(2);
    std::thread::scope(|threads| {
        for runtime in [current_thread(), multi_thread()] {
            let begin = &begin;
            threads.spawn(move || {
                begin.wait();
                assert_eq!(runtime.block_on(get(1)), 2);
            });
        }
    });
    assert_eq!(LOADS.count(), 1);
}

#[test]
fn a_load_that_ends_with_its_runtime_is_taken_over_in_another() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, key_prefix = "runtimes_take_over")]
    async fn get(id: u64) -> u64 {
        let load = LOADS.load(ms(0)).await;
        tokio::time::sleep(if load == 1 { secs(3600) } else { ms(1) }).await;
        load + id
    }
    current_thread().block_on(async { get::clear_cache_all().await.unwrap() });
    let dying = multi_thread();
    dying.spawn(get(0));
    while LOADS.count() == 0 {
        std::thread::sleep(ms(1));
    }
    let follower = std::thread::spawn(|| {
        let begun = Instant::now();
        (current_thread().block_on(get(0)), begun.elapsed())
    });
    std::thread::sleep(ms(100));
    dying.shutdown_background();
    let (value, waited) = follower.join().unwrap();
    assert_eq!(value, 2);
    assert!(waited < secs(2), "nobody waits for the lease of the dead: {waited:?}");
}

#[test]
fn futures_are_send_and_borrow_what_they_like() {
    struct Db(String);
    #[cache(ttl = 60, skip(db))]
    async fn get(
        db: &Db,
        names: &[&str],
        id: u64,
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        tokio::task::yield_now().await;
        Ok(names.iter().map(|name| format!("{}:{name}:{id}", db.0)).collect())
    }
    #[cache_invalidate("send:{name}")]
    async fn write(name: &str) -> usize {
        tokio::task::yield_now().await;
        name.len()
    }
    let runtime = multi_thread();
    runtime.block_on(async {
        let cache = embedded();
        let tasks = (0..100_u64).map(|id| {
            let cache = cache.clone();
            tokio::spawn(Cache::scope(cache, async move {
                let db = Db("db".to_owned());
                let names = [String::from("a"), String::from("b")];
                let got = get(&db, &[&names[0], &names[1]], id % 7).await.unwrap();
                assert_eq!(got, [format!("db:a:{}", id % 7), format!("db:b:{}", id % 7)]);
                assert_eq!(write(&names[0]).await, 1);
                get::refresh_cache(&db, &["a", "b"], id % 7).await.unwrap();
                get::clear_cache(&["a", "b"], id % 7).await.unwrap();
            }))
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_scope_is_the_global_cache_of_its_future_alone() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60, key = "scoped:{id}")]
    async fn get(id: u64) -> u64 {
        LOADS.load(ms(0)).await + id
    }
    let (outer, inner) = (embedded(), embedded());
    let values = Cache::scope(outer.clone(), async {
        let first = get(0).await;
        let nested = Cache::scope(inner.clone(), async { get(0).await }).await;
        let spawned = tokio::spawn(async { global().unwrap().exists("scoped:0").await });
        let is_outside = !spawned.await.unwrap().unwrap();
        assert!(is_outside, "what is spawned is outside");
        (first, nested, get(0).await)
    })
    .await;
    assert_eq!(values, (1, 2, 1));
    assert!(outer.exists("scoped:0").await.unwrap() && inner.exists("scoped:0").await.unwrap());
    let manager = CacheManager::new("scoped", Ttl::Default);
    assert_eq!(Cache::scope(inner, async { manager.get::<u64>("0").await.unwrap() }).await, Some(2));
}

#[test]
fn without_a_runtime_hits_and_loads_that_do_not_wait_work() {
    static LOADS: Loads = Loads::new();
    #[cache(ttl = 60)]
    async fn get(id: u64) -> u64 {
        LOADS.load(Duration::ZERO).await + id
    }
    let ready = |id| {
        let mut call = pin!(Cache::scope(CACHE.with(Cache::clone), get(id)));
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing to wait for"),
        }
    };
    thread_local! {
        static CACHE: Cache = embedded();
    }
    assert_eq!((ready(1), ready(1), ready(2)), (2, 2, 4));
}

/// All of the above in a process whose environment names a server.
#[test]
fn a_server_is_for_every_runtime_too() {
    if std::env::var_os("REDIS_URL").is_some() {
        return;
    }
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::of(kind).start();
        let mut child = Command::new(std::env::current_exe().unwrap());
        // One after the other: each ends its runtimes, and so the connection of all.
        child.arg("--test-threads=1").env("REDIS_URL", server.url()).env_remove("CACHE_NAMESPACE");
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > secs(30) {
                child.kill().unwrap(); // it hangs, and what it said tells where
            }
            std::thread::sleep(ms(10));
        }
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{}", said.concat());
        assert!(server.command(&["KEYS", "*runtimes_share*"]).contains("runtimes_share"), "it was used");
    }
}
