//! Every order of events between two reads, a server, a network and a process that changes the value,
//! searched exhaustively; and three ways to use tickets wrongly, which the search must find.
//!
//! Each state is reached by carrying out its whole past on a new [`Near`]: it is our code that is
//! searched, not a copy of it. Below the level of its calls, `threads.rs` searches at random.

use std::collections::{HashSet, VecDeque};

use super::tests::instance;
use super::*;

const READERS: usize = 2;

/// How a reader goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A ticket of its own, before it sends.
    Right,
    /// All reads of a key that are under way share the ticket that was made last.
    OneSlot,
    /// What was forgotten meanwhile is kept all the same.
    Unchecked,
    /// The epoch is looked at when the read has been sent.
    LateEpoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    /// A reader takes its ticket.
    Ticket(usize),
    /// It sends its read, which the server carries out: the reply is on the wire.
    Send(usize),
    /// It keeps what the reply said.
    Keep(usize),
    /// Another process changes the value.
    Change,
    /// We change it: forget, send, forget.
    Before,
    Own,
    After,
    /// The next message comes off the wire: a reply to its reader, a push to `forget`.
    Deliver,
    Disconnect,
    Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Message {
    Reply(usize, u64),
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reader {
    Idle,
    Ready,
    Waiting,
    Answered(u64),
    Done,
}

/// What tells one state from another; `Near` itself is seen through what it answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    stored: u64,
    is_tracked: bool,
    wire: VecDeque<Message>,
    readers: [Reader; READERS],
    changes: u8,
    /// How far our own change has come.
    own: u8,
    /// What our change made of the value, and what nobody in this process may fall short of any more.
    own_value: u64,
    floor: u64,
    is_connected: bool,
    breaks: u8,
    /// What would be a hit, were the connection there; whose tickets are as good as new.
    kept: Option<u64>,
    clean: [bool; READERS],
}

struct World {
    way: Way,
    near: Arc<Near>,
    line: Option<Line>,
    tickets: [Option<Ticket>; READERS],
    state: State,
}

impl World {
    fn new(way: Way) -> Self {
        let near = Arc::new(Near::new(1 << 20, Duration::from_secs(3)));
        let line = Some(near.connected(Coarse::now()));
        let state = State {
            stored: 0,
            is_tracked: false,
            wire: VecDeque::new(),
            readers: [Reader::Idle; READERS],
            changes: 0,
            own: 0,
            own_value: 0,
            floor: 0,
            is_connected: true,
            breaks: 0,
            kept: None,
            clean: [false; READERS],
        };
        Self { way, near, line, tickets: std::array::from_fn(|_| None), state }
    }

    fn can(&self, event: Event) -> bool {
        let state = &self.state;
        match event {
            Event::Ticket(n) => state.readers[n] == Reader::Idle,
            Event::Send(n) => state.readers[n] == Reader::Ready && state.is_connected,
            Event::Keep(n) => matches!(state.readers[n], Reader::Answered(_)),
            Event::Change => state.changes < 2,
            Event::Before => state.own == 0,
            // Without a connection of ours: invalidations go by another one.
            Event::Own => state.own == 1,
            Event::After => state.own == 2,
            Event::Deliver => !state.wire.is_empty(),
            Event::Disconnect => state.is_connected && state.breaks < 1,
            Event::Connect => !state.is_connected,
        }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Ticket(n) => {
                self.tickets[n] = Some(self.near.ticket("k"));
                self.state.readers[n] = Reader::Ready;
            }
            Event::Send(n) => {
                self.state.wire.push_back(Message::Reply(n, self.state.stored));
                self.state.is_tracked = true;
                self.state.readers[n] = Reader::Waiting;
            }
            Event::Keep(n) => {
                let Reader::Answered(value) = self.state.readers[n] else { unreachable!() };
                self.keep(n, value);
                self.state.readers[n] = Reader::Done;
            }
            Event::Change => {
                self.state.changes += 1;
                self.server_changes();
            }
            Event::Before | Event::After => {
                self.near.forget(b"k");
                if event == Event::After {
                    self.state.floor = self.state.own_value;
                }
                self.state.own += 1;
            }
            Event::Own => {
                self.server_changes();
                self.state.own_value = self.state.stored;
                self.state.own += 1;
            }
            Event::Deliver => match self.state.wire.pop_front().expect("something is on the wire") {
                Message::Reply(n, value) => self.state.readers[n] = Reader::Answered(value),
                Message::Changed => self.near.forget(b"k"),
            },
            Event::Disconnect => {
                self.near.disconnected(self.line.take().expect("connected"));
                self.state.wire.clear();
                self.state.is_tracked = false;
                self.state.is_connected = false;
                self.state.breaks += 1;
                for n in 0..READERS {
                    if self.state.readers[n] == Reader::Waiting {
                        self.tickets[n] = None;
                        self.state.readers[n] = Reader::Done;
                    }
                }
            }
            Event::Connect => {
                self.line = Some(self.near.connected(Coarse::now()));
                self.state.is_connected = true;
            }
        }
        self.state.kept = self.near.get(instance(), b"a", u64::clone);
        self.state.clean = std::array::from_fn(|n| self.tickets[n].as_ref().is_some_and(Ticket::is_clean));
    }

    fn keep(&mut self, n: usize, value: u64) {
        let mut own = self.tickets[n].take().expect("has its ticket");
        match self.way {
            Way::Right => {}
            Way::OneSlot => {
                if let Some(other) = self.tickets.iter().flatten().next() {
                    return other.keep_for(b"a", value, None);
                }
            }
            Way::Unchecked => own.seen = self.near.ticket("k").seen,
            Way::LateEpoch => own.epoch = self.near.pulse.epoch(),
        }
        own.keep_for(b"a", value, None);
    }

    fn server_changes(&mut self) {
        self.state.stored += 1;
        if std::mem::take(&mut self.state.is_tracked) {
            self.state.wire.push_back(Message::Changed);
        }
    }

    fn is_right(&self) -> bool {
        let Some(kept) = self.state.kept else { return true };
        let heard_all = self.state.wire.is_empty();
        self.state.is_connected && kept >= self.state.floor && (!heard_all || kept == self.state.stored)
    }
}

fn events() -> impl Iterator<Item = Event> {
    use Event::{After, Before, Change, Connect, Deliver, Disconnect, Keep, Own, Send, Ticket};
    let readers = (0..READERS).flat_map(|n| [Ticket(n), Send(n), Keep(n)]);
    readers.chain([Change, Before, Own, After, Deliver, Disconnect, Connect])
}

/// How many states there are, or the way to a wrong one.
fn search(way: Way) -> Result<usize, Vec<Event>> {
    let reach = |path: &[Event]| {
        let mut world = World::new(way);
        for event in path {
            world.carry_out(*event);
        }
        world
    };
    let mut seen = HashSet::from([World::new(way).state]);
    let mut open = VecDeque::from([Vec::new()]);
    while let Some(path) = open.pop_front() {
        let here = reach(&path);
        for event in events().filter(|event| here.can(*event)) {
            let next: Vec<Event> = path.iter().copied().chain([event]).collect();
            let world = reach(&next);
            if !world.is_right() {
                return Err(next);
            }
            if seen.insert(world.state.clone()) {
                open.push_back(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_events_leaves_an_old_value() {
    let states = search(Way::Right).unwrap_or_else(|path| panic!("wrong after {path:?}"));
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn reads_that_share_a_slot_are_found_out() {
    let path = search(Way::OneSlot).expect_err("a slot of one read kept another's value");
    assert!(path.contains(&Event::Change), "{path:?}");
}

#[test]
fn keeping_without_a_look_is_found_out() {
    search(Way::Unchecked).expect_err("a dirty ticket was good for a value");
}

#[test]
fn a_late_look_at_the_epoch_is_found_out() {
    let path = search(Way::LateEpoch).expect_err("a value of a connection that ended was kept");
    assert!(path.contains(&Event::Connect), "{path:?}");
}
