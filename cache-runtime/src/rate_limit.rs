//! How often somebody may do something.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use crate::cache::Cache;
use crate::error::CacheError;
use crate::global;
use crate::key;
use crate::store::{Decision, Limit};

/// Longer ids stand in the key as their hash: a limit must not be escaped by an id that is too long.
const LONGEST_ID: usize = 200;

/// At most so many calls in any window of this length, for each id, in all processes together.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
/// use std::time::Duration;
/// use cache_runtime::{Decision, RateLimiter};
///
/// let limiter = RateLimiter::new(2, Duration::from_secs(60)).name("api");
/// assert!(limiter.check("10.0.0.7").await?.is_allowed());
/// match limiter.check("10.0.0.7").await? {
///     Decision::Allowed { remaining, .. } => assert_eq!(remaining, 0),
///     Decision::Limited { .. } => unreachable!("it is the second call"),
/// }
/// match limiter.check("10.0.0.7").await? {
///     Decision::Allowed { .. } => unreachable!("it is the third call"),
///     // For the header `Retry-After`, which has whole seconds: rounded up, or the client comes too early.
///     Decision::Limited { retry_after } => println!("{}", retry_after.as_secs_f64().ceil()),
/// }
/// # Ok(()) }
/// ```
///
/// A sliding window: there is no span of that length, wherever it begins, with more than `max` allowed
/// calls. A call that is limited isn't counted. With a `max` of up to 32 it is exact. With more, calls
/// that come within a 32nd of the window are remembered together until the last of them is old enough, so a
/// call may count for 3 % longer than the window, never shorter, and a steady caller gets at least 97 % of
/// the limit.
///
/// It is one round trip, by the server's clock, and the key always expires. Two limiters of one
/// [`name`](Self::name) count together; without a name, those of the same limit do.
///
/// What may let too many through: a store that forgets the key (evicted, flushed, failed over before it was
/// replicated), or a server whose clock is set forward.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    max: u32,
    window: Duration,
    name: Option<Cow<'static, str>>,
    cache: Option<Cache>,
}

impl RateLimiter {
    /// At most `max` calls in any `window`. A `max` of 0 limits every call; a window shorter than a
    /// millisecond counts as one, a longer one than a hundred years as that.
    pub const fn new(max: u32, window: Duration) -> Self {
        Self { max, window, name: None, cache: None }
    }

    /// What is limited: ids of different names have nothing to do with each other.
    #[must_use]
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// In this cache instead of the global one.
    #[must_use]
    pub fn cache(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Whether `id` may do it once more; if so, that counts. An id is whatever tells callers apart: a
    /// user, an address, an API key. It is in no log and no error, but readable in the store if it is short.
    ///
    /// # Errors
    /// Those of [`Cache`]: then nobody knows, and you decide. A limit that protects the service from too much
    /// work had better be open, or an outage of the store becomes one of the service; one that protects a
    /// secret from being guessed had better be closed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use std::time::Duration;
    /// use cache_runtime::{Decision, RateLimiter};
    ///
    /// static REQUESTS: RateLimiter = RateLimiter::new(100, Duration::from_secs(60));
    /// static PASSWORDS: RateLimiter = RateLimiter::new(5, Duration::from_secs(300));
    ///
    /// assert!(REQUESTS.check("10.0.0.7").await.map_or(true, Decision::is_allowed)); // open
    /// assert!(PASSWORDS.check("ada").await.is_ok_and(Decision::is_allowed)); // closed
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// A check that is dropped may have been counted.
    pub async fn check(&self, id: impl Display) -> Result<Decision, CacheError> {
        if self.max == 0 {
            return Ok(Decision::Limited { retry_after: self.window });
        }
        let cache = global::or_given(self.cache.as_ref())?;
        let core = cache.core();
        let key = core.full(self.key(&id))?;
        Ok(core.timed(core.store.admit(&key, Limit::new(self.max, self.window))).await?)
    }

    fn key(&self, id: &dyn Display) -> String {
        let name = match &self.name {
            Some(name) => key::render(name),
            None => format!(":{}:{:?}", self.max, self.window),
        };
        let id = key::render(id);
        // In a name or an id there is no `:`, so neither text can be another's.
        if id.len() > LONGEST_ID {
            format!("@rate:{name}::{}", blake3::hash(id.as_bytes()))
        } else {
            format!("@rate:{name}:{id}")
        }
    }
}

#[cfg(test)]
mod tests;
