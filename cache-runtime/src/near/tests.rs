//! What near values promise, one step at a time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::site::{At, Shape, Site};

static SITE: Site = Site::new("f", "m", Shape::Hashed(None));

pub(super) fn instance() -> Instance {
    At::inside(&SITE, &|| ()).instance()
}

/// Another instance of the same function.
pub(super) fn other_instance() -> Instance {
    At::inside(&SITE, &|| ()).instance()
}

const DELTA: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn near(bytes: u64) -> Arc<Near> {
    let near = Arc::new(Near::new(bytes, DELTA));
    near.always_alive();
    near
}

impl Near {
    /// Every entry is on the list of its key and nothing else is; no list is kept for nothing.
    pub(super) fn check(&self, tickets: usize) {
        let desks = || self.register.desks();
        assert_eq!(desks().map(|desk| desk.tickets()).sum::<usize>(), tickets);
        let listed: BTreeSet<_> = desks().flat_map(|desk| desk.tags().collect::<Vec<_>>()).collect();
        assert_eq!(listed, self.map.tags().into_iter().collect());
        let keys: BTreeSet<_> = listed.iter().map(|(key, _)| key).collect();
        let lists = desks().map(|desk| desk.len()).sum::<usize>();
        assert!(lists <= keys.len() + tickets, "{lists} lists for {} keys", keys.len());
    }

    fn read(&self, args: &[u8]) -> Option<u64> {
        self.get(instance(), args, u64::clone)
    }
}

impl Ticket {
    pub(super) fn keep_for(&self, args: &[u8], value: u64, life: Option<Duration>) {
        self.keep(instance(), args, &value, 8, life);
    }
}

/// Draws key n in proportion to 1/n.
pub(super) struct Zipf {
    sums: Vec<f64>,
    random: fastrand::Rng,
}

impl Zipf {
    pub(super) fn new(keys: u32) -> Self {
        let sums = (1..=keys).scan(0.0, |sum, n| {
            *sum += 1.0 / f64::from(n);
            Some(*sum)
        });
        Self { sums: sums.collect(), random: fastrand::Rng::with_seed(1) }
    }

    pub(super) fn draw(&mut self) -> u64 {
        let at = self.random.f64() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|sum| *sum < at) as u64
    }
}

#[test]
fn a_kept_value_is_a_hit_until_its_key_is_forgotten() {
    let near = near(1 << 20);
    near.ticket("k").keep_for(b"a", 1, None);
    near.ticket("other").keep_for(b"b", 2, None);
    assert_eq!((near.read(b"a"), near.read(b"b"), near.read(b"c")), (Some(1), Some(2), None));
    assert_eq!(near.get(other_instance(), b"a", u64::clone), None);
    near.forget(b"k");
    assert_eq!((near.read(b"a"), near.read(b"b")), (None, Some(2)));
    near.check(0);
}

#[test]
fn what_was_forgotten_on_the_way_is_not_kept() {
    let near = near(1 << 20);
    let (ticket, other) = (near.ticket("k"), near.ticket("other"));
    near.forget(b"k");
    let later = near.ticket("k");
    ticket.keep_for(b"a", 1, None);
    assert_eq!(near.read(b"a"), None);
    later.keep_for(b"a", 2, None);
    other.keep_for(b"b", 3, None);
    assert_eq!((near.read(b"a"), near.read(b"b")), (Some(2), Some(3)));
    ticket.keep_for(b"a", 1, None);
    assert_eq!(near.read(b"a"), Some(2), "a dirty ticket stays dirty");
    drop((ticket, other, later));
    near.check(0);
}

#[test]
fn one_key_may_have_many_entries() {
    let near = near(1 << 20);
    let ticket = near.ticket("k");
    (0..20_u8).for_each(|n| ticket.keep_for(&[n], n.into(), None));
    drop(ticket);
    assert!((0..20_u8).all(|n| near.read(&[n]) == Some(n.into())));
    near.check(0);
    near.forget(b"k");
    assert!((0..20_u8).all(|n| near.read(&[n]).is_none()));
    near.check(0);
}

#[test]
fn patterns_forget_what_fits_and_dirty_its_tickets() {
    let near = near(1 << 20);
    let user = near.ticket("user:2");
    near.ticket("user:1").keep_for(b"a", 1, None);
    near.ticket("order:1").keep_for(b"b", 2, None);
    near.forget_matching(|key| key.starts_with(b"user:"));
    user.keep_for(b"c", 3, None);
    assert_eq!((near.read(b"a"), near.read(b"b"), near.read(b"c")), (None, Some(2), None));
    drop(user);
    near.check(0);
}

#[test]
fn forget_all_takes_all_and_dirties_every_ticket() {
    let near = near(1 << 20);
    let ticket = near.ticket("k");
    near.ticket("other").keep_for(b"b", 1, None);
    near.forget_all();
    ticket.keep_for(b"a", 1, None);
    assert_eq!((near.read(b"a"), near.read(b"b")), (None, None));
    near.ticket("k").keep_for(b"a", 2, None);
    assert_eq!(near.read(b"a"), Some(2));
    drop(ticket);
    near.check(0);
}

#[test]
fn nothing_is_a_hit_without_a_connection() {
    let near = Arc::new(Near::new(1 << 20, DELTA));
    near.ticket("k").keep_for(b"a", 1, None);
    assert_eq!(near.read(b"a"), None);
    let line = near.connected(Coarse::now());
    assert_eq!(near.read(b"a"), None, "read before the connection");
    let old = near.ticket("k");
    near.ticket("k").keep_for(b"a", 2, None);
    assert_eq!(near.read(b"a"), Some(2));
    near.disconnected(line);
    assert_eq!(near.read(b"a"), None);
    near.alive(line, Coarse::now());
    old.keep_for(b"a", 3, None);
    assert_eq!(near.read(b"a"), None, "its heartbeat was answered too late");
    near.connected(Coarse::now());
    old.keep_for(b"a", 3, None);
    assert_eq!(near.read(b"a"), None, "read on the first connection");
    drop(old);
    near.check(0);
}

#[test]
fn the_end_of_a_connection_that_was_replaced_is_no_news() {
    let near = Arc::new(Near::new(1 << 20, DELTA));
    let first = near.connected(Coarse::now());
    near.connected(Coarse::now());
    near.ticket("k").keep_for(b"a", 1, None);
    near.disconnected(first);
    assert_eq!(near.read(b"a"), Some(1));
}

#[test]
fn silence_ends_hits_and_a_heartbeat_counts_from_when_it_was_sent() {
    let near = Arc::new(Near::new(1 << 20, DELTA));
    let start = Coarse::now();
    let line = near.connected(start);
    near.ticket_at(start, "k").keep_for(b"a", 1, None);
    let at = |time| near.get_at(start.after(time), instance(), b"a", u64::clone);
    assert_eq!(at(2 * SECOND), Some(1));
    assert_eq!(at(DELTA), None);
    near.alive(line, start.after(2 * SECOND));
    near.alive(line, start.after(SECOND));
    assert_eq!((at(4 * SECOND), at(5 * SECOND)), (Some(1), None));
}

#[test]
fn a_life_counts_from_before_the_read() {
    let near = near(1 << 20);
    let start = Coarse::now();
    near.ticket_at(start, "k").keep_for(b"a", 1, Some(2 * SECOND));
    near.ticket_at(start, "k").keep_for(b"b", 2, None);
    let at = |args, time| near.get_at(start.after(time), instance(), args, u64::clone);
    assert_eq!((at(b"a", SECOND), at(b"a", 2 * SECOND)), (Some(1), None));
    assert_eq!(at(b"b", Duration::MAX / 2), None, "the clock's end");
    assert_eq!(at(b"b", 1_000_000 * SECOND), Some(2));
}

#[test]
fn without_tracking_nothing_lives_longer_than_delta() {
    let near = Arc::new(Near::new(1 << 20, DELTA));
    near.without_tracking();
    let start = Coarse::now();
    near.ticket_at(start, "k").keep_for(b"a", 1, None);
    near.ticket_at(start, "k").keep_for(b"b", 2, Some(SECOND));
    let at = |args, time| near.get_at(start.after(time), instance(), args, u64::clone);
    assert_eq!((at(b"a", 2 * SECOND), at(b"a", DELTA)), (Some(1), None));
    assert_eq!((at(b"b", SECOND / 2), at(b"b", SECOND)), (Some(2), None));
    near.connected(start);
    near.ticket_at(start, "k").keep_for(b"a", 3, None);
    assert_eq!(at(b"a", 2 * SECOND), Some(3));
}

#[test]
fn what_is_forgotten_while_its_value_is_cloned_is_not_kept() {
    struct Forgets(Arc<Near>, fn(&Near));
    impl Clone for Forgets {
        fn clone(&self) -> Self {
            (self.1)(&self.0);
            Self(Arc::clone(&self.0), self.1)
        }
    }
    let near = near(1 << 20);
    let ways: [fn(&Near); 4] = [
        |near| near.forget(b"k"),
        |near| near.forget_matching(|_| true),
        Near::forget_all,
        Near::always_alive,
    ];
    for way in ways {
        near.ticket("k").keep(instance(), b"a", &Forgets(Arc::clone(&near), way), 8, None);
        assert!(near.get(instance(), b"a", Forgets::clone).is_none());
    }
    near.forget_all();
    near.check(0);
    assert_eq!(Arc::strong_count(&near), 1);
}

#[test]
fn a_value_with_tags_is_forgotten_with_each_of_them() {
    let near = near(1 << 20);
    let keep = |args: &[u8], tags: &[&str]| {
        let tags: Vec<_> = tags.iter().map(|tag| near.ticket(tag)).collect();
        near.ticket("k").with_tags(tags).keep(instance(), args, &1_u64, 8, None);
    };
    for gone in ["k", "a", "b"] {
        keep(b"1", &["a", "b"]);
        keep(b"2", &["c"]);
        assert_eq!((near.read(b"1"), near.read(b"2")), (Some(1), Some(1)));
        near.check(0);
        near.forget(gone.as_bytes());
        assert_eq!((near.read(b"1"), near.read(b"2")), (None, (gone != "k").then_some(1)));
        near.check(0);
    }
    // Forgotten between its question and its answer.
    let tags = [near.ticket("a"), near.ticket("b")];
    let ticket = near.ticket("k").with_tags(tags.into());
    near.forget(b"b");
    ticket.keep(instance(), b"1", &1_u64, 8, None);
    assert_eq!(near.read(b"1"), None);
    drop(ticket);
    // A tag whose ticket was made under a later connection says nothing of what was before.
    let ticket = near.ticket("k");
    near.forget_all();
    let ticket = ticket.with_tags(vec![near.ticket("a")]);
    ticket.keep(instance(), b"1", &1_u64, 8, None);
    assert_eq!(near.read(b"1"), None);
    drop(ticket);
    keep(b"1", &["a", "b"]);
    near.forget_matching(|key| key == b"a");
    assert_eq!(near.read(b"1"), None);
    near.check(0);
    near.forget_all();
    near.check(0);
    assert_eq!(near.register.desks().map(|desk| desk.len()).sum::<usize>(), 0);
}

#[test]
fn a_value_that_does_not_fit_leaves_no_trace() {
    let near = near(1 << 20);
    near.ticket("k").keep(instance(), b"a", &1_u64, 2 << 20, None);
    assert_eq!(near.read(b"a"), None);
    near.check(0);
    assert!(near.map.tags().is_empty());
}

#[test]
fn what_can_not_be_a_hit_is_not_cloned() {
    #[derive(Debug)]
    struct Unclonable;
    impl Clone for Unclonable {
        fn clone(&self) -> Self {
            panic!("cloned")
        }
    }
    let near = near(1 << 20);
    near.ticket("k").keep(instance(), b"a", &Unclonable, 1 << 20, None);
    near.ticket("k").keep(instance(), b"a", &Unclonable, 8, Some(Duration::ZERO));
    let dirty = near.ticket("k");
    near.forget_all();
    dirty.keep(instance(), b"a", &Unclonable, 8, None);
    drop(dirty);
    near.check(0);
}

#[derive(Debug, Clone)]
enum Step {
    Ticket(u8),
    Keep { ticket: usize, args: u8 },
    Drop(usize),
    Forget(u8),
    ForgetEven,
    ForgetAll,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_u8).prop_map(Step::Ticket),
        8 => (0..8_usize, 0..3_u8).prop_map(|(ticket, args)| Step::Keep { ticket, args }),
        2 => (0..8_usize).prop_map(Step::Drop),
        3 => (0..6_u8).prop_map(Step::Forget),
        1 => Just(Step::ForgetEven),
        1 => Just(Step::ForgetAll),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn steps_in_any_order(steps in steps()) {
        // Room for five entries, so that they are evicted as well.
        let near = Arc::new(Near::new(5 * (OVERHEAD + 16), DELTA));
        let mut line = near.connected(Coarse::now());
        // Tickets with their key and whether they are clean; what may be kept, by arguments.
        let mut tickets: Vec<(Ticket, u8, bool)> = Vec::new();
        let mut kept = std::collections::HashMap::<[u8; 2], u64>::new();
        for (n, step) in (0_u64..).zip(steps) {
            let mut forget = |fits: &dyn Fn(u8) -> bool| {
                for (_, key, clean) in &mut tickets {
                    *clean &= !fits(*key);
                }
                kept.retain(|[key, _], _| !fits(*key));
            };
            match step {
                Step::Ticket(key) => tickets.push((near.ticket(&key.to_string()), key, true)),
                Step::Keep { ticket, args } => {
                    let Some((ticket, key, clean)) = tickets.get(ticket) else { continue };
                    ticket.keep_for(&[*key, args], n, None);
                    if *clean {
                        kept.insert([*key, args], n);
                    }
                }
                Step::Drop(ticket) => {
                    if ticket < tickets.len() {
                        tickets.swap_remove(ticket);
                    }
                }
                Step::Forget(key) => {
                    near.forget(key.to_string().as_bytes());
                    forget(&|other| other == key);
                }
                Step::ForgetEven => {
                    near.forget_matching(|key| key[0] % 2 == 0);
                    forget(&|key| key % 2 == 0);
                }
                Step::ForgetAll => {
                    near.forget_all();
                    forget(&|_| true);
                }
                Step::Reconnect => {
                    near.disconnected(line);
                    if n % 2 == 0 {
                        near.sweep();
                        prop_assert!(near.map.tags().is_empty());
                    }
                    line = near.connected(Coarse::now());
                    forget(&|_| true);
                }
            }
            near.check(tickets.len());
            for args in (0..6).flat_map(|key| (0..3).map(move |args| [key, args])) {
                if let Some(read) = near.read(&args) {
                    prop_assert_eq!(Some(&read), kept.get(&args));
                }
            }
        }
        tickets.clear();
        near.forget_all();
        near.check(0);
        prop_assert_eq!(near.register.desks().map(|desk| desk.len()).sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn who_waits_for_a_key_is_woken_by_whatever_may_have_changed_it() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    type Way = fn(&Near);
    let ways: [(&str, Way); 6] = [
        ("forget", |near| near.forget(b"key")),
        ("forget_matching", |near| near.forget_matching(|key| key.starts_with(b"k"))),
        ("forget_all", Near::forget_all),
        ("silence", Near::silence),
        ("another connection", |near| _ = near.connected(Coarse::now())),
        ("no tracking", Near::without_tracking),
    ];
    for (name, way) in ways {
        let near = near(1 << 20);
        let ticket = near.ticket("key");
        let mut waits = std::pin::pin!(ticket.until_forgotten());
        let mut poll = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll(), Poll::Pending, "{name}");
        near.forget(b"another");
        assert_eq!(poll(), Poll::Pending, "{name}");
        way(&near);
        near.sweep();
        assert_eq!(poll(), Poll::Ready(()), "{name}");
        ticket.until_forgotten().await; // it has been, already
    }
}
