//! The protocol as a state machine: what may happen next, and what must always hold.

use stateright::{Model, Property};

use crate::flaw::Flaw;
use crate::reader::Steps;
use crate::store::{Cell, Command, Reply};
use crate::world::{At, Harm, Kind, Process, Reader, World, Writer};

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
    /// A lease whose load is gone ends.
    Expire,
    /// A writer writes the database and sends its `DEL`; the server does it; the writer hears of it.
    Write(usize),
    Delete(usize),
    Ok(usize),
    /// A command that nobody waits for arrives late.
    Straggle(usize),
    Fault(Fault),
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Whatever is under the key goes: an eviction, an expiry, a flush, a restart of the server.
    Vanish,
    LoseReply(usize),
    LoseRelease(usize),
    /// An invalidation is never answered: it isn't Ok, and may still arrive.
    LoseOk(usize),
    /// A loader fails or panics.
    Fail(usize),
    /// A caller goes away.
    Drop(usize),
    /// `kill -9` of a process.
    Crash(u8),
    /// A leader isn't polled for a lease: a follower deposes it. It may be polled again later.
    Depose(u8),
    /// A load takes longer than it is shared for.
    Part(usize),
    /// A load of another process is waited for up to the deadline.
    GiveUp(usize),
}

impl Protocol {
    fn steps<'a>(&self, world: &'a mut World, number: usize) -> Steps<'a> {
        Steps { world, number, flaw: self.flaw }
    }

    /// What happens when nothing goes wrong.
    fn progress(world: &World, actions: &mut Vec<Action>) {
        for (number, reader) in world.readers.iter().enumerate() {
            // Of readers that are alike one goes first.
            if number > 0 && world.readers[number - 1] == *reader {
                continue;
            }
            match reader.at {
                At::Idle => actions.push(Action::Begin(number)),
                At::Asking { reply: None, .. } => actions.push(Action::Arrive(number)),
                At::Asking { .. } => actions.push(Action::Hear(number)),
                At::Queued(_) => {
                    let flight = &world.processes[usize::from(reader.process)].flight;
                    if reader.member.is_some_and(|member| flight.calls(member)) {
                        actions.push(Action::Turn(number));
                    }
                }
                // A look that finds the same lease changes nothing.
                At::Polling { seen } if world.cell == Cell::Lease(seen) => {}
                At::Polling { .. } => actions.push(Action::Look(number)),
                At::Loading(_) => actions.push(Action::Loaded(number)),
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
        if let Cell::Lease(id) = world.cell
            && !world.is_held(id)
        {
            actions.push(Action::Expire);
        }
    }

    fn faults(world: &World, actions: &mut Vec<Action>) {
        let mut push = |fault| actions.push(Action::Fault(fault));
        if world.cell != Cell::Absent {
            push(Fault::Vanish);
        }
        for (number, reader) in world.readers.iter().enumerate() {
            if !matches!(reader.at, At::Idle | At::Over) {
                push(Fault::Drop(number));
            }
            match reader.at {
                At::Asking { reply, .. } if reply != Some(Reply::Lost) => push(Fault::LoseReply(number)),
                At::Loading(_) => {
                    push(Fault::Fail(number));
                    if reader.seated {
                        push(Fault::Part(number));
                    }
                }
                At::Polling { .. } => push(Fault::GiveUp(number)),
                _ => {}
            }
        }
        for process in 0..u8::try_from(world.processes.len()).expect("few") {
            let here = |reader: &&Reader| reader.process == process;
            if world.readers.iter().filter(here).any(|reader| !matches!(reader.at, At::Idle | At::Over)) {
                push(Fault::Crash(process));
            }
            let waits = |reader: &Reader| matches!(reader.at, At::Queued(_));
            if world.processes[usize::from(process)].flight.led
                && world.readers.iter().filter(here).any(waits)
            {
                push(Fault::Depose(process));
            }
        }
        for (number, writer) in world.writers.iter().enumerate() {
            if matches!(writer, Writer::Sent(_) | Writer::Done(_)) {
                push(Fault::LoseOk(number));
            }
        }
        for (number, stray) in world.strays.iter().enumerate() {
            if matches!(stray, Command::Release { .. }) {
                push(Fault::LoseRelease(number));
            }
        }
    }

    fn suffer(&self, world: &mut World, fault: Fault) {
        world.fault();
        match fault {
            Fault::Vanish => world.cell = Cell::Absent,
            Fault::LoseReply(number) => self.steps(world, number).lose(),
            Fault::LoseRelease(number) => {
                if let Command::Release { held } = world.strays.remove(number) {
                    // Whose it was isn't known any more: each process takes it for its own.
                    world.processes.iter_mut().for_each(|process| process.orphans.push(held));
                }
            }
            Fault::LoseOk(number) => {
                if let Writer::Sent(_) = world.writers[number] {
                    world.stray(Command::Delete);
                }
                world.writers[number] = Writer::Over;
            }
            Fault::Fail(number) => self.steps(world, number).failed(),
            Fault::Drop(number) => self.steps(world, number).drop(),
            Fault::Crash(process) => {
                for number in 0..world.readers.len() {
                    if world.readers[number].process == process && world.readers[number].at != At::Idle {
                        self.steps(world, number).die();
                    }
                }
                world.processes[usize::from(process)] = Process::default();
            }
            Fault::Depose(process) => {
                world.processes[usize::from(process)].flight.vacate();
                let leader = |reader: &&mut Reader| reader.process == process && reader.seated;
                if let Some(leader) = world.readers.iter_mut().find(leader) {
                    leader.seated = false;
                }
            }
            Fault::Part(number) => self.steps(world, number).part(),
            Fault::GiveUp(number) => self.steps(world, number).give_up(),
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
            truth: 0,
            floor: 0,
            readers: self.readers.iter().map(reader).collect(),
            writers: vec![Writer::Idle; self.writers],
            processes: vec![Process::default(); processes],
            strays: Vec::new(),
            faults: self.faults,
            due: 1,
            harm: Harm::default(),
        };
        let begin = if self.readers.iter().any(|(_, kind)| *kind == Kind::Refresh) {
            Cell::Value(0, 0)
        } else {
            Cell::Dead(0)
        };
        [Cell::Absent, begin].map(|cell| world(cell).sorted()).to_vec()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        Self::progress(world, actions);
        if world.faults > 0 {
            Self::faults(world, actions);
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
            Action::Expire => world.cell = Cell::Absent,
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
        vec![
            // No read returns what is older than an invalidation that returned Ok before it began.
            Property::always(I3, |_, world: &World| !world.harm.stale_read),
            // What is stored is never older than an invalidation that returned Ok.
            Property::always(
                I1,
                |_, world: &World| !matches!(world.cell, Cell::Value(_, version) if version < world.floor),
            ),
            // No fill puts an older value in the place of a newer one.
            Property::always(I10, |_, world: &World| !world.harm.overwritten),
            // One load, and one more for each invalidation and for each thing that goes wrong.
            Property::always(I6, |_, world: &World| world.due >= 0),
            // Who waits, waits for somebody; and as long as somebody waits, something can happen.
            Property::always(I7, |_, world: &World| is_alive(world)),
            // The search has seen what it is about.
            Property::sometimes("an old fill is on its way", |_, world: &World| old_fill(world)),
            Property::sometimes(
                "a fresh value is stored after a write",
                |_, world: &World| matches!(world.cell, Cell::Value(_, version) if version > 0 && version == world.floor),
            ),
        ]
    }
}

pub(crate) const I1: &str = "I1 no stale fill";
pub(crate) const I3: &str = "I3 read your invalidation";
pub(crate) const I6: &str = "I6 one load";
pub(crate) const I7: &str = "I7 nobody hangs";
pub(crate) const I10: &str = "I10 no overwriting";

fn is_alive(world: &World) -> bool {
    let led = |process: u8| {
        world.readers.iter().filter(|reader| reader.process == process && reader.seated).count()
    };
    let seats_fit =
        (0..).zip(&world.processes).all(|(process, state)| led(process) == usize::from(state.flight.led));
    let waits = world.readers.iter().any(|reader| !matches!(reader.at, At::Idle | At::Over));
    let mut actions = Vec::new();
    if waits {
        Protocol::progress(world, &mut actions);
    }
    seats_fit && (!waits || !actions.is_empty())
}

fn old_fill(world: &World) -> bool {
    world.readers.iter().any(|reader| {
        matches!(reader.at, At::Asking { command: Command::Fill { version, .. }, reply: None, .. } if version < world.floor)
    })
}
