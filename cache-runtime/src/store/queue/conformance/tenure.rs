//! To whom a shard belongs, and what becomes of what its worker was handed.

use super::*;
use crate::store::queue::Buried;

/// What every shard's term is, by its worker's word.
fn numbers(tenure: &Tenure) -> Vec<u32> {
    let mut shards: Vec<u32> = tenure.shards.iter().map(|term| term.shard).collect();
    shards.sort_unstable();
    shards
}

pub(crate) async fn a_worker_has_its_share_and_no_more(bench: &Bench<'_>) {
    let alone = bench.tend("a").await;
    assert_eq!((numbers(&alone), alone.share), (vec![0, 1, 2, 3], 4));
    assert_eq!(bench.tend("a").await, alone, "the terms stay");
    // There is nothing left, until the other one releases what it has beyond its share.
    let second = bench.tend("b").await;
    assert_eq!((second.shards.len(), second.share), (0, 2));
    assert_eq!(bench.tend("a").await.share, 2);
    let released = &alone.shards[..2];
    let kept = bench.queue.tend("a", LEASE, released, LIMITS).await.unwrap();
    assert_eq!((&kept.shards[..], kept.share), (&alone.shards[2..], 2));
    let taken = bench.tend("b").await;
    assert_eq!(numbers(&taken), released.iter().map(|term| term.shard).collect::<Vec<_>>());
    assert!(taken.shards.iter().all(|term| !released.contains(term)), "another term");
    // A release of a term that is over is none.
    let late = bench.queue.tend("b", LEASE, released, LIMITS).await.unwrap();
    assert_eq!(late, taken);
    // Of four shards three workers have two at most.
    assert_eq!(bench.tend("c").await, Tenure { shards: vec![], share: 2 });
}

pub(crate) async fn who_leaves_frees_its_shards_at_once(bench: &Bench<'_>) {
    let first = bench.tend("a").await;
    assert!(bench.tend("b").await.shards.is_empty());
    bench.queue.leave("a").await.unwrap();
    let second = bench.tend("b").await;
    assert_eq!((numbers(&second), second.share), (vec![0, 1, 2, 3], 4));
    assert_eq!(bench.queue.read("a", first.shards[0], 1).await.unwrap().map(|all| all.len()), None);
    bench.queue.leave("nobody").await.unwrap();
    assert_eq!(bench.tend("b").await, second);
    // Nobody takes more than his share of what is free.
    assert!(bench.tend("c").await.shards.is_empty() && bench.tend("d").await.shards.is_empty());
    bench.queue.leave("b").await.unwrap();
    let (third, fourth) = (bench.tend("c").await, bench.tend("d").await);
    assert_eq!((numbers(&third), numbers(&fourth), fourth.share), (vec![0, 1], vec![2, 3], 2));
}

pub(crate) async fn a_lease_ends(bench: &Bench<'_>) {
    let short = Duration::from_millis(1);
    let first = bench.queue.tend("a", short, &[], LIMITS).await.unwrap();
    until("it is over", async || bench.figures().await.workers == 0).await;
    // Nobody has taken it.
    assert!(bench.queue.recover("a", first.shards[0]).await.unwrap().is_some());
    assert!(bench.queue.read("a", first.shards[0], 1).await.unwrap().is_some());
    assert_eq!(bench.tend("a").await, first);
    bench.queue.tend("a", short, &[], LIMITS).await.unwrap();
    until("it is over", async || bench.figures().await.workers == 0).await;
    let second = bench.tend("b").await;
    assert_eq!((second.shards.len(), second.share), (4, 4));
    assert!(bench.queue.read("a", first.shards[0], 1).await.unwrap().is_none());
    assert!(bench.tend("a").await.shards.is_empty());
}

pub(crate) async fn strangers_are_refused_and_change_nothing(bench: &Bench<'_>) {
    let entries = [entry("k", "v", "copy")];
    bench.append("1", "p", &entries).await;
    let term = bench.term("w", "1").await;
    let delivery = bench.read_one("w", term).await;
    let over = Term { number: term.number + 1, ..term };
    let (queue, done) = (&bench.queue, std::slice::from_ref(&delivery));
    for (worker, term) in [("x", term), ("w", over), ("", term), ("w ", term)] {
        assert!(queue.recover(worker, term).await.unwrap().is_none());
        assert!(queue.read(worker, term, 1).await.unwrap().is_none());
        assert!(!queue.again(worker, term, &delivery.id, true).await.unwrap());
        assert!(!queue.settle(worker, term, done).await.unwrap());
        assert_eq!(queue.bury(worker, term, &delivery, "why", LIMITS).await.unwrap(), Buried::Lost);
    }
    let figures = bench.figures().await;
    assert_eq!((figures.pending, figures.letters, figures.retries, figures.workers), (1, 0, 0, 1));
    assert_eq!(
        (bench.pending("k").await.as_deref(), bench.shows("k").await.as_deref()),
        (Some("copy"), Some("v"))
    );
    let [again] = &queue.recover("w", term).await.unwrap().unwrap()[..] else { panic!("one") };
    assert_eq!((again.seq, again.deliveries), (delivery.seq, 1));
    // Nor has a worker anything to say in a shard that nobody has.
    queue.leave("w").await.unwrap();
    assert!(queue.read("w", term, 1).await.unwrap().is_none());
    assert!(!queue.settle("w", term, done).await.unwrap());
    assert_eq!(bench.figures().await.pending, 1);
}

pub(crate) async fn a_term_ends_when_another_begins(bench: &Bench<'_>) {
    bench.append("1", "p", &[]).await;
    let first = bench.term("w", "1").await;
    let delivery = bench.read_one("w", first).await;
    bench.queue.leave("w").await.unwrap();
    let other = bench.term("v", "1").await;
    bench.queue.leave("v").await.unwrap();
    let second = bench.term("w", "1").await;
    assert_eq!(first.shard, second.shard);
    assert!(first.number != second.number && other.number != first.number && other.number != second.number);
    assert!(!bench.queue.settle("w", first, std::slice::from_ref(&delivery)).await.unwrap());
    bench.settle("w", second, &[delivery]).await;
}

pub(crate) async fn what_another_was_handed_is_recovered_in_order(bench: &Bench<'_>) {
    for payload in ["1", "2", "3", "4", "5", "6"] {
        bench.append("k", payload, &[]).await;
    }
    let term = bench.term("a", "k").await;
    let handed = bench.queue.read("a", term, 5).await.unwrap().unwrap();
    assert_eq!(payloads(&handed), ["1", "2", "3", "4", "5"]);
    assert!(bench.queue.again("a", term, &handed[2].id, true).await.unwrap());
    bench.settle("a", term, &handed[1..2]).await;
    bench.queue.leave("a").await.unwrap();

    let tenure = bench.tend("b").await;
    let term = *tenure.shards.iter().find(|other| other.shard == term.shard).unwrap();
    for _ in 0..2 {
        // It counts as nothing, however often.
        let found = bench.queue.recover("b", term).await.unwrap().unwrap();
        assert_eq!(payloads(&found), ["1", "3", "4", "5"]);
        assert_eq!(found.iter().map(|one| one.deliveries).collect::<Vec<_>>(), [1, 2, 1, 1]);
        assert_eq!(
            found.iter().map(|one| &one.id).collect::<Vec<_>>(),
            [0, 2, 3, 4].map(|at| &handed[at].id)
        );
    }
    assert_eq!(payloads(&bench.read("b", term).await), ["6"]);
    let found = bench.queue.recover("b", term).await.unwrap().unwrap();
    assert_eq!(payloads(&found), ["1", "3", "4", "5", "6"]);
    bench.settle("b", term, &found).await;
    assert!(bench.queue.recover("b", term).await.unwrap().unwrap().is_empty());
    assert_eq!(bench.figures().await.pending, 0);
}

pub(crate) async fn deliveries_are_counted_when_tried_again(bench: &Bench<'_>) {
    bench.append("k", "p", &[]).await;
    let term = bench.term("a", "k").await;
    let delivery = bench.read_one("a", term).await;
    for retry in [true, true, false] {
        assert!(bench.queue.again("a", term, &delivery.id, retry).await.unwrap());
    }
    assert_eq!(bench.figures().await.retries, 2);
    let found = bench.queue.recover("a", term).await.unwrap().unwrap();
    assert_eq!(found[0].deliveries, 4);
    assert_eq!(found[0].entries, delivery.entries);
}
