//! What `get_redis` hands out for a cluster: connections of redis-rs' own cluster client, which knows where each
//! command belongs.
//!
//! Not of the pool that `deadpool-redis` has for them: that one has no place for certificates, and the client
//! forgets those of the addresses that it is given.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use deadpool_redis::cluster::{ClusterClient, ClusterClientBuilder, ClusterConnection};
use redis::io::tcp::TcpSettings;
use redis::{ConnectionInfo, RedisError, cmd};

use crate::error::CacheError;
use crate::store::redis::address::Address;
use crate::store::redis::pool::{Inner, PATIENCE, RedisConnection, given};

/// A connection of the pool.
pub(in crate::store::redis) type Pooled = Object<Manager>;

/// Makes connections.
pub(in crate::store::redis) struct Manager {
    client: ClusterClient,
    seed: Address,
    pings: AtomicUsize,
}

impl managed::Manager for Manager {
    type Type = ClusterConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<ClusterConnection, RedisError> {
        self.seed.prepare();
        self.client.get_async_connection().await
    }

    /// A connection on which replies don't belong to their commands is of no use.
    async fn recycle(&self, connection: &mut ClusterConnection, _: &Metrics) -> RecycleResult<RedisError> {
        let number = self.pings.fetch_add(1, Relaxed).to_string();
        let reply: String = cmd("PING").arg(&number).query_async(connection).await?;
        if reply == number {
            Ok(())
        } else {
            Err(RecycleError::message("another reply than it was asked for"))
        }
    }
}

pub(super) struct Pool(managed::Pool<Manager>);

impl Pool {
    pub(super) fn new(seeds: &[Address]) -> Self {
        let infos: Vec<ConnectionInfo> = seeds.iter().map(|seed| seed.settings(false)).collect();
        let seed = seeds[0].clone();
        let client = ClusterClientBuilder::new(infos).tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match seed.certificates() {
            Some(certificates) => certificates.secure(client),
            None => client,
        };
        let client = client.build().expect("the addresses were read before, and are alike");
        let pool = managed::Pool::builder(Manager { client, seed, pings: AtomicUsize::new(0) })
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build()
            .expect("timeouts have a runtime");
        Self(pool)
    }

    pub(super) async fn get(&self) -> Result<RedisConnection, CacheError> {
        given(self.0.get().await.map(Inner::Cluster))
    }

    pub(super) fn close(&self) {
        self.0.close();
    }
}
