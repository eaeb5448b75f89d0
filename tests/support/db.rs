//! A database of one row, which can be slow or out of order, and caches in front of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_aside::Cache;

use super::server::Server;
use super::{ms, secs};

/// Clones are handles.
#[derive(Debug, Clone)]
pub struct Db(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Below zero the database is out of order; -2 makes it panic.
    row: AtomicI64,
    loads: AtomicU64,
    takes: AtomicU64,
    _server: Option<Server>,
}

/// It is out of order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down;

impl Db {
    /// It holds 7, and keeps the server of its caches.
    pub fn new(server: Option<Server>) -> Self {
        let (row, loads, takes) = (7.into(), 0.into(), 0.into());
        Self(Arc::new(Inner { row, loads, takes, _server: server }))
    }

    /// What it held when it was asked, unless it was or is out of order.
    pub async fn load(&self) -> Result<i64, Down> {
        self.0.loads.fetch_add(1, SeqCst);
        let row = self.0.row.load(SeqCst);
        let takes = self.0.takes.load(SeqCst);
        if takes > 0 {
            tokio::time::sleep(ms(takes)).await;
        }
        match row {
            -2 => panic!("the loader's own panic"),
            -1 => Err(Down),
            _ => Ok(row),
        }
    }

    pub fn write(&self, row: i64) {
        self.0.row.store(row, SeqCst);
    }

    /// How long a load takes from now on.
    pub fn takes(&self, millis: u64) {
        self.0.takes.store(millis, SeqCst);
    }

    pub fn loads(&self) -> u64 {
        self.0.loads.load(SeqCst)
    }
}

/// One row that is always in order, 0 at first, and how often it was read. Clones are handles.
#[derive(Debug, Clone, Default)]
pub struct Row(Arc<(AtomicU64, AtomicU64)>);

impl Row {
    pub fn read(&self) -> u64 {
        self.0.1.fetch_add(1, SeqCst);
        self.0.0.load(SeqCst)
    }

    pub fn write(&self, row: u64) {
        self.0.0.store(row, SeqCst);
    }

    pub fn reads(&self) -> u64 {
        self.0.1.load(SeqCst)
    }
}

/// A database and two caches in front of it: two processes, as far as they can tell.
pub struct Bench {
    pub db: Db,
    pub cache: Cache,
    pub other: Cache,
}

/// On the embedded store, which both caches then share, and on a server.
pub fn benches() -> [Bench; 2] {
    let server = Server::redis().start();
    let builder = Cache::builder().store_budget(secs(3)).lease(ms(900));
    let on_server = || builder.clone().redis(server.url()).build().unwrap();
    let remote = [on_server(), on_server()];
    let embedded = builder.clone().build().unwrap();
    let bench = |[cache, other]: [Cache; 2], server| Bench { db: Db::new(server), cache, other };
    [bench([embedded.clone(), embedded], None), bench(remote, Some(server))]
}

/// Leaves the key so much of its life.
pub async fn age(cache: &Cache, key: &str, left: Duration) {
    assert!(cache.expire(key, left).await.unwrap(), "{key} is gone");
}

/// Waits until that holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < secs(10), "never: {what}");
        tokio::time::sleep(ms(5)).await;
    }
}
