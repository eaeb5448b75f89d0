//! What `get_redis` hands out for a cluster: connections of redis-rs' own cluster client, which knows where each
//! command belongs.

use deadpool_redis::Runtime;
use deadpool_redis::cluster::Manager;
use redis::ConnectionInfo;

use crate::error::CacheError;
use crate::store::redis::address::Address;
use crate::store::redis::pool::{Inner, PATIENCE, RedisConnection, given};

pub(super) struct Pool(deadpool_redis::cluster::Pool);

impl Pool {
    pub(super) fn new(seeds: &[Address]) -> Self {
        let seeds: Vec<ConnectionInfo> = seeds.iter().map(|seed| seed.info(false)).collect();
        let manager = Manager::new(seeds, false).expect("the addresses were read before, and are alike");
        let pool = deadpool_redis::cluster::Pool::builder(manager)
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
