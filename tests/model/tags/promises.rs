//! What must always hold, and what must have happened for that to mean anything.

use stateright::Property;

use super::server::{Cell, Key, Numbers, Reply, Server};
use super::world::{At, Flush, Load, Step, World};
use super::{Action, Tags};
use crate::flight::Turn;

pub(super) const I2: &str = "I2 no stale fill under a tag";
pub(super) const I3: &str = "I3 read your invalidation";
pub(super) const I7: &str = "I7 nobody hangs";

pub(super) fn all(tags: &Tags) -> Vec<Property<Tags>> {
    let mut all = vec![
        // A value that a tag's invalidation made old when it returned Ok isn't valid under that tag, then
        // or later.
        Property::always(I2, |tags: &Tags, world: &World| !is_outlived(tags, world)),
        // No read returns what is older than an invalidation that returned Ok before it began, neither
        // from the store nor from a load of its process.
        Property::always(I3, |_, world: &World| !world.stale_read),
        // Who waits, waits for somebody; and as long as somebody waits, something will happen.
        Property::always(I7, is_alive),
    ];
    // The search has seen what it is about.
    let mut some = |name, seen: fn(&Tags, &World) -> bool| all.push(Property::sometimes(name, seen));
    some("a hit on what was written", |tags, world| {
        let Server { cell: Cell::Value(entry), numbers } = world.server else { return false };
        let finds = |step| match step {
            Step::Look => !tags.has(Key::Result),
            Step::Judge(seen) => seen == entry,
            _ => false,
        };
        entry.version > 0 && tags.is_valid(entry.tags, numbers) && asks(world, |flush| finds(flush.step))
    });
    some("a value is found that isn't valid any more", |_, world| {
        asks(world, |flush| matches!(flush.step, Step::Replace { .. }))
    });
    some("a fill is accepted, and a tag is another by then", |tags, world| {
        let is_other = |load: Load, saw| !tags.is_valid(load.captured, saw);
        is_heard(world, |flush| match (flush.step, flush.reply) {
            (Step::Fill(load), Some(Reply::Did(true))) => is_other(load, flush.saw),
            _ => false,
        })
    });
    if tags.has(Key::Result) {
        some("a value with a tag of its result is stored", |_, world| match world.server.cell {
            Cell::Value(entry) => entry.version > 0 && entry.tags[Key::Result as usize].is_some(),
            _ => false,
        });
        some("a tag was invalidated while the function ran, and the epoch tells", |_, world| {
            let is_other = |load: Load, saw: Numbers| {
                load.captured[Key::Epoch as usize] != saw[Key::Epoch as usize] && load.version < world.truth
            };
            is_heard(world, |flush| matches!(flush.step, Step::Name(load) if is_other(load, flush.saw)))
        });
    }
    if tags.readers.windows(2).any(|two| two[0] == two[1]) {
        some("a call takes what another's load brought", |_, world| {
            world.readers.iter().any(|reader| match (reader.at, reader.member) {
                (At::Queued(_), Some(mut member)) => {
                    let mut flight = world.flights[usize::from(reader.process)];
                    matches!(flight.turn(&mut member, None), Turn::Take(_))
                }
                _ => false,
            })
        });
    }
    all
}

/// Whether a value is stored that a tag's invalidation has outlived, and valid under that tag.
fn is_outlived(tags: &Tags, world: &World) -> bool {
    let Server { cell: Cell::Value(entry), numbers } = world.server else { return false };
    Key::TAGS
        .into_iter()
        .filter(|tag| tags.has(*tag))
        .any(|tag| entry.version < world.floors[tag as usize] && tags.agrees(tag, entry.tags, numbers))
}

fn asks(world: &World, is: impl Fn(Flush) -> bool) -> bool {
    world.readers.iter().any(|reader| matches!(reader.at, At::Asking(flush) if is(flush)))
}

/// Whether some call has all replies to what it sent, and these.
fn is_heard(world: &World, is: impl Fn(Flush) -> bool) -> bool {
    asks(world, |flush| flush.left == [None; 4] && is(flush))
}

fn is_alive(tags: &Tags, world: &World) -> bool {
    let led = |process: u8| {
        world.readers.iter().filter(|reader| reader.process == process && reader.seated).count()
    };
    let seats_fit =
        (0..).zip(&world.flights).all(|(process, flight)| led(process) == usize::from(flight.led));
    // What is asked for, or runs, ends.
    let moves = |at| matches!(at, At::Asking(_) | At::Loading(_));
    let waits = |at| matches!(at, At::Queued(_) | At::Polling(_));
    if world.readers.iter().any(|reader| moves(reader.at))
        || !world.readers.iter().any(|reader| waits(reader.at))
    {
        return seats_fit;
    }
    let mut actions = Vec::new();
    tags.progress(world, &mut actions);
    // Nothing else is sure to happen.
    let is_sure = |action: &Action| matches!(action, Action::Turn(_) | Action::Look(_) | Action::Expire);
    seats_fit && actions.iter().any(is_sure)
}
