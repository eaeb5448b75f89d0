//! Values that are kept in the process, while the connection that tells of changes, the server or the
//! process has a fault: who invalidates reads the new value at once (I1, I3), and nobody else gets an old
//! one for longer than `near_staleness` after the invalidation returned Ok (I4).
//!
//! A read counts by when it began, an invalidation by when its Ok was written down, both on the clock that
//! all processes share: what a busy machine delays only makes the judge milder.
//!
//! A failover may undo what its replica didn't know (I19). Where there is one, an invalidation is judged
//! once `WAIT` has confirmed it; so those that were lost aren't, and replication is none of a read's delay.
//!
//! `CACHE_ASIDE_SEED` repeats the choices of a run: who does what when is again the machine's.

#[path = "../freshness/history.rs"]
mod history;
mod naive;
mod ordinary;
mod ours;
mod scene;
#[path = "../support/mod.rs"]
mod support;
#[path = "../freshness/truth.rs"]
mod truth;
#[path = "../freshness/worker.rs"]
mod worker;

use std::future::Future;
use std::time::Duration;

use history::{History, Verdict};
use naive::{Flaw, Naive};
use ours::{DELTA, Ours};
use scene::{Cast, Scene};
use support::fleet::{self, report};
use support::proxy::{Aim, Half};
use support::secs;
use support::server::Kind;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// What tells of changes alone, while invalidations and other reads go on; or all that goes this way.
const AIMS: [Aim; 2] = [Aim::Tracking, Aim::All];

/// How often a fault comes.
const ROUNDS: usize = 2;

/// The process of a member.
fn member(day: impl Future) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("it starts");
    runtime.block_on(day);
    // A load that nobody waits for any more isn't waited for.
    runtime.shutdown_background();
}

/// Two processes that run `test`, and what is done to them; what came of it.
fn watch(test: &'static str, cast: Cast, mut torment: impl FnMut(&mut Scene)) -> Verdict {
    let seed =
        std::env::var("CACHE_ASIDE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut scene = Scene::open(test, cast, seed);
    torment(&mut scene);
    let (_folder, files) = scene.close();
    let mut history = History::default();
    for file in &files {
        history.add(file);
    }
    let (counts, lags) = (history.counts(), history.lags(|_| true));
    let verdict = history.judge(|_| DELTA);
    let Verdict { reads, stale, invalidations, .. } = &verdict;
    report(format_args!(
        "{test}, {:?}, CACHE_ASIDE_SEED={seed}: {reads} reads checked, {stale} stale, {invalidations} \
         invalidations; after others' {lags}; {counts}",
        cast.kind
    ));
    verdict
}

/// Nothing is too old, whatever `torment` does to these, and near hits come back each time.
fn holds(test: &'static str, casts: &[Cast], mut torment: impl FnMut(&mut Scene)) {
    if fleet::is_member() {
        return member(worker::run(Ours::of_member()));
    }
    for cast in casts {
        let verdict = watch(test, *cast, |scene| {
            scene.until_near_hits([0, 1]);
            for _ in 0..ROUNDS {
                scene.pass(DELTA);
                torment(scene);
                scene.until_near_hits([0, 1]);
            }
        });
        assert_eq!(verdict.stale, 0, "{:#?}", verdict.examples);
        assert!(verdict.counted["near_hits"] > 0 && verdict.invalidations > 0, "{verdict:?}");
    }
}

/// A fault lasts for less than Delta, or for longer.
const LONG: Duration = DELTA.saturating_mul(2);

#[test]
fn though_it_is_told_late() {
    holds("though_it_is_told_late", &[Cast::of(Kind::Redis)], |scene| {
        for aim in AIMS {
            for _ in 0..3 {
                let delay = scene.moment(DELTA * 3 / 2);
                scene.delay(aim, delay);
                scene.pass(LONG);
            }
            scene.delay(aim, Duration::ZERO);
        }
    });
}

#[test]
fn though_the_connection_is_cut() {
    holds("though_the_connection_is_cut", &[Cast::of(Kind::Redis)], |scene| {
        for aim in AIMS {
            scene.hurt(aim, |scene| {
                for _ in 0..3 {
                    scene.cut(aim);
                    scene.pass(DELTA / 2);
                }
            });
        }
    });
}

#[test]
fn though_one_direction_is_dead() {
    holds("though_one_direction_is_dead", &[Cast::of(Kind::Redis)], |scene| {
        for aim in AIMS {
            for half in [Half::Requests, Half::Replies] {
                black_hole(scene, aim, half);
            }
        }
    });
}

#[test]
fn though_both_directions_are_dead() {
    holds("though_both_directions_are_dead", &[Cast::of(Kind::Redis)], |scene| {
        for aim in AIMS {
            black_hole(scene, aim, Half::Both);
        }
    });
}

/// All that is on a long way when it begins is lost, also what signs of life that came don't know of.
fn black_hole(scene: &mut Scene, aim: Aim, half: Half) {
    scene.delay(aim, DELTA / 2);
    std::thread::sleep(DELTA);
    scene.pass(DELTA);
    scene.hurt(aim, |scene| {
        scene.swallow(half);
        std::thread::sleep(DELTA / 2);
        scene.pass(LONG);
    });
}

#[test]
fn though_the_server_stands_still() {
    holds("though_the_server_stands_still", &BOTH.map(Cast::of), |scene| {
        scene.cache.freeze();
        scene.pass(LONG);
        scene.cache.thaw();
    });
}

#[test]
fn though_the_process_stands_still() {
    holds("though_the_process_stands_still", &[Cast::of(Kind::Redis)], |scene| {
        for number in [0, 1] {
            let time = scene.moment(LONG);
            scene.members[number].freeze_for(time);
        }
    });
}

#[test]
fn though_another_server_becomes_the_primary() {
    let casts = BOTH.map(|kind| Cast { has_replica: true, ..Cast::of(kind) });
    holds("though_another_server_becomes_the_primary", &casts, Scene::fail_over);
}

#[test]
fn though_everything_is_flushed() {
    holds("though_everything_is_flushed", &BOTH.map(Cast::of), |scene| {
        for _ in 0..5 {
            scene.flush_all();
            scene.pass(DELTA / 2);
        }
    });
}

#[test]
fn though_the_server_remembers_few_keys() {
    let casts = BOTH.map(|kind| Cast { config: ("tracking-table-max-keys", "10"), ..Cast::of(kind) });
    holds("though_the_server_remembers_few_keys", &casts, |scene| scene.pass(LONG));
}

#[test]
fn what_others_see_when_nothing_is_wrong() {
    const TEST: &str = "what_others_see_when_nothing_is_wrong";
    if fleet::is_member() {
        return member(ordinary::run());
    }
    for kind in BOTH {
        let verdict = watch(TEST, Cast::of(kind), |scene| {
            scene.until_near_hits([1]);
            std::thread::sleep(secs(1));
        });
        assert_eq!(verdict.stale, 0, "{:#?}", verdict.examples);
    }
}

/// Whether the client of this test is found to give old values; if not at once, then in a later round.
fn is_caught(test: &'static str, rounds: usize) -> bool {
    (0..rounds).any(|_| watch(test, Cast::of(Kind::Redis), |_| std::thread::sleep(secs(1))).stale > 0)
}

#[test]
fn the_least_client_that_is_right_passes() {
    if fleet::is_member() {
        return member(worker::run(Naive::with(Flaw::None)));
    }
    assert!(!is_caught("the_least_client_that_is_right_passes", 1), "the checker is wrong");
}

#[test]
fn to_keep_for_too_long_is_caught() {
    if fleet::is_member() {
        return member(worker::run(Naive::with(Flaw::TooLong)));
    }
    assert!(is_caught("to_keep_for_too_long_is_caught", 5), "the checker is blind");
}

#[test]
fn to_keep_what_one_wrote_oneself_is_caught() {
    if fleet::is_member() {
        return member(worker::run(Naive::with(Flaw::OwnKept)));
    }
    assert!(is_caught("to_keep_what_one_wrote_oneself_is_caught", 5), "the checker is blind");
}
