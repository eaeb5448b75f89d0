//! The handle: typed access to the store, values as plain JSON.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{error, warn};

use crate::builder::{Builder, Options};
use crate::call::through;
use crate::clock;
use crate::codec;
use crate::error::{CacheError, StoreError};
use crate::events::{Books, Counters, Stats};
use crate::flight::Flights;
use crate::key::{LONGEST, by_hand};
use crate::lead::Orphans;
use crate::policy::{Fate, Jitter, Life, SingleFlight, Ttl};
use crate::record::{self, Found};
use crate::recovery::{Kept, Target};
use crate::sight::Ask;
use crate::site::{Site, fingerprint};
use crate::store::{self, Expiry, Reply, Store};
use crate::value::{OfPlain, OfResult};

/// A cache: a store, a namespace, and what is going on in it.
///
/// Cloning gives another handle to the same cache. Values are JSON; what [`set`](Self::set) stores
/// is readable by any other program. Keys are under the namespace of the cache, and at most 4 KiB.
///
/// Every method fails with [`CacheError::Unavailable`] or [`CacheError::Timeout`] when the store
/// can't be reached, [`CacheError::KeyTooLong`] for a key beyond the limit, and
/// [`CacheError::Server`] when the store refuses. All are cancel safe: a call that is dropped may
/// or may not have reached the store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
/// use std::time::Duration;
/// use cache_runtime::Cache;
///
/// let cache = Cache::builder().build()?;
/// cache.set("greeting", &"hello", Duration::from_secs(60)).await?;
/// assert_eq!(cache.get::<String>("greeting").await?.as_deref(), Some("hello"));
/// assert_eq!(cache.increment("visits").await?, 1);
/// # Ok(()) }
/// ```
#[doc(alias = "RedisCache")]
#[derive(Clone)]
pub struct Cache {
    core: Arc<Core>,
}

/// What the handles share.
pub(crate) struct Core {
    pub(crate) store: Box<dyn Store>,
    pub(crate) options: Options,
    pub(crate) flights: Arc<Flights>,
    counters: Counters,
    /// Invalidations that the store couldn't take yet.
    pub(crate) kept: Arc<Kept>,
    /// Leases of ours that couldn't be released: nobody loads under them.
    pub(crate) orphans: Orphans,
    /// Keys that something was said about, so that it is said once.
    warned: Mutex<HashSet<String>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("store", &self.core.store.name())
            .field("namespace", &self.core.options.namespace)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// A cache of your own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn over(store: Box<dyn Store>, options: Options, kept: Arc<Kept>) -> Self {
        let core = Core {
            store,
            options,
            flights: Arc::new(Flights::new()),
            counters: Counters::new(),
            kept,
            orphans: Orphans::default(),
            warned: Mutex::default(),
        };
        Self { core: Arc::new(core) }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// What keeps the bytes: `embedded` or `redis`.
    pub fn store_name(&self) -> &'static str {
        self.core.store.name()
    }

    /// The value under `key`; nothing if there is none.
    ///
    /// What decorated functions and `get_or_set` stored is read too. Bytes that aren't ours and
    /// don't decode as `T` count as nothing: they are left alone, and a warning is logged once.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CacheError> {
        let key = self.core.full(key.to_owned())?;
        let bytes = self.core.timed(self.core.store.get(&key)).await?;
        Ok(self.core.decode(&key, bytes))
    }

    /// Stores `value` under `key`. With a time to live of zero the key is removed instead.
    ///
    /// # Errors
    /// [`CacheError::Serialize`] and [`CacheError::ValueTooLarge`]; what is stored stays as it was.
    pub async fn set<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Result<(), CacheError> {
        let key = self.core.full(key.to_owned())?;
        let json = codec::to_json(value, self.core.options.max_value)?;
        match self.core.life(ttl.into()) {
            Life::For(life) => Ok(self.core.timed(self.core.store.set(&key, json, life)).await?),
            Life::Over => self.core.invalidate_key(&key).await.map(drop),
        }
    }

    /// Removes the key; true if there was a value.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        let key = self.core.full(key.to_owned())?;
        self.core.books(None).count(|book| &book.invalidations);
        self.core.invalidate_key(&key).await
    }

    /// Whether there is a value. A load in progress is none yet.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn exists(&self, key: &str) -> Result<bool, CacheError> {
        Ok(!matches!(self.ttl(key).await?, Expiry::Missing))
    }

    /// Adds 1 to the integer under `key`, and gives the sum. A key that isn't there counts as 0.
    ///
    /// # Errors
    /// [`CacheError::Server`] if something else than an integer is there, or on overflow.
    pub async fn increment(&self, key: &str) -> Result<i64, CacheError> {
        self.increment_by(key, 1).await
    }

    /// Adds `by` to the integer under `key`, and gives the sum.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub async fn increment_by(&self, key: &str, by: i64) -> Result<i64, CacheError> {
        let key = self.core.full(key.to_owned())?;
        Ok(self.core.timed(self.core.store.increment(&key, by, None)).await?)
    }

    /// Takes 1 from the integer under `key`, and gives the difference.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub async fn decrement(&self, key: &str) -> Result<i64, CacheError> {
        self.increment_by(key, -1).await
    }

    /// Adds 1 to the integer under `key`; a key without an expiry gets this one, in the same step,
    /// so a counting window can't lose its end.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub async fn increment_with_ttl(&self, key: &str, ttl: impl Into<Ttl>) -> Result<i64, CacheError> {
        let key = self.core.full(key.to_owned())?;
        match self.core.life(ttl.into()) {
            Life::For(life) => Ok(self.core.timed(self.core.store.increment(&key, 1, life)).await?),
            // A window of no length counts this call alone.
            Life::Over => Ok(1),
        }
    }

    /// Gives the key this life from now on; zero removes it. False if there is no such key.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn expire(&self, key: &str, ttl: impl Into<Ttl>) -> Result<bool, CacheError> {
        let key = self.core.full(key.to_owned())?;
        match self.core.life(ttl.into()) {
            Life::For(life) => Ok(self.core.timed(self.core.store.expire(&key, life)).await?),
            Life::Over => self.core.invalidate_key(&key).await,
        }
    }

    /// What is left of the key's life. A load in progress is no value yet: missing.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn ttl(&self, key: &str) -> Result<Expiry, CacheError> {
        let key = self.core.full(key.to_owned())?;
        Ok(self.core.timed(self.core.store.expiry(&key)).await?)
    }

    /// Removes every key that fits the glob (`*`, `?`, `[a-z]`, `\` before what is meant literally),
    /// as Redis means them; how many there were. It never leaves the namespace.
    ///
    /// The cost grows with the number of keys in the store.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn delete_pattern(&self, glob: &str) -> Result<u64, CacheError> {
        self.core.books(None).count(|book| &book.invalidations);
        let glob = if glob.is_empty() { "*" } else { glob };
        self.core.invalidate_glob(&self.core.full_glob(glob)).await
    }

    /// The values of these keys, in their order, in one round trip.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Option<T>>, CacheError> {
        let keys: Vec<String> =
            keys.iter().map(|key| self.core.full(key.as_ref().to_owned())).collect::<Result<_, _>>()?;
        let found = self.core.timed(self.core.store.get_many(&keys)).await?;
        Ok(keys.iter().zip(found).map(|(key, bytes)| self.core.decode(key, bytes)).collect())
    }

    /// Stores these values in one round trip.
    ///
    /// # Errors
    /// As [`set`](Self::set); if one value can't be encoded, none is stored.
    pub async fn set_many<T: Serialize>(
        &self,
        pairs: &[(impl AsRef<str>, T)],
        ttl: impl Into<Ttl>,
    ) -> Result<(), CacheError> {
        let encoded = pairs
            .iter()
            .map(|(key, value)| {
                Ok((
                    self.core.full(key.as_ref().to_owned())?,
                    codec::to_json(value, self.core.options.max_value)?,
                ))
            })
            .collect::<Result<Vec<_>, CacheError>>()?;
        match self.core.life(ttl.into()) {
            Life::For(life) => Ok(self.core.timed(self.core.store.set_many(encoded, life)).await?),
            Life::Over => {
                let keys: Vec<String> = encoded.into_iter().map(|(key, _)| key).collect();
                self.core.timed(self.core.store.remove_many(&keys)).await?;
                Ok(())
            }
        }
    }

    /// The value under `key`; if there is none, what `load` gives, stored. Callers of all processes
    /// share one load. If the cache can't answer, `load` runs.
    ///
    /// A `load` that can fail belongs into [`try_get_or_set`](Self::try_get_or_set).
    ///
    /// # Errors
    /// [`CacheError::KeyTooLong`]; the store's faults never show.
    pub async fn get_or_set<T, L, F>(&self, key: &str, ttl: impl Into<Ttl>, load: L) -> Result<T, CacheError>
    where
        T: Serialize + DeserializeOwned,
        L: FnOnce() -> F,
        F: Future<Output = T>,
    {
        let ask = self.ask::<T>(key)?;
        Ok(through::<OfPlain, T, _, _, _>(self, ask, false, load, fate(ttl)).await)
    }

    /// The value under `key`; if there is none, what `load` gives, stored if it is `Ok`.
    /// An `Err` goes to its own caller unchanged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use cache_runtime::{Cache, Ttl};
    /// let cache = Cache::builder().build()?;
    /// let port: u16 = cache.try_get_or_set("port", Ttl::Default, || async { "8080".parse::<u16>() }).await?;
    /// assert_eq!(port, 8080);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of `load`. A key beyond the limit isn't cached.
    pub async fn try_get_or_set<T, E, L, F>(&self, key: &str, ttl: impl Into<Ttl>, load: L) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        L: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
    {
        let Ok(ask) = self.ask::<T>(key) else {
            self.core.books(None).count(|book| &book.bypassed);
            return load().await;
        };
        through::<OfResult, Result<T, E>, _, _, _>(self, ask, false, load, fate(ttl)).await
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`] or [`CacheError::Timeout`] if it doesn't.
    pub async fn ping(&self) -> Result<(), CacheError> {
        Ok(self.core.timed(self.core.store.ping()).await?)
    }

    /// What happened in this cache, in this process.
    pub fn stats(&self) -> Stats {
        self.core.counters.snapshot(self.core.pending())
    }

    /// Invalidations of decorated functions that wait for the store to come back. While there are
    /// some, nothing is read from the store.
    pub fn pending_invalidations(&self) -> u64 {
        self.core.pending()
    }

    fn ask<T>(&self, key: &str) -> Result<Ask, CacheError> {
        let key = self.core.full(key.to_owned())?;
        Ok(Ask {
            identity: by_hand(&key),
            key,
            fingerprint: fingerprint::<T>(),
            version: 0,
            flight: SingleFlight::Fleet,
            site: None,
        })
    }
}

impl Core {
    /// An operation of the store, within the budget.
    pub(crate) async fn timed<T>(&self, operation: Reply<'_, T>) -> Result<T, StoreError> {
        self.timed_by(self.options.budget, operation).await
    }

    /// An operation of the store, for which so much time is left.
    pub(crate) async fn timed_by<T>(&self, left: Duration, operation: Reply<'_, T>) -> Result<T, StoreError> {
        if !self.store.is_remote() {
            return operation.await;
        }
        match clock::timeout(left, operation).await {
            Ok(answered) => answered,
            Err(_) => {
                self.store.overdue();
                Err(StoreError::Timeout("no answer within the budget".to_owned()))
            }
        }
    }

    /// Keeps an invalidation that the store couldn't take; until it can, nothing is read from it.
    pub(crate) fn keep(&self, target: Target, cover: Option<String>) {
        self.kept.keep(target, cover);
        self.store.distrust("an invalidation waits");
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
    fn decode<T: DeserializeOwned>(&self, key: &str, bytes: Option<Bytes>) -> Option<T> {
        let books = self.books(None);
        let decoded = match bytes.map(record::read) {
            Some(Found::Value(value)) => {
                let is_none = value.head.flags & record::FLAG_NONE != 0;
                codec::decode(&value.payload, is_none).inspect(|_| books.count(|book| &book.hits)).ok()
            }
            Some(Found::Plain(json)) => match codec::decode(&json, json == b"null"[..]) {
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

    fn life(&self, ttl: Ttl) -> Life {
        ttl.life(self.options.default_ttl, Jitter::None)
    }
}

/// Every value loaded by hand is stored for this time.
fn fate<V>(ttl: impl Into<Ttl>) -> impl FnOnce(&V) -> Fate {
    let fate = Fate::new().ttl(ttl);
    move |_| fate
}
