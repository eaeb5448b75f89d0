//! Values that are stored by hand, beside old and new programs.

#[path = "support/sample.rs"]
mod sample;
mod support;

use cache_aside::{Cache, cache};
use support::proxy::Proxy;
use support::server::Server;

#[tokio::test]
async fn a_put_of_an_older_version_never_overwrites_a_newer_one() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let old = sample::patient(&proxy.url()).build().unwrap();
    let new = sample::patient(&server.url()).build().unwrap();
    old.ping().await.unwrap();
    proxy.hold();
    let put = {
        // Two blocks of one body: the two functions have one path, like those of two programs.
        #[cache(ttl = 60, key = "value", version = 1, cache = cache)]
        async fn value(cache: &Cache) -> u64 {
            1
        }
        tokio::spawn(async move { value::put_cache(&old, &1).await })
    };
    proxy.wait_pending(1).await; // the old one has looked: nothing newer is there
    {
        #[cache(ttl = 60, key = "value", version = 2, cache = cache)]
        async fn value(cache: &Cache) -> u64 {
            2
        }
        assert_eq!(value(&new).await, 2);
        assert_eq!(value::cached(&new).await.unwrap(), Some(2));
        proxy.release();
        put.await.unwrap().unwrap();
        assert_eq!(value::cached(&new).await.unwrap(), Some(2), "the older put overwrote it");
    }
}
