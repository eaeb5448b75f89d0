//! Which servers will do, and writes that are on their disks.

use super::*;
use crate::store::Store;

async fn refusal(url: &str, synced: bool) -> String {
    match store(url).queue(BASE).check(synced).await {
        Err(CacheError::Settings(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn servers_that_evict_everything_are_refused() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let url = server.url();
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            server.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
            for synced in [false, true] {
                let text = refusal(&url, synced).await;
                assert!(text.contains(policy) && text.contains("noeviction"), "{text}");
            }
        }
        for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
            server.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
            for url in [&url, &format!("{url}?protocol=resp2")] {
                store(url).queue(BASE).check(false).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn who_may_not_look_says_so() {
    let allowed = [("", false), ("+info", true), ("+config|get", true)];
    for (more, is_enough) in allowed {
        let server = Server::redis().user("app", "secret", &format!("{RULES} {more}")).start();
        let store = store(&server.url());
        let checked = store.queue(BASE).check(false).await;
        match checked {
            Ok(()) => assert!(is_enough, "{more}"),
            Err(CacheError::Settings(text)) => {
                assert!(!is_enough && text.contains("+info"), "{more}: {text}");
            }
            Err(other) => panic!("{other:?}"),
        }
        server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        assert!(store.queue(BASE).check(false).await.is_err(), "{more}");
    }
}

#[tokio::test]
async fn servers_that_cannot_sync_are_refused() {
    let redis = Server::redis().config("appendonly", "yes").start();
    let text = refusal(&redis.url(), true).await;
    assert!(text.contains("WAITAOF") && text.contains("7.2"), "{text}");
    store(&redis.url()).queue(BASE).check(false).await.unwrap();

    let valkey = Server::valkey().start();
    let text = refusal(&valkey.url(), true).await;
    assert!(text.contains("appendonly yes"), "{text}");
    let rules = format!("{RULES} +info -waitaof");
    let valkey = Server::valkey().config("appendonly", "yes").user("app", "secret", &rules).start();
    let text = refusal(&valkey.url(), true).await;
    assert!(text.contains("+waitaof"), "{text}");

    let valkey = Server::valkey().config("appendonly", "yes").start();
    store(&valkey.url()).queue(BASE).check(true).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_no_bad_setting() {
    let server = Server::valkey().start();
    let store = store(&server.url());
    server.kill();
    for synced in [false, true] {
        let checked = store.queue(BASE).check(synced).await;
        assert!(matches!(checked, Err(CacheError::Unavailable(_) | CacheError::Timeout(_))), "{checked:?}");
    }
}

async fn sync(queue: &dyn Queue, order_key: &str, limits: Limits) -> Result<Appended, StoreError> {
    let write = NewWrite { kind: "k", order_key, payload: b"p", entries: &[], synced: true };
    queue.append(&write, limits).await
}

/// How often a command was called.
fn calls(server: &Server, name: &str) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn writes_are_on_disk_before_they_are_answered() {
    let server = Server::valkey().config("appendonly", "yes").config("appendfsync", "everysec").start();
    let first = store(&server.url());
    let queue = first.queue(BASE);
    let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let mut sends = tokio::task::JoinSet::new();
    for key in keys {
        let queue = Arc::clone(&queue);
        sends.spawn(async move { sync(&*queue, &key, LIMITS).await });
    }
    let mut numbers = Vec::new();
    while let Some(sent) = sends.join_next().await {
        let Appended::At(seq) = sent.unwrap().unwrap() else { panic!("full") };
        numbers.push(seq);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 50);
    // They shared their syncs: one by one each would have had its own.
    let syncs = calls(&server, "waitaof");
    assert!(syncs < 25, "{syncs}");
    // What isn't a new write needs no disk.
    let full = Limits { capacity: 50, ..LIMITS };
    assert_eq!(sync(&*queue, "k", full).await.unwrap(), Appended::Full);

    server.restart();
    let second = store(&server.url());
    let bench = Bench::new(&second);
    until("it has loaded", async || bench.queue.figures().await.is_ok()).await;
    assert_eq!(bench.figures().await.pending, 50);
    // The connection that stood idle is gone, as is the script.
    until("it is found again", async || matches!(sync(&*queue, "k", LIMITS).await, Ok(Appended::At(_))))
        .await;
}

/// A server that never says that it has synced: the write may be queued, and nobody else waits.
#[tokio::test]
async fn a_write_that_is_not_known_to_be_on_disk_is_no_success() {
    let server = Server::valkey().config("appendonly", "yes").config("appendfsync", "no").start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    let queue = &*bench.queue;
    let mut send = std::pin::pin!(sync(queue, "k", LIMITS));
    let others = async {
        until("it is written", async || bench.figures().await.pending == 1).await;
        bench.append("k", "at once", &[]).await;
    };
    tokio::select! {
        biased;
        early = send.as_mut() => panic!("it was answered before the others: {early:?}"),
        () = others => {}
    }
    let answer = send.await;
    assert!(
        matches!(&answer, Err(StoreError::Timeout(text)) if text.contains("may be queued")),
        "{answer:?}"
    );
    assert_eq!(bench.figures().await.pending, 2);
    // The file is turned off under it: it isn't known to be on disk either.
    server.command(&["CONFIG", "SET", "appendonly", "no"]);
    assert!(matches!(sync(queue, "k", LIMITS).await, Err(StoreError::Timeout(_))));
}

/// The runtime of who sends ends: whoever sends next, elsewhere, is served.
#[test]
fn a_runtime_that_ends_takes_nobody_along() {
    let server = Server::valkey().config("appendonly", "yes").config("appendfsync", "always").start();
    let store = store(&server.url());
    let queue = store.queue(BASE);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..3 {
        let ending = runtime();
        ending.block_on(async {
            until("it is served", async || sync(&*queue, "k", LIMITS).await.is_ok()).await;
            // One more, which is given up with its runtime.
            let send = sync(&*queue, "k", LIMITS);
            tokio::select! { biased; _ = send => {} () = std::future::ready(()) => {} }
        });
    }
}
