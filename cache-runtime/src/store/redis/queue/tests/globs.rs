//! No glob reaches what is queued.

use super::*;
use crate::recovery::Target;
use crate::store::{Reach, Store};

fn keys(server: &Server) -> Vec<String> {
    let mut keys: Vec<String> =
        server.command(&["KEYS", "*"]).split_whitespace().map(str::to_owned).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn globs_remove_entries_and_no_writes() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        for base in [BASE, "@writes:{q}"] {
            let queue = store.queue(base);
            let entries = [entry("shop:e", "1", "c")];
            let write =
                NewWrite { kind: "k", order_key: "k", payload: b"", entries: &entries, synced: false };
            queue.append(&write, LIMITS).await.unwrap();
            queue.tend("w", LEASE, &[], LIMITS).await.unwrap();
        }
        let before = keys(&server);
        assert!(before.len() > 10, "{before:?}");
        let others: Vec<String> = before.into_iter().filter(|key| key != "shop:e").collect();
        for glob in ["*", "shop:*", "@*", "*writes*", "shop:@writes:{q}:*", "@writes:{q}:s?", "*e*"] {
            store.set("shop:e", "1".into(), None).await.unwrap();
            let fits = u64::from(Reach::Any.fits(glob.as_bytes(), b"shop:e"));
            assert_eq!(store.remove_matching(glob, Reach::Any).await.unwrap(), fits, "{glob}");
            store.remove("shop:e").await.unwrap();
            assert_eq!(keys(&server), others, "{glob}");
        }
    }
}

/// Invalidations that were kept while the server was away may have become the glob of everything.
#[tokio::test]
async fn kept_invalidations_remove_no_writes() {
    let server = Server::redis().start();
    let first = store(&server.url());
    let bench = Bench::new(&first);
    bench.append("k", "p", &[entry("shop:e", "1", "c")]).await;
    let kept = Kept::new(100, "*".to_owned());
    kept.keep(Target::Glob("*".to_owned()), None);
    kept.keep(Target::Made("shop:*".to_owned()), None);
    let second = store_that_keeps(&server.url(), kept);
    let bench = Bench::new(&second);
    assert_eq!(bench.get("shop:e").await, None);
    assert_eq!((bench.figures().await.pending, bench.pending("shop:e").await.as_deref()), (1, Some("c")));
}
