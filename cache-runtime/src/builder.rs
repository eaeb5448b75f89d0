//! How a cache is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::error::CacheError;
use crate::recovery::Kept;
use crate::settings::{DEFAULT_TTL, NAMESPACE_FORM, Settings, TlsFiles, check_namespace, redacted};
use crate::store::{self, ClusterStore, Deployment, LinkOptions, MemoryStore, Part, RedisStore, Store};

/// What a cache goes by.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) namespace: Option<String>,
    pub(crate) default_ttl: Duration,
    pub(crate) lease: Duration,
    pub(crate) load_deadline: Duration,
    /// The first and the longest pause between two looks for another process' load.
    pub(crate) poll: (Duration, Duration),
    pub(crate) max_value: usize,
    /// How long the store may take, for all that one call asks of it before it loads.
    pub(crate) budget: Duration,
    /// After a load failed where a stale value was answered, the next one waits so long.
    pub(crate) stale_backoff: Duration,
    pub(crate) near_bytes: u64,
    /// How old what is kept in this process may be when the server isn't heard.
    pub(crate) near_staleness: Duration,
}

impl Options {
    /// No claim is meant to hold for longer, here or in a process that is set up alike.
    pub(crate) fn longest_claim(&self) -> Duration {
        self.lease.max(self.stale_backoff).saturating_mul(2)
    }

    pub(crate) fn load_deadline_millis(&self) -> u64 {
        u64::try_from(self.load_deadline.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A sign of life takes a round trip, by a clock of ticks of up to 10 ms.
const SHORTEST_STALENESS: Duration = Duration::from_millis(50);

/// Makes a [`Cache`]. What isn't said has the default that its method names.
///
/// ```
/// use std::time::Duration;
/// use cache_runtime::Cache;
///
/// let cache = Cache::builder()
///     .memory(16 << 20)
///     .namespace("shop")
///     .default_ttl(Duration::from_secs(60))
///     .build()?;
/// assert_eq!(cache.store_name(), "embedded");
/// # Ok::<(), cache_runtime::CacheError>(())
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until `build`"]
pub struct Builder {
    url: Option<String>,
    tls: TlsFiles,
    memory: u64,
    options: Options,
    breaker: u32,
    reconnect: (Duration, Duration),
    retry_queue: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            url: None,
            tls: TlsFiles::default(),
            memory: 64 << 20,
            options: Options {
                namespace: None,
                default_ttl: DEFAULT_TTL,
                lease: Duration::from_secs(3),
                load_deadline: Duration::from_secs(30),
                poll: (Duration::from_millis(5), Duration::from_millis(100)),
                max_value: 8 << 20,
                budget: Duration::from_millis(100),
                stale_backoff: Duration::from_secs(5),
                near_bytes: 64 << 20,
                near_staleness: Duration::from_secs(3),
            },
            breaker: 5,
            reconnect: (Duration::from_millis(50), Duration::from_secs(1)),
            retry_queue: 10_000,
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("url", &self.url.as_deref().map(redacted))
            .field("tls", &self.tls)
            .field("memory", &self.memory)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl From<Settings> for Builder {
    fn from(settings: Settings) -> Self {
        Self::default().settings(&settings)
    }
}

impl Builder {
    /// The store, namespace and default time to live of these settings.
    pub fn settings(mut self, settings: &Settings) -> Self {
        self.url = settings.redis_url();
        self.tls = settings.tls().clone();
        self.options.namespace = settings.namespace().map(str::to_owned);
        self.options.default_ttl = settings.default_ttl();
        self
    }

    /// A Redis or Valkey server, or several that act as one. It is connected to when it is first needed.
    ///
    /// | URL | |
    /// |---|---|
    /// | `redis://[user:password@]host[:port][/db]` | one server |
    /// | `rediss://[user:password@]host[:port][/db]` | the same over TLS: feature `tls` |
    /// | `redis+unix:///path[?db=N&user=U&pass=P]` | one server, by its Unix socket |
    /// | `redis+sentinel://[user:password@]host1[:port],host2,.../service-name[/db]` | the primary that these sentinels (port 26379) name; what they want for a login goes into `?sentinel_username=U&sentinel_password=P` |
    /// | `redis+cluster://[user:password@]host1[:port],host2,...` | the cluster of these nodes |
    /// | `rediss+sentinel://`, `rediss+cluster://` | the same over TLS |
    ///
    /// What stands for something else in a URL is percent-encoded: an `@` in a password is `%40`.
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The PEM file with the CAs that may have signed the server's certificate, in the place of the system's
    /// (`REDIS_TLS_CA`). It is read by [`build`](Self::build).
    pub fn tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(path.into());
        self
    }

    /// The PEM files with this client's certificate and its private key, for servers that ask for them
    /// (`REDIS_TLS_CERT`, `REDIS_TLS_KEY`). They are read by [`build`](Self::build).
    pub fn tls_identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The embedded store, holding at most so many bytes, keys and values together (64 MiB). What
    /// is used least goes first.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.url = None;
        self.memory = bytes;
        self
    }

    /// The first part of every key and pattern (none), so that applications can share a server.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.options.namespace = Some(name.into());
        self
    }

    /// How long a value lives where nothing else is said (300 s).
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.options.default_ttl = ttl;
        self
    }

    /// How long a load is taken to be alive without a sign of life (3 s). A load that runs renews
    /// its lease each third of it, so it may take longer.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease;
        self
    }

    /// How long others wait for one load (30 s). The load itself goes on.
    pub fn load_deadline(mut self, deadline: Duration) -> Self {
        self.options.load_deadline = deadline;
        self
    }

    /// The first and the longest pause between two looks for the value that another process is
    /// loading (5 ms, 100 ms).
    pub fn poll(mut self, first: Duration, longest: Duration) -> Self {
        self.options.poll = (first, longest);
        self
    }

    /// The largest value that is stored, in bytes of its encoding (8 MiB).
    pub fn value_size(mut self, bytes: usize) -> Self {
        self.options.max_value = bytes;
        self
    }

    /// How long the server may take, for all that one cached call asks of it before it loads
    /// (100 ms). After that the call loads without it. Operations by hand have as long each.
    pub fn store_budget(mut self, budget: Duration) -> Self {
        self.options.budget = budget;
        self
    }

    /// After how many operations in a row that weren't answered in time the server isn't asked any
    /// more until it answers again (5).
    pub fn breaker(mut self, unanswered: u32) -> Self {
        self.breaker = unanswered;
        self
    }

    /// The first and the longest pause between attempts to connect again (50 ms, 1 s).
    pub fn reconnect(mut self, first: Duration, longest: Duration) -> Self {
        self.reconnect = (first, longest);
        self
    }

    /// How many invalidations are kept while the server can't take them (10,000). When they are
    /// more, those of `user:{id}` become the one of `user:*`.
    pub fn retry_queue(mut self, invalidations: usize) -> Self {
        self.retry_queue = invalidations;
        self
    }

    /// After a load failed and a stale value was answered in its place (`stale_if_error`), or a
    /// background load failed, how long it is before the next try (5 s).
    pub fn stale_backoff(mut self, pause: Duration) -> Self {
        self.options.stale_backoff = pause;
        self
    }

    /// How many bytes of values are kept decoded in this process for functions with `near`, of all
    /// functions together (64 MiB). They count by the size of their encoding.
    pub fn near_memory(mut self, bytes: u64) -> Self {
        self.options.near_bytes = bytes;
        self
    }

    /// How long a value that is kept in this process (`near`) may be used without a sign of life from the
    /// server, which is asked for one three times as often (3 s): nothing that another process invalidated
    /// is used for longer.
    pub fn near_staleness(mut self, most: Duration) -> Self {
        self.options.near_staleness = most;
        self
    }

    /// Makes the cache.
    ///
    /// # Errors
    /// [`CacheError::Settings`] says which value can't be used and what it should look like.
    pub fn build(self) -> Result<Cache, CacheError> {
        let Self { url, tls, memory, options, breaker, reconnect, retry_queue } = self;
        if let Some(name) = &options.namespace {
            check_namespace(name).map_err(|problem| {
                CacheError::Settings(format!("the namespace {problem}; write {NAMESPACE_FORM}"))
            })?;
        }
        let positive = [
            ("default_ttl", options.default_ttl),
            ("lease", options.lease),
            ("load_deadline", options.load_deadline),
            ("poll", options.poll.0),
            ("poll", options.poll.1),
            ("store_budget", options.budget),
            ("stale_backoff", options.stale_backoff),
            ("reconnect", reconnect.0),
            ("reconnect", reconnect.1),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, time)| *time < Duration::from_millis(1)) {
            return Err(CacheError::Settings(format!(
                "`{name}` is below a millisecond; write a longer time"
            )));
        }
        if options.near_staleness < SHORTEST_STALENESS {
            return Err(CacheError::Settings(
                "`near_staleness` is below 50 ms, in which no server can be heard; write a longer time"
                    .to_owned(),
            ));
        }
        if options.max_value > u32::MAX as usize {
            return Err(CacheError::Settings("`value_size` is above 4 GiB; write a smaller size".to_owned()));
        }
        if breaker == 0 || retry_queue == 0 {
            return Err(CacheError::Settings("`breaker` and `retry_queue` are at least 1".to_owned()));
        }
        let everything = match &options.namespace {
            Some(namespace) => format!("{}:*", store::escape_literal(namespace)),
            None => "*".to_owned(),
        };
        let kept = Arc::new(Kept::new(retry_queue, everything));
        let store: Box<dyn Store> = match url {
            None => Box::new(MemoryStore::new(memory)),
            Some(url) => {
                let link = LinkOptions {
                    budget: options.budget,
                    breaker,
                    reconnect,
                    delta: options.near_staleness,
                    part: Part::Whole,
                };
                let kept = Arc::clone(&kept);
                match Deployment::parse(&url, &tls)? {
                    Deployment::Server(server) => Box::new(RedisStore::new(server, link, kept)),
                    Deployment::Sentinel(sentinels) => Box::new(RedisStore::new(sentinels, link, kept)),
                    Deployment::Cluster(seeds) => {
                        Box::new(ClusterStore::new(seeds, link, kept, options.namespace.as_deref()))
                    }
                }
            }
        };
        Ok(Cache::over(store, options, kept))
    }
}
