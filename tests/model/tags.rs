//! The protocol that tags follow, searched through in a world of its own (I2, I3, I7): one entry, a tag
//! that the arguments name, a tag that only the result names, and the epoch.
//!
//! A value is valid while its tags have the versions that were captured for it. Versions are drawn at
//! random, anew for each time that one is sent; whoever misses one creates it, and to invalidate a tag is
//! to delete it. So a version that goes, by whatever, never comes back. Those of the arguments' tags are
//! captured before the load. A tag of the result is read after it, and then the epoch, which was captured
//! before: an invalidation deletes the epoch before the tag, or with it. With the fill the tags are read
//! once more, for those who wait for the value.
//!
//! `tags/server.rs` and `world.rs` are what there is, `reader.rs` is one call step by step, `promises.rs`
//! what must hold, and `mutants.rs` shows that it can fail. The queue of a process is the one of
//! `flight.rs`. Time has no measure here either, and a pause is a step that comes late.

mod mutants;
mod promises;
mod reader;
mod server;
mod world;

use mutants::Flaw;
use reader::Steps;
use server::Key::{self, Argument, Result};
use server::{Cell, Command, Entry, Numbers, Server};
use stateright::{Model, Property};
use world::{At, Reader, Step, World, Writer, Writing};

use crate::flight::Flight;
use crate::holds;

/// A small world to search through.
#[derive(Debug, Clone)]
pub(crate) struct Tags {
    flaw: Option<Flaw>,
    /// The tags that the function has.
    names: Vec<Key>,
    /// Who reads, by process.
    readers: Vec<u8>,
    /// Who writes once each, by the tag that is invalidated.
    writers: Vec<Key>,
    /// How many things go wrong.
    faults: u8,
    /// Other commands may come between those of one flush, and they may overtake each other; an
    /// invalidation is two commands.
    split: bool,
}

/// What may happen. Numbers are those of readers, but for writers and strays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(usize),
    /// A command, or a flush, arrives at the server.
    Arrive(usize, Option<Key>),
    /// The replies arrive at the process.
    Hear(usize),
    Turn(usize),
    Look(usize),
    Loaded(usize),
    /// A lease whose load is gone ends.
    Expire,
    /// A writer writes the database and sends its invalidation; the server does it, or half of it. It
    /// returns Ok at once: later asks for less.
    Write(usize),
    Invalidate(usize),
    /// A command that nobody waits for arrives late.
    Straggle(usize),
    /// What may go wrong: a key goes, whatever it is,
    Evict(Key),
    /// replies are lost, or come too late,
    LoseReply(usize),
    /// an invalidation is never answered: it isn't Ok, and may still arrive,
    LoseOk(usize),
    /// and a process is killed.
    Crash(u8),
}

impl Tags {
    fn has(&self, tag: Key) -> bool {
        self.names.contains(&tag)
    }

    /// Whether this tag is still what was captured.
    fn agrees(&self, tag: Key, captured: Numbers, now: Numbers) -> bool {
        let (captured, now) = (captured[tag as usize], now[tag as usize]);
        (captured.is_some() && captured == now) || (now.is_none() && self.flaw == Some(Flaw::MissingIsValid))
    }

    fn is_valid(&self, captured: Numbers, now: Numbers) -> bool {
        self.names.iter().all(|tag| self.agrees(*tag, captured, now))
    }

    fn steps<'a>(&'a self, world: &'a mut World, number: usize) -> Steps<'a> {
        Steps { world, number, tags: self }
    }

    /// What happens when nothing goes wrong.
    fn progress(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, reader) in world.readers.iter().enumerate() {
            // Of readers that are alike one goes first.
            if number > 0 && world.readers[number - 1] == *reader {
                continue;
            }
            match reader.at {
                At::Idle => actions.push(Action::Begin(number)),
                At::Asking(flush) => {
                    let is_left = |key: &Key| flush.left[*key as usize].is_some();
                    let mut left = Key::ALL.into_iter().filter(is_left).map(Some);
                    match flush.step {
                        _ if flush.left == [None; 4] => actions.push(Action::Hear(number)),
                        // Their order is what makes them right; a tag and its epoch share a slot.
                        Step::Name(_) => {
                            let is_first = self.flaw != Some(Flaw::EpochAskedFirst);
                            let next = if is_first { left.next() } else { left.next_back() };
                            actions.extend(next.map(|key| Action::Arrive(number, key)));
                        }
                        _ if self.split => actions.extend(left.map(|key| Action::Arrive(number, key))),
                        _ => actions.push(Action::Arrive(number, None)),
                    }
                }
                At::Queued(_) => {
                    let flight = &world.flights[usize::from(reader.process)];
                    if reader.member.is_some_and(|member| flight.calls(member)) {
                        actions.push(Action::Turn(number));
                    }
                }
                // A look that finds the same lease changes nothing.
                At::Polling(seen) if world.server.cell == Cell::Lease(seen) => {}
                At::Polling(_) => actions.push(Action::Look(number)),
                At::Loading(_) => actions.push(Action::Loaded(number)),
                At::Over => {}
            }
        }
        for (number, writer) in world.writers.iter().enumerate() {
            if number > 0 && world.writers[number - 1] == *writer {
                continue;
            }
            match writer.at {
                Writing::Idle => actions.push(Action::Write(number)),
                Writing::Sent(_) | Writing::Half(_) => actions.push(Action::Invalidate(number)),
                Writing::Over => {}
            }
        }
        actions.extend((0..world.strays.len()).map(Action::Straggle));
        if matches!(world.server.cell, Cell::Lease(id) if !world.is_held(id)) {
            actions.push(Action::Expire);
        }
    }

    /// What may go wrong.
    fn faults(world: &World, actions: &mut Vec<Action>) {
        actions.extend(Key::ALL.into_iter().filter(|key| world.server.has(*key)).map(Action::Evict));
        for (number, reader) in world.readers.iter().enumerate() {
            if matches!(reader.at, At::Asking(_)) {
                actions.push(Action::LoseReply(number));
            }
        }
        for (number, writer) in world.writers.iter().enumerate() {
            if matches!(writer.at, Writing::Sent(_) | Writing::Half(_)) {
                actions.push(Action::LoseOk(number));
            }
        }
        for process in (0..).take(world.flights.len()) {
            let runs = |reader: &Reader| !matches!(reader.at, At::Idle | At::Over);
            if world.readers.iter().any(|reader| reader.process == process && runs(reader)) {
                actions.push(Action::Crash(process));
            }
        }
    }

    fn invalidate(&self, world: &mut World, number: usize) {
        let writer = &mut world.writers[number];
        let tag = writer.tag;
        let is_wrong = self.flaw == Some(Flaw::TagBeforeEpoch);
        let (first, last) = if is_wrong { (tag, Key::Epoch) } else { (Key::Epoch, tag) };
        let (command, version) = match writer.at {
            Writing::Sent(version) if self.split || is_wrong => {
                writer.at = Writing::Half(version);
                world.server.apply(Command::Delete(first), self.flaw);
                return;
            }
            Writing::Sent(version) => (Command::Invalidate(tag), version),
            Writing::Half(version) => (Command::Delete(last), version),
            Writing::Idle | Writing::Over => unreachable!("{writer:?}"),
        };
        writer.at = Writing::Over;
        world.server.apply(command, self.flaw);
        let floor = &mut world.floors[tag as usize];
        *floor = version.max(*floor);
    }
}

impl Model for Tags {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let reader =
            |process: &u8| Reader { process: *process, floor: 0, member: None, seated: false, at: At::Idle };
        let writer = |tag: &Key| Writer { tag: *tag, at: Writing::Idle };
        let processes = self.readers.iter().max().map_or(0, |last| usize::from(*last) + 1);
        let world = |server| World {
            server,
            truth: 0,
            floors: [0; 2],
            readers: self.readers.iter().map(reader).collect(),
            writers: self.writers.iter().map(writer).collect(),
            flights: vec![Flight::default(); processes],
            strays: Vec::new(),
            faults: self.faults,
            stale_read: false,
        };
        let number = |key| self.has(key).then_some(0);
        let tags = [number(Argument), number(Result), None];
        let entry = Entry { id: 0, version: 0, tags };
        let numbers = [tags[0], tags[1], number(Result)];
        let empty = Server { cell: Cell::Absent, numbers: Numbers::default() };
        [empty, Server { cell: Cell::Value(entry), numbers }].map(|server| world(server).sorted()).to_vec()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.progress(world, actions);
        if world.faults > 0 {
            Self::faults(world, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Begin(number) => self.steps(&mut world, number).begin(),
            Action::Arrive(number, Some(key)) => self.steps(&mut world, number).arrive(key),
            Action::Arrive(number, None) => {
                let At::Asking(flush) = world.readers[number].at else { unreachable!() };
                for key in Key::ALL.into_iter().filter(|key| flush.left[*key as usize].is_some()) {
                    self.steps(&mut world, number).arrive(key);
                }
            }
            Action::Hear(number) => self.steps(&mut world, number).hear(),
            Action::Turn(number) => self.steps(&mut world, number).turn(),
            Action::Look(number) => self.steps(&mut world, number).acquire(),
            Action::Loaded(number) => self.steps(&mut world, number).loaded(),
            Action::Expire => world.server.evict(Key::Entry),
            Action::Write(number) => {
                world.truth += 1;
                world.writers[number].at = Writing::Sent(world.truth);
            }
            Action::Invalidate(number) => self.invalidate(&mut world, number),
            Action::Straggle(number) => {
                let command = world.strays.remove(number);
                world.server.apply(command, self.flaw);
            }
            Action::Evict(key) => world.server.evict(key),
            Action::LoseReply(number) => self.steps(&mut world, number).lose(),
            Action::LoseOk(number) => {
                let writer = &mut world.writers[number];
                world.strays.push(Command::Invalidate(writer.tag));
                writer.at = Writing::Over;
            }
            Action::Crash(process) => {
                for number in 0..world.readers.len() {
                    let reader = world.readers[number];
                    if reader.process == process && reader.at != At::Idle {
                        self.steps(&mut world, number).die();
                    }
                }
                world.flights[usize::from(process)] = Flight::default();
            }
        }
        if let Action::Evict(_) | Action::LoseReply(_) | Action::LoseOk(_) | Action::Crash(_) = action {
            world.faults -= 1;
        }
        Some(world.sorted())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all(self)
    }
}

fn world(names: &[Key], readers: &[u8], writers: &[Key], faults: u8) -> Tags {
    let (names, readers, writers) = (names.to_vec(), readers.to_vec(), writers.to_vec());
    Tags { flaw: None, names, readers, writers, faults, split: false }
}

fn split(tags: Tags) -> Tags {
    Tags { split: true, ..tags }
}

#[test]
fn a_tag_of_the_arguments() {
    let tag = [Argument];
    holds("a tag of the arguments", world(&tag, &[0, 0, 1], &tag, 1));
    holds("a tag of the arguments, two writes", world(&tag, &[0, 1], &[Argument, Argument], 1));
    holds("a tag of the arguments, apart", split(world(&tag, &[0, 1], &tag, 1)));
}

#[test]
fn a_tag_of_the_result() {
    let tag = [Result];
    holds("a tag of the result", world(&tag, &[0, 0, 1], &tag, 0));
    holds("a tag of the result, two writes", world(&tag, &[0, 1], &[Result, Result], 1));
    holds("a tag of the result, apart", split(world(&tag, &[0, 1], &tag, 1)));
}

#[test]
fn tags_of_both() {
    let tags = [Argument, Result];
    holds("tags of both", world(&tags, &[0, 1], &tags, 0));
    holds("tags of both, one process, one fault", world(&tags, &[0, 0], &[Result], 1));
    holds("tags of both, apart", split(world(&tags, &[0, 1], &[Result], 0)));
}

#[test]
#[ignore = "three minutes: `cargo test --test model -- --ignored --test-threads 1`"]
fn larger_worlds_of_tags() {
    let tags = [Argument, Result];
    holds("tags of both, one fault", world(&tags, &[0, 1], &tags, 1));
    holds("tags of both, one process, two writes, one fault", world(&tags, &[0, 0], &tags, 1));
    holds("tags of both, two writes, apart", split(world(&tags, &[0, 1], &tags, 0)));
    holds("a tag of the result, three calls, one fault", world(&[Result], &[0, 0, 1], &[Result], 1));
    holds("a tag of the result, three calls, apart", split(world(&[Result], &[0, 0, 1], &[Result], 0)));
    holds("a tag of the result, two faults", world(&[Result], &[0, 1], &[Result, Result], 2));
    holds("a tag of the arguments, two faults", world(&[Argument], &[0, 1], &[Argument, Argument], 2));
    holds("a tag of the arguments, three processes", world(&[Argument], &[0, 1, 2], &[Argument], 1));
}
