//! What becomes of writes that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use cache_aside::{Cache, DeadLetter, Job, WriteBehind};
use tokio::time::Instant;

use crate::log::Log;
use crate::on_all_stores;
use crate::support::{embedded, ms, secs};
use crate::world::{Change, Running, Seen, noting, pending, queue, send, until};

on_all_stores! {
    each_failure_has_its_cause
    a_letter_is_replayed_with_its_number_or_discarded
    a_payload_that_is_something_else_is_given_up_at_once
    no_room_for_letters_loses_none
}

async fn letters(writes: &WriteBehind, many: usize) -> Vec<DeadLetter> {
    until("there are letters", async || writes.stats().await.unwrap().dead_letters >= many as u64).await;
    let letters = writes.dead_letters(100).await.unwrap();
    assert_eq!(letters.len(), many);
    letters
}

#[tokio::test(start_paused = true)]
async fn pauses_double_and_the_last_attempt_is_a_dead_letter() {
    let writes = queue(&embedded()).retries(5).backoff(ms(100), secs(1)).build().unwrap();
    let seq = send(&writes, "k", 7).await;
    let seen = Seen::<(u32, Instant)>::new();
    let running =
        Running::new(writes.workers(seen.clone()).handle("write", |job: Job<Change>, seen: Seen<_>| {
            seen.add((job.attempt(), Instant::now()));
            async move { Err(format!("attempt {}", job.attempt())) }
        }));
    let attempts = seen.reach(6).await;
    let numbers: Vec<u32> = attempts.iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    for (two, most) in attempts.windows(2).zip([100, 200, 400, 800, 1000]) {
        let pause = two[1].1 - two[0].1;
        // A timer may be a millisecond late.
        assert!(pause >= ms(most / 2) && pause <= ms(most + 2), "{pause:?} of {most}");
    }
    let letter = &letters(&writes, 1).await[0];
    assert_eq!((letter.kind(), letter.order_key(), letter.seq()), ("write", "k", seq));
    assert_eq!((letter.cause(), letter.attempts()), ("attempt 6", 6));
    assert_eq!(
        (letter.payload::<Change>().unwrap(), &*letter.payload_json()),
        (Change { n: 7 }, r#"{"n":7}"#)
    );
    assert!(letter.age() >= secs(1), "{:?}", letter.age());
    assert!(letter.payload::<String>().is_err());
    let stats = writes.stats().await.unwrap();
    assert_eq!((stats.retries, stats.pending, stats.oldest), (5, 0, None));
    assert_eq!(running.stop().await, 0);
    assert_eq!(seen.all().len(), 6);
}

async fn each_failure_has_its_cause(cache: &Cache) {
    let writes = queue(cache).retries(1).attempt_timeout(ms(20)).build().unwrap();
    let ways = ["error", "panic", "early panic", "text", "never", "long", "unknown"];
    for way in ways {
        writes.send(way, way, &way).await.unwrap();
    }
    let running = Running::new(
        writes
            .workers(())
            .handle("error", async |_: Job<String>, ()| "x".parse::<u8>().map(drop))
            .handle("panic", async |job: Job<String>, ()| -> Result<(), String> {
                panic!("at {}", job.order_key())
            })
            .handle("early panic", |_: Job<String>, ()| {
                assert!(std::hint::black_box(false), "early");
                async { Ok::<_, String>(()) }
            })
            .handle("text", async |_: Job<String>, ()| Err("because"))
            .handle("never", async |_: Job<String>, ()| std::future::pending::<Result<(), String>>().await)
            .handle("long", async |_: Job<String>, ()| Err("\u{e9}".repeat(5000))),
    );
    let letters = letters(&writes, ways.len()).await;
    let cause = |kind: &str| letters.iter().find(|letter| letter.kind() == kind).unwrap().cause();
    assert_eq!(cause("error"), "invalid digit found in string");
    assert_eq!(cause("panic"), "panicked: at panic");
    assert_eq!(cause("early panic"), "panicked: early");
    assert_eq!(cause("text"), "because");
    assert_eq!(cause("never"), "not done within 20ms");
    assert_eq!(cause("long"), "\u{e9}".repeat(512));
    assert_eq!(cause("unknown"), "no handler for kind `unknown`");
    assert!(letters.iter().all(|letter| letter.attempts() == 2));
    assert_eq!(running.stop().await, 0);
}

async fn a_letter_is_replayed_with_its_number_or_discarded(cache: &Cache) {
    let writes = queue(cache).retries(0).build().unwrap();
    let is_well = Arc::new(AtomicBool::new(false));
    let [first, second] = [send(&writes, "k", 1).await, send(&writes, "k", 2).await];
    let seen = Seen::new();
    let now = Arc::clone(&is_well);
    let then = move |_: &_| if now.load(SeqCst) { Ok(()) } else { Err("ill".to_owned()) };
    let running = Running::new(noting(&writes, &seen, then));
    let letters = letters(&writes, 2).await;
    assert_eq!(letters.iter().map(DeadLetter::seq).collect::<Vec<_>>(), [first, second]);
    assert_eq!(writes.dead_letters(1).await.unwrap().len(), 1);
    is_well.store(true, SeqCst);
    assert!(writes.discard(&letters[1]).await.unwrap());
    assert!(!writes.discard(&letters[1]).await.unwrap() && !writes.replay(&letters[1]).await.unwrap());
    assert!(writes.replay(&letters[0]).await.unwrap());
    assert!(!writes.replay(&letters[0]).await.unwrap() && !writes.discard(&letters[0]).await.unwrap());
    let again = &seen.reach(3).await[2];
    assert_eq!((again.n, again.seq, again.nth), (1, first, 1));
    assert_eq!(running.stop().await, 0);
    assert_eq!(writes.dead_letters(9).await.unwrap().len(), 0);
}

async fn a_payload_that_is_something_else_is_given_up_at_once(cache: &Cache) {
    let writes = queue(cache).build().unwrap();
    writes.send("write", "k", "secret").await.unwrap();
    send(&writes, "k", 2).await;
    let seen = Seen::new();
    let running = Running::new(noting(&writes, &seen, |_| Ok(())));
    assert_eq!(seen.reach(1).await[0].n, 2);
    let letter = &letters(&writes, 1).await[0];
    assert_eq!(letter.attempts(), 1);
    assert!(letter.cause().starts_with("the payload: can't be decoded"), "{}", letter.cause());
    assert!(!letter.cause().contains("secret"));
    assert_eq!(letter.payload::<String>().unwrap(), "secret");
    assert_eq!(running.stop().await, 0);
}

async fn no_room_for_letters_loses_none(cache: &Cache) {
    let writes = queue(cache).retries(0).dead_letter_capacity(1).build().unwrap();
    for n in 1..=2 {
        send(&writes, "k", n).await;
    }
    send(&writes, "other", 3).await;
    let seen = Seen::new();
    let then = |attempt: &crate::world::Attempt| if attempt.n == 3 { Ok(()) } else { Err("no".to_owned()) };
    let running = Running::new(noting(&writes, &seen, then));
    let letter = &letters(&writes, 1).await[0];
    until("the other one is done", async || pending(&writes).await == 1).await;
    assert_eq!(letter.payload::<Change>().unwrap().n, 1);
    assert!(writes.discard(letter).await.unwrap());
    until("there is room", async || pending(&writes).await == 0).await;
    assert_eq!(letters(&writes, 1).await[0].payload::<Change>().unwrap().n, 2);
    assert_eq!((running.stop().await, seen.all().len()), (0, 3));
}

#[tokio::test]
async fn logs_say_kinds_and_numbers_and_nothing_else() {
    let (log, _guard) = Log::new();
    let writes = queue(&embedded()).retries(1).dead_letter_capacity(1).build().unwrap();
    let mut seqs = Vec::new();
    for _ in 0..2 {
        seqs.push(writes.send("write", "whose", "what").await.unwrap());
    }
    writes.send("note", "whose", "what").await.unwrap();
    let running =
        Running::new(writes.workers(()).handle("write", async |_: Job<String>, ()| Err::<(), _>("why")));
    until("it is said", async || log.count("there is no room for another dead letter") == 1).await;
    let letters = letters(&writes, 1).await;
    drop(running);
    let (text, shown) = (log.text(), format!("{letters:?} {writes:?}"));
    assert_eq!(log.count("a write is given up"), 1, "{text}");
    assert!(text.contains(&format!("seq={}", seqs[0])) && text.contains("kind=\"write\""), "{text}");
    assert!(shown.contains("write") && shown.contains(&seqs[0].to_string()), "{shown}");
    for secret in ["whose", "what", "why"] {
        assert!(!text.contains(secret) && !shown.contains(secret), "{secret}: {shown}\n{text}");
    }
}
