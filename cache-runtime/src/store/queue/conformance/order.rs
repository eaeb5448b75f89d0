//! What goes in, in which order it comes out, and how much fits.

use std::collections::BTreeSet;

use super::*;

pub(crate) async fn a_write_comes_back_whole(bench: &Bench<'_>) {
    let payload = [0, 0xff, b'"', b'\r', b'\n', 0x80];
    let entries = [entry("a", "1", "ca"), entry("b:ü \"\\", "2", "cb")];
    let order_key = "user \"1\"\r\nü";
    let write =
        NewWrite { kind: "save user", order_key, payload: &payload, entries: &entries, synced: false };
    let Appended::At(seq) = bench.queue.append(&write, LIMITS).await.unwrap() else { panic!("full") };
    let term = bench.term("w", order_key).await;
    let delivery = bench.read_one("w", term).await;
    assert_eq!(
        (&delivery.kind[..], &delivery.order_key[..], &delivery.payload[..]),
        ("save user", order_key, &payload[..])
    );
    assert_eq!((delivery.seq, delivery.deliveries), (seq, 1));
    assert_eq!(delivery.entries, ["a", "b:ü \"\\"]);
    assert!(delivery.age < PATIENCE, "{:?}", delivery.age);
    assert!(bench.read("w", term).await.is_empty(), "it was handed over");
    bench.settle("w", term, &[delivery]).await;
    assert_eq!(bench.figures().await.pending, 0);

    // Nothing at all is something too.
    let write = NewWrite { kind: "k", order_key: "", payload: b"", entries: &[], synced: false };
    bench.queue.append(&write, LIMITS).await.unwrap();
    let term = bench.term("w", "").await;
    let delivery = bench.read_one("w", term).await;
    assert_eq!((&delivery.order_key[..], &delivery.payload[..], delivery.entries.len()), ("", &b""[..], 0));
}

pub(crate) async fn numbers_grow(bench: &Bench<'_>) {
    let mut last = 0;
    for n in 0..50 {
        let seq = bench.append(&format!("key {n}"), "p", &[]).await;
        assert!(seq > last && seq < 1 << 53, "{seq} after {last}");
        last = seq;
    }
    // Microseconds since 1970.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    assert!(now.abs_diff(last.into()) < 3_600_000_000, "{last} isn't about {now}");
}

pub(crate) async fn writes_of_a_shard_come_in_their_order(bench: &Bench<'_>) {
    let keys: Vec<String> = (0..20).map(|n| format!("key {n}")).collect();
    for round in 0..3 {
        for key in &keys {
            bench.append(key, &format!("{key} {round}"), &[]).await;
        }
    }
    let tenure = bench.tend("w").await;
    assert_eq!(tenure.shards.len(), 4);
    let mut seen = BTreeSet::new();
    for term in tenure.shards {
        assert!(bench.queue.recover("w", term).await.unwrap().unwrap().is_empty());
        let mut all = Vec::new();
        loop {
            let some = bench.queue.read("w", term, 7).await.unwrap().unwrap();
            assert!(some.len() <= 7);
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        assert!(all.is_sorted_by(|a, b| a.seq < b.seq), "{all:?}");
        assert!(all.iter().all(|delivery| shard_of(&delivery.order_key, 4) == term.shard));
        seen.extend(all.iter().map(|delivery| text(delivery.payload.clone())));
        // In any order: each leaves alone.
        for delivery in all.iter().rev() {
            bench.settle("w", term, std::slice::from_ref(delivery)).await;
        }
    }
    assert_eq!((seen.len(), bench.figures().await.pending), (60, 0));
}

pub(crate) async fn a_full_queue_changes_nothing(bench: &Bench<'_>) {
    let limits = Limits { capacity: 3, ..LIMITS };
    bench.set("k", "old").await;
    // Over all shards.
    for key in ["1", "2", "3"] {
        assert!(matches!(bench.try_append(key, key, &[], limits).await, Appended::At(_)));
    }
    for key in ["1", "4", "5", "6", "7"] {
        let entries = [entry("k", "new", "copy")];
        assert_eq!(bench.try_append(key, key, &entries, limits).await, Appended::Full);
    }
    assert_eq!((bench.shows("k").await.as_deref(), bench.pending("k").await), (Some("old"), None));
    assert_eq!(bench.figures().await.pending, 3);
    // What is being tried takes room until it is settled.
    let term = bench.term("w", "1").await;
    let handed = bench.read("w", term).await;
    assert_eq!(bench.try_append("1", "p", &[], limits).await, Appended::Full);
    bench.settle("w", term, &handed[..1]).await;
    assert!(matches!(bench.try_append("1", "p", &[], limits).await, Appended::At(_)));
    assert_eq!(bench.try_append("1", "p", &[], limits).await, Appended::Full);
}

pub(crate) async fn figures_say_what_there_is(bench: &Bench<'_>) {
    assert_eq!(bench.figures().await, Figures::default());
    bench.append("1", "p", &[]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    bench.append("2", "p", &[]).await;
    let term = bench.term("w", "1").await;
    bench.tend("v").await;
    let figures = bench.figures().await;
    assert_eq!((figures.pending, figures.letters, figures.retries, figures.workers), (2, 0, 0, 2));
    let oldest = figures.oldest.unwrap();
    assert!(oldest >= Duration::from_millis(19) && oldest < PATIENCE, "{oldest:?}");
    let delivery = bench.read("w", term).await.remove(0);
    assert!(delivery.age >= oldest);
    bench.settle("w", term, &[delivery]).await;
    let figures = bench.figures().await;
    assert_eq!(figures.pending, 1);
    bench.queue.leave("v").await.unwrap();
    assert_eq!(bench.figures().await.workers, 1);
}

pub(crate) async fn arrivals_are_heard_of(bench: &Bench<'_>) {
    let term = bench.term("w", "1").await;
    let wait = |patience| bench.queue.arrivals("w", std::slice::from_ref(&term.shard), patience);
    assert!(bench.read("w", term).await.is_empty());
    // Nothing comes.
    in_time("the end of its patience", wait(Duration::from_millis(30))).await.unwrap();
    for n in 0..5 {
        let (waited, seq) = tokio::join!(in_time("a ring", wait(10 * PATIENCE)), bench.append("1", "p", &[]));
        waited.unwrap();
        // What was given up doesn't take the ring of the next.
        tokio::select! { biased; _ = wait(PATIENCE) => {} () = std::future::ready(()) => {} }
        let mut handed = Vec::new();
        until("it comes", async || {
            handed.extend(bench.read("w", term).await);
            !handed.is_empty()
        })
        .await;
        assert_eq!((handed.len(), handed[0].seq), (1, seq));
        if n % 2 == 0 {
            bench.settle("w", term, &handed).await;
        }
    }
    // What came before anybody waited is heard of too.
    bench.append("1", "p", &[]).await;
    in_time("a ring", wait(10 * PATIENCE)).await.unwrap();
}

pub(crate) async fn the_first_number_of_shards_stays(bench: &Bench<'_>) {
    // A key that three shards put elsewhere.
    let key = (0..1000).map(|n| n.to_string()).find(|key| shard_of(key, 3) != shard_of(key, 4)).unwrap();
    bench.append(&key, "first", &[]).await;
    let other = Limits { shards: 3, ..LIMITS };
    assert!(matches!(bench.try_append(&key, "second", &[], other).await, Appended::At(_)));
    let tenure = bench.queue.tend("w", LEASE, &[], other).await.unwrap();
    assert_eq!((tenure.shards.len(), tenure.share), (4, 4));
    let term = bench.term("w", &key).await;
    assert_eq!(payloads(&bench.read("w", term).await), ["first", "second"]);
}
