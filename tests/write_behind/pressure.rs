//! What is too much.

use std::pin::pin;
use std::task::{Context, Waker};

use cache_aside::{Cache, CacheError};

use crate::on_all_stores;
use crate::support::{embedded, ms, secs};
use crate::world::{Change, Running, Seen, noting, pending, queue, send};

on_all_stores! {
    a_full_queue_lets_a_sender_wait_for_room
    a_full_queue_is_an_error_in_the_end
    what_can_not_be_sent_is_refused_at_once
}

async fn a_full_queue_lets_a_sender_wait_for_room(cache: &Cache) {
    let writes = queue(cache).capacity(3).patience(secs(60)).build().unwrap();
    for n in 0..3 {
        send(&writes, "k", n).await;
    }
    let seen = Seen::new();
    let running = {
        let mut fourth = Box::pin(send(&writes, "k", 3));
        let waits = tokio::time::timeout(ms(20), fourth.as_mut()).await;
        assert!(waits.is_err() && pending(&writes).await == 3);
        let running = Running::new(noting(&writes, &seen, |_| Ok(())));
        fourth.await;
        running
    };
    assert_eq!(seen.reach(4).await[3].n, 3);
    assert_eq!(running.stop().await, 0);
}

async fn a_full_queue_is_an_error_in_the_end(cache: &Cache) {
    let writes = queue(cache).capacity(1).patience(ms(300)).build().unwrap();
    send(&writes, "k", 0).await;
    let error = writes.put_json("k", &1, secs(60)).send("write", "k", &Change { n: 1 }).await.unwrap_err();
    let CacheError::QueueFull { queue, capacity } = &error else { panic!("{error}") };
    assert_eq!((&**queue, *capacity), ("writes", 1));
    for word in ["`writes`", "holds 1 ", "`stats`", "workers", "`capacity`"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!((pending(&writes).await, cache.get::<u8>("k").await.unwrap()), (1, None));
}

async fn what_can_not_be_sent_is_refused_at_once(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    let change = Change { n: 1 };
    for kind in ["", "a\nb", &"k".repeat(129)] {
        let error = writes.send(kind, "k", &change).await.unwrap_err();
        assert!(matches!(&error, CacheError::Settings(text) if text.contains("update_user_db")), "{error}");
    }
    let error = writes.send("write", "k".repeat(4097), &change).await.unwrap_err();
    assert!(matches!(error, CacheError::KeyTooLong { bytes: 4097, max: 4096 }), "{error}");
    let error =
        writes.put_json(&"k".repeat(4097), &1, secs(9)).send("write", "k", &change).await.unwrap_err();
    assert!(matches!(error, CacheError::KeyTooLong { .. }), "{error}");
    let error = writes.send("write", "k", &std::collections::HashMap::from([((1, 2), 3)])).await.unwrap_err();
    assert!(matches!(error, CacheError::Serialize(_)), "{error}");
    assert_eq!(pending(&writes).await, 0);
}

#[tokio::test]
async fn payloads_are_as_large_as_values() {
    let cache = Cache::builder().value_size(100).build().unwrap();
    let writes = queue(&cache).build().unwrap();
    writes.send("write", "k", &"x".repeat(98)).await.unwrap();
    let error = writes.send("write", "k", &"x".repeat(99)).await.unwrap_err();
    assert!(matches!(error, CacheError::ValueTooLarge { max: 100 }), "{error}");
    assert_eq!(pending(&writes).await, 1);
}

#[tokio::test(start_paused = true)]
async fn room_is_waited_for_as_long_as_was_said() {
    let writes = queue(&embedded()).capacity(1).patience(secs(7)).build().unwrap();
    send(&writes, "k", 0).await;
    let begun = tokio::time::Instant::now();
    let full = writes.send("write", "k", &1).await.unwrap_err();
    assert!(matches!(full, CacheError::QueueFull { .. }), "{full}");
    let waited = begun.elapsed();
    assert!(waited >= secs(7) && waited < secs(8), "{waited:?}");
}

/// The embedded store never waits, so neither does `send`.
#[test]
fn a_queue_with_room_needs_no_runtime() {
    let writes = queue(&embedded()).capacity(1).build().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(writes.send("write", 1, &1)).poll(&mut cx).is_ready());
    let full = pin!(writes.send("write", 1, &1)).poll(&mut cx);
    assert!(matches!(full, std::task::Poll::Ready(Err(CacheError::QueueFull { .. }))));
}
