//! A cluster of real servers that a test starts for itself: primaries, and replicas if it wants them.
//!
//! ```ignore
//! let cluster = Cluster::of(Kind::Redis, 3, 3);
//! let cache = Cache::builder().redis(cluster.url());
//! cluster.primary_of("user:1").kill();
//! cluster.settle();                                         // until all agree, and all slots are served
//! let mut moving = cluster.migrate(cluster.slot_of("user:1"), 1);
//! ```

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::process::Kind;
use super::server::{Builder, Server};

/// How long a cluster may take to agree.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOTS: usize = 16_384;

#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// So many primaries with equal shares, and so many replicas, one for each in turn; all agree.
    ///
    /// # Panics
    ///
    /// If they don't within a minute.
    pub fn of(kind: Kind, primaries: usize, replicas: usize) -> Self {
        Self::with(kind, primaries, replicas, |node| node)
    }

    /// The same, with nodes that are like this.
    pub fn with(kind: Kind, primaries: usize, replicas: usize, like: impl Fn(Builder) -> Builder) -> Self {
        let node = |_| {
            let node = Server::of(kind)
                .config("cluster-enabled", "yes")
                .config("cluster-node-timeout", "1000")
                .config("cluster-replica-validity-factor", "0");
            like(node).start()
        };
        let cluster = Self { nodes: (0..primaries + replicas).map(node).collect() };
        for (number, node) in cluster.nodes[..primaries].iter().enumerate() {
            let slot = |share: usize| share * SLOTS / primaries;
            let slots: Vec<String> = (slot(number)..slot(number + 1)).map(|slot| slot.to_string()).collect();
            let mut add = vec!["CLUSTER", "ADDSLOTS"];
            add.extend(slots.iter().map(String::as_str));
            assert_eq!(node.command(&add), "OK");
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            // Else some would begin with one epoch, and those who disagree lose time.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if number > 0 {
                let port = cluster.nodes[0].port().to_string();
                assert_eq!(node.command(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
            }
        }
        let all_met = || {
            let known = |node: &Server| node.command(&["CLUSTER", "NODES"]).lines().count();
            cluster.nodes.iter().all(|node| known(node) == cluster.nodes.len())
        };
        wait("they don't all meet", all_met);
        for (number, replica) in cluster.nodes[primaries..].iter().enumerate() {
            let id = id_of(&cluster.nodes[number % primaries]);
            wait("a replica isn't taken", || replica.command(&["CLUSTER", "REPLICATE", &id]) == "OK");
        }
        cluster.settle();
        cluster
    }

    /// What a client is given: the first two nodes.
    pub fn url(&self) -> String {
        self.url_of("redis+cluster", "127.0.0.1")
    }

    /// The same, for nodes that speak TLS, by this name of all of them.
    pub fn tls_url(&self, host: &str) -> String {
        self.url_of("rediss+cluster", host)
    }

    fn url_of(&self, scheme: &str, host: &str) -> String {
        let mut url = format!("{scheme}://");
        for (number, node) in self.nodes.iter().take(2).enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(url, "{comma}{host}:{}", node.port()).expect("a String takes all");
        }
        url
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let slot = self.alive().next().expect("one runs").command(&["CLUSTER", "KEYSLOT", key]);
        slot.parse().expect("a number")
    }

    /// Who has the slot of this key, as its nodes see it.
    pub fn primary_of(&self, key: &str) -> &Server {
        self.primary_of_slot(self.slot_of(key))
    }

    pub fn primary_of_slot(&self, slot: u16) -> &Server {
        let owner = self.alive().find(|node| slots_of(node).contains(&slot));
        owner.unwrap_or_else(|| panic!("nobody has slot {slot}"))
    }

    /// A replica of this primary, as its nodes see it.
    pub fn replica_of(&self, primary: &Server) -> &Server {
        let id = id_of(primary);
        let is_its = |node: &&Server| itself(node).split(' ').nth(3) == Some(&id);
        self.alive().find(is_its).expect("it has one")
    }

    /// One command where its key is.
    pub fn command(&self, key: &str, words: &[&str]) -> String {
        self.primary_of(key).command(words)
    }

    /// Those that run and answer.
    pub fn alive(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// All that have slots.
    pub fn primaries(&self) -> impl Iterator<Item = &Server> {
        self.alive().filter(|node| !slots_of(node).is_empty())
    }

    /// Waits until all that run agree who has which slots, all slots are served, and replicas are in sync.
    pub fn settle(&self) {
        let agree = || {
            let mut views = self.alive().map(view);
            let first = views.next().flatten();
            first.is_some() && views.all(|view| view == first)
        };
        wait("they don't agree", agree);
    }

    /// Begins to move a slot to this node.
    pub fn migrate(&self, slot: u16, to: &Server) -> Migration<'_> {
        let (from, slot) = (self.primary_of_slot(slot), slot.to_string());
        let to = self.nodes.iter().find(|node| node.port() == to.port()).expect("it is one of these");
        assert_eq!(to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id_of(from)]), "OK");
        assert_eq!(from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id_of(to)]), "OK");
        Migration { cluster: self, slot, from, to }
    }
}

/// A slot on its way: whoever asks for a key that has gone already is sent on.
#[derive(Debug)]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: String,
    pub from: &'a Server,
    pub to: &'a Server,
}

impl Migration<'_> {
    /// Moves so many keys; how many there were.
    pub fn keys(&self, most: usize) -> usize {
        if self.from.command(&["CLUSTER", "COUNTKEYSINSLOT", &self.slot]) == "0" {
            return 0;
        }
        let keys = self.from.command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, &most.to_string()]);
        let (port, mut moved) = (self.to.port().to_string(), 0);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let reply = self.from.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
            assert!(matches!(&*reply, "OK" | "NOKEY"), "{reply}");
            moved += 1;
        }
        moved
    }

    /// Moves what is left, and says whose the slot is.
    pub fn finish(self) {
        while self.keys(100) > 0 {}
        let id = id_of(self.to);
        for node in [self.to, self.from].into_iter().chain(self.cluster.primaries()) {
            assert_eq!(node.command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id]), "OK");
        }
    }
}

fn wait(problem: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{problem}");
        sleep(Duration::from_millis(20));
    }
}

fn id_of(node: &Server) -> String {
    node.command(&["CLUSTER", "MYID"])
}

/// The line about itself.
fn itself(node: &Server) -> String {
    let nodes = node.command(&["CLUSTER", "NODES"]);
    nodes.lines().find(|line| line.contains("myself")).expect("it knows itself").to_owned()
}

fn slots_of(node: &Server) -> Vec<u16> {
    let itself = itself(node);
    let ranges = itself.split(' ').skip(8).filter(|word| !word.starts_with('['));
    let slots = ranges.flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().expect("a slot")..=last.parse().expect("a slot")
    });
    slots.collect()
}

/// Who has what, as a node sees it, if it sees a cluster that is well.
fn view(node: &Server) -> Option<Vec<String>> {
    let replica = node.command(&["ROLE"]).lines().next() == Some("slave");
    let is_well = node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        && (!replica || node.command(&["INFO", "replication"]).contains("master_link_status:up"));
    let nodes = node.command(&["CLUSTER", "NODES"]);
    let mut view = Vec::new();
    for line in nodes.lines().filter(|line| !line.contains("fail")) {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = if words[2].contains("master") { "master" } else { "replica" };
        let slots = words.iter().skip(8).filter(|word| !word.starts_with('['));
        view.push(format!("{} {kind} {} {:?}", words[0], words[3], slots.collect::<Vec<_>>()));
    }
    view.sort();
    is_well.then_some(view)
}
