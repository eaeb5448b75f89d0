//! Puts, searched through in a world of their own (I1, I3): one key, writers that store what they wrote,
//! and calls that read it, each a process of its own.
//!
//! A writer places a token in the key, writes the database, and stores its value in the token's place. Who
//! doesn't find its token any more deletes whatever is there: nobody knows which of two values is the newer
//! one. A writer that fails, or whose caller is gone, may have written all the same, so it deletes too. What
//! the code does step by step is in `cache-runtime/src/put.rs`; `puts/mutants.rs` shows that this can fail.
//!
//! Time has no measure: a lease or a token may end at any moment, and a reader may be tired of waiting.

mod mutants;

use mutants::Flaw;
use stateright::{Model, Property};

use crate::holds;

const I1: &str = "I1 no value older than a finished put is stored";
const I3: &str = "I3 who reads after a put returned gets nothing older";

/// Versions of the row are numbers from 0.
type Version = u8;

/// What is under the key. Ids are numbers of readers and writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    Absent,
    Value(Version),
    Lease(usize),
    Token(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Writer {
    Idle,
    /// It has seen what is there, and swaps that for its token.
    Swapping(Cell),
    /// The body is about to write; whether there is a token.
    Running(bool),
    Wrote(Version, bool),
    /// Nothing is known of its token: it deletes what is there.
    Deleting(Version),
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    Idle,
    /// It began when this was what a put had returned.
    Looking(Version),
    /// It found a lease or a token.
    Waiting(Version, Cell),
    /// It holds a lease, or loads without.
    Loading(Version, bool),
    /// It has read the row.
    Loaded(Version, Version),
    Over,
}

/// A command whose sender doesn't wait any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stray {
    Place(usize),
    Store(usize, Version),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    cell: Cell,
    truth: Version,
    /// The newest version that a finished put wrote.
    floor: Version,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    strays: Vec<Stray>,
    faults: u8,
    stale_read: bool,
    /// A put deleted instead.
    conflict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Write(usize),
    /// A writer's body fails after it has written, or nobody waits for it.
    Fail(usize),
    Read(usize),
    /// A reader is tired of waiting, and loads without a lease.
    Tire(usize),
    /// A lease or a token ends.
    Expire,
    Straggle(usize),
    /// What may go wrong: the key goes,
    Evict,
    /// a reply is lost, and the command arrives later or never,
    Lose(usize),
    /// and a process is killed.
    Kill(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Puts {
    flaw: Option<Flaw>,
    writers: usize,
    readers: usize,
    faults: u8,
}

impl Puts {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn write(&self, world: &mut World, me: usize) {
        world.writers[me] = match world.writers[me] {
            Writer::Idle if self.has(Flaw::NoToken) || self.has(Flaw::TokenAfterBody) => {
                Writer::Running(false)
            }
            Writer::Idle => match world.cell {
                Cell::Absent => {
                    world.cell = Cell::Token(me);
                    Writer::Running(true)
                }
                seen => Writer::Swapping(seen),
            },
            Writer::Swapping(seen) => {
                let placed = world.cell == seen;
                if placed {
                    world.cell = Cell::Token(me);
                }
                Writer::Running(placed)
            }
            Writer::Running(has_token) => {
                world.truth += 1;
                Writer::Wrote(world.truth, has_token)
            }
            Writer::Wrote(version, false) if self.has(Flaw::TokenAfterBody) => {
                world.cell = Cell::Token(me);
                Writer::Wrote(version, true)
            }
            Writer::Wrote(version, has_token) => {
                if has_token && world.cell == Cell::Token(me) || self.stores_anyway(world.cell) {
                    world.cell = Cell::Value(version);
                    world.floor = version.max(world.floor);
                    Writer::Over
                } else {
                    world.conflict = true;
                    if self.has(Flaw::LeftAlone) {
                        world.floor = version.max(world.floor);
                        Writer::Over
                    } else {
                        Writer::Deleting(version)
                    }
                }
            }
            Writer::Deleting(version) => {
                if !self.has(Flaw::ReleasesItsOwn) || world.cell == Cell::Token(me) {
                    world.cell = Cell::Absent;
                }
                world.floor = version.max(world.floor);
                Writer::Over
            }
            Writer::Over => unreachable!(),
        };
    }

    fn stores_anyway(&self, cell: Cell) -> bool {
        match self.flaw {
            Some(Flaw::NoToken | Flaw::SetOnConflict) => true,
            Some(Flaw::SetWhereNothingIs) => cell == Cell::Absent,
            Some(Flaw::SetOverAToken) => matches!(cell, Cell::Token(_)),
            _ => false,
        }
    }

    fn read(world: &mut World, me: usize) {
        let returns = |world: &mut World, begun: Version, version: Version| {
            world.stale_read |= version < begun;
            Reader::Over
        };
        let lease = Cell::Lease(me);
        world.readers[me] = match world.readers[me] {
            Reader::Idle => Reader::Looking(world.floor),
            Reader::Looking(begun) | Reader::Waiting(begun, _) => match world.cell {
                Cell::Value(version) => returns(world, begun, version),
                Cell::Absent => {
                    world.cell = lease;
                    Reader::Loading(begun, true)
                }
                seen => Reader::Waiting(begun, seen),
            },
            Reader::Loading(begun, true) => Reader::Loaded(begun, world.truth),
            Reader::Loading(begun, false) => {
                let version = world.truth;
                returns(world, begun, version)
            }
            Reader::Loaded(begun, version) => {
                if world.cell == lease {
                    world.cell = Cell::Value(version);
                }
                returns(world, begun, version)
            }
            Reader::Over => unreachable!(),
        };
    }

    /// A reply is lost: what was asked for may still happen, and is evidence of nothing.
    fn lose(&self, world: &mut World, me: usize) {
        world.writers[me] = match world.writers[me] {
            Writer::Idle => {
                world.strays.push(Stray::Place(me));
                Writer::Running(self.has(Flaw::LostTokenCounts))
            }
            Writer::Wrote(version, true) => {
                world.strays.push(Stray::Store(me, version));
                Writer::Deleting(version)
            }
            other => other,
        };
    }

    fn straggle(world: &mut World, stray: Stray) {
        match stray {
            Stray::Place(id) if world.cell == Cell::Absent => world.cell = Cell::Token(id),
            Stray::Store(id, version) if world.cell == Cell::Token(id) => world.cell = Cell::Value(version),
            _ => {}
        }
    }
}

impl Model for Puts {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let world = |cell| World {
            cell,
            truth: 0,
            floor: 0,
            writers: vec![Writer::Idle; self.writers],
            readers: vec![Reader::Idle; self.readers],
            strays: Vec::new(),
            faults: self.faults,
            stale_read: false,
            conflict: false,
        };
        vec![world(Cell::Absent), world(Cell::Value(0))]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (me, writer) in world.writers.iter().enumerate() {
            match writer {
                Writer::Over => {}
                Writer::Wrote(..) => actions.extend([Action::Write(me), Action::Fail(me)]),
                _ => actions.push(Action::Write(me)),
            }
            if world.faults > 0 && *writer != Writer::Over {
                actions.push(Action::Kill(me));
                if matches!(writer, Writer::Idle | Writer::Wrote(_, true)) && !self.has(Flaw::NoToken) {
                    actions.push(Action::Lose(me));
                }
            }
        }
        for (me, reader) in world.readers.iter().enumerate() {
            match reader {
                Reader::Over => {}
                Reader::Waiting(_, seen) => {
                    actions.push(Action::Tire(me));
                    if *seen != world.cell {
                        actions.push(Action::Read(me));
                    }
                }
                _ => actions.push(Action::Read(me)),
            }
        }
        actions.extend((0..world.strays.len()).map(Action::Straggle));
        if matches!(world.cell, Cell::Lease(_) | Cell::Token(_)) {
            actions.push(Action::Expire);
        }
        if world.faults > 0 && matches!(world.cell, Cell::Value(_)) {
            actions.push(Action::Evict);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Write(me) => self.write(&mut world, me),
            Action::Fail(me) => {
                let Writer::Wrote(version, _) = world.writers[me] else { unreachable!() };
                world.writers[me] = Writer::Deleting(version);
            }
            Action::Read(me) => Self::read(&mut world, me),
            Action::Tire(me) => {
                let Reader::Waiting(begun, _) = world.readers[me] else { unreachable!() };
                world.readers[me] = Reader::Loading(begun, false);
            }
            Action::Expire | Action::Evict => world.cell = Cell::Absent,
            Action::Straggle(number) => {
                let stray = world.strays.remove(number);
                Self::straggle(&mut world, stray);
            }
            Action::Lose(me) => self.lose(&mut world, me),
            Action::Kill(me) => world.writers[me] = Writer::Over,
        }
        if let Action::Evict | Action::Lose(_) | Action::Kill(_) = action {
            world.faults -= 1;
        }
        world.strays.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(
                I1,
                |_, world: &World| !matches!(world.cell, Cell::Value(version) if version < world.floor),
            ),
            Property::always(I3, |_, world: &World| !world.stale_read),
            Property::sometimes(
                "a put is stored",
                |_, world: &World| matches!(world.cell, Cell::Value(version) if version > 0 && version == world.floor),
            ),
            Property::sometimes("a put deletes instead", |_, world: &World| world.conflict),
        ];
        if self.writers > 1 {
            all.push(Property::sometimes("an older value is stored while a put runs", |_, world: &World| {
                matches!(world.cell, Cell::Value(version) if version > 0 && version < world.truth)
            }));
        }
        all
    }
}

fn puts(writers: usize, readers: usize, faults: u8) -> Puts {
    Puts { flaw: None, writers, readers, faults }
}

#[test]
fn two_puts_and_two_calls() {
    holds("two puts, two calls", puts(2, 2, 0));
    holds("two puts, two calls, one fault", puts(2, 2, 1));
}

#[test]
fn a_put_and_three_calls() {
    holds("a put, three calls, two faults", puts(1, 3, 2));
}

#[test]
fn three_puts_and_a_call() {
    holds("three puts, a call", puts(3, 1, 1));
}

#[test]
#[ignore = "minutes: `cargo test --test model -- --ignored --test-threads 1`"]
fn larger_worlds_of_puts() {
    holds("two puts, two calls, two faults", puts(2, 2, 2));
    holds("two puts, three calls, one fault", puts(2, 3, 1));
    holds("three puts, two calls, one fault", puts(3, 2, 1));
}
