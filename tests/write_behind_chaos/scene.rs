//! The server, the processes, and what is done to them.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::check::{History, Letter};
use crate::db::Db;
use crate::members::{self, LEASE, Usage};
use crate::support::fleet::{Folder, Member, said};
use crate::support::server::{Builder, Server};
use crate::support::{ms, secs};

const PRODUCERS: usize = 2;
const WORKERS: usize = 3;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`; another one takes its place.
    KillProducer,
    KillWorker,
    /// A process stands still, mostly for longer than its lease; now and then another one is killed meanwhile.
    FreezeProducer,
    FreezeWorker,
    FreezeReader,
    /// A worker is told to stop; another one takes its place.
    StopWorker,
    /// All connections are cut.
    Cut,
    /// Entries of the cache are evicted.
    Evict,
}

impl Fault {
    /// Those of all runs.
    pub(crate) const ALL: [Self; 8] = [
        Self::KillWorker,
        Self::FreezeWorker,
        Self::KillProducer,
        Self::FreezeWorker,
        Self::StopWorker,
        Self::FreezeProducer,
        Self::KillWorker,
        Self::Cut,
    ];
    /// Where readers are, too. Those who can't ask the queue run their function, so nothing is cut.
    pub(crate) const OF_READERS: [Self; 8] = [
        Self::Evict,
        Self::KillWorker,
        Self::FreezeReader,
        Self::FreezeWorker,
        Self::KillProducer,
        Self::Evict,
        Self::FreezeProducer,
        Self::StopWorker,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Producer,
    Worker,
    Reader,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Worker => "worker",
            Self::Reader => "reader",
        }
    }
}

/// All that a run needs.
pub(crate) struct Scene {
    server: Server,
    folder: Folder,
    test: &'static str,
    usage: Usage,
    members: Vec<(Role, usize, Member)>,
    /// What producers and readers wrote, by role and number.
    files: Vec<(Role, usize, PathBuf)>,
    /// How many workers took their own lives.
    deaths: usize,
}

impl Scene {
    /// A server, and processes that run `test`.
    pub(crate) fn open(test: &'static str, server: Builder, usage: Usage) -> Self {
        let (server, folder) = (server.start(), Folder::new());
        let mut scene =
            Self { server, folder, test, usage, members: Vec::new(), files: Vec::new(), deaths: 0 };
        scene.db();
        let readers = usize::from(usage.cached) * 2;
        for (role, count) in [(Role::Worker, WORKERS), (Role::Producer, PRODUCERS), (Role::Reader, readers)] {
            for number in 0..count {
                let member = scene.member(role, number);
                scene.members.push((role, number, member));
            }
        }
        scene
    }

    fn db_file(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn db(&self) -> Db {
        Db::open(&self.db_file())
    }

    fn member(&mut self, role: Role, number: usize) -> Member {
        let file = self.folder.path().join(self.files.len().to_string());
        let before: Vec<String> =
            self.files_of(role, number).map(|file| file.display().to_string()).collect();
        self.files.push((role, number, file.clone()));
        let (server, db) = (self.server.url(), self.db_file());
        let Usage { synced, cached, pending } = self.usage;
        Member::start(
            self.test,
            file,
            &[
                ("ROLE", &role.name()),
                ("NUMBER", &number),
                ("SERVER", &server),
                ("DB", &db.display()),
                ("BEFORE", &before.join(" ")),
                ("SYNCED", &u8::from(synced)),
                ("CACHED", &u8::from(cached)),
                ("PENDING", &u8::from(pending)),
            ],
        )
    }

    fn files_of(&self, role: Role, number: usize) -> impl Iterator<Item = &PathBuf> {
        let those = self.files.iter().filter(move |(its, which, _)| *its == role && *which == number);
        those.map(|(.., file)| file)
    }

    /// Torments them for so long. In the middle the server is killed and started anew, if it remembers.
    pub(crate) fn torment(&mut self, faults: &[Fault], time: Duration, restarts: bool) {
        let (begun, mut restarted) = (Instant::now(), !restarts);
        for round in 0.. {
            if begun.elapsed() > time {
                return;
            }
            sleep(ms(fastrand::u64(50..400)));
            self.replace_dead();
            if !restarted && begun.elapsed() > time / 2 {
                restarted = true;
                self.server.restart();
            }
            self.inflict(faults[round % faults.len()]);
        }
    }

    fn inflict(&mut self, fault: Fault) {
        let time = LEASE.mul_f64(0.3 + 1.5 * fastrand::f64());
        match fault {
            Fault::KillProducer => self.kill(Role::Producer),
            Fault::KillWorker => self.kill(Role::Worker),
            Fault::FreezeProducer => self.freeze(Role::Producer, time),
            Fault::FreezeWorker => self.freeze(Role::Worker, time),
            Fault::FreezeReader => self.freeze(Role::Reader, time),
            Fault::StopWorker => {
                let victim = self.any(Role::Worker);
                let (role, number, member) = &mut self.members[victim];
                let (role, number) = (*role, *number);
                member.stop();
                let status = member.end_within(secs(30)).expect("who is told to stop does");
                assert!(status.success(), "a worker failed: {status}");
                self.members[victim].2 = self.member(role, number);
            }
            Fault::Cut => drop(self.server.command(&["CLIENT", "KILL", "TYPE", "normal"])),
            Fault::Evict => {
                for key in 0..PRODUCERS * members::KEYS {
                    if fastrand::bool() {
                        self.server.command(&["UNLINK", &format!("row:{key}")]);
                    }
                }
            }
        }
    }

    fn any(&self, role: Role) -> usize {
        let those: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].0 == role).collect();
        those[fastrand::usize(..those.len())]
    }

    fn kill(&mut self, role: Role) {
        let victim = self.any(role);
        let number = self.members[victim].1;
        self.members[victim].2.kill();
        self.members[victim].2 = self.member(role, number);
    }

    fn freeze(&mut self, role: Role, time: Duration) {
        let frozen = self.members[self.any(role)].2.freeze(time);
        if role == Role::Worker && fastrand::bool() {
            self.kill(Role::Worker);
        }
        frozen.thawed();
    }

    /// A worker that took its own life has a successor.
    fn replace_dead(&mut self) {
        for at in 0..self.members.len() {
            let (role, number, member) = &mut self.members[at];
            let (role, number) = (*role, *number);
            if let Some(status) = member.end_within(Duration::ZERO) {
                let said = member.said();
                let (is_meant, last) = (role == Role::Worker && status.success(), said.last());
                assert!(is_meant, "a {} ended: {status}, {last:?}", role.name());
                self.deaths += 1;
                self.members[at].2 = self.member(role, number);
            }
        }
    }

    fn stop(&mut self, role: Role) {
        for (_, _, member) in self.members.iter_mut().filter(|(its, ..)| *its == role) {
            member.stop();
        }
        for (_, _, member) in self.members.iter_mut().filter(|(its, ..)| *its == role) {
            let status = member.end_within(secs(30));
            let status = status.unwrap_or_else(|| panic!("a {} hangs", role.name()));
            assert!(status.success(), "a {} failed: {status}", role.name());
        }
        self.members.retain(|(its, ..)| *its != role);
    }

    /// Who was killed a moment ago counts until its lease ends and another worker tends, and has its shards until they
    /// are taken: so that what is left after all have been stopped was left by who was stopped.
    fn forget_the_dead(&self) {
        let alive = self.members.iter().filter(|(role, ..)| *role == Role::Worker).count();
        let begun = Instant::now();
        loop {
            let known = self.server.command(&["ZRANGE", "@writes:{chaos}:workers", "0", "-1"]);
            let known: Vec<&str> = known.lines().collect();
            // `end/lease number owner`
            let owners = self.server.command(&["HVALS", "@writes:{chaos}:own"]);
            let mut owners = owners.lines().filter_map(|owner| owner.splitn(3, ' ').nth(2));
            if known.len() == alive && owners.all(|owner| known.contains(&owner)) {
                return;
            }
            assert!(begun.elapsed() < secs(60), "of {alive} workers {known:?} are known");
            sleep(ms(20));
        }
    }

    /// An empty queue takes no memory that grows with what it was used for.
    fn nothing_is_left(&self) {
        let key = |what: &str| format!("@writes:{{chaos}}:{what}");
        for what in ["pending", "own", "workers"] {
            assert_eq!(self.server.command(&["EXISTS", &key(what)]), "0", "{what}");
        }
        for shard in 0..members::SHARDS {
            let stream = key(&format!("s{shard}"));
            let consumers = self.server.command(&["XINFO", "CONSUMERS", &stream, "workers"]);
            // Each who takes a shard clears away those before it.
            assert!(consumers.matches("name").count() <= 2, "{consumers}");
        }
    }

    /// Ends the producers, lets the workers apply what is left, ends them too: what happened.
    pub(crate) fn close(mut self) -> History {
        self.stop(Role::Producer);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("it starts");
        let (_cache, writes) = runtime.block_on(async { members::queue(&self.server.url(), self.usage) });
        let begun = Instant::now();
        loop {
            self.replace_dead();
            let stats = runtime.block_on(writes.stats()).expect("the server is there");
            if stats.pending == 0 {
                assert_eq!(stats.oldest, None);
                break;
            }
            assert!(begun.elapsed() < secs(60), "it never empties: {stats:?}");
            sleep(ms(20));
        }
        self.forget_the_dead();
        self.stop(Role::Reader);
        self.stop(Role::Worker);
        let letters = runtime.block_on(writes.dead_letters(10_000)).expect("the server is there");
        let stats = runtime.block_on(writes.stats()).expect("the server is there");
        assert_eq!((stats.pending, stats.workers), (0, 0), "{stats:?}");
        assert_eq!(stats.dead_letters, u64::try_from(letters.len()).expect("few"));
        self.nothing_is_left();
        let mut history = History::default();
        for (_, _, file) in &self.files {
            history.add(&said(file));
        }
        history.handed = self.db().journal();
        history.rows = self.db().rows();
        history.letters = letters.iter().map(letter).collect();
        history.note = format!(
            "{} processes, {} workers took their own lives, {} retries",
            self.files.len(),
            self.deaths,
            stats.retries
        );
        history
    }
}

fn letter(letter: &cache_aside::DeadLetter) -> Letter {
    let payload: serde_json::Value = letter.payload().expect("it is JSON");
    let value = &payload["value"];
    let value = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    Letter {
        key: letter.order_key().parse().expect("a number"),
        value: value.expect("a number"),
        seq: letter.seq(),
        cause: letter.cause().to_owned(),
        attempts: letter.attempts(),
    }
}
