//! Real servers do what the embedded store does (SPEC 3.2): Redis and Valkey, in both protocols, with
//! and without a password, a user, a database number, a namespace, and over a Unix socket.

mod support;

use cache_aside::Cache;
use support::secs;
use support::server::Server;

/// The cache, with a budget that a busy machine doesn't exhaust.
fn over(url: &str) -> Cache {
    Cache::builder().redis(url).store_budget(secs(10)).build().unwrap()
}

macro_rules! on {
    ($(#[doc = $doc:literal] $name:ident: $server:expr, $url:expr;)*) => { $(
        #[doc = $doc]
        mod $name {
            use super::*;

            fn make() -> (Cache, Server) {
                let server: Server = $server;
                let url: fn(&Server) -> String = $url;
                (over(&url(&server)), server)
            }
            crate::conformance!(make);
        }
    )* };
}

/// What a service needs to use everything, and no more.
const RULES: &str = "resetkeys ~* resetchannels -@all +@read +@write +@connection +eval +evalsha +time";

on! {
    /// Redis, RESP3.
    redis: Server::redis().start(), Server::url;
    /// Redis, RESP2.
    redis_resp2: Server::redis().start(), |server| format!("{}?protocol=resp2", server.url());
    /// Redis with a password and a database number.
    redis_password: Server::redis().password("p@ss:w/rd%").start(), |server| format!("{}/3", server.url());
    /// Redis with a user who may do little.
    redis_user: Server::redis().user("app", "secret", RULES).start(), Server::url;
    /// Redis over a Unix socket.
    redis_unix: Server::redis().unix_socket().start(), Server::unix_url;
    /// Valkey, RESP3.
    valkey: Server::valkey().start(), Server::url;
    /// Valkey, RESP2, with a password.
    valkey_resp2: Server::valkey().password("secret").start(), |server| format!("{}?protocol=resp2", server.url());
}

mod redis_with_a_namespace {
    use super::*;

    fn make() -> (Cache, Server) {
        let server = Server::redis().start();
        server.command(&["SET", "other:k", "1"]);
        let cache =
            Cache::builder().redis(server.url()).namespace("shop").store_budget(secs(10)).build().unwrap();
        (cache, server)
    }
    crate::conformance!(make);

    #[tokio::test]
    async fn a_namespace_is_never_left() {
        let (cache, server) = make();
        for glob in ["*", "", "other:*", "?*", "[a-z]*", "\\*"] {
            cache.set("k", &1, secs(9)).await.unwrap();
            cache.delete_pattern(glob).await.unwrap();
            assert_eq!(server.command(&["GET", "other:k"]), "1", "{glob}");
        }
        cache.set("k", &1, secs(9)).await.unwrap();
        assert_eq!(server.command(&["GET", "shop:k"]), "1");
        cache.delete_pattern("*").await.unwrap();
        assert_eq!(server.command(&["DBSIZE"]), "1");
    }
}
