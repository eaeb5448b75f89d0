//! The next writes of a shard, and which of them may be tried.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::queue::Delivery;

/// How many writes of a shard a worker has in hand, beside those that wait behind one that has failed.
pub(super) const WINDOW: usize = 256;

/// How many with those. When there are so many, the other order keys of the shard wait, too.
pub(super) const MOST: usize = 16 * WINDOW;

/// After so many of an order key were given up in a row, though others were done meanwhile, each that is in hand has
/// one attempt, until one is done: else they would be given up one retry time after the other.
const TOO_MANY: u32 = 3;

/// How many bytes of payloads are enough in hand, and how many with those that wait.
pub(super) const ENOUGH: usize = 4 << 20;
const MOST_BYTES: usize = 4 * ENOUGH;

/// A write in hand.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) delivery: Delivery,
    /// When it was handed over.
    taken: Instant,
    /// It has to be counted before it is tried: whether as one that has failed.
    pub(super) count_as: Option<bool>,
    /// It is to be buried, for this cause.
    doom: Option<String>,
    /// It has failed while it was in hand, and how many writes had been done when it did last.
    failed: bool,
    done_before: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To be tried: the last of these. The others, of the same order key and kind, count as done with it.
    Try(Vec<usize>),
    /// To be buried.
    Bury(usize),
    /// Nothing, or not before that.
    Wait(Option<Instant>),
}

/// Writes in their order. An order key whose first write has failed is parked; the others go on.
#[derive(Debug)]
pub(super) struct Window {
    held: VecDeque<Held>,
    /// Until when.
    parked: HashMap<String, Instant>,
    /// How many writes of an order key were given up in a row, though those of others were done meanwhile.
    given_up: HashMap<String, u32>,
    /// How many writes were done.
    done: u64,
    retries: u32,
    coalesces: bool,
}

impl Window {
    pub(super) fn new(retries: u32, coalesces: bool) -> Self {
        let (held, parked, given_up) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Self { held, parked, given_up, done: 0, retries, coalesces }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether more is to be read before what there is is done.
    pub(super) fn is_low(&self) -> bool {
        let (count, bytes) = self.open();
        count <= WINDOW / 2 && bytes < ENOUGH
    }

    /// How many more it takes.
    pub(super) fn room(&self) -> usize {
        let bytes: usize = self.held.iter().map(Held::size).sum();
        if bytes >= MOST_BYTES && self.held.len() >= WINDOW {
            return 0;
        }
        WINDOW.saturating_sub(self.open().0).min(MOST.saturating_sub(self.held.len()))
    }

    /// How many don't wait behind one that has failed, and their bytes.
    fn open(&self) -> (usize, usize) {
        let open = self.held.iter().filter(|held| !self.parked.contains_key(held.order_key()));
        open.fold((0, 0), |(count, bytes), held| (count + 1, bytes + held.size()))
    }

    /// Writes that nobody was handed before.
    pub(super) fn extend(&mut self, deliveries: Vec<Delivery>) {
        let taken = Instant::now();
        let held =
            |delivery| Held { delivery, taken, count_as: None, doom: None, failed: false, done_before: 0 };
        self.held.extend(deliveries.into_iter().map(held));
    }

    /// Writes that a worker was handed who is gone. It may have tried them or not, so of those that it was handed
    /// once nobody knows; but one that has been counted too often ends each worker that tries it.
    pub(super) fn recover(&mut self, deliveries: Vec<Delivery>) {
        self.extend(deliveries);
        for held in &mut self.held {
            held.count_as = Some(false);
            let attempts = held.delivery.deliveries;
            if attempts > self.retries.saturating_add(1) {
                held.doom = Some("its workers ended while they tried it".to_owned());
            }
        }
    }

    /// What is to be done now.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.parked.retain(|_, until| now < *until);
        // Of an order key that isn't parked this is the first one.
        let mut held = self.held.iter().enumerate();
        match held.find(|(_, held)| !self.parked.contains_key(held.order_key())) {
            None => Next::Wait(self.parked.values().min().copied()),
            Some((at, held)) if held.doom.is_some() => Next::Bury(at),
            Some((at, held)) => Next::Try(self.run_of(at, held)),
        }
    }

    /// The writes that are as good as the last of them: next to each other among those of their order key. It ends
    /// with one that has failed, or its failures would never add up; and before one that is to be buried: what
    /// was sent before that leaves the queue before it.
    fn run_of(&self, at: usize, first: &Held) -> Vec<usize> {
        let mut run = vec![at];
        if !self.coalesces || first.failed {
            return run;
        }
        let of_key = self.held.iter().enumerate().skip(at + 1);
        for (at, held) in of_key.filter(|(_, held)| held.order_key() == first.order_key()) {
            if held.delivery.kind != first.delivery.kind || held.doom.is_some() {
                break;
            }
            run.push(at);
            if held.failed {
                break;
            }
        }
        run
    }

    pub(super) fn get(&self, at: usize) -> &Held {
        &self.held[at]
    }

    /// It was counted.
    pub(super) fn counted(&mut self, at: usize) {
        let held = &mut self.held[at];
        held.delivery.deliveries = held.delivery.deliveries.saturating_add(1);
        held.count_as = None;
    }

    /// These are done: gives them back in their order.
    pub(super) fn done(&mut self, run: &[usize]) -> Vec<Delivery> {
        self.done += 1;
        if let Some(at) = run.last() {
            self.given_up.remove(self.held[*at].order_key());
        }
        self.take(run)
    }

    /// It is buried.
    pub(super) fn buried(&mut self, at: usize) {
        for Delivery { order_key, .. } in self.take(&[at]) {
            if self.held.iter().all(|held| held.order_key() != order_key) {
                self.given_up.remove(&order_key);
            }
        }
    }

    fn take(&mut self, run: &[usize]) -> Vec<Delivery> {
        let mut gone: Vec<_> = run.iter().rev().filter_map(|at| self.held.remove(*at)).collect();
        gone.reverse();
        gone.into_iter().map(|held| held.delivery).collect()
    }

    /// It will never do better.
    pub(super) fn doom(&mut self, at: usize, cause: String) {
        self.held[at].doom = Some(cause);
    }

    /// It has failed; true if it is tried again.
    pub(super) fn fail(&mut self, at: usize, cause: String, pause: impl FnOnce(u32) -> Duration) -> bool {
        let held = &mut self.held[at];
        let attempts = held.delivery.deliveries;
        let is_alone = held.failed && self.done > held.done_before;
        let given_up = self.given_up.get(held.order_key()).copied().unwrap_or_default();
        if attempts > self.retries && is_alone {
            self.given_up.insert(held.order_key().to_owned(), given_up + 1);
        }
        if attempts > self.retries || given_up >= TOO_MANY {
            held.doom = Some(cause);
            return false;
        }
        (held.count_as, held.done_before, held.failed) = (Some(true), self.done, true);
        self.park(at, pause(attempts));
        true
    }

    /// Its order key waits.
    pub(super) fn park(&mut self, at: usize, pause: Duration) {
        let until = Instant::now() + pause;
        self.parked.insert(self.held[at].delivery.order_key.clone(), until);
    }
}

impl Held {
    /// Two workers or more ended that had it in hand.
    pub(super) fn is_suspect(&self) -> bool {
        self.count_as == Some(false) && self.delivery.deliveries > 1
    }

    fn order_key(&self) -> &str {
        &self.delivery.order_key
    }

    fn size(&self) -> usize {
        self.delivery.payload.len()
    }

    /// How long ago it was sent.
    pub(super) fn age(&self) -> Duration {
        self.delivery.age + self.taken.elapsed()
    }

    pub(super) fn cause(&self) -> &str {
        self.doom.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// `a1`: the write 1 of the order key `a`; a third letter is its kind.
    fn writes(all: &[&str]) -> Vec<Delivery> {
        let write = |name: &&str| Delivery {
            id: (*name).to_owned(),
            seq: 1,
            kind: name.get(2..).unwrap_or_default().to_owned(),
            order_key: name[..1].to_owned(),
            payload: Bytes::new(),
            entries: Vec::new(),
            deliveries: 1,
            age: Duration::ZERO,
        };
        all.iter().map(write).collect()
    }

    fn window(coalesces: bool, all: &[&str]) -> Window {
        let mut window = Window::new(1, coalesces);
        window.extend(writes(all));
        window
    }

    fn ids(deliveries: &[Delivery]) -> Vec<&str> {
        deliveries.iter().map(|delivery| &*delivery.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_holds_up_its_order_key_alone() {
        let mut window = window(false, &["a1", "a2", "b1", "c1"]);
        assert_eq!(window.next(Instant::now()), Next::Try(vec![0]));
        assert!(window.fail(0, "x".into(), |attempts| attempts * MS));
        assert_eq!(window.next(Instant::now()), Next::Try(vec![2]));
        assert_eq!(ids(&window.take(&[2])), ["b1"]);
        assert!(window.fail(2, "x".into(), |_| 5 * MS));
        assert_eq!(window.next(Instant::now()), Next::Wait(Some(Instant::now() + MS)));
        tokio::time::advance(MS).await;
        assert_eq!(window.next(Instant::now()), Next::Try(vec![0]));
        assert_eq!(window.get(0).count_as, Some(true));
        window.counted(0);
        assert_eq!((window.get(0).count_as, window.get(0).delivery.deliveries), (None, 2));
        // Its last attempt.
        assert!(!window.fail(0, "because".into(), |_| MS));
        assert_eq!((window.next(Instant::now()), window.get(0).cause()), (Next::Bury(0), "because"));
        window.park(0, 9 * MS);
        assert_eq!(window.next(Instant::now()), Next::Wait(Some(Instant::now() + 4 * MS)));
        tokio::time::advance(9 * MS).await;
        assert_eq!(window.next(Instant::now()), Next::Bury(0));
        window.take(&[0]);
        assert_eq!(window.next(Instant::now()), Next::Try(vec![0]));
        assert_eq!(ids(&window.take(&[0, 1])), ["a2", "c1"]);
        assert_eq!((window.next(Instant::now()), window.room()), (Next::Wait(None), WINDOW));
    }

    #[test]
    fn a_few_large_ones_are_enough() {
        let mut window = window(false, &["a1", "b1"]);
        assert!(window.is_low());
        window.held[1].delivery.payload = vec![0; ENOUGH].into();
        assert!(!window.is_low() && window.room() == WINDOW - 2);
        window.take(&[1]);
        assert!(window.is_low());
        window.extend(writes(&["a1"; WINDOW / 2]));
        assert!(!window.is_low());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_take_no_room_up_to_a_bound() {
        let mut window = window(false, &["a1", "b1"]);
        assert!(window.fail(0, "x".into(), |_| MS));
        window.extend(writes(&["a2"; WINDOW]));
        assert_eq!(window.room(), WINDOW - 1);
        assert!(window.is_low());
        window.extend(writes(&vec!["a3"; MOST - WINDOW - 10]));
        assert_eq!(window.room(), 8);
        window.held[2].delivery.payload = vec![0; MOST_BYTES].into();
        assert_eq!(window.room(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_key_that_fails_again_and_again_beside_others_has_one_attempt_for_each_write() {
        for others_do in [true, false] {
            let mut window = window(false, &["a1", "a2", "a3", "a4", "a5", "a6"]);
            for _ in 0..TOO_MANY {
                assert!(window.fail(0, "x".into(), |_| MS), "each has all of its attempts");
                window.counted(0);
                if others_do {
                    window.extend(writes(&["b1"]));
                    window.done(&[window.len() - 1]);
                }
                assert!(!window.fail(0, "x".into(), |_| MS));
                window.buried(0);
            }
            assert_eq!(window.fail(0, "x".into(), |_| MS), !others_do, "or it is the database that fails");
            if others_do {
                window.buried(0);
                assert_eq!(ids(&window.done(&[0])), ["a5"]);
                assert!(window.fail(0, "x".into(), |_| MS), "one was done");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_next_to_each_other_is_one() {
        let mut window = window(true, &["a1k", "b1k", "a2k", "a3x", "a4k", "a5k"]);
        let now = Instant::now();
        assert_eq!(window.next(now), Next::Try(vec![0, 2]));
        assert_eq!(ids(&window.take(&[0, 2])), ["a1k", "a2k"]);
        assert_eq!(window.next(now), Next::Try(vec![0]));
        window.take(&[0]);
        assert_eq!(window.next(now), Next::Try(vec![0]));
        window.take(&[0]);
        assert_eq!(window.next(now), Next::Try(vec![0, 1]));
        // While it failed, another one came.
        assert!(window.fail(1, "x".into(), |_| MS));
        window.extend(writes(&["a6k"]));
        tokio::time::advance(MS).await;
        assert_eq!(
            window.next(Instant::now()),
            Next::Try(vec![0, 1]),
            "or it would never have failed too often"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_before_a_write_that_is_given_up_leaves_before_it() {
        let mut window = window(true, &["a1", "a2", "a3", "a4"]);
        let now = Instant::now();
        assert_eq!(window.next(now), Next::Try(vec![0, 1, 2, 3]));
        window.take(&[3]);
        window.doom(2, "bad".into());
        assert_eq!(window.next(now), Next::Try(vec![0, 1]));
        window.extend(writes(&["a5"]));
        window.take(&[0, 1]);
        assert_eq!(window.next(now), Next::Bury(0));
        assert_eq!(ids(&window.take(&[0])), ["a3"]);
        assert_eq!(window.next(now), Next::Try(vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_recovered_is_counted_before_it_is_tried() {
        let mut window = Window::new(1, false);
        let mut recovered = writes(&["a1", "b1", "c1"]);
        (recovered[1].deliveries, recovered[2].deliveries) = (2, 3);
        window.recover(recovered);
        window.extend(writes(&["d1"]));
        let counts: Vec<_> = window.held.iter().map(|held| held.count_as).collect();
        assert_eq!(counts, [Some(false), Some(false), Some(false), None]);
        let now = Instant::now();
        for expected in [Next::Try(vec![0]), Next::Try(vec![0]), Next::Bury(0), Next::Try(vec![0])] {
            assert_eq!(window.next(now), expected);
            window.take(&[0]);
        }
    }
}
