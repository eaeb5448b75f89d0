//! What is said of keys, and in which order.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use redis::Value;

use super::*;
use crate::store::redis::tracker::tell;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_heard_of_before_any_later_reply_is_handed_out() {
    for kind in BOTH {
        let server = Arc::new(Server::of(kind).start());
        let world = World::tracked(&server.url()).await;
        server.command(&["SET", "k", "0"]);
        world.watch("k").await;
        for change in 1..=500 {
            let setting = {
                let server = Arc::clone(&server);
                tokio::task::spawn_blocking(move || server.command(&["SET", "k", &change.to_string()]))
            };
            // Each value was read before it was changed, so each change is told.
            while {
                let is_set = setting.is_finished();
                let read: usize = world.watch("k").await.unwrap().parse().unwrap();
                assert!(world.book.forgets("k") >= read, "{read}");
                !is_set
            } {}
        }
        assert_eq!(world.book.forgets("k"), 500);
    }
}

#[tokio::test]
async fn all_keys_of_one_command_are_named() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        let keys: Vec<_> = (0..300).map(|number| format!("{{many}}:{number}")).collect();
        for key in &keys {
            server.command(&["SET", key, "v"]);
            world.watch(key).await;
        }
        server.command(&[&["DEL"][..], &keys.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        world.watch("after").await;
        for key in &keys {
            assert_eq!(world.book.forgets(key), 1, "{key}");
        }
        // By a script, in a transaction, and of a key that wasn't there.
        world.watch("absent").await;
        world.watch("{s}a").await;
        server.command(&[
            "EVAL",
            "redis.call('SET', KEYS[1], 1) return redis.call('SET', KEYS[2], 1)",
            "2",
            "absent",
            "{s}a",
        ]);
        world.watch("after").await;
        assert_eq!((world.book.forgets("absent"), world.book.forgets("{s}a")), (1, 1));
    }
}

#[tokio::test]
async fn what_this_process_writes_over_the_main_connection_is_heard_of_too() {
    let server = Server::redis().start();
    let world = World::tracked(&server.url()).await;
    world.watch("k").await;
    world.store.set("k", "v".into(), None).await.unwrap();
    assert_eq!(world.watch("k").await.as_deref(), Some("v"));
    assert_eq!(world.book.forgets("k"), 1);
    world.store.remove("k").await.unwrap();
    assert_eq!(world.watch("k").await, None);
    assert_eq!(world.book.forgets("k"), 2);
}

#[tokio::test]
async fn a_flush_is_about_all_keys() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let world = World::tracked(&server.url()).await;
        for (number, flush) in [(1, "FLUSHDB"), (2, "FLUSHALL")] {
            server.command(&["SET", "k", "v"]);
            world.watch("k").await;
            server.command(&[flush]);
            assert_eq!(world.watch("k").await, None);
            assert_eq!(world.book.count(|heard| *heard == ForgetAll), number, "{flush}");
        }
    }
}

#[tokio::test]
async fn expiry_and_eviction_are_heard_of() {
    for kind in BOTH {
        let server = Server::of(kind).config("maxmemory-policy", "allkeys-lru").start();
        let world = World::tracked(&server.url()).await;
        let number = AtomicU64::new(0);
        let key = || format!("short {}", number.load(Relaxed));
        until("read within its life", async || {
            number.fetch_add(1, Relaxed);
            server.command(&["SET", &key(), "v", "PX", "50"]);
            let read = world.read(&key()).await.unwrap();
            read.found.is_some_and(|(_, life)| life.unwrap() <= Duration::from_millis(50))
        })
        .await;
        world.until_heard(&Forget(key())).await;

        for number in 0..50 {
            let key = format!("evicted {number}");
            server.command(&["SET", &key, &"v".repeat(10_000)]);
            world.watch(&key).await;
        }
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        world.until_heard(&Forget("evicted 7".to_owned())).await;
    }
}

#[tokio::test]
async fn keys_that_the_server_remembers_no_longer_are_named() {
    for kind in BOTH {
        let server = Server::of(kind).config("tracking-table-max-keys", "10").start();
        let world = World::tracked(&server.url()).await;
        for number in 0..200 {
            world.watch(&format!("k{number}")).await;
        }
        until("dropped keys", async || world.book.count(|heard| matches!(heard, Forget(_))) >= 190).await;
    }
}

#[test]
fn what_is_not_understood_is_about_all_keys() {
    let heard = |data: &[Value]| {
        let book = Arc::<Book>::default();
        tell(&*book, data);
        book.all()
    };
    let key = |key: &str| Value::BulkString(key.into());
    assert_eq!(
        heard(&[Value::Array(vec![key("a"), key("b")])]),
        [Forget("a".to_owned()), Forget("b".to_owned())]
    );
    assert_eq!(heard(&[Value::Array(vec![key("a"), Value::Int(1)])]), [Forget("a".to_owned()), ForgetAll]);
    assert_eq!(heard(&[Value::Nil]), [ForgetAll]);
    assert_eq!(heard(&[]), [ForgetAll]);
    assert_eq!(heard(&[Value::Array(vec![]), Value::Nil]), [ForgetAll]);
}
