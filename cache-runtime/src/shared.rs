//! What the handles of a cache share: the store, the flights, the books.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tracing::{error, warn};

use crate::ahead::Background;
use crate::builder::Options;
use crate::clock;
use crate::codec::Codec;
use crate::commands::NearRead;
use crate::error::{CacheError, StoreError};
use crate::events::{Books, Counters};
use crate::flight::Flights;
use crate::hold::Orphans;
use crate::key::LONGEST;
use crate::near::{Ear, Near};
use crate::policy::{Jitter, Life, Ttl};
use crate::reads::Reads;
use crate::record::{self, Found};
use crate::recovery::{Kept, Target};
use crate::site::Site;
use crate::store::queue::Queue;
use crate::store::{self, Aged, Expiry, Reply, Store, Watched};
use crate::tagged::{Look, Sought};

/// There was no answer in time.
pub(crate) fn late() -> StoreError {
    StoreError::Timeout("no answer within the budget".to_owned())
}

/// What the handles share.
pub(crate) struct Core {
    pub(crate) store: Box<dyn Store>,
    pub(crate) options: Options,
    pub(crate) flights: Arc<Flights>,
    /// Reads that callers share: of values, and of values with what is left of their lives.
    pub(crate) reads: Reads<String, Option<Bytes>>,
    pub(crate) aged_reads: Reads<String, Option<Aged>>,
    pub(crate) near_reads: Reads<String, NearRead>,
    pub(crate) tagged_reads: Reads<Sought, Arc<Look>>,
    /// Decoded values that are kept in this process.
    pub(crate) near: Arc<Near>,
    /// Loads without a caller.
    pub(crate) background: Arc<Background>,
    pub(crate) counters: Counters,
    /// Invalidations that the store couldn't take yet.
    pub(crate) kept: Arc<Kept>,
    /// Leases of ours that couldn't be released: nobody loads under them.
    pub(crate) orphans: Orphans,
    /// Queues of writes, by name.
    queues: Mutex<HashMap<String, Arc<dyn Queue>>>,
    /// Keys that something was said about, so that it is said once.
    warned: Mutex<HashSet<String>>,
}

impl Core {
    pub(crate) fn new(store: Box<dyn Store>, options: Options, kept: Arc<Kept>) -> Self {
        let near = Arc::new(Near::new(options.near_bytes, options.near_staleness));
        store.track(Arc::new(Ear::of(Arc::clone(&near))));
        Self {
            store: Box::new(Watched::new(store, Arc::clone(&near))),
            near,
            options,
            flights: Arc::new(Flights::new()),
            reads: Reads::new(),
            aged_reads: Reads::new(),
            near_reads: Reads::new(),
            tagged_reads: Reads::new(),
            background: Arc::default(),
            counters: Counters::new(),
            kept,
            orphans: Orphans::default(),
            queues: Mutex::default(),
            warned: Mutex::default(),
        }
    }

    /// An operation of the store, within the budget.
    pub(crate) async fn timed<T>(&self, operation: Reply<'_, T>) -> Result<T, StoreError> {
        self.timed_by(self.options.budget, operation).await
    }

    /// An operation of the store, for which so much time is left.
    pub(crate) async fn timed_by<T>(&self, left: Duration, operation: Reply<'_, T>) -> Result<T, StoreError> {
        if !self.store.is_remote() {
            return operation.await;
        }
        self.in_time(clock::timeout(left, operation).await)
    }

    /// What became of an operation that was waited for as long as it may be.
    pub(crate) fn in_time<T, L>(&self, answer: Result<Result<T, StoreError>, L>) -> Result<T, StoreError> {
        answer.unwrap_or_else(|_| {
            self.store.overdue();
            Err(late())
        })
    }

    /// The queue of this name: its keys begin with `@writes:{name}`, under the namespace, so they are in one
    /// slot of a cluster.
    pub(crate) fn queue(&self, name: &str) -> Arc<dyn Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(name) {
            return Arc::clone(queue);
        }
        let base = match &self.options.namespace {
            Some(namespace) => format!("{namespace}:@writes:{{{name}}}"),
            None => format!("@writes:{{{name}}}"),
        };
        let queue = self.store.queue(&base);
        queues.insert(name.to_owned(), Arc::clone(&queue));
        queue
    }

    /// Keeps an invalidation that the store couldn't take; until it can, nothing is read from it.
    pub(crate) fn keep(&self, target: Target, cover: Option<String>) {
        self.kept.keep(target, cover);
        self.store.invalidation_waits();
    }

    pub(crate) fn pending(&self) -> u64 {
        self.kept.len() as u64
    }

    /// The key under the namespace.
    pub(crate) fn full(&self, key: String) -> Result<String, CacheError> {
        let key = match &self.options.namespace {
            Some(namespace) => format!("{namespace}:{key}"),
            None => key,
        };
        if key.len() > LONGEST {
            Err(CacheError::KeyTooLong { bytes: key.len(), max: LONGEST })
        } else {
            Ok(key)
        }
    }

    /// The glob under the namespace, which it can't leave.
    pub(crate) fn full_glob(&self, glob: &str) -> String {
        match &self.options.namespace {
            Some(namespace) => format!("{}:{glob}", store::escape_literal(namespace)),
            None => glob.to_owned(),
        }
    }

    /// The books of a function's events, or of calls made by hand.
    pub(crate) fn books(&self, site: Option<&'static Site>) -> Books<'_> {
        Books { function: site.map(|site| &site.counters), cache: &self.counters }
    }

    /// The entry under `key` is another's: two functions, or two lists of arguments, make the same
    /// key. They take turns at being cached.
    pub(crate) fn shared_key(&self, key: &str) {
        if self.first_word(key) {
            error!(target: "cache_aside", key, "the entry belongs to another function or to other arguments: not used");
        }
    }

    /// Whether that was said of this key.
    pub(crate) fn is_shared_key(&self, key: &str) -> bool {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// The server answered another question than the one that was asked.
    pub(crate) fn out_of_step(&self, key: &str) {
        error!(target: "cache_aside", key, "a reply was to another question: not used, and the connection is given up");
        self.store.distrust("a reply was to another question");
    }

    /// Says something about a key, once.
    pub(crate) fn warn_once(&self, key: &str, what: &'static str) {
        if self.first_word(key) {
            warn!(target: "cache_aside", key, "{what}");
        }
    }

    fn first_word(&self, key: &str) -> bool {
        const MANY: usize = 1000;
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.len() < MANY && warned.insert(key.to_owned())
    }

    /// What a look by hand makes of these bytes.
    pub(crate) fn decode<T: DeserializeOwned>(&self, key: &str, bytes: Option<Bytes>) -> Option<T> {
        let books = self.books(None);
        let decoded = match bytes.map(record::read) {
            Some(Found::Value(value)) => {
                let decoded = Codec::of(value.head.codec)
                    .and_then(|codec| codec.decode(&value.payload, value.head.is_none()).ok());
                decoded.inspect(|_| books.count(|book| &book.hits))
            }
            Some(Found::Plain(json)) => match Codec::Json.decode(&json, json == b"null"[..]) {
                Ok(value) => {
                    books.count(|book| &book.plain_hits);
                    Some(value)
                }
                Err(_) => {
                    self.warn_once(key, "holds something that isn't ours and doesn't decode: left alone");
                    None
                }
            },
            _ => None,
        };
        if decoded.is_none() {
            books.count(|book| &book.misses);
        }
        decoded
    }

    /// What is fresh and valid under these keys: a value past its time to live is for its function alone,
    /// one whose tag was invalidated is for nobody.
    pub(crate) async fn fresh(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut found = self.timed(self.store.get_many(keys)).await?;
        let doubtful = |bytes: &Option<Bytes>| bytes.as_ref().is_some_and(|bytes| is_doubtful(bytes));
        let doubtful: Vec<usize> = (0..found.len()).filter(|at| doubtful(&found[*at])).collect();
        if doubtful.is_empty() {
            return Ok(found);
        }
        let keys: Vec<String> = doubtful.iter().map(|at| keys[*at].clone()).collect();
        let aged = self.timed(self.store.get_many_aged(&keys)).await?;
        let is_fresh = |(bytes, left): &Aged| store::fresh_for(bytes, *left) != Expiry::Missing;
        let aged: Vec<_> =
            aged.into_iter().map(|aged| aged.filter(is_fresh).map(|(bytes, _)| bytes)).collect();
        for (at, bytes) in doubtful.into_iter().zip(self.valid(aged).await?) {
            found[at] = bytes;
        }
        Ok(found)
    }

    /// How long `ttl` is here.
    pub(crate) fn life(&self, ttl: Ttl) -> Life {
        ttl.life(self.options.default_ttl, Jitter::None)
    }
}

/// Whether its header doesn't say all about whether it may be used.
pub(crate) fn is_doubtful(bytes: &[u8]) -> bool {
    record::has_tags(bytes) || !record::grace(bytes).is_zero()
}
