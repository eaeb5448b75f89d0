//! Two programs at once over one server: an old one, and a new one with other structs and versions of the
//! same functions (I3, I13, I14).
//!
//! They are really two: this test is the new program, and the old one is an example of the same name, so
//! that both are the crate `rolling_deploy` and their functions have the same paths and keys.

#[path = "rolling/new.rs"]
mod program;
mod support;
#[path = "rolling/world.rs"]
mod world;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use support::server::Server;
use support::{example, secs};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio::time::timeout;
use world::World;

fn old_program() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| example::built(&["--example", "rolling_deploy"]).join("rolling_deploy"))
}

/// A running program.
enum Program {
    New(Arc<World>),
    Old(Box<Mutex<Process>>),
}

struct Process {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Program {
    async fn new(server: &Server) -> Self {
        Self::New(World::connect(&server.url()).await)
    }

    fn old(server: &Server) -> Self {
        let mut command = tokio::process::Command::new(old_program());
        command.arg(server.url()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let answers = BufReader::new(answers).lines();
        Self::Old(Box::new(Mutex::new(Process { _child: child, orders, answers })))
    }

    /// Has it carry out an order; see `World::obey`.
    async fn tell(&self, order: &str) -> String {
        let answer = async {
            match self {
                Self::New(world) => world.obey(order).await,
                Self::Old(process) => {
                    let mut process = process.lock().await;
                    process.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
                    process.answers.next_line().await.unwrap().expect("the old program lives")
                }
            }
        };
        timeout(secs(30), answer).await.unwrap_or_else(|_| panic!("`{order}` takes too long"))
    }

    async fn number(&self, order: &str) -> u64 {
        self.tell(order).await.parse().unwrap()
    }

    /// What it answers, and how many loads it did for that.
    async fn with_loads(&self, order: &str) -> (u64, u64) {
        let before = self.number("loads 0").await;
        let answer = self.number(order).await;
        (answer, self.number("loads 0").await - before)
    }
}

async fn both(server: &Server) -> [Program; 2] {
    let programs = [Program::old(server), Program::new(server).await];
    assert_eq!((&*programs[0].tell("name 0").await, &*programs[1].tell("name 0").await), ("old", "new"));
    programs
}

#[tokio::test]
async fn a_newer_version_replaces_and_an_older_one_keeps_its_hands_off() {
    let server = Server::redis().start();
    let [old, new] = both(&server).await;
    assert_eq!(old.tell("keys 1").await, new.tell("keys 1").await, "they are the same functions");
    new.tell("write all 1").await;
    for value in ["total 1", "account 1"] {
        assert_eq!(old.with_loads(value).await, (1, 1));
        assert_eq!(old.with_loads(value).await, (1, 0), "{value}: the old one caches");
        assert_eq!(new.with_loads(value).await, (1, 1), "{value}: the new one replaces that");
        assert_eq!(new.with_loads(value).await, (1, 0), "{value}: and caches");
        assert_eq!(old.with_loads(value).await, (1, 1), "{value}: the old one goes past the cache");
        assert_eq!(new.with_loads(value).await, (1, 0), "{value}: and leaves it alone");
    }
    assert_eq!(old.tell("are cached 1").await, "false false");
    // Whatever it tries.
    for order in ["refresh 1", "put 1", "refresh 1"] {
        old.tell(order).await;
        assert_eq!(new.tell("are cached 1").await, "true true", "after `{order}` by the old one");
    }
    for value in ["total 1", "account 1"] {
        assert_eq!(new.with_loads(value).await, (1, 0), "{value}");
    }
}

const VALUES: [&str; 6] = ["total", "account", "grown", "lenient", "renamed", "switched"];

#[tokio::test]
async fn forgetting_by_either_reaches_both() {
    let server = Server::redis().start();
    let programs = both(&server).await;
    let [mut row, mut forgotten] = [0, 0];
    for writer in &programs {
        for first in 0..2 {
            for (write, forget, values) in [
                ("write", None, &VALUES[..1]),
                ("write all", None, &VALUES[..]),
                ("write", Some("clear total"), &VALUES[..1]),
                ("write", Some("clear account"), &VALUES[1..2]),
                ("write", Some("clear all"), &VALUES[..]),
            ] {
                // Once the old one stored last, once the new one.
                for value in VALUES {
                    for reader in [&programs[first], &programs[1 - first]] {
                        reader.tell(&format!("{value} 1")).await;
                    }
                }
                row += 1;
                assert_eq!(writer.number(&format!("{write} 1")).await, row);
                if let Some(forget) = forget {
                    writer.tell(&format!("{forget} 1")).await;
                }
                for value in values {
                    for reader in &programs {
                        let got = reader.number(&format!("{value} 1")).await;
                        assert_eq!(got, row, "{value}, after `{write}` and {forget:?}");
                        forgotten += 1;
                    }
                }
                programs[0].tell("clear all 1").await;
            }
        }
    }
    assert_eq!(forgotten, 4 * 2 * 15);
}

/// What doesn't decode, or is of a type with another name, is replaced; what decodes is used.
#[tokio::test]
async fn a_type_that_changed_without_a_version() {
    let server = Server::redis().start();
    let [old, new] = both(&server).await;
    new.tell("write all 1").await;
    assert_eq!(old.with_loads("grown 1").await, (1, 1));
    assert_eq!(new.with_loads("grown 1").await, (1, 1), "a field is missing");
    assert_eq!(new.with_loads("grown 1").await, (1, 0), "it was replaced");
    assert_eq!(old.with_loads("grown 1").await, (1, 0), "a field more is none of its business");

    assert_eq!(old.with_loads("lenient 1").await, (1, 1));
    assert_eq!(new.with_loads("lenient 1").await, (1, 0), "the field has a default");
    new.tell("write all 1").await;
    assert_eq!(new.with_loads("lenient 1").await, (2, 1));
    assert_eq!(old.with_loads("lenient 1").await, (2, 0));

    for _ in 0..2 {
        assert_eq!(old.with_loads("renamed 1").await, (2, 1), "another's type");
        assert_eq!(old.with_loads("renamed 1").await, (2, 0));
        assert_eq!(new.with_loads("renamed 1").await, (2, 1), "another's type");
        assert_eq!(new.with_loads("renamed 1").await, (2, 0));
    }
}

/// Whoever reads sees in the entry how it is encoded.
#[tokio::test]
async fn a_codec_that_changed() {
    let server = Server::redis().start();
    let [old, new] = both(&server).await;
    for row in 1..=80 {
        let [first, second] = if row % 2 == 0 { [&old, &new] } else { [&new, &old] };
        new.tell("write all 1").await;
        assert_eq!(first.with_loads("switched 1").await, (row, 1));
        assert_eq!(second.with_loads("switched 1").await, (row, 0));
        let codec = server.command(&["GETRANGE", "shop:switched:1", "29", "29"]);
        assert_eq!(codec, if row % 2 == 0 { "\0" } else { "\u{1}" });
    }
}

/// Both under load, with writers in both: no value of the other meaning, and none that is older than an
/// invalidation that returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_at_once_under_writes() {
    let server = Server::redis().start();
    let programs = both(&server).await;
    for id in 0..4 {
        programs[1].tell(&format!("write all {id}")).await; // so that no row is 0, which has one meaning
    }
    for program in &programs {
        program.tell("hammer 4").await;
    }
    for round in 0..120 {
        let (writer, id) = (&programs[round % 2], round % 4);
        let (write, values) = match round % 3 {
            0 => ("write", &VALUES[..1]),
            _ => ("write all", &VALUES[..]),
        };
        let row = writer.number(&format!("{write} {id}")).await;
        for value in values {
            for reader in &programs {
                let got = reader.number(&format!("{value} {id}")).await;
                assert_eq!(got, row, "{value} {id} in round {round}");
            }
        }
    }
    for program in &programs {
        assert_eq!(program.tell("rest 0").await, "done");
    }
}
