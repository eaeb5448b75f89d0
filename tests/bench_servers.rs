//! The test bench's servers do what the other tests rely on.

mod support;

use std::time::Instant;

use support::client::Client;
use support::server::{Kind, Server};
use support::{ms, resp, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

#[test]
fn servers_start_and_obey_and_end() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        assert_eq!(server.command(&["SET", "k", "v"]), "OK");
        assert_eq!(server.command(&["GET", "k"]), "v");
        assert_eq!(server.command(&["GET", "none"]), "(nil)");
        assert_eq!(server.command(&["MGET", "k", "none"]), "v\n(nil)");
        assert_eq!(server.command(&["CONFIG", "GET", "save"]), "save\n", "nothing is persisted");
        assert_eq!(server.command(&["INFO", "server"]).contains("valkey_version"), kind == Kind::Valkey);
        let address = ("127.0.0.1", server.port());
        drop(server);
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[tokio::test]
async fn a_frozen_server_says_nothing_and_thaws() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let mut client = Client::to(&server.url()).await;
        assert_eq!(client.ask("PING").await, "PONG");
        server.freeze();
        client.send("PING").await;
        assert!(client.says_nothing().await);
        server.thaw();
        assert_eq!(client.reply().await, "PONG");
        server.freeze(); // dropped like this it must end too
        drop(server);
        assert_eq!(client.reply().await, "closed");
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_empty_on_its_port() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let url = server.url();
        assert_eq!(server.command(&["SET", "k", "v"]), "OK");
        let mut client = Client::to(&url).await;
        server.kill();
        assert_eq!(client.reply().await, "closed");
        assert!(TcpStream::connect(("127.0.0.1", server.port())).await.is_err());
        server.restart();
        assert_eq!(server.url(), url);
        assert_eq!(server.command(&["GET", "k"]), "(nil)");
        server.restart(); // and without a kill
        assert_eq!(server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"]), "1");
        assert_eq!(server.command(&["PING"]), "PONG", "the bench reconnects");
    }
}

#[tokio::test]
async fn passwords_and_users_are_asked_for() {
    for kind in BOTH {
        let secured = Server::of(kind).password("p@ss:\"w/rd").start();
        assert_eq!(secured.url(), format!("redis://:p%40ss%3A%22w%2Frd@127.0.0.1:{}", secured.port()));
        let mut client = Client::to(&secured.url()).await;
        assert!(client.ask("GET k").await.starts_with("-NOAUTH"));
        assert!(client.ask("AUTH wrong").await.starts_with("-WRONGPASS"));
        assert_eq!(client.ask("AUTH p@ss:\"w/rd").await, "OK");
        assert_eq!(client.ask("GET k").await, "(nil)");

        let ruled = Server::of(kind).user("app", "pw", "~app:* +@all -flushall").start();
        assert_eq!(ruled.url(), format!("redis://app:pw@127.0.0.1:{}", ruled.port()));
        let mut client = Client::to(&ruled.url()).await;
        assert!(client.ask("GET app:k").await.starts_with("-NOAUTH"));
        assert_eq!(client.ask("AUTH app pw").await, "OK");
        assert_eq!(client.ask("GET app:k").await, "(nil)");
        assert!(client.ask("GET other").await.starts_with("-NOPERM"));
        assert!(client.ask("FLUSHALL").await.starts_with("-NOPERM"));
        assert_eq!(ruled.command(&["FLUSHALL"]), "OK", "the bench may do all");
    }
}

#[tokio::test]
async fn a_unix_socket_is_served() {
    for kind in BOTH {
        let server = Server::of(kind).user("app", "p w", "~* +@all").unix_socket().start();
        let url = server.unix_url();
        let (path, query) = url.strip_prefix("redis+unix://").unwrap().split_once('?').unwrap();
        assert_eq!(query, "pass=p%20w&user=app");
        let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
        stream.write_all(&resp::command(&["AUTH", "app", "p w"])).await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+OK\r\n");
    }
}

/// Each error of the fault table that a real server can be brought to give.
#[tokio::test]
async fn faults_can_be_provoked() {
    for kind in BOTH {
        let server = Server::of(kind).config("busy-reply-threshold", "1").config("maxclients", "4").start();
        let mut client = Client::to(&server.url()).await;
        assert_eq!(client.ask("LPUSH list x").await, "1");
        assert!(client.ask("GET list").await.starts_with("-WRONGTYPE"));
        let sha = server.command(&["SCRIPT", "LOAD", "return 1"]);
        assert_eq!(client.ask(&format!("EVALSHA {sha} 0")).await, "1");

        assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
        assert!(client.ask("SET k v").await.starts_with("-OOM"));
        assert_eq!(client.ask("GET k").await, "(nil)");
        assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "0"]), "OK");

        server.send(&["EVAL", "while true do end", "0"]);
        assert_eq!(within_seconds(|| server.command(&["GET", "k"]), "-BUSY").await, "-BUSY");
        assert_eq!(server.command(&["SCRIPT", "KILL"]), "OK"); // and soon it is
        assert_eq!(within_seconds(|| server.command(&["GET", "k"]), "(nil)").await, "(nil)");

        // The bench has two connections: one for what it asked, and one for the script.
        let mut crowd = [client, Client::to(&server.url()).await];
        let mut one_more = Client::to(&server.url()).await;
        assert!(one_more.reply().await.starts_with("-ERR max number of clients"));
        assert_eq!(crowd[1].ask("PING").await, "PONG");
        drop(crowd);

        for key in 0..300 {
            server.command(&["SET", &format!("key:{key}"), "value"]);
        }
        assert_eq!(server.command(&["CONFIG", "SET", "key-load-delay", "2000"]), "OK");
        assert_eq!(server.command(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"]), "OK");
        server.send(&["DEBUG", "RELOAD"]);
        assert_eq!(within_seconds(|| server.command(&["GET", "k"]), "-LOADING").await, "-LOADING");

        server.restart();
        let mut client = Client::to(&server.url()).await;
        assert!(client.ask(&format!("EVALSHA {sha} 0")).await.starts_with("-NOSCRIPT"));
    }
}

/// Asks until the reply begins so.
async fn within_seconds(mut ask: impl FnMut() -> String, wanted: &str) -> String {
    let begun = Instant::now();
    loop {
        let reply = ask();
        match reply.split(' ').next() {
            Some(first) if first == wanted => return first.into(),
            _ if begun.elapsed() > secs(5) => return reply,
            _ => tokio::time::sleep(ms(1)).await,
        }
    }
}

#[tokio::test]
async fn replicas_follow_and_refuse() {
    for kind in BOTH {
        let primary = Server::of(kind).password("pw").start();
        primary.command(&["SET", "k", "v"]);
        let replica = Server::of(kind).replica_of(&primary).start();
        let mut client = Client::to(&replica.url()).await;
        assert_eq!(client.ask("GET k").await, "v");
        assert!(client.ask("SET k w").await.starts_with("-READONLY"));
    }
}
