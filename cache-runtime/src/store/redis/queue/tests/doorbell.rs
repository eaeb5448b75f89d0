//! What waits for news, and on how many connections.

use std::pin::pin;

use super::*;

/// The ids of the clients that wait for a stream.
fn waiting(server: &Server) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST"]);
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    list.lines().filter(|line| field(line, "flags=").contains('b')).map(|line| field(line, "id=")).collect()
}

/// Waits until the question is under way, and gives it up.
async fn ask(bench: &Bench<'_>, server: &Server, shards: &[u32]) {
    let mut wait = pin!(bench.queue.arrivals("w", shards, LEASE));
    until("it is asked", async || {
        tokio::select! {
            biased;
            _ = wait.as_mut() => panic!("nothing came"),
            () = tokio::task::yield_now() => {}
        }
        !waiting(server).is_empty()
    })
    .await;
}

async fn ring(bench: &Bench<'_>, shards: &[u32]) {
    in_time("a ring", bench.queue.arrivals("w", shards, LEASE)).await.unwrap();
}

#[tokio::test]
async fn a_question_that_was_given_up_serves_the_next_one() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        let term = bench.term("w", "k").await;
        assert!(bench.read("w", term).await.is_empty());
        ask(&bench, &server, &[term.shard]).await;
        let first = waiting(&server);
        for _ in 0..5 {
            ask(&bench, &server, &[term.shard]).await;
        }
        assert_eq!((first.len(), waiting(&server)), (1, first));
        bench.append("k", "p", &[]).await;
        ring(&bench, &[term.shard]).await;
        assert_eq!(bench.read("w", term).await.len(), 1);
        // The one who leaves takes its connection along.
        ask(&bench, &server, &[term.shard]).await;
        bench.queue.leave("w").await.unwrap();
        until("it is gone", async || waiting(&server).is_empty()).await;
    }
}

#[tokio::test]
async fn a_question_is_about_what_is_wanted_now() {
    // Who may have it ended needs no other connection.
    for (rules, is_same) in [("", true), ("-client|unblock", false)] {
        let server = Server::redis().user("app", "secret", &format!("{RULES} {rules}")).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        let other = other_than("k", LIMITS.shards);
        let (a, b) = (bench.term("w", "k").await, bench.term("w", &other).await);
        ask(&bench, &server, &[a.shard]).await;
        let first = waiting(&server);
        // One about more.
        let both = [a.shard, b.shard];
        tokio::join!(ring(&bench, &both), bench.append(&other, "p", &[]));
        assert_eq!(bench.read("w", b).await.len(), 1);
        ask(&bench, &server, &both).await;
        assert_eq!(waiting(&server) == first, is_same, "{rules}");
        // One about less: what comes elsewhere is no news.
        bench.append(&other, "p", &[]).await;
        ask(&bench, &server, &[a.shard]).await;
        bench.append("k", "p", &[]).await;
        ring(&bench, &[a.shard]).await;
        ring(&bench, &[b.shard]).await;
        bench.queue.arrivals("w", &[], Duration::from_millis(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_replaced() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    let term = bench.term("w", "k").await;
    let wait =
        || in_time("a ring or an end", bench.queue.arrivals("w", std::slice::from_ref(&term.shard), LEASE));
    for _ in 0..2 {
        let cut = async {
            until("it is asked", async || !waiting(&server).is_empty()).await;
            server.command(&["CLIENT", "KILL", "ID", &waiting(&server)[0]]);
            until("it is asked again", async || !waiting(&server).is_empty()).await;
            bench.append("k", "p", &[]).await;
        };
        let (waited, ()) = tokio::join!(
            async {
                wait().await.unwrap();
                while bench.read("w", term).await.is_empty() {
                    wait().await.unwrap();
                }
            },
            cut
        );
        let () = waited;
    }
    // While the server is away, whoever waits goes on after a while, and hears so when it reads.
    server.kill();
    wait().await.unwrap();
    assert!(bench.queue.read("w", term, 1).await.is_err());
}

#[tokio::test]
async fn a_cache_that_is_closed_leaves_no_connection() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let queue = store.queue(BASE);
    let term = queue.tend("w", LEASE, &[], LIMITS).await.unwrap().shards[0];
    queue.recover("w", term).await.unwrap().unwrap();
    let waits = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.arrivals("w", &[term.shard], Duration::from_millis(300)).await }
    });
    until("it is asked", async || !waiting(&server).is_empty()).await;
    drop(store);
    waits.await.unwrap().unwrap();
    until("it is gone", async || waiting(&server).is_empty()).await;
    assert!(queue.recover("w", term).await.is_err());
}
