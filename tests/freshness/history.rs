//! What happened, in all processes, by the one clock that they share; and whether it may have.
//!
//! A line of a history is one of
//!
//! ```text
//! i <key> <version> <when>     an invalidation returned Ok; the key had this version when it was asked for
//! r <key> <version> <when> <answered>
//!                              a read that was asked for (or settled on a stale value) then got this version
//! s <name> <number> ...        what the process counted so far
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::support::fleet::{self, Lines};

/// Nanoseconds by the kernel's monotonic clock, the same in all processes of a machine.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanos).expect("it counts from the start of the machine")
}

/// Where one process writes what happens.
#[derive(Debug)]
pub(crate) struct Log(pub(crate) Lines);

impl Log {
    /// An invalidation has returned Ok by now.
    pub(crate) fn invalidated(&self, key: usize, version: u64) {
        self.known(key, version, Duration::ZERO);
    }

    /// From so long after now on it is as if an invalidation had returned Ok.
    pub(crate) fn known(&self, key: usize, version: u64, grace: Duration) {
        let grace = u64::try_from(grace.as_nanos()).expect("a moment");
        self.0.say(format_args!("i {key} {version} {}", now() + grace));
    }

    /// A read that began then got this, by now.
    pub(crate) fn read(&self, key: usize, version: u64, begun: u64) {
        self.answered(key, version, begun, now());
    }

    /// A read that began then had got this by then.
    pub(crate) fn answered(&self, key: usize, version: u64, begun: u64, answered: u64) {
        self.0.say(format_args!("r {key} {version} {begun} {answered}"));
    }

    /// The process counted so much so far.
    pub(crate) fn counted(&self, names: &[(&str, u64)]) {
        let line =
            names.iter().fold("s".to_owned(), |line, (name, number)| format!("{line} {name} {number}"));
        self.0.say(line);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    // In this order at one instant: such a read needn't know of such an invalidation.
    Read,
    Invalidated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    when: u64,
    what: What,
    key: usize,
    version: u64,
    /// The process that says so.
    by: usize,
    /// When a read had its answer.
    answered: u64,
}

/// The histories of all processes.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Vec<Event>,
    processes: usize,
    counted: BTreeMap<String, u64>,
}

/// Of each invalidation that had returned Ok and each other process, in nanoseconds from then.
#[derive(Debug, Default)]
pub(crate) struct Lags {
    /// Until its last read began that got something older.
    old: Vec<u64>,
    /// Until a read was answered with what was new: with its pauses and its load.
    new: Vec<u64>,
}

impl fmt::Display for Lags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |times: &[u64]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            let last = times.len().saturating_sub(1);
            let time = |at: usize| Duration::from_nanos(times.get(at).copied().unwrap_or(0));
            format!("p50 {:.1?}, p99 {:.1?}, max {:.1?}", time(last / 2), time(last * 99 / 100), time(last))
        };
        write!(f, "last old answer: {}; first new one: {}", show(&self.old), show(&self.new))
    }
}

/// What the checker found.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) reads: usize,
    pub(crate) invalidations: usize,
    pub(crate) stale: usize,
    /// What all processes counted.
    pub(crate) counted: BTreeMap<String, u64>,
    /// A few of the stale reads, for people.
    pub(crate) examples: Vec<String>,
}

impl History {
    /// Adds what one process wrote; the end of a killed one's may be missing.
    pub(crate) fn add(&mut self, file: &Path) {
        let mut counted = None;
        self.processes += 1;
        for line in fleet::said(file) {
            match line.split_once(' ') {
                Some(("s", numbers)) => counted = Some(numbers.to_owned()),
                Some((kind, rest)) => self.events.push(Event { by: self.processes, ..event(kind, rest) }),
                None => panic!("no line of a history: {line}"),
            }
        }
        let counted = counted.unwrap_or_default();
        let words: Vec<&str> = counted.split(' ').collect();
        for pair in words.chunks_exact(2) {
            *self.counted.entry(pair[0].to_owned()).or_default() += pair[1].parse::<u64>().expect("a number");
        }
    }

    /// What all processes counted; a killed one since its last word not.
    pub(crate) fn counts(&self) -> String {
        let counts: Vec<String> =
            self.counted.iter().map(|(name, number)| format!("{name} {number}")).collect();
        counts.join(", ")
    }

    /// How long others didn't know of invalidations of such keys.
    pub(crate) fn lags(&self, of: impl Fn(usize) -> bool) -> Lags {
        // Of each process and key, each version read: when its last read began and its first was answered.
        let mut seen: BTreeMap<(usize, usize), BTreeMap<u64, (u64, u64)>> = BTreeMap::new();
        for read in self.events.iter().filter(|event| event.what == What::Read && of(event.key)) {
            let of_key = seen.entry((read.key, read.by)).or_default();
            let (begun, first) = of_key.entry(read.version).or_insert((read.when, read.answered));
            (*begun, *first) = (read.when.max(*begun), read.answered.min(*first));
        }
        // The last of that version or an older one, the first of that version or a newer one.
        let seen: BTreeMap<_, Vec<(u64, u64, u64)>> = seen
            .into_iter()
            .map(|(whose, of_key)| {
                let mut of_key: Vec<_> =
                    of_key.into_iter().map(|(version, (begun, first))| (version, begun, first)).collect();
                for at in 1..of_key.len() {
                    of_key[at].1 = of_key[at].1.max(of_key[at - 1].1);
                }
                for at in (1..of_key.len()).rev() {
                    of_key[at - 1].2 = of_key[at - 1].2.min(of_key[at].2);
                }
                (whose, of_key)
            })
            .collect();
        let mut lags = Lags::default();
        for done in self.events.iter().filter(|event| event.what == What::Invalidated && of(event.key)) {
            for by in (1..=self.processes).filter(|by| *by != done.by) {
                let seen = seen.get(&(done.key, by)).map_or(&[][..], Vec::as_slice);
                let newer = seen.partition_point(|(version, ..)| *version < done.version);
                let old = newer.checked_sub(1).map(|older| seen[older].1);
                lags.old.extend(old.map(|begun| begun.saturating_sub(done.when)));
                lags.new.extend(seen.get(newer).map(|(.., first)| first.saturating_sub(done.when)));
            }
        }
        lags
    }

    /// Looks for reads that got a version older than one whose invalidation had returned Ok before
    /// they began: in their own process, and longer than `lag` before that in any. One pass over the
    /// events in their order.
    pub(crate) fn judge(mut self, lag: impl Fn(usize) -> Duration) -> Verdict {
        let lag = |key| u64::try_from(lag(key).as_nanos()).expect("a moment");
        // What others need to know of an invalidation they know later.
        let later = |event: &Event| Event { when: event.when + lag(event.key), by: EVERYBODY, ..*event };
        let invalidations = self.events.iter().filter(|event| event.what == What::Invalidated);
        let known: Vec<Event> = invalidations.map(later).collect();
        self.events.extend(known);
        self.events.sort_unstable();
        let mut verdict =
            Verdict { reads: 0, invalidations: 0, stale: 0, counted: self.counted, examples: Vec::new() };
        let mut floors: BTreeMap<(usize, usize), Event> = BTreeMap::new();
        for event in self.events {
            match event.what {
                What::Invalidated => {
                    verdict.invalidations += usize::from(event.by != EVERYBODY);
                    let floor = floors.entry((event.key, event.by)).or_insert(event);
                    if floor.version < event.version {
                        *floor = event;
                    }
                }
                What::Read => {
                    verdict.reads += 1;
                    let floors =
                        [event.by, EVERYBODY].into_iter().filter_map(|by| floors.get(&(event.key, by)));
                    let floor = floors.max_by_key(|floor| floor.version);
                    if let Some(floor) = floor.filter(|floor| event.version < floor.version) {
                        verdict.stale += 1;
                        if verdict.examples.len() < 5 {
                            verdict.examples.push(example(event, *floor));
                        }
                    }
                }
            }
        }
        verdict
    }
}

/// Stands for all processes.
const EVERYBODY: usize = 0;

fn event(kind: &str, rest: &str) -> Event {
    let numbers: Vec<u64> = rest.split(' ').map(|number| number.parse().expect("a number")).collect();
    let (what, key, version, when, answered) = match (kind, &numbers[..]) {
        ("r", [key, version, when, answered]) => (What::Read, *key, *version, *when, *answered),
        ("i", [key, version, when]) => (What::Invalidated, *key, *version, *when, *when),
        _ => panic!("no line of a history: {kind} {rest}"),
    };
    Event { when, what, key: usize::try_from(key).expect("few keys"), version, by: 0, answered }
}

fn example(read: Event, floor: Event) -> String {
    let micros = (read.when - floor.when) / 1000;
    let whose = if floor.by == EVERYBODY { "" } else { " its own process'" };
    format!(
        "key {}: version {} by a read that began {micros} us after{whose} invalidation of version {} returned Ok, or had to be known",
        read.key, read.version, floor.version
    )
}

#[test]
fn the_checker_tells_stale_from_fresh() {
    let folder = fleet::Folder::new();
    let (one, two) = (folder.path().join("1"), folder.path().join("2"));
    let write = |path: &Path, lines: &[&str]| lines.iter().for_each(|line| Lines::to(path).say(line));
    write(&one, &["i 1 5 100", "i 1 4 110", "i 2 9 120", "i 7 5 100", "s loads 3", "s loads 4 hits 1"]);
    // Its own process knows at once, the other one a moment later.
    write(&one, &["r 7 4 101 102"]);
    // Of its time; older than asked for before; at the very instant; stale; younger; another key.
    write(
        &two,
        &[
            "r 1 4 99 109",
            "r 1 5 200 210",
            "r 1 4 100 110",
            "r 1 4 105 115",
            "r 1 6 130 140",
            "r 3 0 130 140",
            "r 7 4 149 159",
            "r 7 4 150 160",
            "r 7 4 151 161",
            "s loads 1",
        ],
    );
    std::fs::OpenOptions::new()
        .append(true)
        .open(&two)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"r 1 4 1 2"))
        .unwrap(); // torn: the process was killed
    let mut history = History::default();
    history.add(&one);
    history.add(&two);
    assert_eq!(history.counts(), "hits 1, loads 5");
    // Version 4 was read 5 after 5 was said to be new, and 6 came 40 after that; 4 was there already.
    let lags = history.lags(|key| key == 1);
    assert_eq!((lags.old, lags.new), (vec![5], vec![40, 0]));
    let verdict = history.judge(|key| Duration::from_nanos(if key == 7 { 50 } else { 0 }));
    assert_eq!((verdict.reads, verdict.invalidations, verdict.stale), (10, 4, 3), "{verdict:?}");
}
