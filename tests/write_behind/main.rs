//! Write-behind: what is sent is carried out, in order, at least once; what isn't becomes a dead letter.
#![allow(unreachable_pub)] // a test binary exports nothing

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/log.rs"]
mod log;

mod coalescing;
mod entries;
mod failures;
mod life;
mod order;
mod pressure;
mod settings;
mod world;

use cache_aside::Cache;
use support::secs;
use support::server::{Kind, Server};

/// A cache on a server of its own, with a budget that a busy machine doesn't exhaust.
fn over(kind: Kind) -> (Cache, Server) {
    let server = Server::of(kind).start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(10)).lease(secs(2)).build().unwrap();
    (cache, server)
}

/// Makes tests of each check: an async function of a cache.
macro_rules! on_all_stores {
    ($($check:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $check() {
                super::$check(&crate::support::embedded()).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $check() {
                let (cache, _server) = crate::over(crate::Kind::Redis);
                super::$check(&cache).await;
            })*
        }
        mod valkey {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let (cache, _server) = crate::over(crate::Kind::Valkey);
                super::$check(&cache).await;
            })*
        }
    };
}
pub(crate) use on_all_stores;
