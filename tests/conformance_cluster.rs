//! A cluster does what one server does (SPEC 3.2).

mod support;

use cache_aside::Cache;
use support::cluster::Cluster;
use support::secs;
use support::server::Kind;

/// The cache, with a budget that a busy machine doesn't exhaust.
fn over(cluster: &Cluster) -> Cache {
    Cache::builder().redis(cluster.url()).store_budget(secs(10)).build().unwrap()
}

mod redis {
    use super::*;

    fn make() -> (Cache, Cluster) {
        let cluster = Cluster::of(Kind::Redis, 3, 0);
        (over(&cluster), cluster)
    }
    crate::conformance!(make);
}
