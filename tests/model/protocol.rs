//! The protocol as a state machine: what may happen next, and what must always hold.

use stateright::{Model, Property};

use crate::ageing::{self, Age, Entry, Options, Tick};
use crate::claims::in_reach;
use crate::faults::{self, Fault};
use crate::flaw::Flaw;
use crate::promises;
use crate::reader::Steps;
use crate::store::{Cell, Command, Reply};
use crate::world::{At, Harms, Kind, Load, Process, Reader, World, Writer};

/// A small world to search through.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) flaw: Option<Flaw>,
    /// Who reads: in which process, and how.
    pub(crate) readers: Vec<(u8, Kind)>,
    /// How many write once each.
    pub(crate) writers: usize,
    /// How many things go wrong.
    pub(crate) faults: u8,
    /// Functions fail at no charge; else that is a fault like others.
    pub(crate) fails: bool,
    /// Other commands may come between the two of a look.
    pub(crate) split: bool,
    pub(crate) options: Options,
    /// What there is at the beginning: nothing, and a value of this age.
    pub(crate) begin: Option<Age>,
}

/// What may happen. Numbers are those of readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Begin(usize),
    /// A command arrives at the server.
    Arrive(usize),
    /// Its reply arrives at the process.
    Hear(usize),
    Turn(usize),
    Look(usize),
    Loaded(usize),
    Fail(usize),
    /// The value claimed by this load is about to end.
    Convert(usize),
    /// Who waits looks whether there is a stale value.
    LosePatience(usize),
    Tick(Tick),
    /// A writer writes the database and sends its `DEL`; the server does it; the writer hears of it.
    Write(usize),
    Delete(usize),
    Ok(usize),
    /// A command that nobody waits for arrives late.
    Straggle(usize),
    Fault(Fault),
}

impl Protocol {
    pub(crate) fn steps<'a>(&self, world: &'a mut World, number: usize) -> Steps<'a> {
        Steps { world, number, flaw: self.flaw, options: self.options, split: self.split }
    }

    /// What happens when nothing goes wrong.
    pub(crate) fn progress(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, reader) in world.readers.iter().enumerate() {
            // Of readers that are alike one goes first.
            if number > 0 && world.readers[number - 1] == *reader {
                continue;
            }
            match reader.at {
                At::Idle => actions.push(Action::Begin(number)),
                At::Asking { reply, .. } if reply.is_none_or(Reply::is_half) => {
                    actions.push(Action::Arrive(number));
                }
                At::Asking { .. } => actions.push(Action::Hear(number)),
                At::Queued(_) => {
                    let flight = &world.processes[usize::from(reader.process)].flight;
                    if reader.member.is_some_and(|member| flight.calls(member)) {
                        actions.push(Action::Turn(number));
                    }
                }
                At::Polling { seen, .. } => match world.cell {
                    // A look that finds the same lease or claim changes nothing.
                    Cell::Lease(id) if id == seen => {}
                    Cell::Value(entry) if entry.id == seen && entry.is_held() => {}
                    _ => actions.push(Action::Look(number)),
                },
                At::Loading(load) => {
                    actions.push(Action::Loaded(number));
                    if self.fails {
                        actions.push(Action::Fail(number));
                    }
                    if self.is_ending(world, load) {
                        actions.push(Action::Convert(number));
                    }
                }
                At::Over => {}
            }
        }
        for (number, writer) in world.writers.iter().enumerate() {
            if number > 0 && world.writers[number - 1] == *writer {
                continue;
            }
            match writer {
                Writer::Idle => actions.push(Action::Write(number)),
                Writer::Sent(_) => actions.push(Action::Delete(number)),
                Writer::Done(_) => actions.push(Action::Ok(number)),
                Writer::Over => {}
            }
        }
        actions.extend((0..world.strays.len()).map(Action::Straggle));
        let ticks = ageing::ticks(world, self.options, self.flaw);
        actions.extend(ticks.map(Action::Tick));
    }

    /// Whether the value that this load has claimed is about to end.
    fn is_ending(&self, world: &World, load: Load) -> bool {
        match world.cell {
            Cell::Value(entry) => {
                load.claimed.is_some()
                    && load.hold == Some(entry.id)
                    && entry.is_held()
                    && self.options.is_last(entry.age)
            }
            // The flaw: nobody asks what is there.
            _ => load.claimed.is_some() && self.flaw == Some(Flaw::ConvertWithoutCompare),
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let reader = |&(process, kind): &(u8, Kind)| Reader {
            process,
            kind,
            floor: 0,
            member: None,
            seated: false,
            orphan: None,
            at: At::Idle,
        };
        let processes =
            self.readers.iter().map(|(process, _)| usize::from(*process) + 1).max().unwrap_or_default();
        let world = |cell| World {
            cell,
            rightful: None,
            truth: 0,
            floor: 0,
            readers: self.readers.iter().map(reader).collect(),
            writers: vec![Writer::Idle; self.writers],
            processes: vec![Process::default(); processes],
            strays: Vec::new(),
            faults: self.faults,
            due: i8::from(cell.age() != Some(Age::Fresh)),
            harms: Harms::default(),
        };
        let begin = match self.begin {
            Some(age) => Cell::Value(Entry { age, ..Entry::fresh(0, 0) }),
            None => Cell::Dead(0),
        };
        [Cell::Absent, begin].map(|cell| world(cell).sorted()).to_vec()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.progress(world, actions);
        if self.options.timeout {
            let content = |number: &usize| in_reach(world, *number, self.flaw).is_some();
            actions.extend((0..world.readers.len()).filter(content).map(Action::LosePatience));
        }
        if world.faults > 0 {
            faults::faults(world, !self.fails, |fault| actions.push(Action::Fault(fault)));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Begin(number) => self.steps(&mut world, number).begin(),
            Action::Arrive(number) => self.steps(&mut world, number).arrive(),
            Action::Hear(number) => self.steps(&mut world, number).hear(),
            Action::Turn(number) => self.steps(&mut world, number).turn(),
            Action::Look(number) => self.steps(&mut world, number).look(),
            Action::Loaded(number) => self.steps(&mut world, number).loaded(),
            Action::Fail(number) => self.steps(&mut world, number).failed(),
            Action::Convert(number) => self.steps(&mut world, number).convert(),
            Action::LosePatience(number) => {
                let version = in_reach(&world, number, self.flaw).expect("that was asked");
                self.steps(&mut world, number).lose_patience(version);
            }
            Action::Tick(tick) => world.tick(tick, self.options),
            Action::Write(number) => {
                world.truth += 1;
                world.writers[number] = Writer::Sent(world.truth);
            }
            Action::Delete(number) => {
                let Writer::Sent(version) = world.writers[number] else { unreachable!() };
                world.serve(Command::Delete, self.flaw);
                world.writers[number] = Writer::Done(version);
            }
            Action::Ok(number) => {
                let Writer::Done(version) = world.writers[number] else { unreachable!() };
                world.floor = world.floor.max(version);
                world.writers[number] = Writer::Over;
            }
            Action::Straggle(number) => {
                let command = world.strays.remove(number);
                world.serve(command, self.flaw);
            }
            Action::Fault(fault) => self.suffer(&mut world, fault),
        }
        Some(world.sorted())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all(self)
    }
}
