//! Servers and proxies that don't know a command, or not by this name, quote what they were sent: neither a
//! value nor a password gets into errors, `Debug` or the log by that; and RESP2 is enough (I11, I12, I16).

#[path = "support/log.rs"]
mod log;
#[path = "support/sample.rs"]
mod sample;
mod support;

use std::error::Error;
use std::fmt::Write as _;

use cache_aside::CacheError;
use log::Log;
use sample::{World, eventually, patient, write};
use support::script::{Reply, Script};
use support::server::{Kind, Server};
use support::{Loads, ms, secs};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];
const CANARY: &str = "c4n4ry-p4ssw0rd";

/// All that an error shows to anybody.
fn shown(error: &CacheError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, " {error} {error:?}").unwrap();
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_server_without_hello_is_used_with_resp2() {
    for kind in BOTH {
        let (log, _guard) = Log::new();
        let server = Server::of(kind).config("rename-command", "HELLO \"\"").password(CANARY).start();
        let world = World::new(patient(&server.url()).build().unwrap());
        world.cache.ping().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        world.check(1).await;
        world.until_hit(1).await;
        write(&world, 1).await;
        world.check(1).await;
        world.until_hit(1).await;
        // And after the connection was lost.
        server.restart();
        world.until_hit(1).await;
        let shown = format!("{} {world:?}", log.text());
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[tokio::test]
async fn a_server_without_hello_that_lets_nobody_in_says_so_without_the_password() {
    for kind in BOTH {
        let (log, _guard) = Log::new();
        let server = Server::of(kind).config("rename-command", "HELLO \"\"").password("another").start();
        let url = format!("redis://:{CANARY}@127.0.0.1:{}", server.port());
        let world = World::new(patient(&url).build().unwrap());
        for id in 0..5 {
            world.check(id).await;
        }
        let error = world.cache.ping().await.unwrap_err();
        eventually("a wrong password is said to be wrong", || {
            let text = log.text();
            text.contains("WRONGPASS") || text.contains("authentication failed")
        })
        .await;
        let shown = format!("{} {world:?} {}", shown(&error), log.text());
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

/// What servers and proxies write, old and new.
#[tokio::test]
async fn whatever_an_unknown_hello_is_called_the_password_is_nowhere() {
    for text in [
        "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `c4n4ry-p4ssw0rd`, ",
        "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'c4n4ry-p4ssw0rd' ",
        "ERR unknown command 'hello', with args beginning with: '3' 'AUTH' 'default' 'c4n4ry-p4ssw0rd' ",
        "ERR unknown command 'HELLO'",
        "NOPROTO unsupported protocol version",
    ] {
        let (log, _guard) = Log::new();
        let script =
            Script::start(move |words| if words[0] == "HELLO" { Reply::Error(text) } else { Reply::Default });
        let url = script.url().replace("redis://", &format!("redis://:{CANARY}@"));
        let cache = patient(&url).build().unwrap();
        let done = cache.ping().await;
        let shown = format!("{done:?} {cache:?} {}", log.text());
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(done.is_ok(), "{text}: {done:?}");
    }
}

#[tokio::test]
async fn no_value_is_in_the_error_of_a_command_that_is_unknown() {
    for kind in BOTH {
        for command in ["SET", "GET", "EVALSHA", "EVAL", "UNLINK", "INCRBY", "SCAN"] {
            let (log, _guard) = Log::new();
            let server = Server::of(kind).config("rename-command", &format!("{command} \"\"")).start();
            let cache = patient(&server.url()).namespace("shop").build().unwrap();
            let mut shown = String::new();
            let mut by_hand = |done: Result<(), CacheError>| {
                if let Err(error) = done {
                    shown += &self::shown(&error);
                }
            };
            by_hand(cache.set("k", CANARY, secs(60)).await);
            by_hand(cache.set_many(&[("m", CANARY)], secs(60)).await);
            by_hand(cache.get::<String>("k").await.map(drop));
            by_hand(cache.increment("n").await.map(drop));
            by_hand(cache.delete_pattern("k*").await.map(drop));
            by_hand(cache.delete("k").await.map(drop));
            let loads = Loads::new();
            for _ in 0..3 {
                let load = async || {
                    loads.load(ms(0)).await;
                    CANARY.to_owned()
                };
                assert_eq!(cache.get_or_set("loaded", secs(60), load).await.unwrap(), CANARY);
            }
            assert!(!shown.contains(CANARY) && !log.text().contains(CANARY), "{shown}\n{}", log.text());
            // Before 7.0 quotes are backticks.
            let shown = shown.replace('`', "'");
            let is_told = shown.contains(&format!("'{command}'")) || command.starts_with("EVAL");
            assert!(is_told, "{command}: {shown}");
        }
    }
}
