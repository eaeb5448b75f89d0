//! The cache under test on a cluster, whose failovers may undo what a replica didn't know (I19): an invalidation
//! is judged once the replicas have confirmed all that its primaries did.

use std::fmt;
use std::path::PathBuf;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::history::Log;
use crate::ours::{self, Ours};
use crate::support::fleet::{self, Lines};
use crate::support::{ms, resp, secs};
use crate::truth::Truth;
use crate::worker::{Read, Subject};

/// A node, asked by hand.
pub(crate) struct Node {
    port: u16,
    // Taken while it is asked: a reply that nobody waited for is nobody else's.
    link: Mutex<Option<TcpStream>>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What became of a question.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Text(String),
    /// Nothing listens there.
    Nobody,
    Silence,
}

impl Node {
    fn new(port: u16) -> Self {
        Self { port, link: Mutex::new(None) }
    }

    async fn ask(&self, words: &[&str]) -> Answer {
        let mut slot = self.link.lock().await;
        let link = match slot.take() {
            Some(link) => link,
            None => match TcpStream::connect(("127.0.0.1", self.port)).await {
                Ok(link) => link,
                Err(_) => return Answer::Nobody,
            },
        };
        match timeout(secs(3), told(link, words)).await {
            Ok(Some((text, link))) => {
                *slot = Some(link);
                Answer::Text(text)
            }
            _ => Answer::Silence,
        }
    }

    /// Whether it takes writes; nothing if it doesn't say.
    async fn is_primary(&self) -> Option<bool> {
        // A connection may have ended with the process before.
        for _ in 0..2 {
            match self.ask(&["ROLE"]).await {
                Answer::Text(role) => return Some(role.starts_with("master")),
                Answer::Nobody => return Some(false),
                Answer::Silence => {}
            }
        }
        None
    }

    /// Whether its replica has all that was written until now.
    async fn is_replicated(&self) -> bool {
        // `WAIT` is about what its own connection wrote, and all before that. This writes, whatever its slots are.
        self.ask(&["FUNCTION", "FLUSH"]).await == Answer::Text("OK".to_owned())
            && self.ask(&["WAIT", "1", "1000"]).await == Answer::Text("1".to_owned())
    }
}

async fn told(mut link: TcpStream, words: &[&str]) -> Option<(String, TcpStream)> {
    link.write_all(&resp::command(words)).await.ok()?;
    let mut bytes = Vec::new();
    loop {
        if let Some(frame) = resp::take(&mut bytes).ok()? {
            return Some((resp::text(&frame), link));
        }
        if link.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// All nodes of a cluster.
#[derive(Debug)]
pub(crate) struct Nodes(Vec<Node>);

impl Nodes {
    pub(crate) fn at(ports: impl IntoIterator<Item = u16>) -> Self {
        Self(ports.into_iter().map(Node::new).collect())
    }

    /// Who are primaries; nothing if somebody doesn't say.
    pub(crate) async fn primaries(&self) -> Option<Vec<&Node>> {
        let mut primaries = Vec::new();
        for node in &self.0 {
            if node.is_primary().await? {
                primaries.push(node);
            }
        }
        Some(primaries)
    }

    /// Whether all that these did, who were the primaries before it, is known to their replicas: no failover
    /// undoes that.
    pub(crate) async fn have_replicated(primaries: &[&Node]) -> bool {
        for node in primaries {
            if !node.is_replicated().await {
                return false;
            }
        }
        true
    }
}

/// The cache, and the nodes that it is on.
#[derive(Debug)]
pub(crate) struct Confirmed {
    ours: Ours,
    nodes: Nodes,
    /// What returned Ok, confirmed or not.
    acknowledged: Log,
}

/// Where a member says what returned Ok, if this is its file.
pub(crate) fn acknowledged(file: &std::path::Path) -> PathBuf {
    file.with_extension("acknowledged")
}

impl Confirmed {
    pub(crate) fn of_member() -> Self {
        let given = |name| fleet::given(name).expect("the parent says so");
        let ports = given("PORTS");
        let ports = ports.split(' ').map(|port| port.parse().expect("a port"));
        Self {
            ours: ours::of_member(),
            nodes: Nodes::at(ports),
            acknowledged: Log(Lines::to(&acknowledged(&PathBuf::from(given("FILE"))))),
        }
    }
}

impl Subject for Confirmed {
    const KEYS: usize = Ours::KEYS;

    fn pace(&self) -> u64 {
        self.ours.pace()
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Read> {
        self.ours.read(key, truth, rng).await
    }

    async fn write(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        let before = timeout(ms(500), self.nodes.primaries()).await.ok().flatten();
        let version = self.ours.write(key, truth, rng).await?;
        self.acknowledged.invalidated(key, version);
        Nodes::have_replicated(&before?).await.then_some(version)
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        self.ours.counted()
    }
}

/// The same cache, whose entries somebody removes who goes through all keys once: what is on its way to another
/// node meanwhile, or has just arrived there, stays.
#[derive(Debug)]
pub(crate) struct OneLook(Confirmed);

impl OneLook {
    pub(crate) fn of_member() -> Self {
        Self(Confirmed::of_member())
    }

    async fn remove_all(&self) -> Option<()> {
        for node in self.0.nodes.primaries().await? {
            let Answer::Text(found) = node.ask(&["SCAN", "0", "COUNT", "10000", "MATCH", "fresh:*"]).await
            else {
                return None;
            };
            for key in found.lines().filter(|line| line.starts_with("fresh:")) {
                node.ask(&["UNLINK", key]).await;
            }
        }
        Some(())
    }
}

impl Subject for OneLook {
    // By hand, and of a decorated function: the slots of both move.
    const KEYS: usize = 2;

    fn pace(&self) -> u64 {
        self.0.pace()
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Read> {
        self.0.read(key, truth, rng).await
    }

    async fn write(&self, key: usize, truth: &Truth, _rng: &mut Rng) -> Option<u64> {
        let version = truth.write(key).await;
        self.remove_all().await?;
        self.0.acknowledged.invalidated(key, version);
        Some(version)
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        self.0.counted()
    }
}
