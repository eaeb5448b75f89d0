//! The checker, on histories with one fault each.

use crate::check::{Handed, History, Letter, REFUSAL, Rules};

const RULES: Rules = Rules { attempts: 3, coalesced: false };

/// Three writes of key 1, the second one handed over twice; one of key 2, on its way when its producer
/// died; poison of key 3.
fn sound() -> History {
    let mut history = History::default();
    let lines = [
        "t 1 1 set",
        "a 1 1 100 1000",
        "t 1 2 set",
        "a 1 2 200 2000",
        "t 1 3 set",
        "a 1 3 300 3000", //
        "t 2 1 set",
        "a 2 1 150 1500",
        "t 2 2 set", //
        "t 3 1 fail",
        "a 3 1 400 4000",
        "t 3 2 undecodable",
        "a 3 2 401 4001",
        "t 3 3 die",
        "a 3 3 402 4002", //
        "r 1 0 1000",
        "r 1 1 1500",
        "r 1 2 1500",
        "r 1 3 3001",
        "r 2 2 1600",
    ];
    history.add(&lines.map(str::to_owned));
    history.handed = vec![
        handed(1, 1, 100, 1),
        handed(2, 1, 150, 1),
        handed(1, 2, 200, 1),
        handed(1, 2, 200, 2),
        handed(1, 3, 300, 1),
        handed(1, 1, 100, 1), // by a worker that stood still in between
        handed(2, 2, 301, 1),
        handed(3, 1, 400, 3),
        handed(3, 3, 402, 3),
    ];
    history.rows = [(1, (3, 300)), (2, (2, 301))].into();
    history.letters = vec![
        letter(1, 400, REFUSAL, 3),
        letter(2, 401, "the payload: can't be decoded: ..", 1),
        letter(3, 402, "its workers ended while ..", 4),
    ];
    history
}

fn handed(key: usize, value: u64, seq: u64, attempt: u32) -> Handed {
    Handed { key, value, seq, attempt, by: 1, begun: 1 }
}

fn letter(value: u64, seq: u64, cause: &str, attempts: u32) -> Letter {
    Letter { key: 3, value, seq, cause: cause.to_owned(), attempts }
}

/// What the checker says when this is done to a sound history.
fn said(fault: impl FnOnce(&mut History)) -> Vec<String> {
    let mut history = sound();
    fault(&mut history);
    history.judge(RULES)
}

#[track_caller]
fn found(what: &str, fault: impl FnOnce(&mut History)) {
    let said = said(fault);
    assert!(said.iter().any(|said| said.starts_with(what)), "`{what}` isn't among {said:#?}");
}

fn add(line: &str) -> impl FnOnce(&mut History) {
    let line = line.to_owned();
    |history| history.add(&[line])
}

#[test]
fn a_sound_history_passes() {
    assert_eq!(said(|_| {}), Vec::<String>::new());
}

#[test]
fn a_write_that_was_not_handed_over_is_lost() {
    found("lost", |history| history.handed.retain(|handed| handed.seq != 200));
    found("lost", |history| history.handed.retain(|handed| handed.seq != 150));
    let mut coalesced = sound();
    coalesced.handed.retain(|handed| handed.seq != 200);
    let rules = Rules { coalesced: true, ..RULES };
    assert_eq!(coalesced.judge(rules), Vec::<String>::new(), "a later one of its key was applied");
    coalesced.handed.retain(|handed| handed.seq != 300);
    coalesced.rows.insert(1, (1, 100));
    assert!(coalesced.judge(rules).iter().any(|said| said.starts_with("lost")));
}

#[test]
fn the_row_says_the_last() {
    found("not the last", |history| {
        history.rows.insert(1, (2, 200));
    });
    found("not the last", |history| {
        history.rows.remove(&1);
    });
    found("not the last", |history| {
        history.rows.insert(1, (4, 500));
    }); // which nobody sent
    found("not the last", |history| {
        history.rows.insert(1, (3, 299));
    });
}

#[test]
fn numbers_grow_and_are_nobody_elses() {
    found("two writes of one number", add("a 2 2 300 5000"));
    found("two writes of one number", |history| history.handed.push(handed(1, 2, 300, 2)));
    found("key 1: value 2 came as number 350", |history| history.handed.push(handed(1, 2, 350, 1)));
    found("key 2: value 1 came as number 150, after 2", add("a 2 2 140 5000"));
}

#[test]
fn order_is_that_of_the_first_time() {
    found("out of order", |history| history.handed.swap(2, 4));
    found("out of order", |history| {
        history.handed.remove(0);
    });
    // A late one, of another process, which a third one had skipped.
    let mut history = sound();
    history.handed.retain(|handed| handed.seq != 200);
    history.handed.push(Handed { by: 2, ..handed(1, 2, 200, 1) });
    assert!(history.judge(RULES).iter().any(|said| said.starts_with("out of order")));
    assert_eq!(history.judge(Rules { coalesced: true, ..RULES }), Vec::<String>::new());
    history.handed.last_mut().unwrap().by = 1;
    assert_eq!(history.judge(Rules { coalesced: true, ..RULES }).len(), 1);
}

#[test]
fn handlers_get_what_was_sent() {
    found("never sent so", |history| history.handed.push(handed(1, 9, 900, 1)));
    found("never sent so", |history| history.handed.push(handed(3, 2, 401, 1)));
    found("never sent so", |history| history.handed.push(handed(1, 3, 300, 5)));
    found("never sent so", |history| history.handed.push(handed(1, 3, 300, 0)));
}

#[test]
fn the_dead_letters_are_the_poison() {
    for at in 0..3 {
        found("not among the dead letters", |history| {
            history.letters.remove(at);
        });
        found("no dead letter", |history| history.letters[at].cause.clear());
    }
    found("no dead letter", |history| history.letters[0].cause = "another".into());
    found("no dead letter", |history| history.letters[0].attempts = 2);
    found("no dead letter", |history| history.letters[2].attempts = 5);
    found("no dead letter", |history| history.letters.push(Letter { key: 1, ..letter(3, 300, REFUSAL, 3) }));
    found("a letter is there twice", |history| history.letters.push(letter(1, 400, REFUSAL, 3)));
}

#[test]
fn a_read_is_no_older_than_what_was_taken_before_it() {
    found("stale", add("r 1 2 3001"));
    found("stale", add("r 1 0 1001"));
    found("stale", add("r 2 0 9000"));
    // Key 1's third value was taken when key 2's clock said so: another key is none of its business.
    assert_eq!(said(add("r 2 1 9000")), Vec::<String>::new());
}

#[test]
fn an_error_of_a_producer_is_said() {
    found("e ", add("e the payload can't be encoded"));
}
