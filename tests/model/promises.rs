//! What must always hold, and what must have happened for that to mean anything.

use stateright::Property;

use crate::ageing::{Entry, Tick};
use crate::protocol::{Action, Protocol};
use crate::store::{Cell, Command, Reply};
use crate::world::{At, Harm, Kind, World};

pub(crate) const I1: &str = "I1 no stale fill";
pub(crate) const I3: &str = "I3 read your invalidation";
pub(crate) const I6: &str = "I6 one load";
pub(crate) const I7: &str = "I7 nobody hangs";
pub(crate) const I10: &str = "I10 no overwriting";
pub(crate) const RIGHT: &str = "no fill without the claim";
pub(crate) const DEAD: &str = "nothing dead is stale";
pub(crate) const LIFE: &str = "nothing stale is fresh";

pub(crate) fn all(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut all = vec![
        // No read returns what is older than an invalidation that returned Ok before it began.
        Property::always(I3, |_, world: &World| !world.harms.has(Harm::StaleRead)),
        // What is stored is never older than an invalidation, or a refresh by hand, that returned Ok.
        Property::always(
            I1,
            |_, world: &World| !matches!(world.cell, Cell::Value(Entry { version, .. }) if version < world.floor),
        ),
        // Nobody puts an older value in the place of a newer one.
        Property::always(I10, |_, world: &World| !world.harms.has(Harm::Overwritten)),
        // One load, and one more for each invalidation, for each value that gets old, for each load that
        // fails and for each thing that goes wrong.
        Property::always(I6, |_, world: &World| world.due >= 0),
        // Who waits, waits for somebody; and as long as somebody waits, something will happen.
        Property::always(I7, |protocol: &Protocol, world: &World| is_alive(protocol, world)),
        // Who lost his lease or claim, by whatever, doesn't fill.
        Property::always(RIGHT, |_, world: &World| !world.harms.has(Harm::Usurped)),
        // Who answers with a stale value knows that it was there when he settled on that.
        Property::always(DEAD, |_, world: &World| !world.harms.has(Harm::DeadServed)),
        // A value past its life is known for that.
        Property::always(LIFE, |_, world: &World| !world.harms.has(Harm::Overdue)),
    ];
    // The search has seen what it is about.
    let mut some = |name, seen: fn(&Protocol, &World) -> bool| all.push(Property::sometimes(name, seen));
    if protocol.writers > 0 {
        some("an old fill is on its way", |_, world| {
            asks(world, |command, reply, _| match command {
                Command::Fill { version, .. } => reply.is_none() && version < world.floor,
                _ => false,
            })
        });
        some(
            "a fresh value is stored after a write",
            |_, world| matches!(world.cell, Cell::Value(Entry { version, .. }) if version > 0 && version == world.floor),
        );
    }
    if protocol.options.reads_life() {
        some("a load goes on under a lease after its claim", |_, world| {
            asks(world, |command, reply, _| {
                matches!(command, Command::Convert { .. }) && reply == Some(Reply::Did(true))
            })
        });
    }
    if protocol.options.grace {
        some("a load failed, and the stale value was there", |_, world| is_at_rest(world, true));
    }
    if protocol.options.grace && protocol.writers > 0 {
        some("a load failed, and the stale value had gone", |_, world| is_at_rest(world, false));
    }
    if protocol.options.ahead || protocol.options.timeout {
        some("a load runs whose caller has his answer", |_, world| {
            let runs = |at| matches!(at, At::Loading(_));
            world.readers.iter().any(|reader| reader.kind == Kind::Background && runs(reader.at))
        });
    }
    all
}

fn asks(world: &World, is: impl Fn(Command, Option<Reply>, Kind) -> bool) -> bool {
    world.readers.iter().any(|reader| match reader.at {
        At::Asking { command, reply, .. } => is(command, reply, reader.kind),
        _ => false,
    })
}

fn is_at_rest(world: &World, was_there: bool) -> bool {
    asks(world, |command, reply, kind| {
        matches!(command, Command::Rest { .. }) && reply == Some(Reply::Did(was_there)) && kind == Kind::Call
    })
}

fn is_alive(protocol: &Protocol, world: &World) -> bool {
    let led = |process: u8| {
        world.readers.iter().filter(|reader| reader.process == process && reader.seated).count()
    };
    let seats_fit =
        (0..).zip(&world.processes).all(|(process, state)| led(process) == usize::from(state.flight.led));
    // What is asked for, or runs, ends.
    let moves = |at| matches!(at, At::Asking { .. } | At::Loading(_));
    let waits = |at| matches!(at, At::Queued(_) | At::Polling { .. });
    if world.readers.iter().any(|reader| moves(reader.at))
        || !world.readers.iter().any(|reader| waits(reader.at))
    {
        return seats_fit;
    }
    let mut actions = Vec::new();
    protocol.progress(world, &mut actions);
    // Nothing else is sure to happen; and to wait until the value is gone is to hang.
    let is_sure = |action: &Action| {
        matches!(action, Action::Turn(_) | Action::Look(_) | Action::Tick(Tick::Free | Tick::Expire))
    };
    seats_fit && actions.iter().any(is_sure)
}
