//! Servers, two processes, the ways between them, and what is done to all of it.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::history::Log;
use crate::ours::{DELTA, KEYS};
use crate::support::fleet::{Folder, Lines, Member};
use crate::support::proxy::{Aim, Half, Proxy};
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::truth;

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) cache: Server,
    replica: Option<Server>,
    truth: Server,
    folder: Folder,
    log: Log,
    pub(crate) members: Vec<Member>,
    files: Vec<PathBuf>,
    pub(crate) rng: Rng,
    /// From each process to the server. Faults are for the last one.
    roads: [Proxy; 2],
    runtime: Runtime,
}

/// What there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cast {
    pub(crate) kind: Kind,
    pub(crate) config: (&'static str, &'static str),
    pub(crate) has_replica: bool,
}

impl Cast {
    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, config: ("tracking-table-max-keys", "0"), has_replica: false }
    }
}

impl Scene {
    /// Processes that run `test`.
    pub(crate) fn open(test: &'static str, cast: Cast, seed: u64) -> Self {
        let (name, value) = cast.config;
        let server = || Server::of(cast.kind).config(name, value);
        let cache = server().start();
        let replica = cast.has_replica.then(|| server().replica_of(&cache).start());
        let (truth, folder) = (Server::redis().start(), Folder::new());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("it starts");
        let roads = runtime.block_on(async { [(); 2].map(|()| Proxy::start(&cache.url())) });
        let mut rng = Rng::with_seed(seed);
        let files: Vec<PathBuf> = ["parent", "0", "1"].map(|name| folder.path().join(name)).into();
        let member = |number: usize| {
            let (server, truth, seed) = (roads[number].url(), truth.url(), rng.u64(..));
            let replicated = u8::from(cast.has_replica);
            let direct = cache.url();
            let words: [(&str, &dyn std::fmt::Display); 6] = [
                ("SERVER", &server),
                ("DIRECT", &direct),
                ("TRUTH", &truth),
                ("SEED", &seed),
                ("NUMBER", &number),
                ("REPLICATED", &replicated),
            ];
            Member::start(test, files[number + 1].clone(), &words)
        };
        let members = (0..roads.len()).map(member).collect();
        let log = Log(Lines::to(&files[0]));
        Self { cache, replica, truth, folder, log, members, files, rng, roads, runtime }
    }

    /// Some part of this time.
    pub(crate) fn moment(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.f64())
    }

    pub(crate) fn pass(&mut self, most: Duration) {
        sleep(self.moment(most));
    }

    /// Waits until the processes of these numbers have near hits, again.
    #[track_caller]
    pub(crate) fn until_near_hits(&self, numbers: impl IntoIterator<Item = usize>) {
        let near_hits = |number: usize| -> Vec<u64> {
            let said = self.members[number].said();
            let counts = said.iter().filter_map(|line| {
                let mut words = line.strip_prefix("s ")?.split(' ').skip_while(|word| *word != "near_hits");
                words.nth(1)?.parse().ok()
            });
            counts.collect()
        };
        for number in numbers {
            // The first count after now may be of a moment before; all are of a moment before they are read.
            let (begun, first) = (Instant::now(), near_hits(number).len() + 1);
            loop {
                let counts = near_hits(number);
                if counts.get(first).is_some_and(|first| counts.last() > Some(first)) {
                    break;
                }
                assert!(begun.elapsed() < secs(30), "process {number} has no near hits: {counts:?}");
                sleep(ms(20));
            }
        }
    }

    /// Calls `torment`, then heals the farther process' way and waits for near hits, over another connection.
    pub(crate) fn hurt(&mut self, aim: Aim, torment: impl FnOnce(&mut Self)) {
        let before = self.roads[1].tracking();
        self.roads[1].aim(aim);
        torment(self);
        // Who lost something on the way is out of step: it ends before anything else passes.
        self.cut(aim);
        self.roads[1].black_hole(None);
        self.roads[1].delay(Duration::ZERO);
        self.until_tracked_again(1, before);
        self.until_near_hits([1]);
    }

    /// Waits until a process tracks over one more connection than before.
    #[track_caller]
    fn until_tracked_again(&self, number: usize, before: u64) {
        let begun = Instant::now();
        while self.roads[number].tracking() <= before {
            assert!(begun.elapsed() < secs(30), "process {number} is told over the same connection as ever");
            sleep(ms(5));
        }
    }

    /// Nothing gets through to the farther process, from it, or both.
    pub(crate) fn swallow(&self, half: Half) {
        self.roads[1].black_hole(half);
    }

    /// Cuts connections of the farther process.
    pub(crate) fn cut(&self, aim: Aim) {
        match aim {
            Aim::Tracking => self.roads[1].cut_tracking(),
            Aim::All => self.runtime.block_on(self.roads[1].cut()),
        }
    }

    /// What the server says to the farther process comes so much later.
    pub(crate) fn delay(&self, aim: Aim, delay: Duration) {
        self.roads[1].aim(aim);
        self.roads[1].delay(delay);
    }

    /// A writer in another program: new versions of all, then everything goes.
    pub(crate) fn flush_all(&self) {
        let write = |key| self.truth.command(&["INCR", &truth::name(key)]).parse().expect("a version");
        let versions: Vec<u64> = (0..KEYS).map(write).collect();
        self.cache.command(&["FLUSHALL"]);
        for (key, version) in versions.into_iter().enumerate() {
            self.log.invalidated(key, version);
        }
    }

    /// The primary and its replica change places. Whoever is connected stays where it is, and who comes is
    /// led to the new primary, some time later.
    pub(crate) fn fail_over(&mut self) {
        let before = self.roads.each_ref().map(Proxy::tracking);
        assert_eq!(self.cache.command(&["FAILOVER"]), "OK");
        let replica = self.replica.as_mut().expect("there is a replica");
        let begun = Instant::now();
        while !replica.command(&["ROLE"]).starts_with("master") {
            assert!(begun.elapsed() < secs(30), "no failover: {}", replica.log());
            sleep(ms(1));
        }
        std::mem::swap(&mut self.cache, replica);
        self.pass(DELTA / 2);
        for road in &self.roads {
            road.lead_to(&self.cache.url());
        }
        for (number, before) in before.into_iter().enumerate() {
            self.until_tracked_again(number, before);
        }
        self.until_near_hits([0, 1]);
        // It may be asked to change again when it follows.
        while !self.cache.command(&["INFO", "replication"]).contains("state=online") {
            assert!(begun.elapsed() < secs(60), "nobody follows: {}", self.cache.log());
            sleep(ms(1));
        }
    }

    /// Ends all processes, and gives what they wrote.
    pub(crate) fn close(mut self) -> (Folder, Vec<PathBuf>) {
        for member in &mut self.members {
            member.stop();
        }
        for member in &mut self.members {
            let status = member.end_within(secs(60)).expect("every read ends: a process hangs");
            assert!(status.success(), "a process failed: {status}");
        }
        (self.folder, self.files)
    }
}
