//! The handle: typed access to the store, values as plain JSON.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::{Builder, Options};
use crate::call::through;
use crate::close::Far;
use crate::codec;
use crate::deferred;
use crate::error::CacheError;
use crate::events::Stats;
use crate::key::by_hand;
use crate::policy::{Fate, Life, SingleFlight, Ttl};
use crate::recovery::{Kept, Target};
use crate::shared::{Core, is_doubtful};
use crate::sight::Ask;
use crate::site::fingerprint;
use crate::store::{Expiry, Reach, Store};
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
        Self { core: Arc::new(Core::new(store, options, kept)) }
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
        if deferred::is_gone(&self.core, &key) {
            return Ok(self.core.decode(&key, None));
        }
        let mut bytes = self.core.timed(self.core.store.get(&key)).await?;
        if bytes.as_ref().is_some_and(|bytes| is_doubtful(bytes)) {
            let key = std::slice::from_ref(&key);
            bytes = Box::pin(self.core.fresh(key)).await?.pop().flatten();
        }
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

    /// Removes the key; true if there was a value. Inside [`deferred`](crate::deferred()) that waits for the
    /// commit, and the answer is false.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        let key = self.core.full(key.to_owned())?;
        if deferred::collect(self, || (Target::Key(key.clone()), None)) {
            return Ok(false);
        }
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
        if deferred::is_gone(&self.core, &key) {
            return Ok(Expiry::Missing);
        }
        let (expiry, has_tags) = self.core.timed(self.core.store.expiry(&key)).await?;
        if has_tags && Box::pin(self.core.fresh(std::slice::from_ref(&key))).await? == [None] {
            return Ok(Expiry::Missing);
        }
        Ok(expiry)
    }

    /// Removes every key that fits the glob (`*`, `?`, `[a-z]`, `\` before what is meant literally),
    /// as Redis means them; how many there were. It never leaves the namespace.
    ///
    /// The cost grows with the number of keys in the store. Inside [`deferred`](crate::deferred()) that
    /// waits for the commit, and the answer is 0.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn delete_pattern(&self, glob: &str) -> Result<u64, CacheError> {
        let glob = self.core.full_glob(if glob.is_empty() { "*" } else { glob });
        if deferred::collect(self, || (Target::Glob(glob.clone()), None)) {
            return Ok(0);
        }
        self.core.books(None).count(|book| &book.invalidations);
        self.core.invalidate_glob(&glob, Reach::Any).await
    }

    /// Forgets whatever has one of these tags, in one round trip, however much that is. A tag is what a
    /// template of `tags` makes, so values in it are escaped as in keys.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
    /// # let cache = cache_runtime::Cache::builder().build()?;
    /// cache.invalidate_tags(&["user:1", "users"]).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Cache`] says. If the store can't be reached the invalidation is kept, and done when it can.
    pub async fn invalidate_tags(&self, tags: &[impl AsRef<str>]) -> Result<(), CacheError> {
        if tags.is_empty() || self.core.are_deferred(self, tags) {
            return Ok(());
        }
        self.core.books(None).count_many(tags.len() as u64, |book| &book.invalidations);
        self.core.invalidate_tags(tags).await.inspect_err(|error| {
            if !matches!(error, CacheError::KeyTooLong { .. }) {
                for tag in tags {
                    self.core.keep_tag(tag.as_ref(), "*");
                }
            }
        })
    }

    /// The values of these keys, in their order, in one round trip; two more if there are values of functions
    /// with `stale_if_error` or `tags` among them.
    ///
    /// # Errors
    /// As [`Cache`] says.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Option<T>>, CacheError> {
        let keys: Vec<String> =
            keys.iter().map(|key| self.core.full(key.as_ref().to_owned())).collect::<Result<_, _>>()?;
        let found = self.core.fresh(&keys).await?;
        let there = |key: &str, bytes| if deferred::is_gone(&self.core, key) { None } else { bytes };
        Ok(keys.iter().zip(found).map(|(key, bytes)| self.core.decode(key, there(key, bytes))).collect())
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
        if deferred::is_inside() {
            self.core.books(None).count(|book| &book.bypassed);
            return Ok(load().await);
        }
        Ok(through::<OfPlain, T, _, _, _>(self, ask, &Far, false, load, fate(ttl)).await)
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
        let ask = self.ask::<T>(key).ok().filter(|_| !deferred::is_inside());
        let Some(ask) = ask else {
            self.core.books(None).count(|book| &book.bypassed);
            return load().await;
        };
        through::<OfResult, Result<T, E>, _, _, _>(self, ask, &Far, false, load, fate(ttl)).await
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

    pub(crate) fn ask<T: ?Sized>(&self, key: &str) -> Result<Ask, CacheError> {
        let key = self.core.full(key.to_owned())?;
        Ok(Ask {
            identity: by_hand(&key),
            key,
            fingerprint: fingerprint::<T>(),
            version: 0,
            flight: SingleFlight::Fleet,
            site: None,
            tags: None,
        })
    }
}

/// Every value loaded by hand is stored for this time.
fn fate<V>(ttl: impl Into<Ttl>) -> impl FnOnce(&V) -> Fate {
    let fate = Fate::new().ttl(ttl);
    move |_| fate
}
