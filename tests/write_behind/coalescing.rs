//! Only the last of several.

use cache_aside::{Cache, Job};

use crate::on_all_stores;
use crate::world::{Attempt, Change, Running, Seen, noting, pending, queue, send, until};

on_all_stores! {
    only_the_last_of_an_order_key_and_kind_is_carried_out
    without_it_all_are
    what_was_skipped_is_carried_out_when_the_last_one_is_given_up
    a_last_one_that_is_undecodable_leaves_after_those_before_it
}

fn numbers(seen: &[Attempt]) -> Vec<(&str, u64)> {
    seen.iter().map(|attempt| (&*attempt.key, attempt.n)).collect()
}

async fn only_the_last_of_an_order_key_and_kind_is_carried_out(cache: &Cache) {
    let writes = queue(cache).shards(1).coalesce(true).build().unwrap();
    for n in 1..=3 {
        send(&writes, "a", n).await;
        send(&writes, "b", n).await;
    }
    // Another kind in between.
    writes.send("other", "a", &Change { n: 4 }).await.unwrap();
    for n in 5..=6 {
        send(&writes, "a", n).await;
    }
    let seen = Seen::new();
    let workers = noting(&writes, &seen, |_| Ok(())).handle("other", async |job: Job<Change>, seen: Seen| {
        seen.add(Attempt::of(&job));
        Ok::<_, String>(())
    });
    assert_eq!(Running::new(workers).stop().await, 0);
    assert_eq!(numbers(&seen.all()), [("a", 3), ("b", 3), ("a", 4), ("a", 6)]);
}

async fn without_it_all_are(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    for n in 1..=4 {
        send(&writes, "a", n).await;
    }
    let seen = Seen::new();
    assert_eq!(Running::new(noting(&writes, &seen, |_| Ok(()))).stop().await, 0);
    assert_eq!(numbers(&seen.all()), [("a", 1), ("a", 2), ("a", 3), ("a", 4)]);
}

async fn what_was_skipped_is_carried_out_when_the_last_one_is_given_up(cache: &Cache) {
    let writes = queue(cache).coalesce(true).retries(2).build().unwrap();
    for n in 1..=3 {
        send(&writes, "a", n).await;
    }
    let seen = Seen::new();
    let then = |attempt: &Attempt| if attempt.n == 3 { Err("no".to_owned()) } else { Ok(()) };
    let running = Running::new(noting(&writes, &seen, then));
    until("it is given up", async || writes.stats().await.unwrap().dead_letters == 1).await;
    assert_eq!(numbers(&seen.all()), [("a", 3), ("a", 3), ("a", 3), ("a", 2)]);
    assert_eq!(running.stop().await, 0);
    let letters = writes.dead_letters(9).await.unwrap();
    assert_eq!(letters[0].payload::<Change>().unwrap(), Change { n: 3 });
}

async fn a_last_one_that_is_undecodable_leaves_after_those_before_it(cache: &Cache) {
    let writes = queue(cache).coalesce(true).build().unwrap();
    send(&writes, "a", 1).await;
    writes.send("write", "a", "x").await.unwrap();
    send(&writes, "b", 1).await;
    let seen = Seen::new();
    // The one before it has failed once, and the bad one is still there.
    let queue = writes.clone();
    let workers = writes.workers(seen.clone()).handle("write", move |job: Job<Change>, seen: Seen| {
        let queue = queue.clone();
        async move {
            seen.add(Attempt::of(&job));
            let letters = queue.stats().await.unwrap().dead_letters;
            if job.order_key() == "a" && job.attempt() == 1 {
                return Err(format!("{letters}"));
            }
            if letters == 0 || job.order_key() == "b" { Ok(()) } else { Err("too early".to_owned()) }
        }
    });
    let running = Running::new(workers);
    until("all leave", async || pending(&writes).await == 0).await;
    let mut all = seen.all();
    all.retain(|attempt| attempt.key == "a");
    assert_eq!(all.iter().map(|attempt| attempt.nth).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(writes.dead_letters(9).await.unwrap()[0].payload::<String>().unwrap(), "x");
    assert_eq!(running.stop().await, 0);
}
