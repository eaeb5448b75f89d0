//! What is lost, on the server or on the way, and found again.

use super::*;
use crate::store::redis::support::proxy::{Garble, Proxy};

/// Everything is lost while a worker is at work.
#[tokio::test]
async fn a_flush_is_survived() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        let last = bench.append("k", "1", &[entry("e", "1", "c")]).await;
        let term = bench.term("w", "k").await;
        let handed = bench.read_one("w", term).await;
        server.command(&["FLUSHALL"]);
        server.command(&["SCRIPT", "FLUSH"]);
        let (queue, done) = (&bench.queue, std::slice::from_ref(&handed));
        assert!(!queue.again("w", term, &handed.id, true).await.unwrap());
        assert!(!queue.settle("w", term, done).await.unwrap());
        assert_eq!(queue.bury("w", term, &handed, "", LIMITS).await.unwrap(), Buried::Lost);
        assert!(queue.read("w", term, 1).await.unwrap().is_none());
        assert!(queue.recover("w", term).await.unwrap().is_none());
        assert_eq!((queue.pending("e").await.unwrap(), bench.figures().await), (None, Figures::default()));

        assert!(bench.append("k", "2", &[]).await > last, "or the database would refuse it");
        // The old term is over, though the same worker has the shard again.
        let again = bench.term("w", "k").await;
        assert!(again.number > term.number);
        assert!(queue.read("w", term, 1).await.unwrap().is_none());
        assert_eq!(payloads(&bench.read("w", again).await), ["2"]);
    }
}

#[tokio::test]
async fn a_stream_that_is_lost_is_made_anew() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    for recovers in [true, false] {
        bench.append("k", "lost", &[]).await;
        let term = bench.term("w", "k").await;
        let lost = bench.read_one("w", term).await;
        server.command(&["DEL", &stream("k")]);
        bench.append("k", "next", &[]).await;
        if recovers {
            assert!(bench.queue.recover("w", term).await.unwrap().unwrap().is_empty());
        }
        let next = bench.read_one("w", term).await;
        assert_eq!(payloads(std::slice::from_ref(&next)), ["next"]);
        assert!(bench.queue.again("w", term, &lost.id, true).await.unwrap());
        assert_eq!(bench.queue.bury("w", term, &lost, "", LIMITS).await.unwrap(), Buried::Done);
        bench.settle("w", term, &[lost, next]).await;
        assert_eq!((bench.figures().await.letters, bench.figures().await.retries), (0, 0));
    }
    // Without a stream there is nothing to read.
    let term = bench.term("w", "k").await;
    server.command(&["DEL", &stream("k")]);
    assert!(bench.read("w", term).await.is_empty());
    assert!(bench.queue.recover("w", term).await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_gone_from_its_stream_is_not_recovered() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    for payload in ["1", "2", "3"] {
        bench.append("k", payload, &[]).await;
    }
    let term = bench.term("a", "k").await;
    let handed = bench.read("a", term).await;
    let consumers = || server.command(&["XINFO", "CONSUMERS", &stream("k"), "workers"]);
    assert!(consumers().lines().any(|line| line == "a"));
    server.command(&["XDEL", &stream("k"), &handed[1].id]);
    bench.queue.leave("a").await.unwrap();
    let term = bench.term("b", "k").await;
    assert_eq!(payloads(&bench.queue.recover("b", term).await.unwrap().unwrap()), ["1", "3"]);
    assert!(server.command(&["XPENDING", &stream("k"), "workers"]).starts_with('2'));
    // The one that was handed them has nothing left, and no name there either.
    assert!(consumers().lines().all(|line| line != "a") && consumers().lines().any(|line| line == "b"));
}

#[tokio::test]
async fn more_than_a_page_is_recovered() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    let limits = Limits { capacity: 1000, ..LIMITS };
    for n in 0..350 {
        bench.try_append("k", &n.to_string(), &[], limits).await;
    }
    let term = bench.term("a", "k").await;
    assert_eq!(bench.queue.read("a", term, 1000).await.unwrap().unwrap().len(), 350);
    bench.queue.leave("a").await.unwrap();
    let term = bench.term("b", "k").await;
    let found = bench.queue.recover("b", term).await.unwrap().unwrap();
    assert_eq!(payloads(&found), (0..350).map(|n| n.to_string()).collect::<Vec<_>>());
    bench.settle("b", term, &found).await;
    assert_eq!(bench.figures().await.pending, 0);
}

#[tokio::test]
async fn numbers_grow_whatever_the_clock_says() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        let first = bench.append("k", "1", &[]).await;
        // The clock was set back by a day.
        let last = first + 86_400_000_000;
        server.command(&["HSET", &key("meta"), "last", &last.to_string()]);
        assert_eq!(bench.append("k", "2", &[]).await, last + 1);
        // That number is lost, and only a stream knows it: another one than that which is written to.
        server.command(&["HDEL", &key("meta"), "last"]);
        let other = other_than("k", LIMITS.shards);
        assert_eq!(bench.append(&other, "3", &[]).await, last + 2);
        // A stream knows of more than the number says.
        let ahead = last + 1000;
        server.command(&["XADD", &stream("k"), &format!("{ahead}-7"), "by", "hand"]);
        assert_eq!(bench.append("k", "4", &[]).await, ahead + 1);
        assert_eq!(bench.append(&other, "5", &[]).await, ahead + 2);
        // What somebody wrote by hand is handed over, so that it is buried.
        let term = bench.term("w", "k").await;
        let handed = bench.read("w", term).await;
        assert_eq!(payloads(&handed), ["1", "2", "", "4"]);
        assert_eq!((&handed[2].kind[..], handed[2].seq), ("", ahead));
        assert_eq!((handed[1].age, handed[3].age), (Duration::ZERO, Duration::ZERO));
        bench.settle("w", term, &handed).await;
    }
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_whole() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    let forget = || server.command(&["SCRIPT", "FLUSH"]);
    for _ in 0..2 {
        forget();
        bench.append("k", "p", &[]).await;
        forget();
        let term = bench.term("w", "k").await;
        forget();
        let delivery = bench.read_one("w", term).await;
        forget();
        assert!(bench.queue.again("w", term, &delivery.id, true).await.unwrap());
        forget();
        assert_eq!(bench.figures().await.pending, 1);
        assert_eq!(bench.queue.bury("w", term, &delivery, "", LIMITS).await.unwrap(), Buried::Done);
        forget();
        let letter = bench.queue.letters(1).await.unwrap().remove(0);
        assert!(bench.queue.replay(&letter, LIMITS).await.unwrap());
        forget();
        let delivery = bench.read_one("w", term).await;
        bench.settle("w", term, &[delivery]).await;
        assert_eq!(server.command(&["HGET", &key("meta"), "count"]), "0");
        bench.queue.leave("w").await.unwrap();
    }
}

/// A reader who went away before its reply came, or got one that isn't its own, hears of those writes again.
#[tokio::test]
async fn what_was_handed_over_and_lost_on_the_way_comes_with_the_next_read() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let store = store(&proxy.url());
    let bench = Bench::new(&store);
    for n in 0..7 {
        bench.append("k", &n.to_string(), &[]).await;
    }
    let term = bench.term("w", "k").await;
    let read = async |most| bench.queue.read("w", term, most).await.map(Option::unwrap);
    assert_eq!(payloads(&read(1).await.unwrap()), ["0"]);

    proxy.hold();
    tokio::select! {
        biased;
        _ = read(3) => panic!("its reply is held"),
        () = proxy.wait_pending(1) => {}
    }
    proxy.release();
    // 1, 2 and 3 were handed over; 0 is being tried, and isn't handed over twice.
    assert_eq!(payloads(&read(2).await.unwrap()), ["1", "2"]);
    let rest = read(2).await.unwrap();
    assert_eq!((payloads(&rest), rest[0].deliveries), (vec!["3", "4"], 1));

    // A reply of another form: the connection goes with it.
    proxy.garble_next(Garble::Replace(b"x".to_vec()));
    assert!(matches!(read(1).await, Err(StoreError::Unavailable(_))));
    until("there is another connection", async || store.link.connection().await.is_ok()).await;
    assert_eq!(payloads(&read(9).await.unwrap()), ["5", "6"]);
    assert!(read(9).await.unwrap().is_empty());

    // One that is carried out late, when nobody waits for it any more and others were answered since.
    for n in 7..10 {
        bench.append("k", &n.to_string(), &[]).await;
    }
    let late = ["XREADGROUP", "GROUP", "workers", "w", "COUNT", "2", "STREAMS", &stream("k"), ">"];
    assert!(server.command(&late).contains("payload"));
    assert_eq!(payloads(&read(3).await.unwrap()), ["7", "8", "9"]);
    let all = bench.queue.recover("w", term).await.unwrap().unwrap();
    assert_eq!(all.len(), 10);
    assert!(all.iter().all(|delivery| delivery.deliveries == 1));
}

#[tokio::test]
async fn keys_of_others_are_left_alone() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    server.command(&["RPUSH", "list", "1"]);
    let nothing = NewEntry { value: None, ..entry("list", "", "c") };
    for (entry, is_buried) in [(entry("list", "v", "c"), true), (nothing, false)] {
        bench.append("k", "p", &[entry]).await;
        assert_eq!(bench.pending("list").await.as_deref(), Some("c"));
        let term = bench.term("w", "k").await;
        let delivery = bench.read_one("w", term).await;
        if is_buried {
            assert_eq!(bench.queue.bury("w", term, &delivery, "", LIMITS).await.unwrap(), Buried::Done);
        } else {
            bench.settle("w", term, &[delivery]).await;
        }
        assert_eq!(server.command(&["LLEN", "list"]), "1");
    }
    // Where a key of the queue is something else, nothing is half done.
    for what in ["pending", "meta"] {
        bench.append("k", "p", &[]).await;
        let before = bench.figures().await.pending;
        let kept = server.command(&["RENAME", &key(what), "kept"]) == "OK";
        server.command(&["SET", &key(what), "x"]);
        let write = [entry("e", "v", "c")];
        let write = NewWrite { kind: "k", order_key: "k", payload: b"", entries: &write, synced: false };
        assert!(matches!(bench.queue.append(&write, LIMITS).await, Err(StoreError::WrongType(_))), "{what}");
        server.command(&["DEL", &key(what)]);
        if kept {
            server.command(&["RENAME", "kept", &key(what)]);
        }
        assert_eq!((bench.figures().await.pending, bench.get("e").await), (before, None));
    }
}

#[tokio::test]
async fn a_queue_with_too_many_shards_is_refused() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    for shards in ["65", "many"] {
        server.command(&["HSET", &key("meta"), "shards", shards]);
        assert!(bench.queue.tend("w", LEASE, &[], LIMITS).await.is_err());
        assert!(bench.queue.figures().await.is_err());
    }
    server.command(&["HSET", &key("meta"), "shards", "64"]);
    until("there is a connection", async || store.link.connection().await.is_ok()).await;
    assert_eq!(bench.tend("w").await.shards.len(), 64);
}

#[tokio::test]
async fn what_is_removed_by_hand_makes_room() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    let limits = Limits { capacity: 2, ..LIMITS };
    let other = other_than("k", LIMITS.shards);
    let count = || server.command(&["HGET", &key("meta"), "count"]);
    for round in 0..2 {
        for order_key in ["k", &other] {
            let appended = bench.try_append(order_key, "p", &[], limits).await;
            assert!(matches!(appended, Appended::At(_)), "{round} {order_key}");
        }
        assert_eq!(bench.try_append("k", "p", &[], limits).await, Appended::Full);
        server.command(&["DEL", &stream("k"), &stream(&other)]);
    }
    assert_eq!(count(), "2");
    bench.tend("w").await;
    assert_eq!(count(), "0");
    // And what was added by hand takes some, from then on.
    for _ in 0..2 {
        server.command(&["XADD", &stream("k"), "*", "by", "hand"]);
    }
    bench.tend("w").await;
    assert_eq!(bench.try_append(&other, "p", &[], limits).await, Appended::Full);
}

/// What was handed over isn't handed over once more in the same term, behind what came later.
#[tokio::test]
async fn who_does_not_know_what_it_has_recovers_first() {
    let server = Server::redis().start();
    let (store, forgetful) = (store(&server.url()), store(&server.url()));
    let bench = Bench::new(&store);
    for payload in ["1", "2"] {
        bench.append("k", payload, &[]).await;
    }
    let term = bench.term("w", "k").await;
    assert_eq!(bench.read("w", term).await.len(), 2);
    bench.append("k", "3", &[]).await;
    let queue = forgetful.queue(BASE);
    assert!(queue.read("w", term, 9).await.unwrap().is_none());
    assert_eq!(payloads(&bench.read("w", term).await), ["3"]);
    assert_eq!(payloads(&queue.recover("w", term).await.unwrap().unwrap()), ["1", "2", "3"]);
    assert!(queue.read("w", term, 9).await.unwrap().unwrap().is_empty());
}

/// A reply that is too large to come in time would never come.
#[tokio::test]
async fn large_writes_are_read_a_few_at_a_time() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        let large = "x".repeat(300 << 10);
        for n in 0..9 {
            bench.append("k", &format!("{n}{large}"), &[]).await;
        }
        for n in 0..20 {
            bench.append("k", &format!("small {n}"), &[]).await;
        }
        let term = bench.term("w", "k").await;
        let (mut all, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let some = bench.read("w", term).await;
            if some.is_empty() {
                break;
            }
            sizes.push(some.len());
            all.extend(some);
        }
        let seqs: Vec<_> = all.iter().map(|one| one.seq).collect();
        assert!(seqs.is_sorted() && seqs.len() == 29, "{seqs:?}");
        assert_eq!(sizes, [4, 4, 21]);
        bench.queue.leave("w").await.unwrap();
        let tenure = bench.tend("v").await;
        let term = *tenure.shards.iter().find(|other| other.shard == term.shard).unwrap();
        let again = bench.queue.recover("v", term).await.unwrap().unwrap();
        assert_eq!(again.iter().map(|one| one.seq).collect::<Vec<_>>(), seqs);
        assert!(bench.read("v", term).await.is_empty());
        bench.settle("v", term, &all).await;
        assert_eq!(bench.figures().await.pending, 0);
    }
}

#[tokio::test]
async fn all_letters_may_be_asked_for() {
    let server = Server::redis().start();
    let store = store(&server.url());
    let bench = Bench::new(&store);
    bench.append("k", "1", &[]).await;
    let term = bench.term("w", "k").await;
    let dead = bench.read_one("w", term).await;
    assert_eq!(bench.queue.bury("w", term, &dead, "", LIMITS).await.unwrap(), Buried::Done);
    assert_eq!(bench.queue.letters(usize::MAX).await.unwrap().len(), 1);
}

/// Or nobody would have its shards until the clock is where it was.
#[tokio::test]
async fn a_dead_worker_is_one_though_the_clock_was_set_back() {
    for kind in BOTH {
        let server = Server::of(kind).start();
        let store = store(&server.url());
        let bench = Bench::new(&store);
        let lease = Duration::from_millis(50);
        let tend = async || bench.queue.tend("w", lease, &[], LIMITS).await.unwrap();
        let dead = bench.queue.tend("dead", lease, &[], LIMITS).await.unwrap();
        // By the clock as it was, it lives for another two hundred years.
        let far = "8000000000000";
        server.command(&["ZADD", &key("workers"), far, "dead"]);
        for term in &dead.shards {
            let own = format!("{far}/50 {} dead", term.number);
            server.command(&["HSET", &key("own"), &term.shard.to_string(), &own]);
        }
        assert!(tend().await.shards.is_empty(), "its lease begins anew");
        until("all are taken", async || tend().await.shards.len() == 4).await;
        assert!(bench.queue.read("dead", dead.shards[0], 1).await.unwrap().is_none());
        // One that lives keeps what it has.
        let tenure = bench.queue.tend("w", LEASE, &[], LIMITS).await.unwrap();
        server.command(&["HSET", &key("own"), "0", &format!("{far}/600000 {} w", tenure.shards[0].number)]);
        tokio::time::sleep(2 * lease).await;
        assert!(bench.queue.tend("x", lease, &[], LIMITS).await.unwrap().shards.is_empty());
        assert_eq!(bench.queue.tend("w", LEASE, &[], LIMITS).await.unwrap().shards, tenure.shards);
    }
}
