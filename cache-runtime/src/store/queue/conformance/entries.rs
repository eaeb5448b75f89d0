//! What stands in the cache beside a write, and what is pending.

use super::*;
use crate::record::{self, Claim, Head, Kind, fresh, token};
use crate::store::{Expiry, fresh_for};

/// A record of a value of this version, which no other record is like.
fn value(version: u32, payload: &str) -> Bytes {
    let mut record = record::begin(fresh(Kind::Value), &Head { version, ..Head::default() });
    record.extend_from_slice(payload.as_bytes());
    record::finish(record)
}

fn newer_format() -> Bytes {
    let mut bytes = value(0, "1").to_vec();
    bytes[2] += 1;
    bytes.into()
}

pub(crate) async fn entries_are_stored_with_the_write(bench: &Bench<'_>) {
    bench.set("over", "old").await;
    let for_ever = NewEntry { life: None, ..entry("for ever", "1", "c1") };
    let nothing = NewEntry { value: None, ..entry("nothing", "", "c4") };
    bench.set("nothing", "old").await;
    let entries = [for_ever, entry("over", "2", "c2"), entry("record", value(3, "3"), "c3"), nothing];
    bench.append("k", "p", &entries).await;
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(bench.get(&entry.key).await, entry.value, "{}", entry.key);
        assert_eq!(bench.pending(&entry.key).await, Some(format!("c{}", at + 1)));
    }
    let life = async |key| {
        let (bytes, left) = bench.store.get_aged(key).await.unwrap().unwrap();
        fresh_for(&bytes, left)
    };
    assert_eq!(life("for ever").await, Expiry::Never);
    let Expiry::In(left) = life("over").await else { panic!("it ends") };
    assert!(left <= LEASE && left > LEASE / 2, "{left:?}");
    assert_eq!(bench.pending("another").await, None);
}

pub(crate) async fn newer_versions_go_and_fences_stay(bench: &Bench<'_>) {
    let there = [
        ("older", Some(value(6, "old")), true),
        ("same", Some(value(7, "old")), true),
        ("newer", Some(value(8, "old")), false),
        ("much newer", Some(value(u32::MAX, "old")), false),
        ("256", Some(value(256, "old")), false),
        ("format", Some(newer_format()), false),
        ("lease", Some(token(fresh(Kind::Lease))), true),
        ("put", Some(token(fresh(Kind::Put))), true),
        ("json", Some(Bytes::from("{}")), true),
        ("torn", Some(value(1, "").slice(..20)), true),
        ("none", None, true),
    ];
    for (key, value, _) in &there {
        if let Some(value) = value {
            bench.set(key, value.clone()).await;
        }
    }
    let fence = fresh(Kind::Fence);
    bench.store.fence("fence", fence, LEASE).await.unwrap();
    bench.store.fence("fence, nothing", fence, LEASE).await.unwrap();
    let fenced = bench.get("fence").await;

    let new = value(7, "new");
    let keys: Vec<&str> = there.iter().map(|(key, ..)| *key).chain(["fence"]).collect();
    let mut entries: Vec<NewEntry> = keys.iter().map(|key| entry(key, new.clone(), "copy")).collect();
    entries.push(NewEntry { value: None, ..entry("fence, nothing", "", "copy") });
    bench.append("k", "p", &entries).await;
    for (key, _, is_stored) in &there {
        assert_eq!(bench.get(key).await, is_stored.then(|| new.clone()), "{key}");
    }
    assert_eq!(
        (bench.get("fence").await, bench.get("fence, nothing").await),
        (fenced.clone(), fenced.clone())
    );
    for entry in &entries {
        assert_eq!(bench.pending(&entry.key).await.as_deref(), Some("copy"), "{}", entry.key);
    }
    // The fence outlives the write, and what was stored instead of nothing goes: it isn't the write's.
    bench.set("newer", value(8, "again")).await;
    let term = bench.term("w", "k").await;
    let delivery = bench.read_one("w", term).await;
    bench.settle("w", term, &[delivery]).await;
    assert_eq!((bench.get("fence").await, bench.get("fence, nothing").await), (fenced.clone(), fenced));
    assert_eq!((bench.get("same").await, bench.get("newer").await), (Some(new), None));
    for entry in &entries {
        assert_eq!(bench.pending(&entry.key).await, None, "{}", entry.key);
    }
}

pub(crate) async fn the_last_copy_is_pending(bench: &Bench<'_>) {
    // Also where its writes have other order keys, and so other shards.
    for (order_key, copy) in [("1", "a"), ("2", "b"), ("1", "c")] {
        bench.append(order_key, copy, &[entry("k", copy, copy)]).await;
        assert_eq!(bench.pending("k").await.as_deref(), Some(copy));
    }
    // Whatever becomes of the entry.
    for gone in [true, false] {
        if gone {
            bench.store.remove("k").await.unwrap();
        } else {
            bench.set("k", "another").await;
        }
        assert_eq!(bench.pending("k").await.as_deref(), Some("c"));
    }
    let large = "x".repeat(100_000);
    bench.append("1", "p", &[entry("k", "v", &large), entry("l", "v", "")]).await;
    assert_eq!((bench.pending("k").await, bench.pending("l").await.as_deref()), (Some(large), Some("")));
}

pub(crate) async fn an_entry_stays_when_its_write_is_settled(bench: &Bench<'_>) {
    let record = value(1, &"x".repeat(50));
    bench.append("k", "p", &[entry("json", "1", "c"), entry("record", record.clone(), "c")]).await;
    // What comes behind the first 20 bytes doesn't count.
    let prefix = *record.first_chunk().unwrap();
    let claim = record::claimed(prefix, Claim::Resting, LEASE);
    assert!(bench.store.stamp("record", prefix, claim, None).await.unwrap());
    let term = bench.term("w", "k").await;
    let delivery = bench.read_one("w", term).await;
    bench.settle("w", term, &[delivery]).await;
    assert_eq!(bench.shows("json").await.as_deref(), Some("1"));
    assert_eq!(bench.get("record").await.map(|bytes| bytes.slice(..20)), Some(record.slice(..20)));
    for key in ["json", "record"] {
        assert_eq!(bench.pending(key).await, None);
    }
}

pub(crate) async fn an_entry_that_is_another_goes_when_its_write_is_settled(bench: &Bench<'_>) {
    let there = [
        ("record", value(1, "1")),
        ("lease", token(fresh(Kind::Lease))),
        ("json", Bytes::from("12")),
        ("shorter", Bytes::from("")),
    ];
    let mut entries: Vec<NewEntry> = there.iter().map(|(key, _)| entry(key, "1", "c")).collect();
    entries.extend([entry("gone", "1", "c"), NewEntry { value: None, ..entry("nothing", "", "c") }]);
    entries[0].value = Some(value(1, "1"));
    bench.append("k", "p", &entries).await;
    for (key, value) in there {
        bench.set(key, value).await;
    }
    bench.set("nothing", "1").await;
    bench.store.remove("gone").await.unwrap();
    let term = bench.term("w", "k").await;
    let delivery = bench.read_one("w", term).await;
    bench.settle("w", term, &[delivery]).await;
    for entry in entries {
        assert_eq!(
            (bench.get(&entry.key).await, bench.pending(&entry.key).await),
            (None, None),
            "{}",
            entry.key
        );
    }
}

pub(crate) async fn an_entry_of_a_later_write_stays(bench: &Bench<'_>) {
    bench.append("k", "1", &[entry("e", "1", "c1")]).await;
    let term = bench.term("w", "k").await;
    let first = bench.read_one("w", term).await;
    bench.append("k", "2", &[entry("e", "2", "c2")]).await;
    bench.settle("w", term, &[first]).await;
    let now = async || (bench.shows("e").await, bench.pending("e").await);
    assert_eq!(now().await, (Some("2".into()), Some("c2".into())));
    // Nobody would know of it who looked only at what stands there.
    bench.set("e", "another").await;
    let second = bench.read_one("w", term).await;
    bench.append("k", "3", &[]).await;
    bench.settle("w", term, &[second]).await;
    assert_eq!(now().await, (None, None));
}

pub(crate) async fn writes_settled_together(bench: &Bench<'_>) {
    for n in 0..3 {
        let value = n.to_string();
        bench
            .append(
                "k",
                &value,
                &[entry("e", value.clone(), "c"), entry(&format!("e{n}"), value.clone(), "c")],
            )
            .await;
    }
    let term = bench.term("w", "k").await;
    let mut all = bench.read("w", term).await;
    assert_eq!(all.len(), 3);
    // Whatever their order, the last one counts.
    all.rotate_left(1);
    bench.settle("w", term, &all).await;
    for (key, value) in [("e", "2"), ("e0", "0"), ("e1", "1"), ("e2", "2")] {
        assert_eq!(
            (bench.shows(key).await.as_deref(), bench.pending(key).await),
            (Some(value), None),
            "{key}"
        );
    }
    assert_eq!(bench.figures().await.pending, 0);
    bench.settle("w", term, &all).await;
    bench.settle("w", term, &[]).await;
}
