//! What `send` has taken is applied, in order per key, and the last one wins, whoever is killed or stands still
//! meanwhile (I20): producers, workers and readers in processes of their own, a real server that is killed
//! and comes back, and SQLite.
//!
//! Runs for 20 s per server; `CACHE_ASIDE_WRITES_SECONDS` says for how long.

mod check;
#[cfg(test)]
mod check_tests;
mod db;
mod members;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Mutex, PoisonError};

use check::{History, Nature, Rules};
use members::{ATTEMPTS, Usage};
use scene::{Fault, Scene};
use support::fleet::{self, report};
use support::secs;
use support::server::{Builder, Server};

/// One at a time: they share two cores.
static TURN: Mutex<()> = Mutex::new(());

fn seconds(default: u64) -> u64 {
    let name = "CACHE_ASIDE_WRITES_SECONDS";
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Processes that run `test` with these faults, and what came of it, and what is wrong with that.
fn watch(
    test: &'static str,
    server: Builder,
    usage: Usage,
    faults: &[Fault],
    time: u64,
) -> (History, Vec<String>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut scene = Scene::open(test, server, usage);
    scene.torment(faults, secs(time), !usage.cached);
    let history = scene.close();
    report(format_args!(
        "{test}: {} taken, {} handed over, {} of them again, {} dead letters, {} reads; {}",
        history.acks.len(),
        history.handed.len(),
        history.repeated(),
        history.letters.len(),
        history.read_count(),
        history.note,
    ));
    let wrong = history.judge(Rules { attempts: ATTEMPTS, coalesced: usage.cached });
    (history, wrong)
}

/// The same, and all of it must be right.
fn check(test: &'static str, server: Builder, usage: Usage, faults: &[Fault], time: u64) -> History {
    let (history, wrong) = watch(test, server, usage, faults, time);
    assert!(wrong.is_empty(), "{} faults: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    let least = 100 * usize::try_from(time).expect("a moment");
    assert!(history.count(Nature::Good) > least, "it checked something");
    assert!(history.repeated() > 0, "something was handed over again");
    history
}

/// What remembers, at what price.
fn with_aof(server: Builder, fsync: &str) -> Builder {
    server.config("appendonly", "yes").config("appendfsync", fsync)
}

/// All that has to happen to poison.
fn poisoned(history: &History) {
    for nature in [Nature::Undecodable, Nature::Failing, Nature::Deadly] {
        assert!(history.count(nature) > 0, "no {nature:?}");
    }
}

#[test]
fn redis_that_writes_before_it_answers() {
    if fleet::is_member() {
        return members::run();
    }
    let (test, server) = ("redis_that_writes_before_it_answers", with_aof(Server::redis(), "always"));
    let usage = Usage { synced: false, cached: false, pending: false };
    poisoned(&check(test, server, usage, &Fault::ALL, seconds(20)));
}

#[test]
fn valkey_that_is_asked_to_write() {
    if fleet::is_member() {
        return members::run();
    }
    let (test, server) = ("valkey_that_is_asked_to_write", with_aof(Server::valkey(), "everysec"));
    let usage = Usage { synced: true, cached: false, pending: false };
    poisoned(&check(test, server, usage, &Fault::ALL, seconds(20)));
}

#[test]
fn readers_never_see_the_old_row() {
    if fleet::is_member() {
        return members::run();
    }
    let usage = Usage { synced: false, cached: true, pending: true };
    let time = seconds(10);
    let history = check("readers_never_see_the_old_row", Server::redis(), usage, &Fault::OF_READERS, time);
    assert!(history.read_count() > 500 * usize::try_from(time).expect("a moment"), "it read something");
}

/// What `pending` is for; were it not so, the test above would show nothing.
#[test]
fn without_a_look_at_the_queue_they_do() {
    if fleet::is_member() {
        return members::run();
    }
    let usage = Usage { synced: false, cached: true, pending: false };
    let run =
        || watch("without_a_look_at_the_queue_they_do", Server::redis(), usage, &Fault::OF_READERS, 3).1;
    let stale = (0..5).map(|_| run()).find(|wrong| wrong.iter().any(|wrong| wrong.starts_with("stale")));
    assert!(stale.is_some(), "the checker is blind");
}
