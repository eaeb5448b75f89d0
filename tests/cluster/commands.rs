//! What a hit and a miss ask of the servers: counted by the servers themselves, on one and on a cluster.

use std::collections::BTreeMap;

use cache_aside::{Cache, cache};

use crate::runtime;
use crate::scene::three_and_three;
use crate::support::client::Client;
use crate::support::fleet::report;
use crate::support::secs;
use crate::support::server::{Kind, Server};
use crate::turn;

#[cache(key = "plain:{id}", ttl = 60)]
async fn plain(id: u64) -> u64 {
    id
}

#[cache(key = "tagged:{id}", ttl = 60, tags = ["tag:{id}"])]
async fn tagged(id: u64) -> u64 {
    id
}

#[cache(key = "named:{id}", ttl = 60, tags = ["named:{value}"])]
async fn named(id: u64) -> u64 {
    id
}

#[cache(key = "near:{id}", ttl = 60, near = true)]
async fn near(id: u64) -> u64 {
    id
}

/// So many calls, each with a key of its own; their slots are everywhere.
const CALLS: u64 = 30;

/// Listens to all that some servers are asked.
struct Ears(Vec<(u16, Client)>);

impl Ears {
    async fn at(servers: impl Iterator<Item = &Server>) -> Self {
        let mut ears = Vec::new();
        for server in servers {
            let mut client = Client::to(&server.url()).await;
            assert_eq!(client.ask("MONITOR").await, "OK");
            ears.push((server.port(), client));
        }
        Self(ears)
    }

    /// The commands about keys of ours, by name, since the last time; without those that scripts call.
    async fn heard(&mut self) -> BTreeMap<String, u64> {
        let mut heard = BTreeMap::new();
        for (port, client) in &mut self.0 {
            let mark = format!("mark:{}", fastrand::u64(..));
            let mut other = Client::to(&format!("redis://127.0.0.1:{port}")).await;
            assert_eq!(other.ask(&format!("ECHO {mark}")).await, mark);
            loop {
                let line = client.reply().await;
                if line.contains(&mark) {
                    break;
                }
                if line.contains("count:") && !line.contains(" lua]") {
                    let name = line.split('"').nth(1).expect("a command").to_ascii_uppercase();
                    *heard.entry(name).or_default() += 1;
                }
            }
        }
        heard
    }
}

/// Commands of that many calls, as text.
fn show(heard: &BTreeMap<String, u64>) -> String {
    let of = |count: u64| f64::from(u32::try_from(count).expect("few"));
    let per_call = |count| of(count) / of(CALLS);
    let names: Vec<String> =
        heard.iter().map(|(name, count)| format!("{name} {:.2}", per_call(*count))).collect();
    format!("{:.2} ({})", per_call(heard.values().sum()), names.join(", "))
}

async fn call(kind: &str, id: u64) {
    let got = match kind {
        "plain" => plain(id).await,
        "tagged" => tagged(id).await,
        "named" => named(id).await,
        _ => near(id).await,
    };
    assert_eq!(got, id);
}

/// Commands of the misses and of the hits of each kind.
async fn count(cache: Cache, mut ears: Ears) -> BTreeMap<&'static str, [BTreeMap<String, u64>; 2]> {
    cache.ping().await.expect("it is there");
    let calls = async {
        let mut counted = BTreeMap::new();
        for kind in ["plain", "tagged", "named", "near"] {
            // The scripts and the connections are known after the first call.
            for id in 1000..1000 + CALLS {
                call(kind, id).await;
                call(kind, id).await;
            }
            ears.heard().await;
            for id in 0..CALLS {
                call(kind, id).await;
            }
            let misses = ears.heard().await;
            for id in 0..CALLS {
                call(kind, id).await;
            }
            counted.insert(kind, [misses, ears.heard().await]);
        }
        counted
    };
    Cache::scope(cache.clone(), calls).await
}

fn cache(url: &str) -> Cache {
    let cache = Cache::builder().redis(url).namespace("count").store_budget(secs(10));
    cache.build().expect("the settings are good")
}

#[test]
fn a_hit_is_one_command_and_a_miss_as_many_as_on_one_server() {
    let _turn = turn();
    let (server, cluster) = (Server::redis().start(), three_and_three(Kind::Redis, true));
    let (one, many) = runtime().block_on(async {
        let one = count(cache(&server.url()), Ears::at([&server].into_iter()).await).await;
        (one, count(cache(&cluster.url()), Ears::at(cluster.primaries()).await).await)
    });
    for (kind, [misses, hits]) in &many {
        let [one_misses, one_hits] = &one[kind];
        report(format_args!(
            "commands of {kind}: a miss {} on a cluster, {} on one server; a hit {}, {}",
            show(misses),
            show(one_misses),
            show(hits),
            show(one_hits),
        ));
    }
    let sum = |counted: &BTreeMap<String, u64>| counted.values().sum::<u64>();
    assert_eq!(sum(&many["plain"][1]), CALLS, "one command per hit");
    for (kind, [misses, hits]) in &many {
        let [one_misses, one_hits] = &one[kind];
        assert_eq!((sum(misses), sum(hits)), (sum(one_misses), sum(one_hits)), "{kind}");
    }
}
