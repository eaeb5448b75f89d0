//! Entries of the cache that are stored together with a write.

use cache_aside::{Cache, Job, Ttl, deferred, global};

use crate::on_all_stores;
use crate::support::secs;
use crate::world::{Change, Running, Seen, noting, pending, queue, send, until};

on_all_stores! {
    an_entry_is_there_when_the_write_is_queued
    a_write_that_is_given_up_takes_its_entry_along
    handlers_have_the_cache_of_the_queue
    a_transaction_does_not_hold_a_write_back
    values_kept_in_the_process_give_way
}

#[cache_aside::cache(ttl = 60, key = "kept:{id}", near = true, cache = cache)]
async fn kept(cache: &Cache, id: u64) -> u64 {
    id
}

async fn an_entry_is_there_when_the_write_is_queued(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    cache.set("a", "old", Ttl::Default).await.unwrap();
    let draft = writes.put_json("a", "new", secs(60)).put_json("b", &[1, 2], Ttl::Default);
    assert_eq!(cache.get::<String>("a").await.unwrap().as_deref(), Some("old"));
    draft.send("write", "k", &Change { n: 1 }).await.unwrap();
    let now = async || (cache.get::<String>("a").await.unwrap(), cache.get::<[u8; 2]>("b").await.unwrap());
    assert_eq!(now().await, (Some("new".to_owned()), Some([1, 2])));
    assert_eq!(Running::new(noting(&writes, &Seen::new(), |_| Ok(()))).stop().await, 0);
    assert_eq!(now().await, (Some("new".to_owned()), Some([1, 2])));
}

async fn a_write_that_is_given_up_takes_its_entry_along(cache: &Cache) {
    let writes = queue(cache).retries(0).build().unwrap();
    for (key, n) in [("gone", 1), ("stays", 2), ("stays", 3)] {
        writes.put_json(key, &n, secs(60)).send("write", key, &Change { n }).await.unwrap();
    }
    let running = Running::new(noting(&writes, &Seen::new(), |attempt| {
        if attempt.n == 3 { Ok(()) } else { Err("no".to_owned()) }
    }));
    until("all are done", async || pending(&writes).await == 0).await;
    assert_eq!(cache.get::<u64>("gone").await.unwrap(), None);
    assert_eq!(cache.get::<u64>("stays").await.unwrap(), Some(3));
    assert_eq!(running.stop().await, 0);
}

async fn handlers_have_the_cache_of_the_queue(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    send(&writes, "k", 1).await;
    let workers = writes
        .workers(())
        .handle("write", async |_: Job<Change>, ()| global()?.set("by the handler", &1, Ttl::Default).await);
    assert_eq!(Running::new(workers).stop().await, 0);
    assert_eq!(cache.get::<u8>("by the handler").await.unwrap(), Some(1));
}

async fn a_transaction_does_not_hold_a_write_back(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    let (pending, invalidations) = deferred(async {
        writes.put_json("k", &1, secs(60)).send("write", "k", &1).await.unwrap();
        pending(&writes).await
    })
    .await;
    invalidations.discard();
    assert_eq!((pending, cache.get::<u8>("k").await.unwrap()), (1, Some(1)));
}

async fn values_kept_in_the_process_give_way(cache: &Cache) {
    let writes = queue(cache).retries(0).build().unwrap();
    let id = 7;
    let hits = || cache.stats().near_hits;
    let before = hits();
    until("it is kept", async || kept(cache, id).await == id && hits() > before).await;
    writes.put_json("kept:7", &1, secs(60)).send("write", "k", &Change { n: 1 }).await.unwrap();
    assert_eq!(kept(cache, id).await, 1);
    assert_eq!(kept(cache, id).await, 1);
    let running = Running::new(noting(&writes, &Seen::new(), |_| Err("no".to_owned())));
    until("it is given up", async || writes.stats().await.unwrap().dead_letters == 1).await;
    assert_eq!(kept(cache, id).await, id);
    assert_eq!(running.stop().await, 0);
}
