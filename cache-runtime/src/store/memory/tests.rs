//! What the embedded store does with time, memory and its own clock.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::error::StoreError;
use crate::record::{Kind, fresh};

const MIB: usize = 1 << 20;

/// What the reply is at its first poll.
fn at_once<T>(reply: Reply<'_, T>) -> Result<T, StoreError> {
    match pin!(reply).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("not ready"),
    }
}

fn ok<T>(reply: Reply<'_, T>) -> T {
    at_once(reply).expect("an answer")
}

fn set(store: &MemoryStore, key: &str, value: impl Into<Bytes>) {
    ok(store.set(key, value.into(), None));
}

fn weight(store: &MemoryStore) -> u64 {
    store.slots.shards.iter().map(|shard| lock(shard).weight()).sum()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn values_come_back_without_a_runtime() {
    let store = MemoryStore::new(1 << 20);
    ok(store.ping());
    ok(store.set("a", "1".into(), Some(secs(60))));
    set(&store, "b", "2");
    assert_eq!(ok(store.get("a")), Some("1".into()));
    assert!(matches!(ok(store.expiry("a")).0, Expiry::In(left) if left <= secs(60)));
    assert_eq!(ok(store.expiry("b")).0, Expiry::Never);
    assert_eq!(ok(store.expiry("c")).0, Expiry::Missing);
    assert_eq!(ok(store.remove("a")), Some("1".into()));
    assert_eq!(ok(store.remove("a")), None);
    assert_eq!(ok(store.expiry("a")).0, Expiry::Missing);
    assert!(!format!("{store:?}").contains('2'));
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let store = MemoryStore::new(1 << 20);
    let get = store.get("a");
    drop(store.set("a", "1".into(), None));
    assert_eq!(ok(store.get("a")), None);
    set(&store, "a", "2");
    assert_eq!(ok(get), Some("2".into()));
}

#[test]
fn many_keys_keep_their_order() {
    let store = MemoryStore::new(1 << 30);
    let keys: Vec<String> = (0..100).map(|n| format!("k:{n}")).collect();
    let values = keys.iter().map(|key| Bytes::from(key.clone()));
    ok(store.set_many(keys.iter().cloned().zip(values.clone()).collect(), None));
    assert!(ok(store.get_many(&keys)).into_iter().eq(values.map(Some)));
    assert_eq!(ok(store.remove_many(&keys[..10])), 10);
    assert_eq!(ok(store.remove_many(&keys[5..15])), 5);
    assert_eq!(ok(store.remove_matching("k:[2-3]?", Reach::Any)), 20);
    assert_eq!(ok(store.remove_matching("K*", Reach::Any)), 0);
    assert_eq!(ok(store.remove_matching("*", Reach::Any)), 65);
}

#[test]
fn only_the_holder_of_a_lease_acts_on_it() {
    let store = MemoryStore::new(1 << 20);
    let (mine, other) = (fresh(Kind::Value), fresh(Kind::Value));
    let lease = |prefix: Prefix| Bytes::copy_from_slice(&prefix);
    assert_eq!(ok(store.acquire("k", lease(mine), secs(3))), None);
    assert_eq!(ok(store.acquire("k", lease(other), secs(3))), Some(lease(mine)));
    assert!(!ok(store.swap("k", other, "x".into(), Some(secs(3)))));
    assert!(!ok(store.stamp("k", other, "x".into(), None)));
    assert!(!ok(store.extend("k", other, secs(9))) && !ok(store.release("k", other)));
    assert_eq!(ok(store.get("k")), Some(lease(mine)));

    let value = [&mine[..], b"head|rest"].concat();
    assert!(ok(store.swap("k", mine, value.into(), Some(secs(60)))));
    assert!(!ok(store.stamp("k", mine, "x".into(), Some(secs(50)))), "it has more to live");
    assert!(ok(store.stamp("k", mine, [&other[..], b"HEAD"].concat().into(), None)));
    assert_eq!(ok(store.get("k")).unwrap(), [&other[..], b"HEAD|rest"].concat());
    assert!(matches!(ok(store.expiry("k")).0, Expiry::In(left) if left > secs(50)));
    assert!(ok(store.extend("k", other, secs(90))));
    assert!(matches!(ok(store.expiry("k")).0, Expiry::In(left) if left > secs(80)));
    assert!(ok(store.release("k", other)) && !ok(store.release("k", other)));
    assert!(!ok(store.swap("k", other, "x".into(), Some(secs(3)))));
    assert_eq!(ok(store.get("k")), None);
}

#[tokio::test(start_paused = true)]
async fn lives_end() {
    let store = MemoryStore::new(1 << 20);
    let keys = ["a", "b", "c", "d", "e"].map(String::from);
    for key in &keys {
        ok(store.set(key, "1".into(), Some(secs(10))));
    }
    assert!(ok(store.expire("b", Some(secs(20)))) && ok(store.expire("c", Some(Duration::MAX))));
    assert!(ok(store.expire("d", Some(secs(0)))) && !ok(store.expire("d", Some(secs(9)))));
    assert_eq!(ok(store.increment("e", 1, Some(secs(99)))), 2);
    tokio::time::advance(secs(9)).await;
    assert_eq!(ok(store.expiry("a")).0, Expiry::In(secs(1)));
    assert_eq!(ok(store.expiry("e")).0, Expiry::In(secs(1)));
    set(&store, "f", "-7");
    assert_eq!(ok(store.increment("f", 5, Some(secs(1)))), -2);
    ok(store.set("g", "1".into(), Some(secs(1))));
    assert!(ok(store.expire("g", None)));
    tokio::time::advance(secs(1)).await;
    assert_eq!(ok(store.get_many(&keys)), [None, Some("1".into()), Some("1".into()), None, None]);
    assert_eq!(ok(store.acquire("a", "2".into(), secs(5))), None);
    assert_eq!(ok(store.increment("e", 1, Some(secs(99)))), 1);
    assert_eq!(ok(store.expiry("c")).0, Expiry::Never);
    assert_eq!(ok(store.expiry("f")).0, Expiry::Missing);
    assert_eq!(ok(store.expiry("g")).0, Expiry::Never);
    tokio::time::advance(secs(10)).await;
    assert_eq!((ok(store.remove("a")), ok(store.remove_many(&keys[1..2]))), (None, 0));
    assert_eq!(ok(store.remove_matching("*", Reach::Any)), 3);
}

#[test]
fn it_never_holds_more_than_it_may() {
    let store = MemoryStore::new(64 * MIB as u64);
    for n in 0..300 {
        set(&store, &n.to_string(), vec![0; n % 8 * MIB]);
        assert!(weight(&store) <= 64 * MIB as u64);
    }
    assert!(weight(&store) > 32 * MIB as u64);
    // Growing in place counts too.
    let (store, lease) = (MemoryStore::new(4096), fresh(Kind::Lease));
    for n in 0..100 {
        ok(store.acquire(&n.to_string(), Bytes::copy_from_slice(&lease), secs(9)));
        ok(store.stamp(&n.to_string(), lease, vec![1; 500].into(), None));
        assert!(weight(&store) <= 4096);
    }
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let store = MemoryStore::new(64 * MIB as u64);
    set(&store, "k", vec![1; 8 * MIB]);
    assert_eq!(ok(store.get("k")).map(|value| value.len()), Some(8 * MIB));
    set(&store, "k", vec![2; 20 * MIB]);
    assert_eq!(ok(store.get("k")), None);
    let lease = fresh(Kind::Lease);
    ok(store.acquire("k", Bytes::copy_from_slice(&lease), secs(3)));
    let large = vec![3; 20 * MIB].into();
    assert!(ok(store.swap("k", lease, large, None)));
    assert_eq!(ok(store.get("k")), None);
    set(&MemoryStore::new(0), "k", "1");
}

#[test]
fn threads_do_not_lose_increments_or_share_a_lease() {
    let store = MemoryStore::new(64 * MIB as u64);
    // Leads at this moment.
    let leads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..2000 {
                    ok(store.increment("n", 1, None));
                    let lease = fresh(Kind::Lease);
                    let taken = store.acquire("k", Bytes::copy_from_slice(&lease), secs(60));
                    if ok(taken).is_none() {
                        assert_eq!(leads.fetch_add(1, SeqCst), 0);
                        leads.fetch_sub(1, SeqCst);
                        let put = store.swap("k", lease, n.to_string().into(), Some(secs(60)));
                        assert!(ok(put));
                        ok(store.remove("k"));
                    }
                }
            });
        }
    });
    assert_eq!(ok(store.get("n")), Some("16000".into()));
}
