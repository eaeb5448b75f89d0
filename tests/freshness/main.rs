//! No read returns a version older than one whose invalidation had returned Ok before the read began,
//! and no stale value answers to a load that failed after its invalidation had returned Ok (I1 to I3, I10,
//! I14, I18): processes, a real server, and everything that goes wrong in production.
//!
//! Runs for 20 s; `CACHE_ASIDE_FRESHNESS_SECONDS` says for how long. `CACHE_ASIDE_SEED` repeats the
//! choices of a run: who does what when is again the machine's, so a race may need some runs.

mod chaos;
mod fenced;
mod history;
mod naive;
mod ours;
#[path = "../support/mod.rs"]
mod support;
mod truth;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chaos::{Fault, Scene};
use fenced::Writers;
use history::{History, Verdict};
use naive::{Flaw, Naive};
use support::fleet::{self, report};
use support::secs;
use support::sentinel::Trio;
use support::server::Kind;
use worker::Subject;

/// One at a time: they share two cores.
static TURN: Mutex<()> = Mutex::new(());

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Processes that run `test` with these faults; what came of it.
fn watch(test: &'static str, processes: usize, faults: &[Fault], time: Duration) -> Verdict {
    watch_with(test, processes, None, faults, time, |_| Duration::ZERO)
}

/// The same, over other servers if their URL is given; reads of a key may be so much older than another process'
/// invalidation.
fn watch_with(
    test: &'static str,
    processes: usize,
    elsewhere: Option<&str>,
    faults: &[Fault],
    time: Duration,
    lag: impl Fn(usize) -> Duration,
) -> Verdict {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = setting("CACHE_ASIDE_SEED").unwrap_or_else(|| fastrand::u64(..));
    report(format_args!("{test}: {} s, CACHE_ASIDE_SEED={seed}", time.as_secs()));
    let mut scene = Scene::open(test, processes, seed, elsewhere);
    let done = scene.torment(faults, time);
    let (_folder, files) = scene.close();
    let mut history = History::default();
    for file in &files {
        history.add(file);
    }
    let counts = history.counts();
    let verdict = history.judge(lag);
    let Verdict { reads, stale, invalidations, .. } = &verdict;
    report(format_args!(
        "{test}: {reads} reads checked, {stale} stale, {invalidations} invalidations; {counts}; {done:?}"
    ));
    verdict
}

/// The process of a member.
fn member(subject: impl Subject) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("it starts");
    runtime.block_on(worker::run(subject));
    // A load that nobody waits for any more isn't waited for.
    runtime.shutdown_background();
}

#[test]
fn no_read_is_older_than_an_invalidation_before_it() {
    if fleet::is_member() {
        return member(ours::of_member());
    }
    let time = setting("CACHE_ASIDE_FRESHNESS_SECONDS").unwrap_or(20);
    let (test, how_long) = ("no_read_is_older_than_an_invalidation_before_it", Duration::from_secs(time));
    let verdict = watch_with(test, 4, None, &Fault::ALL, how_long, ours::lag);
    assert_eq!(verdict.stale, 0, "{:#?}", verdict.examples);
    assert!(verdict.reads > 200 * usize::try_from(time).unwrap(), "it checked something: {verdict:?}");
    for name in ["stale_served", "near_hits"] {
        assert!(verdict.counted[name] > 0, "{name}: {verdict:?}");
    }
}

/// A failover every few seconds, by command. Replication is asynchronous, so nothing is promised (I19), and this
/// runs by hand.
#[test]
#[ignore = "a measurement"]
fn what_failovers_undo() {
    if fleet::is_member() {
        return member(ours::of_member());
    }
    let time = setting("CACHE_ASIDE_FRESHNESS_SECONDS").unwrap_or(30);
    let (test, trio) = ("what_failovers_undo", Trio::start(Kind::Redis));
    let faults = [Fault::FreezeProcess, Fault::KillProcess];
    let (done, failovers) = (AtomicBool::new(false), AtomicU64::new(0));
    let verdict = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let old = trio.primary();
                trio.failover(&[]);
                trio.wait_for_another(old);
                failovers.fetch_add(1, SeqCst);
                trio.wait_until_ready();
                std::thread::sleep(secs(3));
            }
        });
        let verdict = watch_with(test, 4, Some(&trio.url()), &faults, Duration::from_secs(time), ours::lag);
        done.store(true, SeqCst);
        verdict
    });
    report(format_args!("{test}: {} failovers; {:#?}", failovers.load(SeqCst), verdict.examples));
    assert!(verdict.reads > 100 * usize::try_from(time).unwrap(), "it checked something: {verdict:?}");
    assert!(verdict.counted["near_hits"] > 0, "near too: {verdict:?}");
}

/// The mutants and their control run this short.
const SHORT: Duration = secs(3);

/// A client with a flaw must be found out, if not in the first round then in a later one.
fn caught(test: &'static str, faults: &[Fault]) {
    let stale = (0..5).map(|_| watch(test, 2, faults, SHORT).stale).find(|stale| *stale > 0);
    assert!(stale.is_some(), "the checker is blind");
}

#[test]
fn the_least_client_that_is_right_passes() {
    if fleet::is_member() {
        return member(Naive::of_member(Flaw::None));
    }
    let verdict = watch("the_least_client_that_is_right_passes", 2, &[], SHORT);
    assert_eq!(verdict.stale, 0, "{:#?}", verdict.examples);
}

#[test]
fn a_token_per_process_is_caught() {
    if fleet::is_member() {
        return member(Naive::of_member(Flaw::TokenPerProcess));
    }
    caught("a_token_per_process_is_caught", &[]);
}

#[test]
fn a_stale_answer_without_asking_is_caught() {
    if fleet::is_member() {
        return member(Naive::of_member(Flaw::StaleUnasked));
    }
    caught("a_stale_answer_without_asking_is_caught", &[]);
}

#[test]
fn a_fill_without_compare_is_caught() {
    if fleet::is_member() {
        return member(Naive::of_member(Flaw::FillWithoutCompare));
    }
    caught("a_fill_without_compare_is_caught", &[]);
}

/// Nothing that takes fences away.
const KILLS: [Fault; 1] = [Fault::KillProcess];

#[test]
fn a_killed_writer_with_a_fence_leaves_nothing_stale() {
    if fleet::is_member() {
        return member(Writers::of_member(true));
    }
    let verdict = watch("a_killed_writer_with_a_fence_leaves_nothing_stale", 2, &KILLS, SHORT);
    assert_eq!(verdict.stale, 0, "{:#?}", verdict.examples);
    assert!(verdict.counted["hits"] > 0, "something was cached: {verdict:?}");
}

#[test]
fn a_killed_writer_without_a_fence_is_caught() {
    if fleet::is_member() {
        return member(Writers::of_member(false));
    }
    caught("a_killed_writer_without_a_fence_is_caught", &KILLS);
}
