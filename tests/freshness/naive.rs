//! The protocol in its smallest form over raw commands, and with the mistakes that are made most:
//! what the checker must find, or it proves nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fastrand::Rng;
use tokio::sync::Mutex;

use crate::history::now;
use crate::support::client::Client;
use crate::support::{fleet, ms};
use crate::truth::Truth;
use crate::worker::{Read, Subject, load};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: a token for every load, compared before the fill.
    None,
    /// All loads of one process have one token, so an old one fills under the lease of a new one.
    TokenPerProcess,
    /// A fill doesn't ask whether the lease is still there.
    FillWithoutCompare,
    /// A call whose load fails answers with the value that it saw before, there or not.
    StaleUnasked,
}

/// A token, and what is stored with it (`SET`, `DEL`). The client by hand takes commands as words
/// between spaces, so there are none.
const FILL: &str = "if(redis.call('GET',KEYS[1])~=ARGV[1])then\nreturn(0)\nend\n\
                    redis.call('SET',KEYS[1],ARGV[2],'PX',400)\nreturn(1)";

const LEASE_MS: u64 = 60;

#[derive(Debug)]
pub(crate) struct Naive {
    url: String,
    flaw: Flaw,
    token: u64,
    loads: AtomicU64,
    refused: AtomicU64,
    /// Connections that nobody uses.
    idle: Mutex<Vec<Client>>,
}

impl Naive {
    pub(crate) fn of_member(flaw: Flaw) -> Self {
        Self {
            url: fleet::given("SERVER").expect("the parent says where"),
            flaw,
            token: fleet::number("SEED"),
            loads: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            idle: Mutex::default(),
        }
    }

    async fn ask(&self, command: &str) -> String {
        let idle = self.idle.lock().await.pop();
        let mut client = match idle {
            Some(client) => client,
            None => Client::to(&self.url).await,
        };
        let reply = client.ask(command).await;
        assert!(!reply.starts_with('-'), "{command}: {reply}");
        self.idle.lock().await.push(client);
        reply
    }

    fn lease(&self, rng: &mut Rng) -> String {
        let token = if self.flaw == Flaw::TokenPerProcess { self.token } else { rng.u64(..) };
        format!("lease:{token}")
    }

    async fn fill(&self, key: &str, lease: &str, version: u64) {
        let filled = if self.flaw == Flaw::FillWithoutCompare {
            self.ask(&format!("SET {key} {version} PX 400")).await
        } else {
            self.ask(&format!("EVAL {FILL} 1 {key} {lease} {version}")).await
        };
        if filled == "0" {
            self.refused.fetch_add(1, Relaxed);
        }
    }
}

fn name(key: usize) -> String {
    format!("naive:{key}")
}

impl Subject for Naive {
    const KEYS: usize = 4;

    fn pace(&self) -> u64 {
        40_000
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Read> {
        let since = now();
        let (name, lease) = (name(key), self.lease(rng));
        loop {
            let there = self.ask(&format!("SET {name} {lease} NX GET PX {LEASE_MS}")).await;
            if let Ok(version) = there.parse() {
                if self.flaw == Flaw::StaleUnasked && rng.u8(..4) == 0 {
                    // As if it were past its life: the load fails.
                    load(key, truth, rng.fork(), 30_000).await;
                    return Some(Read { version, since: now() });
                }
                return Some(Read { version, since });
            }
            if there == "(nil)" {
                self.loads.fetch_add(1, Relaxed);
                let version = load(key, truth, rng.fork(), 30_000).await;
                self.fill(&name, &lease, version).await;
                return Some(Read { version, since });
            }
            tokio::time::sleep(ms(5)).await;
        }
    }

    async fn write(&self, key: usize, truth: &Truth, _rng: &mut Rng) -> Option<u64> {
        let version = truth.write(key).await;
        self.ask(&format!("DEL {}", name(key))).await;
        Some(version)
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        vec![("loads", self.loads.load(Relaxed)), ("fills_refused", self.refused.load(Relaxed))]
    }
}
