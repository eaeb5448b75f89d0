//! A queue of writes on a cluster (I20, I21): nothing that was taken is lost or comes out of order, and who reads
//! through it never sees the old row; while the slot of the queue moves, and its primary hands over or is killed.
//!
//! What a killed primary has taken and its replica doesn't know is lost (I19): so it takes nothing more, and is killed
//! when its replica knows all. Who reads meanwhile can't ask the queue, and isn't judged.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::check::{History, Nature, Rules};
use crate::db::Db;
use crate::members::{self, ATTEMPTS, Usage, now};
use crate::scene::{Longest, fail_over, move_slowly, three_and_three, until_it_took_over};
use crate::support::cluster::Cluster;
use crate::support::fleet::{self, Folder, Member, report, said};
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};
use crate::{runtime, seconds, turn};

const TEST: &str = "writes::nothing_is_lost_and_no_old_row_is_read";
const USAGE: Usage = Usage { synced: false, cached: true, pending: true };

/// Where all keys of the queue are.
const QUEUE: &str = "{chaos}";

/// Waits until the replicas know all that a primary, which takes no more writes, has done.
fn until_replicated(primary: &Server) {
    let begun = Instant::now();
    let number = |text: &str, from: &str| {
        let (_, rest) = text.split_once(from)?;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    loop {
        let info = primary.command(&["INFO", "replication"]);
        let known =
            info.lines().find(|line| line.starts_with("slave0:")).and_then(|line| number(line, "offset="));
        if known.zip(number(&info, "master_repl_offset:")).is_some_and(|(known, done)| known >= done) {
            return;
        }
        assert!(begun.elapsed() < secs(30), "its replica doesn't follow: {info}");
        sleep(ms(10));
    }
}

/// Kills a primary, and has it come back; when that was.
fn kill(cluster: &Cluster, primary: &Server) -> u64 {
    let replica = cluster.replica_of(primary);
    let begun = now();
    primary.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    until_replicated(primary);
    primary.kill();
    until_it_took_over(replica);
    primary.restart();
    cluster.settle();
    begun
}

struct Scene {
    cluster: Cluster,
    folder: Folder,
    members: Vec<(&'static str, Member)>,
    files: Vec<PathBuf>,
}

impl Scene {
    fn open() -> Self {
        let (cluster, folder) = (three_and_three(Kind::Redis, true), Folder::new());
        let mut scene = Self { cluster, folder, members: Vec::new(), files: Vec::new() };
        drop(Db::open(&scene.db()));
        for (role, number) in
            [("worker", 0), ("worker", 1), ("producer", 0), ("producer", 1), ("reader", 0), ("reader", 1)]
        {
            let file = scene.folder.path().join(scene.files.len().to_string());
            scene.files.push(file.clone());
            let (server, db) = (scene.cluster.url(), scene.db());
            let words: [(&str, &dyn std::fmt::Display); 7] = [
                ("ROLE", &role),
                ("NUMBER", &number),
                ("SERVER", &server),
                ("DB", &db.display()),
                ("SYNCED", &0),
                ("CACHED", &1),
                ("PENDING", &1),
            ];
            scene.members.push((role, Member::start(TEST, file, &words)));
        }
        scene
    }

    fn db(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    fn stop(&mut self, role: &str) {
        for (_, member) in self.members.iter_mut().filter(|(its, _)| *its == role) {
            member.stop();
        }
        for (_, member) in self.members.iter_mut().filter(|(its, _)| *its == role) {
            let status = member.end_within(secs(60)).unwrap_or_else(|| panic!("a {role} hangs"));
            assert!(status.success(), "a {role} failed: {status}");
        }
    }

    /// Ends the producers, lets the workers apply what is left, ends all: what happened, but for reads in these
    /// times.
    fn close(mut self, blind: &[(u64, u64)]) -> History {
        self.stop("producer");
        let runtime = runtime();
        let (_cache, writes) = runtime.block_on(async { members::queue(&self.cluster.url(), USAGE) });
        let begun = Instant::now();
        while runtime.block_on(writes.stats()).expect("the cluster is there").pending > 0 {
            assert!(begun.elapsed() < secs(60), "it never empties");
            sleep(ms(20));
        }
        self.stop("reader");
        self.stop("worker");
        let letters = runtime.block_on(writes.dead_letters(10)).expect("the cluster is there");
        assert!(letters.is_empty(), "{letters:?}");
        let retries = runtime.block_on(writes.stats()).expect("the cluster is there").retries;
        let mut history = History::default();
        history.note = format!("{retries} retries");
        let is_seen = |line: &String| {
            let mut words = line.split(' ');
            let begun =
                words.next().filter(|word| *word == "r").and_then(|_| words.nth(2)?.parse::<u64>().ok());
            begun.is_none_or(|begun| !blind.iter().any(|(from, to)| (*from..*to).contains(&begun)))
        };
        for file in &self.files {
            history.add(&said(file).into_iter().filter(is_seen).collect::<Vec<_>>());
        }
        let db = Db::open(&self.db());
        history.handed = db.journal();
        history.rows = db.rows();
        history
    }
}

#[test]
fn nothing_is_lost_and_no_old_row_is_read() {
    if fleet::is_member() {
        return members::run();
    }
    let _turn = turn();
    let (scene, mut rng) = (Scene::open(), Rng::new());
    let slot = scene.cluster.slot_of(QUEUE);
    let (begun, mut blind, mut deeds) = (Instant::now(), Vec::new(), 0);
    loop {
        sleep(ms(500));
        let home = scene.cluster.primary_of(QUEUE).port();
        move_slowly(&scene.cluster, slot, &mut rng, |node| node.port() != home);
        let entry = scene.cluster.slot_of(&format!("row:{}", rng.usize(..2 * members::KEYS)));
        let home = scene.cluster.primary_of_slot(entry).port();
        move_slowly(&scene.cluster, entry, &mut rng, |node| node.port() != home);
        scene.cluster.settle();
        sleep(ms(500));
        fail_over(scene.cluster.replica_of(scene.cluster.primary_of(QUEUE)), None);
        scene.cluster.settle();
        sleep(ms(500));
        let from = kill(&scene.cluster, scene.cluster.primary_of(QUEUE));
        // Connections are made anew, and invalidations that were kept carried out.
        sleep(secs(2));
        blind.push((from, now()));
        // One that has entries alone: who reads goes on.
        let others =
            scene.cluster.primaries().filter(|node| node.port() != scene.cluster.primary_of(QUEUE).port());
        kill(&scene.cluster, others.last().expect("there are three"));
        deeds += 5;
        if seconds().is_none_or(|time| begun.elapsed() >= time) {
            break;
        }
    }
    sleep(ms(500));
    // What began before the queue was away may have asked it after.
    let before = u64::try_from(secs(1).as_nanos()).expect("a moment");
    let blind: Vec<(u64, u64)> = blind.into_iter().map(|(from, to)| (from - before, to)).collect();
    let history = scene.close(&blind);
    let mut acks: Vec<u64> = history.acks.iter().map(|ack| ack.when).collect();
    acks.sort_unstable();
    let mut longest = Longest::default();
    acks.windows(2).for_each(|pair| longest.note(Duration::from_nanos(pair[1] - pair[0])));
    let wrong = history.judge(Rules { attempts: ATTEMPTS, coalesced: true });
    report(format_args!(
        "{TEST}: {deeds} faults, {} writes taken, {} handed over, {} of them again, {} reads judged, {} wrong, {:.1?} without \
         a write taken; {}",
        history.acks.len(),
        history.handed.len(),
        history.repeated(),
        history.read_count(),
        wrong.len(),
        longest.0,
        history.note
    ));
    assert!(wrong.is_empty(), "{} faults: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    assert!(history.count(Nature::Good) > 200 && history.read_count() > 500, "it checked something");
}
