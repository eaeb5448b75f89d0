//! Typed access to the keys of one prefix.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::error::CacheError;
use crate::global;
use crate::policy::Ttl;
use crate::store;

/// The keys of one prefix, with a time to live of their own: `prefix:key`.
///
/// It works on the global cache, or on the one given to [`on`](Self::on). Errors and cancel safety
/// are those of [`Cache`]; without a usable global cache, every method fails with
/// [`CacheError::Settings`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
/// use std::time::Duration;
/// use cache_runtime::CacheManager;
///
/// let posts = CacheManager::new("posts", Duration::from_secs(60));
/// posts.set("1", &"first post").await?;
/// assert_eq!(posts.get::<String>("1").await?.as_deref(), Some("first post"));
/// assert_eq!(posts.clear_all().await?, 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct CacheManager {
    prefix: String,
    ttl: Ttl,
    cache: Option<Cache>,
}

impl CacheManager {
    /// Keys begin with `prefix:` and live for `ttl` unless said otherwise.
    pub fn new(prefix: impl Into<String>, ttl: impl Into<Ttl>) -> Self {
        Self { prefix: prefix.into(), ttl: ttl.into(), cache: None }
    }

    /// On this cache instead of the global one.
    #[must_use]
    pub fn on(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Stores `value` for the manager's time to live. See [`Cache::set`].
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), CacheError> {
        self.set_with_ttl(key, value, self.ttl).await
    }

    /// Stores `value` for `ttl`. See [`Cache::set`].
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn set_with_ttl<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Result<(), CacheError> {
        self.cache()?.set(&self.key(key), value, ttl).await
    }

    /// Stores `value` for the manager's time to live, with tags that [`invalidate_tags`](Self::invalidate_tags)
    /// takes. Unlike what [`set`](Self::set) stores it isn't plain JSON, but an entry as functions have it:
    /// [`get`](Self::get) and [`get_or_set`](Self::get_or_set) read both.
    ///
    /// # Errors
    /// As [`CacheManager`] says, and [`CacheError::KeyTooLong`] for a tag beyond the limit.
    pub async fn set_with_tags<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        tags: &[impl AsRef<str>],
    ) -> Result<(), CacheError> {
        if tags.is_empty() {
            return self.set(key, value).await;
        }
        self.cache()?.set_tagged(&self.key(key), value, self.ttl, tags).await
    }

    /// Forgets whatever has one of these tags, also what isn't under the prefix. See
    /// [`Cache::invalidate_tags`].
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn invalidate_tags(&self, tags: &[impl AsRef<str>]) -> Result<(), CacheError> {
        self.cache()?.invalidate_tags(tags).await
    }

    /// The value under `key`. See [`Cache::get`].
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CacheError> {
        self.cache()?.get(&self.key(key)).await
    }

    /// Removes the key; true if there was a value.
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        self.cache()?.delete(&self.key(key)).await
    }

    /// The value under `key`; if there is none, what `load` gives, stored for the manager's time to
    /// live. See [`Cache::get_or_set`].
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn get_or_set<T, L, F>(&self, key: &str, load: L) -> Result<T, CacheError>
    where
        T: Serialize + DeserializeOwned,
        L: FnOnce() -> F,
        F: Future<Output = T>,
    {
        self.get_or_set_with_ttl(key, self.ttl, load).await
    }

    /// As [`get_or_set`](Self::get_or_set), stored for `ttl`.
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn get_or_set_with_ttl<T, L, F>(
        &self,
        key: &str,
        ttl: impl Into<Ttl>,
        load: L,
    ) -> Result<T, CacheError>
    where
        T: Serialize + DeserializeOwned,
        L: FnOnce() -> F,
        F: Future<Output = T>,
    {
        self.cache()?.get_or_set(&self.key(key), ttl, load).await
    }

    /// Removes all keys of the prefix; how many there were. The cost grows with the number of keys
    /// in the store.
    ///
    /// # Errors
    /// As [`CacheManager`] says.
    pub async fn clear_all(&self) -> Result<u64, CacheError> {
        self.cache()?.delete_pattern(&format!("{}:*", store::escape_literal(&self.prefix))).await
    }

    fn key(&self, key: &str) -> String {
        format!("{}:{key}", self.prefix)
    }

    fn cache(&self) -> Result<Cache, CacheError> {
        match &self.cache {
            Some(cache) => Ok(cache.clone()),
            None => global::global(),
        }
    }
}
