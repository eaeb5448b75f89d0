//! In which order, and by whom.

use std::collections::{BTreeMap, BTreeSet};

use cache_aside::Cache;

use crate::on_all_stores;
use crate::support::{ms, secs};
use crate::world::{Attempt, Running, Seen, noting, queue, send};

on_all_stores! {
    writes_of_an_order_key_are_carried_out_in_their_order
    a_failing_order_key_holds_up_nobody_else
    workers_share_the_shards
    numbers_grow_and_payloads_come_whole
}

/// What was done of each order key.
fn done(attempts: &[Attempt], is_done: impl Fn(&Attempt) -> bool) -> BTreeMap<String, Vec<(u64, u64)>> {
    let mut done = BTreeMap::<_, Vec<_>>::new();
    for attempt in attempts.iter().filter(|attempt| is_done(attempt)) {
        done.entry(attempt.key.clone()).or_default().push((attempt.n, attempt.seq));
    }
    done
}

async fn writes_of_an_order_key_are_carried_out_in_their_order(cache: &Cache) {
    const KEYS: usize = 20;
    const EACH: u64 = 25;
    let writes = queue(cache).build().unwrap();
    let seen = Seen::new();
    // Every third write fails once or twice.
    let succeeds =
        |attempt: &Attempt| !attempt.n.is_multiple_of(3) || u64::from(attempt.nth) > 1 + attempt.n % 2;
    let then = move |attempt: &Attempt| if succeeds(attempt) { Ok(()) } else { Err("not yet".to_owned()) };
    let running = Running::new(noting(&writes, &seen, then));
    let mut sent = BTreeMap::<_, Vec<_>>::new();
    for n in 0..EACH {
        for key in 0..KEYS {
            let key = format!("k{key}");
            sent.entry(key.clone()).or_default().push((n, send(&writes, &key, n).await));
        }
    }
    assert_eq!(running.stop().await, 0);
    let attempts = seen.all();
    assert_eq!(done(&attempts, succeeds), sent);
    // Nothing of an order key was tried while something before it wasn't done.
    let tried = done(&attempts, |_| true);
    assert!(tried.values().all(|tried| tried.is_sorted()), "{tried:?}");
    let retries = attempts.iter().filter(|attempt| attempt.nth > 1).count() as u64;
    let stats = writes.stats().await.unwrap();
    assert_eq!((stats.retries, stats.pending, stats.dead_letters), (retries, 0, 0));
    assert!(retries > 0);
}

async fn a_failing_order_key_holds_up_nobody_else(cache: &Cache) {
    // In one shard, and it isn't tried again.
    let writes = queue(cache).shards(1).backoff(secs(3600), secs(3600)).drain(ms(0)).build().unwrap();
    for n in 0..5 {
        send(&writes, "bad", n).await;
        send(&writes, "good", n).await;
    }
    let seen = Seen::new();
    let running = Running::new(noting(&writes, &seen, |attempt| match &*attempt.key {
        "bad" => Err("no".to_owned()),
        _ => Ok(()),
    }));
    let attempts = seen.reach(6).await;
    let tried = done(&attempts, |_| true);
    assert_eq!((tried["good"].len(), tried["bad"].len(), tried["bad"][0].0), (5, 1, 0));
    assert_eq!(running.stop().await, 5);
}

async fn workers_share_the_shards(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    let names = ["a", "b"];
    let seen = Seen::<(&str, String)>::new();
    let mut running = Vec::new();
    for name in names {
        let seen = seen.clone();
        running.push(Running::new(writes.workers(()).handle("write", move |job, ()| {
            let job: cache_aside::Job<crate::world::Change> = job;
            seen.add((name, job.order_key().to_owned()));
            async { Ok::<_, String>(()) }
        })));
    }
    // Each has its share some day.
    let mut sent = 0;
    crate::world::until("both work", async || {
        for key in 0..64 {
            send(&writes, &key.to_string(), sent).await;
        }
        sent += 64;
        let all = seen.reach(usize::try_from(sent).unwrap()).await;
        let lately: BTreeSet<&str> = all[all.len() - 64..].iter().map(|(name, _)| *name).collect();
        lately.len() == names.len()
    })
    .await;
    assert_eq!(writes.stats().await.unwrap().workers, 2);
    for running in running {
        running.stop().await;
    }
    assert_eq!(writes.stats().await.unwrap().workers, 0);
    assert_eq!(seen.all().len() as u64, sent);
}

async fn numbers_grow_and_payloads_come_whole(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    let first = send(&writes, "\u{e9} {}:*\n\0", 1).await;
    let second = send(&writes, "", u64::MAX).await;
    let other = writes.send("write", 7, &crate::world::Change { n: 3 }).await.unwrap();
    assert!(0 < first && first < second && second < other && other < 1 << 53);
    let seen = Seen::new();
    assert_eq!(Running::new(noting(&writes, &seen, |_| Ok(()))).stop().await, 0);
    let mut all = seen.all();
    all.sort_by_key(|attempt| attempt.seq);
    let expected = [("\u{e9} {}:*\n\0", 1, first), ("", u64::MAX, second), ("7", 3, other)];
    for (attempt, (key, n, seq)) in all.iter().zip(expected) {
        let kind = "write".to_owned();
        assert_eq!(*attempt, Attempt { kind, key: key.to_owned(), n, seq, nth: 1 });
    }
    assert_eq!(all.len(), 3);
}
