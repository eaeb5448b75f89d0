//! What may go wrong, at any moment.

use crate::ageing::{Claim, Entry};
use crate::protocol::Protocol;
use crate::store::{Cell, Command, Reply};
use crate::world::{At, Process, Reader, World, Writer};

/// What may go wrong. Numbers are those of readers, but for writers and strays.
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
    /// A claim isn't extended in time, though its load runs.
    Lapse,
    /// The extension of a claim comes late, perhaps when it isn't held any more.
    LateExtension(usize),
}

/// What may go wrong now; with `failing`, functions too.
pub(crate) fn faults(world: &World, failing: bool, mut push: impl FnMut(Fault)) {
    if world.cell != Cell::Absent {
        push(Fault::Vanish);
    }
    if let Cell::Value(entry) = world.cell
        && entry.is_held()
        && world.is_held(entry.id)
    {
        push(Fault::Lapse);
    }
    for (number, reader) in world.readers.iter().enumerate() {
        if !matches!(reader.at, At::Idle | At::Over) {
            push(Fault::Drop(number));
        }
        match reader.at {
            At::Asking { reply, .. } if reply != Some(Reply::Lost) => push(Fault::LoseReply(number)),
            At::Loading(load) => {
                if failing {
                    push(Fault::Fail(number));
                }
                if reader.seated {
                    push(Fault::Part(number));
                }
                if load.claimed.is_some() {
                    push(Fault::LateExtension(number));
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
        if world.processes[usize::from(process)].flight.led && world.readers.iter().filter(here).any(waits) {
            push(Fault::Depose(process));
        }
    }
    for (number, writer) in world.writers.iter().enumerate() {
        if matches!(writer, Writer::Sent(_) | Writer::Done(_)) {
            push(Fault::LoseOk(number));
        }
    }
    for (number, stray) in world.strays.iter().enumerate() {
        if stray.is_release().is_some() {
            push(Fault::LoseRelease(number));
        }
    }
}

impl Protocol {
    pub(crate) fn suffer(&self, world: &mut World, fault: Fault) {
        world.fault();
        match fault {
            Fault::Vanish => world.vanish(),
            Fault::LoseReply(number) => self.steps(world, number).lose(),
            Fault::LoseRelease(number) => {
                if let Some(held) = world.strays.remove(number).is_release() {
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
            Fault::Fail(number) => {
                world.due -= 1; // both count it
                self.steps(world, number).failed();
            }
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
            Fault::Lapse => {
                let Cell::Value(entry) = world.cell else { unreachable!() };
                world.cell = Cell::Value(Entry { claim: Claim::Free, ..entry });
            }
            Fault::LateExtension(number) => {
                let At::Loading(load) = world.readers[number].at else { unreachable!() };
                world.stray(Command::Extend { held: load.hold.expect("it has a claim") });
            }
        }
    }
}
