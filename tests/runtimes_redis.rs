//! Runtimes that end or stand still while they own the connection: their threads aren't held, no other
//! runtime loses the server, and nothing that was to be forgotten is read (SPEC 3.2; I5, I7, I11).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use cache_aside::{Cache, CacheError, cache_invalidate};
use sample::{World, patient};
use support::server::{Kind, Server};
use support::{Loads, ms, secs};
use tokio::runtime::{Builder, Runtime};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

type Make = fn() -> Runtime;

const MAKES: [(&str, Make); 2] = [("current thread", current_thread), ("threads", multi_thread)];

/// Runs `work` in a thread of its own, so that one that hangs fails.
#[track_caller]
fn ends(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(secs(10)) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("{what}: its end hangs"),
        Err(RecvTimeoutError::Disconnected) => resume_unwind(thread.join().unwrap_err()),
    }
}

/// A runtime that made the connection.
fn connected(make: fn() -> Runtime, cache: &Cache) -> Runtime {
    let runtime = make();
    runtime.block_on(async { cache.ping().await.unwrap() });
    runtime
}

/// Lets what was spawned run into its wait.
fn run_a_little(runtime: &Runtime) {
    runtime.block_on(async { tokio::time::sleep(ms(100)).await });
}

/// Never ends by itself.
#[cache_invalidate("row:{id}", cache = cache)]
async fn write_for_ever(cache: &Cache, id: u64) {
    std::future::pending::<()>().await;
}

#[test]
fn a_runtime_may_end_in_the_middle_of_a_load() {
    for (kind, (name, make)) in BOTH.into_iter().zip(MAKES) {
        let server = Server::of(kind).start();
        let cache = patient(&server.url()).build().unwrap();
        let loads = Arc::new(Loads::new());
        ends(name, {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            move || {
                let runtime = connected(make, &cache);
                for key in ["a", "b", "c"] {
                    let (cache, loads) = (cache.clone(), Arc::clone(&loads));
                    runtime.spawn(async move {
                        cache.get_or_set(key, secs(60), || loads.load(secs(3600))).await.unwrap()
                    });
                }
                run_a_little(&runtime);
                drop(runtime);
            }
        });
        assert_eq!(loads.count(), 3);
        let begun = Instant::now();
        current_thread().block_on(async {
            for key in ["a", "b", "c"] {
                cache.get_or_set(key, secs(60), || loads.load(ms(0))).await.unwrap();
            }
        });
        assert_eq!(loads.count(), 6);
        assert!(begun.elapsed() < secs(2), "{name}: nobody waits for a dead lease: {:?}", begun.elapsed());
    }
}

#[test]
fn a_runtime_may_end_in_the_middle_of_a_writer() {
    for (name, make) in MAKES {
        let server = Server::redis().start();
        let world = Arc::new(World::new(patient(&server.url()).build().unwrap()));
        ends(name, {
            let world = Arc::clone(&world);
            move || {
                let runtime = connected(make, &world.cache);
                runtime.block_on(async {
                    world.check(1).await;
                    world.until_hit(1).await;
                });
                let cache = world.cache.clone();
                runtime.spawn(async move { write_for_ever(&cache, 1).await });
                run_a_little(&runtime);
                drop(runtime);
            }
        });
        // The writer may have written before it was dropped.
        world.touch(1);
        multi_thread().block_on(async {
            world.check(1).await;
            world.until_hit(1).await;
        });
        assert_eq!(world.cache.pending_invalidations(), 0, "{name}");
    }
}

/// As a test or a program ends that doesn't wait for its tasks.
#[test]
fn a_runtime_may_end_with_the_connection_under_way() {
    for (name, make) in MAKES {
        ends(name, move || {
            let server = Server::redis().start();
            let cache = patient(&server.url()).build().unwrap();
            for _ in 0..20 {
                let runtime = make();
                for n in 0..4 {
                    let cache = cache.clone();
                    runtime.spawn(async move {
                        cache.get_or_set(&format!("k:{n}"), secs(60), || async { n }).await
                    });
                }
                runtime.block_on(tokio::task::yield_now());
                runtime.shutdown_background();
            }
            let runtime = current_thread();
            assert_eq!(runtime.block_on(cache.get_or_set("k:0", secs(60), || async { 0 })).unwrap(), 0);
            runtime.block_on(cache.ping()).unwrap();
        });
    }
}

/// As with tests that run side by side and share the global cache. What slips into a connection in the
/// very moment of its end isn't answered; its budget ends it.
#[test]
fn a_runtime_that_ends_costs_the_others_no_error() {
    let server = Server::redis().start();
    let unanswered = AtomicU64::new(0);
    for round in 0..100 {
        let cache = patient(&server.url()).store_budget(ms(500)).build().unwrap();
        let owner = connected(multi_thread, &cache);
        let has_ended = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                let runtime = current_thread();
                let mut once_more = true;
                while once_more {
                    once_more = !has_ended.load(Relaxed);
                    match runtime.block_on(cache.get::<u8>("k")) {
                        Ok(None) => {}
                        Err(CacheError::Timeout(_)) => drop(unanswered.fetch_add(1, Relaxed)),
                        odd => panic!("round {round}: {odd:?}"),
                    }
                }
            });
            thread::sleep(ms(2));
            drop(owner);
            has_ended.store(true, Relaxed);
        });
    }
    let unanswered = unanswered.into_inner();
    assert!(unanswered <= 5, "{unanswered} of 100");
}

/// A runtime that is there for `block_on` now and then: a synchronous facade, a helper of tests.
#[test]
fn a_runtime_that_is_no_longer_polled_keeps_the_server_from_nobody() {
    let server = Server::redis().start();
    let world = World::new(Cache::builder().redis(server.url()).build().unwrap());
    let idle = connected(current_thread, &world.cache);
    let busy = current_thread();
    let begun = Instant::now();
    busy.block_on(async {
        world.check(1).await;
        world.until_hit(1).await;
    });
    println!("a hit after {:?}", begun.elapsed());
    assert!(begun.elapsed() < secs(8), "{:?}", begun.elapsed());
    // Polled again, it uses the connection of the other, and doesn't take it away.
    for _ in 0..10 {
        thread::scope(|threads| {
            threads.spawn(|| idle.block_on(world.check(1)));
            busy.block_on(world.check(1));
        });
    }
    let before = world.loads();
    busy.block_on(async {
        for _ in 0..100 {
            world.check(1).await;
        }
    });
    assert_eq!(world.loads(), before, "the server is used");
    // Two at most, and the bench's.
    let connections = server.command(&["CLIENT", "LIST"]).lines().count();
    assert!(connections <= 3, "{connections} connections");
}

/// The invalidation that a standing runtime keeps is carried out by the one that goes on.
#[test]
fn a_runtime_that_is_no_longer_polled_keeps_no_invalidation_to_itself() {
    let server = Server::redis().start();
    let world = World::new(patient(&server.url()).store_budget(ms(150)).build().unwrap());
    let idle = connected(current_thread, &world.cache);
    idle.block_on(async {
        world.check(1).await;
        world.until_hit(1).await;
        server.freeze();
        sample::write(&world, 1).await;
    });
    assert_eq!(world.cache.pending_invalidations(), 1);
    server.thaw();
    multi_thread().block_on(async {
        world.check(1).await;
        world.until_hit(1).await;
    });
    assert_eq!(world.cache.pending_invalidations(), 0);
    drop(idle);
}
