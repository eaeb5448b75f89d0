//! Servers that lack a command, or don't let their user have it, as managed ones and old ones do: what has a
//! substitute is done by that, what has none costs hits and not answers, and each is said once.

#[path = "support/log.rs"]
mod log;
#[path = "support/sample.rs"]
mod sample;
mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use cache_aside::{Cache, CacheError, cache};
use log::Log;
use sample::{World, eventually, patient, write};
use support::script::{Reply, Script};
use support::server::{Builder, Kind, Server};
use support::{Loads, secs};
use tokio::task::JoinSet;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// All of Redis, but for this.
fn without(kind: Kind, commands: &[&str]) -> Builder {
    let rules: Vec<String> = commands.iter().map(|command| format!("-{command}")).collect();
    Server::of(kind).user("app", "secret", &format!("~* &* +@all {}", rules.join(" ")))
}

fn renamed(kind: Kind, commands: &[&str]) -> Builder {
    let away = |server: Builder, command: &&str| server.config("rename-command", &format!("{command} \"\""));
    commands.iter().fold(Server::of(kind), away)
}

#[cache(ttl = 600, key = "labelled:{id}", tags = ["label:{id}"], cache = cache)]
async fn labelled(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(std::time::Duration::ZERO).await
}

#[cache(ttl = 600, key = "plain:{id}", cache = cache)]
async fn plain(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(std::time::Duration::ZERO).await
}

/// Misses, hits and invalidations, of an entry and of tags.
async fn works(url: &str) {
    let world = World::new(patient(url).build().unwrap());
    world.check(1).await;
    world.until_hit(1).await;
    write(&world, 1).await;
    world.check(1).await;
    world.until_hit(1).await;
    let loads = Loads::new();
    for _ in 0..2 {
        assert_eq!(labelled(&world.cache, &loads, 1).await, 1);
    }
    world.cache.invalidate_tags(&["label:1"]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(labelled(&world.cache, &loads, 1).await, 2);
    }
    assert_eq!(world.cache.increment_with_ttl("n", secs(60)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_takes_scripts_only_whole_is_sent_them_whole() {
    for kind in BOTH {
        for server in [without(kind, &["evalsha"]).start(), renamed(kind, &["EVALSHA"]).start()] {
            let (log, _guard) = Log::new();
            works(&server.url()).await;
            assert_eq!(log.count("scripts are sent whole"), 1, "{}", log.text());
            // It was asked for one by its digest, once.
            let stats = server.command(&["INFO", "commandstats"]);
            let refused = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:"));
            assert!(refused.is_none_or(|line| line.contains("rejected_calls=1,")), "{refused:?}");
        }
    }
}

/// Nothing can be filled then: nobody takes a lease either, or others would wait for its end.
#[tokio::test]
async fn without_scripts_functions_run_uncached_and_that_is_said() {
    for kind in BOTH {
        let servers =
            [without(kind, &["eval", "evalsha"]).start(), renamed(kind, &["EVAL", "EVALSHA"]).start()];
        for server in servers {
            let (log, _guard) = Log::new();
            let cache = patient(&server.url()).build().unwrap();
            let world = World::new(cache.clone());
            // The one that finds out.
            world.check(1).await;
            let keys = server.command(&["DBSIZE"]);
            for id in 2..10 {
                world.check(id).await;
                write(&world, id).await;
                world.check(id).await;
            }
            assert_eq!(server.command(&["DBSIZE"]), keys);
            assert_eq!(log.count("functions run uncached until its user may"), 1, "{}", log.text());
            // What needs none works.
            cache.set("k", &1, secs(60)).await.unwrap();
            assert_eq!(cache.get::<u8>("k").await.unwrap(), Some(1));
            assert!(cache.delete("k").await.unwrap());
            let refused = cache.increment_with_ttl("n", secs(60)).await.unwrap_err();
            let CacheError::Server(text) = &refused else { panic!("{refused:?}") };
            assert!(text.contains("EVAL"), "{text}");
        }
    }
}

/// In the words of a service, without quotes.
#[tokio::test]
async fn where_scripts_are_refused_in_other_words_no_lease_is_taken() {
    let server = Server::redis().start();
    let script = Script::over(&server.url(), |words| match words {
        [name, ..] if name.starts_with("EVALSHA") => {
            Reply::Error("ERR command evalsha not support for normal user")
        }
        [name, ..] if name.starts_with("EVAL") => {
            Reply::Error("ERR command eval not support for normal user")
        }
        _ => Reply::Default,
    });
    let (log, _guard) = Log::new();
    let world = World::new(patient(&script.url()).build().unwrap());
    for id in 1..10 {
        world.check(id).await;
    }
    assert_eq!(server.command(&["DBSIZE"]), "0");
    assert_eq!(log.count("functions run uncached until its user may"), 1, "{}", log.text());
}

#[tokio::test]
async fn scripts_that_are_allowed_after_all_are_used() {
    let server = without(Kind::Redis, &["eval", "evalsha"]).start();
    let world = World::new(patient(&server.url()).build().unwrap());
    world.check(1).await;
    world.check(2).await;
    server.command(&["ACL", "SETUSER", "app", "+eval", "+evalsha"]);
    world.until_hit(2).await;
}

/// Or all who are waiting would ask, each time.
#[tokio::test]
async fn whether_scripts_are_allowed_meanwhile_is_asked_by_one() {
    let server = without(Kind::Redis, &["eval", "evalsha"]).start();
    let cache = patient(&server.url()).build().unwrap();
    let loads = Arc::new(Loads::new());
    let rush = async || {
        let calls: JoinSet<_> = (0..50)
            .map(|id| {
                let (cache, loads) = (cache.clone(), Arc::clone(&loads));
                async move { plain(&cache, &loads, id).await }
            })
            .collect();
        calls.join_all().await;
    };
    rush().await;
    server.command(&["CONFIG", "RESETSTAT"]);
    tokio::time::sleep(std::time::Duration::from_millis(5_100)).await;
    rush().await;
    let stats = server.command(&["INFO", "commandstats"]);
    let refused = stats.lines().find(|line| line.starts_with("cmdstat_eval:"));
    assert!(refused.is_some_and(|line| line.contains("rejected_calls=1,")), "{refused:?}");
}

/// Who isn't let in doesn't know what is behind the door.
#[tokio::test]
async fn a_server_that_wants_a_password_is_not_said_to_lack_anything() {
    for kind in BOTH {
        let (log, _guard) = Log::new();
        let server = Server::of(kind).password("secret").start();
        let world = World::new(patient(&server.url().replace(":secret@", "")).build().unwrap());
        world.check(1).await;
        assert_eq!(log.count("the server refuses"), 1, "{}", log.text());
        assert_eq!(log.count("RESP3") + log.count("takes leases"), 0, "{}", log.text());
        server.command(&["CONFIG", "SET", "requirepass", ""]);
        server.command(&["CLIENT", "KILL", "USER", "default"]);
        world.until_hit(1).await;
        let clients = server.command(&["CLIENT", "LIST"]);
        let ours: Vec<_> = clients.lines().filter(|line| line.contains(" user=default ")).collect();
        let speaks = |line: &str| line.contains(" resp=3") || !line.contains(" resp=");
        assert!(!ours.is_empty() && ours.iter().all(|line| speaks(line)), "{clients}");
    }
}

#[tokio::test]
async fn a_server_without_resp3_is_said_to_have_none() {
    for kind in BOTH {
        let (log, _guard) = Log::new();
        let server = renamed(kind, &["HELLO"]).start();
        works(&server.url()).await;
        assert_eq!(log.count("the server has no RESP3"), 1, "{}", log.text());
    }
}

/// Proxies and forks: the greeting of a new server, the commands of an old one.
#[tokio::test]
async fn a_version_that_promises_too_much_costs_one_refusal() {
    let server = Server::redis().start();
    let script = Script::over(&server.url(), |words| match words {
        [name, .., nx, get] if name == "SET" && nx == "NX" && get == "GET" => {
            Reply::Error("ERR syntax error")
        }
        _ => Reply::Default,
    });
    let (log, _guard) = Log::new();
    let world = World::new(patient(&script.url()).build().unwrap());
    world.check(1).await;
    world.until_hit(1).await;
    assert_eq!(log.count("a script takes leases"), 1, "{}", log.text());
    // In one flush with tags the refusal costs that call's entry, and no more.
    let (cache, loads) = (patient(&script.url()).build().unwrap(), Loads::new());
    let mut values = Vec::new();
    for _ in 0..3 {
        values.push(labelled(&cache, &loads, 1).await);
    }
    assert_eq!(values, if Kind::Redis.is_old() { [1, 1, 1] } else { [1, 2, 2] });
}

/// One that isn't promised: the lease is taken by a script from the first call on.
#[tokio::test]
async fn an_old_server_is_never_sent_what_it_lacks() {
    let server = Server::redis().start();
    let script = Script::over(&server.url(), |words| match words {
        [name, ..] if name == "HELLO" => Reply::Error("ERR unknown command 'HELLO'"),
        [name, .., nx, get] if name == "SET" && nx == "NX" && get == "GET" => Reply::Close,
        _ => Reply::Default,
    });
    works(&script.url()).await;
}

/// A failover to an older server, and one to a newer: what counts is whom the connection leads to.
#[tokio::test]
async fn what_a_server_can_is_asked_anew_with_each_connection() {
    #[derive(Default)]
    struct Stage {
        is_old: AtomicBool,
        is_cut: AtomicBool,
        taken: Mutex<Vec<&'static str>>,
    }
    let stage = Arc::new(Stage::default());
    let played = Arc::clone(&stage);
    let script = Script::start(move |words| {
        let is_old = played.is_old.load(SeqCst);
        match words[0].as_str() {
            "HELLO" if is_old => Reply::Raw(b"%2\r\n+version\r\n+6.2.14\r\n+role\r\n+master\r\n".to_vec()),
            "SET" if words.last().is_some_and(|word| word == "(by script)") => {
                played.taken.lock().unwrap().push("script");
                Reply::Null
            }
            "SET" => {
                played.taken.lock().unwrap().push("set");
                if is_old { Reply::Error("ERR syntax error") } else { Reply::Default }
            }
            "EVAL" => Reply::Raw(b":1\r\n".to_vec()),
            "GET" if played.is_cut.swap(false, SeqCst) => Reply::Close,
            _ => Reply::Default,
        }
    });
    let world = World::new(patient(&script.url()).build().unwrap());
    for (id, is_old) in [(1, false), (2, true), (3, false), (4, true)] {
        stage.is_old.store(is_old, SeqCst);
        stage.is_cut.store(true, SeqCst);
        let connections = script.seen.count("PING");
        world.check(10 * id).await;
        eventually("another connection", || script.seen.count("PING") > connections).await;
        while world.cache.get::<u8>("k").await.is_err() {
            tokio::task::yield_now().await;
        }
        stage.taken.lock().unwrap().clear();
        world.check(id).await;
        let way = if is_old { "script" } else { "set" };
        assert_eq!(*stage.taken.lock().unwrap(), [way], "{id}");
    }
}

#[tokio::test]
async fn a_command_that_is_missing_is_named_once() {
    let (log, _guard) = Log::new();
    let server = renamed(Kind::Redis, &["UNLINK"]).start();
    let cache = patient(&server.url()).build().unwrap();
    for _ in 0..3 {
        cache.delete("k").await.unwrap_err();
    }
    eventually("it is said", || log.text().to_lowercase().contains("unlink")).await;
    assert_eq!(log.count("the server refuses"), 1, "{}", log.text());
}
