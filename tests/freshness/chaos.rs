//! What the parent does to the server and to the processes.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::history::Log;
use crate::ours::KINDS;
use crate::support::fleet::{Folder, Lines, Member};
use crate::support::proxy::{Half, Proxy};
use crate::support::server::Server;
use crate::support::{ms, secs};
use crate::truth;

/// The most that any subject has.
const KEYS: usize = KINDS.len();

/// The faults change after this time.
const ROUND: Duration = secs(2);

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Somebody else's program deletes a key, after it wrote the row.
    Unlink,
    /// Everything is gone; an invalidation of all.
    Flush,
    /// The server's memory is full: it removes keys at random.
    Evict,
    /// All connections are cut.
    Cut,
    /// The server obeys, and the farther half of the processes hear nothing of it.
    LoseReplies,
    /// A process stands still, mostly for longer than its leases.
    FreezeProcess,
    /// `kill -9`; another one takes its place.
    KillProcess,
    /// The server stands still.
    FreezeServer,
    /// The server is killed, and another one, empty, takes its place.
    RestartServer,
}

impl Fault {
    pub(crate) const ALL: [Self; 9] = [
        Self::Unlink,
        Self::FreezeProcess,
        Self::Evict,
        Self::Cut,
        Self::KillProcess,
        Self::Flush,
        Self::FreezeServer,
        Self::LoseReplies,
        Self::RestartServer,
    ];
}

/// The servers, the processes and who torments them.
#[derive(Debug)]
pub(crate) struct Scene {
    cache: Server,
    truth: Server,
    folder: Folder,
    log: Log,
    test: &'static str,
    members: Vec<Member>,
    files: Vec<PathBuf>,
    rng: Rng,
    /// The way of every second process to the server. It is longer, as in a network: on the loopback
    /// the races inside a round trip are hardly ever met.
    road: Proxy,
    roads: Runtime,
    /// What the processes are told in the place of all that.
    elsewhere: Option<String>,
}

impl Scene {
    /// Servers, and so many processes that run `test`, over other servers than ours if their URL is given.
    pub(crate) fn open(test: &'static str, processes: usize, seed: u64, elsewhere: Option<&str>) -> Self {
        let cache = Server::redis().config("maxmemory", "12mb").config("maxmemory-policy", "allkeys-random");
        let cache = cache.start();
        let folder = Folder::new();
        let file = folder.path().join("parent");
        let roads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let roads = roads.expect("it starts");
        let road = roads.block_on(async { Proxy::start(&cache.url()) });
        road.delay(ms(2));
        let mut scene = Self {
            cache,
            truth: Server::redis().start(),
            log: Log(Lines::to(&file)),
            folder,
            test,
            members: Vec::new(),
            files: vec![file],
            rng: Rng::with_seed(seed),
            road,
            roads,
            elsewhere: elsewhere.map(str::to_owned),
        };
        for number in 0..processes {
            let member = scene.process(number);
            scene.members.push(member);
        }
        scene
    }

    fn process(&mut self, number: usize) -> Member {
        let file = self.folder.path().join(self.files.len().to_string());
        self.files.push(file.clone());
        let ours = if number.is_multiple_of(2) { self.cache.url() } else { self.road.url() };
        let server = self.elsewhere.clone().unwrap_or(ours);
        let (truth, seed) = (self.truth.url(), self.rng.u64(..));
        Member::start(self.test, file, &[("SERVER", &server), ("TRUTH", &truth), ("SEED", &seed)])
    }

    /// Runs for so long, with two kinds of fault at a time; all had their turn after 18 s.
    pub(crate) fn torment(&mut self, faults: &[Fault], time: Duration) -> Vec<(Fault, usize)> {
        let mut done: Vec<(Fault, usize)> = faults.iter().map(|fault| (*fault, 0)).collect();
        let begun = Instant::now();
        while begun.elapsed() < time {
            let round =
                usize::try_from(begun.elapsed().as_millis() / ROUND.as_millis()).expect("not for ever");
            sleep(ms(self.rng.u64(20..200)));
            if let Some(count) = done.len().checked_sub(1) {
                let which = (round + if self.rng.bool() { 3 } else { 0 }) % (count + 1);
                done[which].1 += 1;
                self.inflict(done[which].0);
            }
        }
        done
    }

    fn inflict(&mut self, fault: Fault) {
        self.road.seen.reset(); // it would grow for as long as this runs
        let victim = self.rng.usize(..self.members.len());
        let time = ms(self.rng.u64(20..300));
        match fault {
            Fault::Unlink => {
                let key = self.rng.usize(..KEYS);
                self.outside(key..=key, |server| {
                    let names = KINDS.map(|kind| format!("fresh:{kind}:{key}"));
                    let words = ["UNLINK"].into_iter().chain(names.iter().map(String::as_str));
                    server.command(&words.collect::<Vec<_>>());
                });
            }
            Fault::Flush => self.outside(0..=KEYS - 1, |server| {
                server.command(&["FLUSHDB"]);
            }),
            Fault::Evict => {
                let junk = "x".repeat(100_000);
                for number in 0..self.rng.u32(80..160) {
                    self.cache.command(&["SET", &format!("junk:{number}"), &junk, "PX", "500"]);
                }
            }
            Fault::Cut => {
                self.cache.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            Fault::LoseReplies => {
                self.road.black_hole(Half::Replies);
                sleep(time / 2);
                self.road.black_hole(None);
                self.roads.block_on(self.road.cut());
            }
            Fault::FreezeProcess => self.members[victim].freeze_for(time),
            Fault::KillProcess => {
                self.members[victim].kill();
                self.members[victim] = self.process(victim);
            }
            Fault::FreezeServer => {
                self.cache.freeze();
                sleep(time / 2);
                self.cache.thaw();
            }
            Fault::RestartServer => self.outside(0..=KEYS - 1, Server::restart),
        }
    }

    /// A writer in another program, which knows nothing of leases: new versions, then a `DEL`.
    fn outside(&self, keys: std::ops::RangeInclusive<usize>, delete: impl FnOnce(&Server)) {
        let write = |key| self.truth.command(&["INCR", &truth::name(key)]).parse().expect("a version");
        let versions: Vec<(usize, u64)> = keys.map(|key| (key, write(key))).collect();
        delete(&self.cache);
        for (key, version) in versions {
            self.log.invalidated(key, version);
        }
    }

    /// Ends all processes, and gives what they wrote.
    pub(crate) fn close(mut self) -> (Folder, Vec<PathBuf>) {
        for member in &mut self.members {
            member.stop();
        }
        for member in &mut self.members {
            let status = member.end_within(secs(30)).expect("every read ends: a process hangs");
            assert!(status.success(), "a process failed: {status}");
        }
        (self.folder, self.files)
    }
}
