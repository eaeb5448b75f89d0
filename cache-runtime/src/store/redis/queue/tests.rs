//! Queues on real servers.

mod doorbell;
mod globs;
mod loss;
mod memory;
mod synced;

use super::*;
use crate::recovery::Kept;
use crate::settings::TlsFiles;
use crate::store::Store;
use crate::store::queue::NewEntry;
use crate::store::queue::conformance::{
    BASE, Bench, LEASE, LIMITS, entry, in_time, other_than, payloads, queue_conformance, until,
};
use crate::store::redis::support::server::{Kind, Server};
use crate::store::redis::{Address, LinkOptions, Part, RedisStore};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

fn store(url: &str) -> RedisStore {
    store_that_keeps(url, Kept::new(100, "*".to_owned()))
}

fn store_that_keeps(url: &str, kept: Kept) -> RedisStore {
    let options = LinkOptions {
        budget: Duration::from_secs(10),
        breaker: 50,
        reconnect: (Duration::from_millis(20), Duration::from_millis(200)),
        delta: Duration::from_secs(60),
        part: Part::Whole,
    };
    RedisStore::new(Address::parse(url, &TlsFiles::default()).unwrap(), options, Arc::new(kept))
}

fn key(what: &str) -> String {
    format!("{BASE}:{what}")
}

/// The stream of an order key.
fn stream(order_key: &str) -> String {
    key(&format!("s{}", shard_of(order_key, LIMITS.shards)))
}

mod redis_queues {
    use super::*;

    #[allow(clippy::unused_async)] // for others who do wait
    async fn make() -> (RedisStore, Server) {
        let server = Server::redis().start();
        (store(&server.url()), server)
    }
    queue_conformance!(make);
}

mod valkey_queues {
    use super::*;

    #[allow(clippy::unused_async)] // for others who do wait
    async fn make() -> (RedisStore, Server) {
        let server = Server::valkey().start();
        (store(&format!("{}?protocol=resp2", server.url())), server)
    }
    queue_conformance!(make);
}

/// What the cache needs, and `TIME`.
const RULES: &str = "resetkeys ~* resetchannels -@all +@read +@write +@connection +eval +evalsha +time";

mod queues_of_a_user_who_may_do_little {
    use super::*;

    #[allow(clippy::unused_async)] // for others who do wait
    async fn make() -> (RedisStore, Server) {
        let server = Server::redis().user("app", "secret", RULES).start();
        (store(&server.url()), server)
    }
    queue_conformance!(make);
}
