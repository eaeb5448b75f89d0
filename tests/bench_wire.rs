//! The test bench's proxy and scripted server do what the other tests rely on.

mod support;

use std::time::{Duration, Instant};

use support::client::Client;
use support::ms;
use support::proxy::{Aim, Garble, Half, Proxy};
use support::script::{Reply, Script};
use support::server::{Kind, Server};

const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// A server, a proxy in front of it and a client at the proxy, with RESP3 and a few keys.
async fn behind_a_proxy(kind: Kind) -> (Server, Proxy, Client) {
    let server = Server::of(kind).start();
    server.command(&["MSET", "a", "aaaa", "b", "bbbb", "c", "cccc"]);
    let proxy = Proxy::start(&server.url());
    let mut client = Client::to(&proxy.url()).await;
    assert!(client.ask("HELLO 3").await.contains("proto\n3"));
    proxy.seen.reset();
    (server, proxy, client)
}

#[tokio::test]
async fn a_proxy_counts_commands() {
    for kind in BOTH {
        let (_server, proxy, mut client) = behind_a_proxy(kind).await;
        assert_eq!(client.ask("get a").await, "aaaa");
        assert_eq!(client.ask("MGET a b").await, "aaaa\nbbbb");
        assert_eq!(client.ask(&format!("SET big {}", "x".repeat(1 << 20))).await, "OK");
        assert_eq!(client.ask("GET big").await.len(), 1 << 20);
        assert_eq!(proxy.seen.commands(), ["GET", "MGET", "SET", "GET"]);
        assert_eq!(proxy.seen.requests()[1], ["MGET", "a", "b"]);
        assert_eq!((proxy.seen.count("get"), proxy.seen.count("DEL")), (2, 0));
        proxy.seen.reset();
        assert!(proxy.seen.commands().is_empty());
    }
}

#[tokio::test]
async fn a_proxy_delays_and_holds_replies() {
    let (server, proxy, mut client) = behind_a_proxy(Kind::Redis).await;
    proxy.delay(ms(300));
    let begun = Instant::now();
    client.send("GET a").await;
    client.send("GET b").await;
    assert_eq!((client.reply().await, client.reply().await), ("aaaa".into(), "bbbb".into()));
    assert!((ms(300)..ms(590)).contains(&begun.elapsed()), "each from its arrival: {:?}", begun.elapsed());
    proxy.delay(Duration::ZERO);

    proxy.hold();
    client.send("SET a new").await;
    client.send("GET a").await;
    proxy.wait_pending(2).await;
    assert_eq!(server.command(&["GET", "a"]), "new", "the server has obeyed");
    assert!(client.says_nothing().await);
    proxy.release_one();
    assert_eq!(client.reply().await, "OK");
    assert!(client.says_nothing().await);
    proxy.release();
    assert_eq!(client.reply().await, "new");
    assert_eq!(proxy.pending(), 0);
}

#[tokio::test]
async fn a_proxy_cuts_and_refuses_and_swallows() {
    let (server, proxy, mut client) = behind_a_proxy(Kind::Redis).await;
    proxy.hold();
    client.send("SET a lost").await;
    proxy.wait_pending(1).await;
    proxy.cut().await;
    assert_eq!(client.reply().await, "closed");
    assert_eq!((server.command(&["GET", "a"]), proxy.pending()), ("lost".into(), 0));
    proxy.release();
    let mut client = Client::to(&proxy.url()).await;
    assert_eq!(client.ask("GET b").await, "bbbb", "new connections may come");

    proxy.refuse(true);
    assert_eq!(Client::to(&proxy.url()).await.reply().await, "closed");
    assert_eq!(client.ask("GET b").await, "bbbb", "old ones stay");
    proxy.refuse(false);

    proxy.black_hole(Half::Requests);
    client.send("SET a swallowed").await;
    assert!(client.says_nothing().await);
    assert_eq!(server.command(&["GET", "a"]), "lost");
    proxy.black_hole(Half::Replies);
    let mut client = Client::to(&proxy.url()).await;
    client.send("SET a done").await;
    assert!(client.says_nothing().await);
    assert_eq!(server.command(&["GET", "a"]), "done");
    proxy.black_hole(None);
    assert_eq!(client.ask("GET b").await, "closed", "nothing follows what was lost");
    let mut client = Client::to(&proxy.url()).await;
    assert_eq!(client.ask("GET b").await, "bbbb");

    server.kill();
    assert_eq!(client.reply().await, "closed", "the server's end is passed on");
    server.restart();
    assert_eq!(Client::to(&proxy.url()).await.ask("GET b").await, "(nil)");
}

#[tokio::test]
async fn a_proxy_knows_who_tracks_and_leads_elsewhere() {
    let (server, proxy, mut plain) = behind_a_proxy(Kind::Redis).await;
    let mut tracking = Client::to(&proxy.url()).await;
    tracking.ask("HELLO 3").await;
    assert_eq!(proxy.tracking(), 0);
    assert_eq!((tracking.ask("CLIENT TRACKING ON").await, proxy.tracking()), ("OK".into(), 1));
    tracking.ask("GET a").await;
    proxy.aim(Aim::Tracking);
    for half in [Half::Requests, Half::Replies, Half::Both] {
        proxy.black_hole(half);
        tracking.send("SET b lost").await;
        assert!(tracking.says_nothing().await, "{half:?}");
        assert_eq!(plain.ask("GET c").await, "cccc");
        assert_eq!(server.command(&["GET", "b"]) == "lost", half == Half::Replies);
        server.command(&["SET", "b", "bbbb"]);
        if half != Half::Requests {
            assert_eq!(plain.ask("SET a new").await, "OK");
            assert!(tracking.says_nothing().await, "no push either");
        }
        proxy.black_hole(None);
        // Nothing follows what was lost.
        assert_eq!(tracking.ask("GET a").await, "closed", "{half:?}");
        tracking = Client::to(&proxy.url()).await;
        tracking.ask("HELLO 3").await;
        tracking.ask("CLIENT TRACKING ON").await;
        assert_eq!(tracking.ask("GET a").await, server.command(&["GET", "a"]));
    }
    proxy.cut_tracking();
    assert_eq!((tracking.reply().await, plain.ask("GET c").await), ("closed".into(), "cccc".into()));

    let other = Server::redis().start();
    other.command(&["SET", "c", "another"]);
    proxy.lead_to(&other.url());
    assert_eq!(Client::to(&proxy.url()).await.ask("GET c").await, "another");
    assert_eq!(plain.ask("GET c").await, "cccc", "old ones stay");
}

#[tokio::test]
async fn a_proxy_swaps_replies() {
    let (_server, proxy, mut client) = behind_a_proxy(Kind::Valkey).await;
    proxy.swap_next();
    for key in ["a", "b", "c"] {
        client.send(&format!("GET {key}")).await;
    }
    assert_eq!((client.reply().await, client.reply().await), ("bbbb".into(), "aaaa".into()));
    assert_eq!((client.reply().await, proxy.swapped()), ("cccc".into(), 1));
}

#[tokio::test]
async fn a_proxy_garbles_a_bulk() {
    let (_server, proxy, mut client) = behind_a_proxy(Kind::Valkey).await;
    proxy.garble_next(Garble::Truncate(2));
    assert_eq!(client.ask("PING").await, "PONG", "that is no bulk");
    assert_eq!(client.ask("GET none").await, "(nil)");
    assert_eq!(client.ask("GET a").await, "aa");
    proxy.garble_next(Garble::Replace(b"longer than it was".to_vec()));
    assert_eq!(client.ask("MGET none a b").await, "(nil)\nlonger than it was\nbbbb", "the frame is whole");
    proxy.garble_next(Garble::Flip(1));
    assert_eq!(client.ask("GET a").await, "a\u{fffd}aa");
    assert_eq!((client.ask("GET a").await, proxy.garbled()), ("aaaa".into(), 3));
}

#[tokio::test]
async fn pushes_pass_in_order_and_are_no_replies() {
    for kind in BOTH {
        let (server, proxy, mut client) = behind_a_proxy(kind).await;
        assert_eq!(client.ask("CLIENT TRACKING ON").await, "OK");
        assert_eq!(client.ask("GET a").await, "aaaa");
        proxy.swap_next();
        client.send("GET b").await;
        proxy.wait_pending(1).await;
        server.command(&["SET", "a", "new"]);
        assert_eq!(client.reply().await, "invalidate\na", "the push doesn't wait for the swap");
        assert_eq!(client.ask("GET c").await, "cccc");
        assert_eq!(client.reply().await, "bbbb");
    }
}

#[tokio::test]
async fn a_script_says_what_it_is_told() {
    let script = Script::start(|words| match words[0].as_str() {
        "OOM" => Reply::Error("OOM no"),
        "RAW" => Reply::Raw(b"*2\r\n:1\r\n$1\r\nx\r\n".to_vec()),
        "FINE" => Reply::Ok,
        "NULL" => Reply::Null,
        "HUSH" => Reply::Silence,
        "SET" if words[1] == "lost" => Reply::Lost,
        "BYE" => Reply::Close,
        _ => Reply::Default,
    });
    let mut client = Client::to(&script.url()).await;
    #[rustfmt::skip] // a table
    let rows = [
        ("OOM", "-OOM no"), ("RAW", "1\nx"), ("fine", "OK"), ("NULL", "(nil)"), ("PING", "PONG"),
        ("HELLO 2", "server\nredis\nversion\n7.0.15\nproto\n2\nid\n1\nmode\nstandalone\nrole\nmaster\nmodules\n"),
        ("GET k", "(nil)"), ("SET k v NX GET", "(nil)"), ("SET k w NX GET", "v"), ("GET k", "v"),
        ("SET k w NX", "(nil)"), ("SET none w XX", "(nil)"), ("SET k w", "OK"), ("EXISTS k none", "1"),
        ("UNLINK k none", "1"), ("DEL k", "0"), ("EVALSHA abc 0", "-NOSCRIPT No matching script. Please use EVAL."),
        ("WHAT", "-ERR unknown command 'WHAT'"), ("SET lost v", "closed"),
    ];
    for (command, reply) in rows {
        assert_eq!(client.ask(command).await, reply, "{command}");
    }
    let mut client = Client::to(&script.url()).await;
    assert_eq!(client.ask("GET lost").await, "v", "lost was the reply only");
    client.send("HUSH").await;
    client.send("PING").await;
    assert!(client.says_nothing().await);
    let mut client = Client::to(&script.url()).await;
    client.send("HELLO 3").await;
    client.send("NULL").await;
    assert_eq!((client.reply().await.contains("proto\n3"), client.reply().await), (true, "(nil)".into()));
    assert_eq!(client.ask("BYE").await, "closed");
    assert_eq!((script.seen.count("SET"), script.seen.count("bye")), (6, 1));
}

#[tokio::test]
async fn a_script_over_a_real_server_changes_single_answers() {
    for kind in BOTH {
        let server = Server::of(kind).password("pw").start();
        let script = Script::over(&server.url(), |words| match words[0].as_str() {
            "GET" => Reply::Error("LOADING still"),
            "SET" => Reply::Lost,
            _ => Reply::Default,
        });
        let mut client = Client::to(&script.url()).await;
        assert_eq!(client.ask("AUTH pw").await, "OK");
        assert_eq!(client.ask("EVAL return{1,2} 0").await, "1\n2");
        assert_eq!(client.ask("GET k").await, "-LOADING still");
        assert_eq!(client.ask("SET k v").await, "closed");
        assert_eq!(server.command(&["GET", "k"]), "v");
        assert_eq!(script.seen.commands(), ["AUTH", "EVAL", "GET", "SET"]);
    }
}
