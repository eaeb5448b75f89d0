//! No read is older than an invalidation that returned Ok before it began (I1 to I4), whatever happens to the
//! cluster meanwhile: processes with keys, tags, globs, fences and near values (`../freshness/`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::confirmed::{Confirmed, OneLook, acknowledged};
use crate::history::{History, Verdict, now};
use crate::scene::{Fault, Longest, inflict, three_and_three};
use crate::support::fleet::{self, Folder, Member, report, said};
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::{member, ours, seconds, turn, worker};

const PROCESSES: usize = 3;

/// When what was done.
struct Deed {
    fault: Fault,
    begun: u64,
    ended: u64,
}

fn watch(test: &'static str, kind: Kind, faults: &[Fault]) -> Verdict {
    let _turn = turn();
    let seed =
        std::env::var("CACHE_ASIDE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let (cluster, truth, folder) = (three_and_three(kind, true), Server::redis().start(), Folder::new());
    let ports: Vec<String> = cluster.nodes.iter().map(|node| node.port().to_string()).collect();
    let (server, truth_url, ports) = (cluster.url(), truth.url(), ports.join(" "));
    let files: Vec<_> = (0..PROCESSES).map(|number| folder.path().join(number.to_string())).collect();
    let mut members: Vec<Member> = files
        .iter()
        .map(|file| {
            let seed = rng.u64(..);
            let words: [(&str, &dyn std::fmt::Display); 4] =
                [("SERVER", &server), ("TRUTH", &truth_url), ("SEED", &seed), ("PORTS", &ports)];
            Member::start(test, file.clone(), &words)
        })
        .collect();
    let mut deeds = Vec::new();
    let begun = Instant::now();
    loop {
        for fault in faults.iter().copied() {
            std::thread::sleep(ms(rng.u64(300..800)));
            let begun = now();
            inflict(&cluster, fault, &mut rng);
            deeds.push(Deed { fault, begun, ended: now() });
        }
        if seconds().is_none_or(|time| begun.elapsed() >= time) {
            break;
        }
    }
    std::thread::sleep(ms(500));
    for member in &mut members {
        member.stop();
    }
    for member in &mut members {
        let status = member.end_within(secs(60)).expect("every read ends: a process hangs");
        assert!(status.success(), "a process failed: {status}");
    }
    let histories = |all: bool| {
        let mut history = History::default();
        for file in &files {
            history.add(file);
        }
        for file in files.iter().filter(|_| all) {
            history.add(&acknowledged(file));
        }
        history
    };
    let (history, all) = (histories(false), histories(true));
    let counts = history.counts();
    let (verdict, all) = (history.judge(ours::lag), all.judge(ours::lag));
    let Verdict { reads, stale, invalidations, .. } = &verdict;
    report(format_args!(
        "{test}, CACHE_ASIDE_SEED={seed}: {reads} reads checked, {stale} stale after {invalidations} confirmed \
         invalidations, {} after {} acknowledged ones; {counts}",
        all.stale,
        all.invalidations - invalidations,
    ));
    for line in pauses(&files, &deeds) {
        report(format_args!("{test}: {line}"));
    }
    verdict
}

/// Of each kind of fault: how long it lasted, the longest time in which a process had no answer to any read, and
/// the longest read.
fn pauses(files: &[PathBuf], deeds: &[Deed]) -> Vec<String> {
    let mut found: BTreeMap<Fault, [Longest; 3]> = BTreeMap::new();
    let of_process: Vec<Vec<(u64, u64)>> = files.iter().map(|file| reads(file)).collect();
    for Deed { fault, begun, ended } in deeds {
        let [lasted, pause, read] = found.entry(*fault).or_default();
        lasted.note(Duration::from_nanos(ended - begun));
        for reads in &of_process {
            let during = |(from, to): &&(u64, u64)| to > begun && from < ended;
            let reads: Vec<(u64, u64)> = reads.iter().filter(during).copied().collect();
            for pair in reads.windows(2) {
                pause.note(Duration::from_nanos(pair[1].1 - pair[0].1));
            }
            for (from, to) in reads {
                read.note(Duration::from_nanos(to - from));
            }
        }
    }
    let show = |(fault, [lasted, pause, read]): (Fault, [Longest; 3])| {
        format!(
            "{fault:?}: {:.1?} until all was well, {:.0?} without an answer, longest read {:.0?}",
            lasted.0, pause.0, read.0
        )
    };
    found.into_iter().map(show).collect()
}

/// When each read of a process began, and when it was answered, in the order of the answers.
fn reads(file: &Path) -> Vec<(u64, u64)> {
    let read = |line: &String| {
        let mut words = line.strip_prefix("r ")?.split(' ').skip(2).map(str::parse::<u64>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    };
    let mut reads: Vec<_> = said(file).iter().filter_map(read).collect();
    reads.sort_unstable_by_key(|(_, answered)| *answered);
    reads
}

fn holds(test: &'static str, kind: Kind) {
    if fleet::is_member() {
        return member(worker::run(Confirmed::of_member()));
    }
    let faults = if kind == Kind::Valkey { &Fault::OF_VALKEY[..] } else { &Fault::ALL };
    let verdict = watch(test, kind, faults);
    assert_eq!(verdict.stale, 0, "{:#?}", verdict.examples);
    assert!(verdict.reads > 1000 && verdict.invalidations > 20, "it checked something: {verdict:?}");
    for name in ["hits", "near_hits"] {
        assert!(verdict.counted[name] > 0, "{name}: {verdict:?}");
    }
}

#[test]
fn redis_is_fresh_whatever_happens_to_it() {
    holds("fresh::redis_is_fresh_whatever_happens_to_it", Kind::Redis);
}

#[test]
fn valkey_is_fresh_whatever_happens_to_it() {
    holds("fresh::valkey_is_fresh_whatever_happens_to_it", Kind::Valkey);
}

#[test]
fn to_look_once_while_slots_move_is_caught() {
    const TEST: &str = "fresh::to_look_once_while_slots_move_is_caught";
    if fleet::is_member() {
        return member(worker::run(OneLook::of_member()));
    }
    let stale = (0..5).map(|_| watch(TEST, Kind::Redis, &[Fault::Migrate; 2]).stale).find(|stale| *stale > 0);
    assert!(stale.is_some(), "the checker is blind");
}
