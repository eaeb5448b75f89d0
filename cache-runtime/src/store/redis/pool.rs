//! What `get_redis` hands out: connections of a pool, for everything that isn't caching.
//!
//! Checking one out costs a round trip, and nobody else uses it meanwhile, so blocking and
//! transactional commands are safe on it. Cached calls never go this way.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_redis::{Manager, PoolError, Runtime};
use redis::aio::ConnectionLike;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisFuture, Value};

use tokio::time::Instant;

use super::address::Address;
use super::fault;
use super::link::Link;
use crate::error::{CacheError, StoreError};

/// How long to wait for a connection that is free, or that is being made.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The pause before a primary is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Pool {
    // std mutex: never held across an await
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connections to one server, and which it is.
    to: Option<(Node, deadpool_redis::Pool)>,
    is_closed: bool,
}

type Node = Option<(String, u16)>;

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections to this server. Those to an earlier one are closed when they come back.
    fn to(&self, server: &Address) -> deadpool_redis::Pool {
        let node = server.node().map(|(host, port)| (host.to_owned(), port));
        let mut state = self.state();
        if let Some((_, pool)) = state.to.as_ref().filter(|(to, _)| *to == node) {
            return pool.clone();
        }
        let pool = Self::make(server);
        if state.is_closed {
            pool.close();
        }
        if let Some((_, former)) = state.to.replace((node, pool.clone())) {
            former.close();
        }
        pool
    }

    fn make(address: &Address) -> deadpool_redis::Pool {
        // A blocking command may wait for as long as it likes.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(None);
        let manager =
            Manager::new_with_config(address.info(false), config).expect("the address was read before");
        deadpool_redis::Pool::builder(manager)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build()
            .expect("timeouts have a runtime")
    }

    pub(super) async fn get(&self, link: &Arc<Link>) -> Result<RedisConnection, CacheError> {
        if link.sentinel().is_none() {
            return Self::take(&self.to(link.address())).await;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            // Where the primary is, the main connection knows.
            let found = match tokio::time::timeout_at(end, link.connection()).await {
                Ok(Ok(_)) => Self::take(&self.to(&link.server())).await,
                Ok(Err(problem)) => Err(problem.into()),
                Err(_) => Err(StoreError::Timeout(format!("no primary within {PATIENCE:?}")).into()),
            };
            let is_closed = self.state().is_closed;
            match found {
                Err(CacheError::Unavailable(_)) if !is_closed && Instant::now() + PAUSE < end => {
                    tokio::time::sleep(PAUSE).await;
                }
                found => return found,
            }
        }
    }

    async fn take(pool: &deadpool_redis::Pool) -> Result<RedisConnection, CacheError> {
        given(pool.get().await.map(Inner::Server))
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        if let Some((_, pool)) = &state.to {
            pool.close();
        }
    }
}

/// What a pool gave.
pub(super) fn given(inner: Result<Inner, PoolError>) -> Result<RedisConnection, CacheError> {
    match inner {
        Ok(inner) => Ok(RedisConnection { inner: Some(inner), under_way: false, sticky: false }),
        Err(PoolError::Backend(error)) => Err(fault::read(&error).0.into()),
        Err(PoolError::Timeout(_)) => {
            Err(StoreError::Timeout(format!("no connection within {PATIENCE:?}")).into())
        }
        Err(other) => Err(StoreError::Unavailable(other.to_string()).into()),
    }
}

/// A connection of a pool.
pub(super) enum Inner {
    Server(deadpool_redis::Connection),
    Cluster(super::cluster::Pooled),
}

impl Inner {
    fn like(&mut self) -> &mut (dyn ConnectionLike + Send) {
        match self {
            Self::Server(one) => one,
            Self::Cluster(one) => &mut **one,
        }
    }
}

/// Commands that leave something behind on the connection.
const STICKY: [&[u8]; 14] = [
    b"SELECT",
    b"AUTH",
    b"HELLO",
    b"CLIENT",
    b"RESET",
    b"MULTI",
    b"SUBSCRIBE",
    b"PSUBSCRIBE",
    b"SSUBSCRIBE",
    b"MONITOR",
    b"READONLY",
    b"READWRITE",
    b"ASKING",
    b"QUIT",
];

/// A connection to the server, from a pool; dropping it gives it back.
///
/// It implements [`redis::aio::ConnectionLike`], so all of [`redis::AsyncCommands`] and pipelines
/// work on it. Keys are yours: no namespace is put in front. A command that never gets an answer
/// never returns, so put a [`tokio::time::timeout`] around what may hang.
///
/// A connection that has a command under way when it is dropped, or that was told something that
/// would stick to it (`SELECT`, `MULTI`, `SUBSCRIBE`, ...), is closed instead of given back.
pub struct RedisConnection {
    /// There until it is dropped.
    inner: Option<Inner>,
    under_way: bool,
    sticky: bool,
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}

impl RedisConnection {
    fn inner(&mut self) -> &mut (dyn ConnectionLike + Send) {
        self.inner.as_mut().expect("it is there until it is dropped").like()
    }

    fn note(&mut self, command: &Cmd) {
        if let Some(redis::Arg::Simple(name)) = command.args_iter().next() {
            self.sticky |= STICKY.iter().any(|sticky| name.eq_ignore_ascii_case(sticky));
        }
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take()
            && (self.under_way || self.sticky)
        {
            // Taken out of the pool and closed: a given-up `BLPOP` would go on popping for nobody.
            match inner {
                Inner::Server(one) => drop(deadpool_redis::Connection::take(one)),
                Inner::Cluster(one) => drop(super::cluster::Pooled::take(one)),
            }
        }
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.note(cmd);
        Box::pin(async move {
            self.under_way = true;
            // Cancel: it stays under way, and `Drop` closes the connection.
            let reply = self.inner().req_packed_command(cmd).await;
            self.under_way = false;
            reply
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        pipeline.cmd_iter().for_each(|cmd| self.note(cmd));
        Box::pin(async move {
            self.under_way = true;
            let replies = self.inner().req_packed_commands(pipeline, offset, count).await;
            self.under_way = false;
            replies
        })
    }

    fn get_db(&self) -> i64 {
        match &self.inner {
            Some(Inner::Server(one)) => one.get_db(),
            Some(Inner::Cluster(_)) | None => 0,
        }
    }
}
