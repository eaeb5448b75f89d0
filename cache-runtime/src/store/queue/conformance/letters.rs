//! Writes that were given up.

use super::*;
use crate::store::queue::{Buried, Letter};

impl Bench<'_> {
    async fn bury(&self, term: Term, dead: &Delivery, cause: &str) -> Buried {
        self.queue.bury("w", term, dead, cause, LIMITS).await.unwrap()
    }

    async fn letters(&self, most: usize) -> Vec<Letter> {
        self.queue.letters(most).await.unwrap()
    }
}

pub(crate) async fn a_buried_write_takes_its_entry_along(bench: &Bench<'_>) {
    assert!(bench.letters(9).await.is_empty());
    let entries = [entry("e", "1", "c"), entry("later", "1", "c"), entry("another", "1", "c")];
    let seq = bench.append("k", "{\"a\":1}", &entries).await;
    let term = bench.term("w", "k").await;
    let mut dead = bench.read_one("w", term).await;
    bench.append("k", "2", &[entry("later", "2", "c2")]).await;
    bench.set("another", "2").await;
    dead.deliveries = 5;
    assert_eq!(bench.bury(term, &dead, "no such \"row\"\n").await, Buried::Done);

    let [letter] = &bench.letters(9).await[..] else { panic!("one") };
    assert_eq!((letter.seq, &letter.kind[..], &letter.order_key[..]), (seq, "save", "k"));
    assert_eq!((&letter.payload[..], &letter.cause[..]), (&b"{\"a\":1}"[..], "no such \"row\"\n"));
    assert_eq!(letter.attempts, 5);
    assert!(letter.age < PATIENCE);
    for (key, value, copy) in [("e", None, None), ("later", Some("2"), Some("c2")), ("another", None, None)] {
        assert_eq!(
            (bench.shows(key).await.as_deref(), bench.pending(key).await.as_deref()),
            (value, copy),
            "{key}"
        );
    }
    let figures = bench.figures().await;
    assert_eq!((figures.pending, figures.letters), (1, 1));
    assert_eq!(payloads(&bench.queue.recover("w", term).await.unwrap().unwrap()), Vec::<&str>::new());
    assert_eq!(payloads(&bench.read("w", term).await), ["2"]);
}

pub(crate) async fn letters_are_bounded_and_come_in_order(bench: &Bench<'_>) {
    for n in 0..5 {
        bench.append("k", &n.to_string(), &[entry("e", n.to_string(), "c")]).await;
    }
    let term = bench.term("w", "k").await;
    let handed = bench.read("w", term).await;
    // Not in the order of their numbers.
    for (at, buried) in [(1, Buried::Done), (0, Buried::Done), (2, Buried::Done), (4, Buried::Full)] {
        assert_eq!(bench.bury(term, &handed[at], "why").await, buried, "{at}");
    }
    let payloads = async |most| {
        bench.letters(most).await.into_iter().map(|letter| text(letter.payload)).collect::<Vec<_>>()
    };
    assert_eq!(payloads(9).await, ["1", "0", "2"]);
    assert_eq!(payloads(2).await, ["1", "0"]);
    // It stays where it is.
    assert_eq!(
        (bench.shows("e").await.as_deref(), bench.pending("e").await.as_deref()),
        (Some("4"), Some("c"))
    );
    assert_eq!(bench.queue.recover("w", term).await.unwrap().unwrap().len(), 2);
    let first = bench.letters(1).await.remove(0);
    assert!(bench.queue.discard(&first.id).await.unwrap());
    assert_eq!(bench.bury(term, &handed[4], "why").await, Buried::Done);
    assert_eq!(payloads(9).await, ["0", "2", "4"]);
    assert_eq!((bench.shows("e").await, bench.pending("e").await), (None, None));
}

pub(crate) async fn a_letter_is_discarded_once(bench: &Bench<'_>) {
    bench.append("k", "p", &[]).await;
    let term = bench.term("w", "k").await;
    let dead = bench.read_one("w", term).await;
    assert_eq!(bench.bury(term, &dead, "").await, Buried::Done);
    let letter = bench.letters(9).await.remove(0);
    assert_eq!(letter.cause, "");
    assert!(bench.queue.discard(&letter.id).await.unwrap());
    assert!(!bench.queue.discard(&letter.id).await.unwrap());
    assert!(!bench.queue.replay(&letter, LIMITS).await.unwrap());
    let figures = bench.figures().await;
    assert_eq!((figures.letters, figures.pending), (0, 0));
}

pub(crate) async fn a_replayed_letter_keeps_its_number(bench: &Bench<'_>) {
    let seq = bench.append("k", "1", &[entry("e", "1", "c1"), entry("f", "1", "c1")]).await;
    let term = bench.term("w", "k").await;
    let dead = bench.read_one("w", term).await;
    assert!(bench.queue.again("w", term, &dead.id, true).await.unwrap());
    assert_eq!(bench.bury(term, &dead, "why").await, Buried::Done);
    bench.append("k", "2", &[entry("f", "2", "c2")]).await;
    let letter = bench.letters(9).await.remove(0);
    assert!(bench.queue.replay(&letter, LIMITS).await.unwrap());
    assert!(!bench.queue.replay(&letter, LIMITS).await.unwrap());
    assert!(bench.letters(9).await.is_empty());
    assert_eq!(bench.figures().await.pending, 2);
    // Nothing is pending because of it, and what was loaded meanwhile is what the database said before it.
    assert_eq!((bench.shows("e").await, bench.pending("e").await), (None, None));
    bench.set("e", "old row").await;

    let handed = bench.read("w", term).await;
    assert_eq!(payloads(&handed), ["2", "1"]);
    let replayed = &handed[1];
    assert_eq!((replayed.seq, replayed.deliveries, &replayed.kind[..]), (seq, 1, "save"));
    assert_eq!(replayed.entries, ["e", "f"]);
    assert!(handed[0].seq > seq && replayed.id != dead.id);
    bench.settle("w", term, &handed[1..]).await;
    assert_eq!(bench.shows("e").await, None);
    assert_eq!(
        (bench.shows("f").await.as_deref(), bench.pending("f").await.as_deref()),
        (Some("2"), Some("c2"))
    );
    bench.settle("w", term, &handed[..1]).await;
    assert_eq!((bench.shows("f").await.as_deref(), bench.pending("f").await), (Some("2"), None));
    assert_eq!(bench.figures().await.pending, 0);
    // The next number is larger than all of them.
    assert!(bench.append("k", "3", &[]).await > handed[0].seq);
}
