//! What both programs have: a cache, the database behind it, and orders to carry out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_aside::Cache;
use tokio::task::JoinSet;

use crate::program::{self, account, grown, lenient, renamed, switched, total, write, write_all};
use crate::support::client::Client;

/// The rows that all programs hammer.
const HAMMERED: u64 = 4;

pub(crate) struct World {
    pub(crate) cache: Cache,
    database: String,
    loads: AtomicU64,
    is_hammering: AtomicBool,
    hammers: Mutex<JoinSet<()>>,
}

impl World {
    /// The server is the database, too.
    pub(crate) async fn connect(url: &str) -> Arc<Self> {
        // The server is well: a busy machine is no reason to go on without it.
        let cache = Cache::builder().redis(url).namespace("shop").store_budget(Duration::from_secs(5));
        let cache = cache.build().expect("the settings are good");
        cache.ping().await.expect("the server is there");
        let database = url.to_owned();
        let (loads, is_hammering, hammers) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
        Arc::new(Self { cache, database, loads, is_hammering, hammers })
    }

    async fn ask(&self, command: &str, id: u64) -> u64 {
        let answer = Client::to(&self.database).await.ask(&format!("{command} db:{id}")).await;
        if answer == "(nil)" { 0 } else { answer.parse().expect("a count") }
    }

    /// How often the row was written.
    pub(crate) async fn row(&self, id: u64) -> u64 {
        self.loads.fetch_add(1, SeqCst);
        self.ask("GET", id).await
    }

    pub(crate) async fn write(&self, id: u64) -> u64 {
        self.ask("INCR", id).await
    }

    /// Carries out an order: some words, and the row that it is about.
    pub(crate) async fn obey(self: &Arc<Self>, order: &str) -> String {
        let (words, id) = order.rsplit_once(' ').expect("words and a number");
        let id = id.parse().expect("a number");
        match words {
            "name" => program::NAME.to_owned(),
            "total" => self.total(id).await.to_string(),
            "account" => self.account(id).await.to_string(),
            "grown" => self.grown(id).await.to_string(),
            "lenient" => self.lenient(id).await.to_string(),
            "renamed" => self.renamed(id).await.to_string(),
            "switched" => self.switched(id).await.to_string(),
            "write" => write(self, id).await.to_string(),
            "write all" => write_all(self, id).await.to_string(),
            "clear total" => total::clear_cache(self, id).await.unwrap().to_string(),
            "clear account" => account::clear_cache(self, id).await.unwrap().to_string(),
            "clear all" => {
                total::clear_cache_all(self).await.unwrap();
                account::clear_cache_all(self).await.unwrap();
                grown::clear_cache_all(self).await.unwrap();
                lenient::clear_cache_all(self).await.unwrap();
                renamed::clear_cache_all(self).await.unwrap();
                switched::clear_cache_all(self).await.unwrap();
                "done".to_owned()
            }
            "keys" => {
                let keys = [
                    total::cache_key(self, id),
                    account::cache_key(self, id),
                    grown::cache_key(self, id),
                    lenient::cache_key(self, id),
                    renamed::cache_key(self, id),
                    switched::cache_key(self, id),
                ];
                keys.map(Result::unwrap).join(" ")
            }
            "are cached" => {
                let total = total::cached(self, id).await.unwrap().is_some();
                let account = account::cached(self, id).await.unwrap().is_some();
                format!("{total} {account}")
            }
            "refresh" => {
                total::refresh_cache(self, id).await;
                account::refresh_cache(self, id).await;
                "done".to_owned()
            }
            "put" => {
                self.put(id, self.ask("GET", id).await).await;
                "done".to_owned()
            }
            "loads" => self.loads.load(SeqCst).to_string(),
            "hammer" => {
                self.is_hammering.store(true, SeqCst);
                for task in 0..id {
                    self.hammers.lock().unwrap().spawn(Arc::clone(self).hammer(task));
                }
                "begun".to_owned()
            }
            "rest" => {
                self.is_hammering.store(false, SeqCst);
                let hammers = std::mem::take(&mut *self.hammers.lock().unwrap());
                hammers.join_all().await;
                "done".to_owned()
            }
            other => panic!("`{other}` is no order"),
        }
    }

    /// Reads, and refreshes now and then, without an end; nothing it reads may be of another meaning.
    async fn hammer(self: Arc<Self>, task: u64) {
        let mut turn = task;
        while self.is_hammering.load(SeqCst) {
            turn += 1;
            let id = turn % HAMMERED;
            let row = match turn % 11 {
                0..4 => self.total(id).await,
                4..8 => self.account(id).await,
                8 => self.grown(id).await,
                9 if task.is_multiple_of(2) => self.switched(id).await,
                9 => self.renamed(id).await,
                _ => {
                    total::refresh_cache(&self, id).await;
                    continue;
                }
            };
            let now = self.ask("GET", id).await;
            assert!(row <= now, "{}: row {id} is {row}, but was written {now} times", program::NAME);
        }
    }
}
