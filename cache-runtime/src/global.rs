//! The cache that decorated functions use unless they name another.

use std::future::Future;
use std::ops::Deref;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::error;

use crate::builder::Builder;
use crate::cache::Cache;
use crate::error::CacheError;
use crate::settings::Settings;
use crate::store::RedisConnection;

static GLOBAL: OnceLock<Cache> = OnceLock::new();
static BROKEN: OnceLock<String> = OnceLock::new();

tokio::task_local! {
    static SCOPED: Cache;
}

/// The cache of this call, without counting references to the global one.
#[derive(Debug)]
pub(crate) enum CacheRef {
    Global(&'static Cache),
    Owned(Cache),
}

impl Deref for CacheRef {
    type Target = Cache;
    fn deref(&self) -> &Cache {
        match self {
            Self::Global(cache) => cache,
            Self::Owned(cache) => cache,
        }
    }
}

/// Connects with these settings, or as a [`Builder`] says, checks that the store answers, and makes the cache the
/// global one.
///
/// Call it once, early in `main`; without it the first use loads the settings itself.
///
/// # Errors
/// [`CacheError::Settings`] if a setting can't be used or a global cache is already there;
/// [`CacheError::Unavailable`] or [`CacheError::Timeout`] if the store doesn't answer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use cache_runtime::Settings;
///
/// let settings = Settings::from_vars([("REDIS_CACHE_TTL", "600")]).unwrap();
/// cache_runtime::init(settings).await.unwrap();
/// # }
/// ```
pub async fn init(cache: impl Into<Builder>) -> Result<(), CacheError> {
    let cache = cache.into().build()?;
    // The first connection takes longer than any call may: addresses, handshakes.
    cache.core().timed_by(Duration::from_secs(5), cache.core().store.ping()).await?;
    GLOBAL.set(cache).map_err(|_| {
        CacheError::Settings(
            "there is a global cache already: call `init` once, before the first cached call".to_owned(),
        )
    })
}

/// The global cache: that of the innermost [`Cache::scope`], else the one made by [`init`], else one
/// made now from [`Settings::load`].
///
/// # Errors
/// [`CacheError::Settings`] if the settings can't be used. That is also logged, once; decorated
/// functions then run uncached.
pub fn global() -> Result<Cache, CacheError> {
    current().map(|cache| cache.clone())
}

#[inline]
pub(crate) fn current() -> Result<CacheRef, CacheError> {
    if let Ok(cache) = SCOPED.try_with(Cache::clone) {
        return Ok(CacheRef::Owned(cache));
    }
    match GLOBAL.get() {
        Some(cache) => Ok(CacheRef::Global(cache)),
        None => made_now().map(CacheRef::Global),
    }
}

/// This cache, if one is given.
pub(crate) fn or_given(cache: Option<&Cache>) -> Result<CacheRef, CacheError> {
    cache.map_or_else(current, |cache| Ok(CacheRef::Owned(cache.clone())))
}

#[cold]
fn made_now() -> Result<&'static Cache, CacheError> {
    if let Some(text) = BROKEN.get() {
        return Err(CacheError::Settings(text.clone()));
    }
    let made = Settings::load().and_then(|settings| Cache::builder().settings(&settings).build());
    match made {
        Ok(cache) => Ok(GLOBAL.get_or_init(|| cache)),
        Err(problem) => {
            let text = problem.to_string();
            if BROKEN.set(text).is_ok() {
                error!(target: "cache_aside", error = %problem, "the settings can't be used: functions run uncached");
            }
            Err(problem)
        }
    }
}

/// `future`, to be run elsewhere with the cache that is scoped here.
pub(crate) fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let scoped = SCOPED.try_with(Cache::clone).ok();
    async move {
        match scoped {
            Some(cache) => SCOPED.scope(cache, future).await,
            None => future.await,
        }
    }
}

/// A connection to the server of the global cache, from a pool; dropping it gives it back.
///
/// For everything that isn't caching: hashes, lists, sets, pipelines, blocking commands. Keys are
/// yours: no namespace is put in front.
///
/// # Errors
/// [`CacheError::NotRedis`] with the embedded store; [`CacheError::Unavailable`] or
/// [`CacheError::Timeout`] if there is no connection within 5 s; [`CacheError::Settings`] as
/// [`global`].
///
/// ```no_run
/// # async fn ranking() -> Result<(), Box<dyn std::error::Error>> {
/// use cache_runtime::redis::AsyncCommands;
///
/// let mut redis = cache_runtime::get_redis().await?;
/// let () = redis.zadd("ranking", "ada", 42).await?;
/// # Ok(()) }
/// ```
pub async fn get_redis() -> Result<RedisConnection, CacheError> {
    let cache = current()?;
    match cache.core().store.connection() {
        Some(connecting) => connecting.await,
        None => Err(CacheError::NotRedis),
    }
}

/// Closes the connections of the global cache for good; functions run uncached from then on.
/// Invalidations that are still kept are waited for, for at most a second.
///
/// With the embedded store, or without a global cache, there is nothing to close.
pub async fn close_redis() {
    let scoped = SCOPED.try_with(Cache::clone).ok();
    let Some(cache) = scoped.or_else(|| GLOBAL.get().cloned()) else { return };
    let core = cache.core();
    for _ in 0..20 {
        if core.kept.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if core.pending() > 0 {
        error!(target: "cache_aside", lost = core.pending(), "kept invalidations are given up: the server didn't take them");
    }
    core.store.close();
}

impl Cache {
    /// Runs `future` with `cache` as the global cache; what `future` spawns is outside.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
    /// use cache_runtime::{Cache, Ttl, global};
    ///
    /// let mine = Cache::builder().memory(1 << 20).build()?;
    /// Cache::scope(mine.clone(), async {
    ///     global()?.set("answer", &42, Ttl::Default).await
    /// })
    /// .await?;
    /// assert_eq!(mine.get::<u8>("answer").await?, Some(42));
    /// # Ok(()) }
    /// ```
    pub async fn scope<F: Future>(cache: Self, future: F) -> F::Output {
        SCOPED.scope(cache, future).await
    }
}
