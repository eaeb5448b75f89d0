//! When memory is short: a write is refused whole, and workers go on, for they make room.

use super::*;

#[tokio::test]
async fn a_write_is_refused_whole_and_workers_go_on() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        bench.set("e", "old").await;
        for payload in ["1", "2", "3", "4"] {
            bench.append("k", payload, &[entry("f", payload, "c")]).await;
        }
        let term = bench.term("w", "k").await;
        let handed = bench.queue.read("w", term, 3).await.unwrap().unwrap();
        assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "1"]), "OK");

        let entries = [entry("e", "new", "c")];
        let write = NewWrite { kind: "k", order_key: "k", payload: b"5", entries: &entries, synced: false };
        assert!(matches!(bench.queue.append(&write, LIMITS).await, Err(StoreError::Refused(_))));
        assert_eq!((bench.shows("e").await.as_deref(), bench.pending("e").await), (Some("old"), None));
        assert_eq!(bench.figures().await.pending, 4);

        assert!(bench.queue.again("w", term, &handed[1].id, true).await.unwrap());
        bench.settle("w", term, &handed[..1]).await;
        assert_eq!(bench.queue.bury("w", term, &handed[1], "why", LIMITS).await.unwrap(), Buried::Done);
        let figures = bench.figures().await;
        assert_eq!((figures.pending, figures.letters, figures.retries), (2, 1, 1));
        let letter = bench.queue.letters(9).await.unwrap().remove(0);
        assert!(matches!(bench.queue.replay(&letter, LIMITS).await, Err(StoreError::Refused(_))));
        assert_eq!(bench.queue.letters(9).await.unwrap().len(), 1, "it is where it was");
        assert_eq!(bench.tend("w").await.shards.len(), 4);
        bench.queue.leave("w").await.unwrap();

        // Another worker, who never had a shard.
        let term = bench.term("v", "k").await;
        let mut rest = bench.queue.recover("v", term).await.unwrap().unwrap();
        rest.extend(bench.read("v", term).await);
        assert_eq!(payloads(&rest), ["3", "4"]);
        bench.settle("v", term, &rest).await;
        assert_eq!((bench.figures().await.pending, bench.pending("f").await), (0, None));

        // A first term in a queue that was never worked at: its groups are made too.
        let other = store.queue("@writes:{other}");
        assert_eq!(other.tend("v", LEASE, &[], LIMITS).await.unwrap().shards.len(), 4);
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        assert!(bench.queue.replay(&letter, LIMITS).await.unwrap());
        bench.append("k", "5", &entries).await;
        assert_eq!(bench.pending("e").await.as_deref(), Some("c"));
    }
}

/// What the server refuses in the middle of the step: the entry goes, the write stands.
#[tokio::test]
async fn a_value_that_cannot_be_stored_is_removed() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    bench.set("e", "old").await;
    let too_long = NewEntry { life: Some(Duration::MAX), ..entry("e", "new", "c") };
    bench.append("k", "p", &[too_long, entry("f", "1", "d")]).await;
    assert_eq!((bench.shows("e").await, bench.pending("e").await.as_deref()), (None, Some("c")));
    assert_eq!(
        (bench.shows("f").await.as_deref(), bench.pending("f").await.as_deref()),
        (Some("1"), Some("d"))
    );
    assert_eq!(bench.figures().await.pending, 1);
}

/// A user who may neither set nor remove: nothing of it stands.
#[tokio::test]
async fn a_write_whose_entry_cannot_be_removed_is_none() {
    let server = Server::redis().user("app", "secret", &format!("{RULES} -set -unlink")).start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    bench.append("k", "without entries", &[]).await;
    let entries = [entry("e", "v", "c")];
    let write = NewWrite { kind: "k", order_key: "k", payload: b"", entries: &entries, synced: false };
    assert!(matches!(bench.queue.append(&write, LIMITS).await, Err(StoreError::Refused(_))));
    assert_eq!((bench.figures().await.pending, bench.pending("e").await), (1, None));
}
