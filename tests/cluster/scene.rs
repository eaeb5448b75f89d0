//! A cluster and what is done to it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::cluster::Cluster;
use crate::support::server::{Kind, Server};
use crate::support::{ms, secs};

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A slot with some of the keys goes to another primary, slowly, and comes back.
    Migrate,
    /// It goes in one step, as Valkey has it from version 9 on, and comes back.
    MigrateAtOnce,
    /// The first way, and the third primary hands over meanwhile.
    MigrateAndFailOver,
    /// A replica is told to take over; the old primary agrees, so nothing is lost.
    FailOver,
    /// A replica takes over and asks nobody.
    TakeOver,
    /// `kill -9`; it comes back, empty, when a replica has taken over.
    Kill,
    /// A primary stands still until a replica has taken over.
    Freeze,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] =
        [Self::MigrateAndFailOver, Self::Freeze, Self::Migrate, Self::TakeOver, Self::Kill];
    pub(crate) const OF_VALKEY: [Self; 5] =
        [Self::MigrateAtOnce, Self::Kill, Self::FailOver, Self::Migrate, Self::Freeze];
}

/// Three primaries with a replica each.
pub(crate) fn three_and_three(kind: Kind, covered: bool) -> Cluster {
    let covered = if covered { "yes" } else { "no" };
    Cluster::with(kind, 3, 3, |node| node.config("cluster-require-full-coverage", covered))
}

fn is_primary(node: &Server) -> bool {
    node.command(&["ROLE"]).starts_with("master")
}

/// Waits until this replica has taken over.
#[track_caller]
pub(crate) fn until_it_took_over(replica: &Server) {
    let begun = Instant::now();
    while !is_primary(replica) || replica.command(&["CLUSTER", "INFO"]).contains("cluster_state:fail") {
        assert!(begun.elapsed() < secs(60), "no failover: {}", replica.log());
        sleep(ms(5));
    }
}

/// A primary, and its replica.
pub(crate) fn pair<'a>(cluster: &'a Cluster, rng: &mut Rng) -> (&'a Server, &'a Server) {
    let primaries: Vec<&Server> = cluster.primaries().collect();
    let primary = primaries[rng.usize(..primaries.len())];
    (primary, cluster.replica_of(primary))
}

/// Has this replica take over by a word, `FORCE` and `TAKEOVER` among them.
#[track_caller]
pub(crate) fn fail_over(replica: &Server, how: Option<&str>) {
    let words: Vec<&str> = ["CLUSTER", "FAILOVER"].into_iter().chain(how).collect();
    let begun = Instant::now();
    // Once asked, it may find that it can't, and has to be asked again.
    while !is_primary(replica) {
        assert!(begun.elapsed() < secs(60), "no failover: {}", replica.log());
        if replica.command(&words) == "OK" {
            let asked = Instant::now();
            while !is_primary(replica) && asked.elapsed() < secs(6) {
                sleep(ms(2));
            }
        }
    }
}

/// Does it, and returns when all is well again.
pub(crate) fn inflict(cluster: &Cluster, fault: Fault, rng: &mut Rng) {
    match fault {
        Fault::Migrate => {
            let Some(slot) = used_slot(cluster, rng) else { return };
            let home = cluster.primary_of_slot(slot).port();
            move_slowly(cluster, slot, rng, |node| node.port() != home);
            cluster.settle();
            sleep(ms(rng.u64(..300)));
            move_slowly(cluster, slot, rng, |node| node.port() == home);
        }
        Fault::MigrateAndFailOver => {
            let Some(slot) = used_slot(cluster, rng) else { return };
            let from = cluster.primary_of_slot(slot).port();
            let others: Vec<&Server> = cluster.primaries().filter(|node| node.port() != from).collect();
            let replica = cluster.replica_of(others[1]);
            let moving = cluster.migrate(slot, others[0]);
            moving.keys(2);
            sleep(ms(rng.u64(..200)));
            fail_over(replica, None);
            sleep(ms(rng.u64(..200)));
            moving.finish();
        }
        Fault::MigrateAtOnce => {
            let Some(slot) = used_slot(cluster, rng) else { return };
            let home = cluster.primary_of_slot(slot).port();
            move_at_once(cluster, slot, |node| node.port() != home);
            sleep(ms(rng.u64(..500)));
            move_at_once(cluster, slot, |node| node.port() == home);
        }
        Fault::FailOver => fail_over(pair(cluster, rng).1, None),
        Fault::TakeOver => fail_over(pair(cluster, rng).1, Some("TAKEOVER")),
        Fault::Kill => {
            let (primary, replica) = pair(cluster, rng);
            primary.kill();
            until_it_took_over(replica);
            sleep(ms(rng.u64(..500)));
            primary.restart();
        }
        Fault::Freeze => {
            let (primary, replica) = pair(cluster, rng);
            primary.freeze();
            until_it_took_over(replica);
            sleep(ms(rng.u64(..500)));
            primary.thaw();
        }
    }
    cluster.settle();
}

/// The slot of some key that there is.
fn used_slot(cluster: &Cluster, rng: &mut Rng) -> Option<u16> {
    let keys: Vec<String> = cluster
        .primaries()
        .flat_map(|node| node.command(&["KEYS", "*"]).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|key| !key.is_empty())
        .collect();
    (!keys.is_empty()).then(|| cluster.slot_of(&keys[rng.usize(..keys.len())]))
}

/// Moves a slot a key at a time; for some time before and after it is on its way.
pub(crate) fn move_slowly(cluster: &Cluster, slot: u16, rng: &mut Rng, to: impl Fn(&Server) -> bool) {
    let there: Vec<&Server> = cluster.primaries().filter(|node| to(node)).collect();
    let moving = cluster.migrate(slot, there[rng.usize(..there.len())]);
    for _ in 0..8 {
        sleep(ms(rng.u64(10..100)));
        moving.keys(1);
    }
    while moving.keys(100) > 0 {}
    sleep(ms(rng.u64(..300)));
    moving.finish();
}

/// Moves a slot in one step.
fn move_at_once(cluster: &Cluster, slot: u16, to: impl Fn(&Server) -> bool) {
    let (from, begun) = (cluster.primary_of_slot(slot), Instant::now());
    let to = cluster.primaries().find(|node| to(node)).expect("there are others");
    let (slot_text, id) = (slot.to_string(), to.command(&["CLUSTER", "MYID"]));
    let words = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &slot_text, &slot_text, "NODE", &id];
    assert_eq!(from.command(&words), "OK");
    while cluster.primary_of_slot(slot).port() != to.port() {
        assert!(
            begun.elapsed() < secs(60),
            "it isn't moved: {}",
            from.command(&["CLUSTER", "GETSLOTMIGRATIONS"])
        );
        sleep(ms(10));
    }
    cluster.settle();
}

/// The longest of a number of times, for people.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Longest(pub(crate) Duration);

impl Longest {
    pub(crate) fn note(&mut self, time: Duration) {
        self.0 = self.0.max(time);
    }
}
