//! Writers that fence the key, searched through in a world of its own (I18): one key, readers, writers
//! who are killed at any moment.
//!
//! A fence is a set of tokens, one for each writer at work. It takes the place of whatever is there; who
//! finds it loads and doesn't fill. Afterwards a writer takes his token away, and with the last one the
//! key; if no fence is there, whatever is there goes. The token of a writer who was killed ends by itself,
//! after anything else that he began. Whose time is over, or who returned Ok, has settled: from then on
//! nothing older than what he wrote may be stored, or read by who asks later.
//!
//! Time has no measure here. That a fence stands for longer than a write takes, and isn't evicted, is what
//! I18 asks for: where writers are killed, it does and it isn't. Where nobody is, neither is needed.

use stateright::{Model, Property};

use crate::{finds, holds};

/// What the database held when a load read it.
type Version = u8;
/// Sets of writers, a bit for each.
type Tokens = u8;

const I3: &str = "I3 read your invalidation";
const I18: &str = "I18 nothing stale beyond the fence";

/// One mistake in an otherwise right protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A fence has one token: the last writer's takes the place of the others'.
    SingleToken,
    /// Who is done takes the whole fence away.
    UnfenceAll,
    /// Who is done takes his token away, and leaves what isn't a fence.
    UnfenceByCompareAndDelete,
    /// The fence is put up after the write.
    FenceAfterwards,
    /// The fence is put up only where nothing is.
    FenceSparesLeases,
    /// Who finds a fence takes the lease.
    FillUnderFence,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fences {
    flaw: Option<Flaw>,
    readers: usize,
    writers: usize,
    /// How many writers are killed.
    crashes: u8,
    /// How often whatever is under the key goes, and how often a living writer's fence ends too early.
    vanishes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Absent,
    /// Of this reader.
    Lease(u8),
    Value(Version),
    Fence(Tokens),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reader {
    Idle,
    /// It leads, or loads for itself, since the floor was this.
    Loading {
        leads: bool,
        floor: Version,
    },
    /// It has read the row, and its fill is on its way.
    Filling {
        leads: bool,
        read: Version,
    },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Writer {
    Idle,
    /// Its fence is up.
    Fenced,
    Wrote(Version),
    /// Killed. Its commit, or the end of its fence, may be on the way.
    Killed {
        commits: bool,
        unfences: bool,
        wrote: Version,
    },
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    cell: Cell,
    truth: Version,
    /// The newest version that has settled.
    floor: Version,
    readers: Vec<Reader>,
    writers: Vec<Writer>,
    crashes: u8,
    vanishes: u8,
    stale_read: bool,
    /// A value was filled after somebody was killed.
    recovered: bool,
}

/// What may happen. Numbers are those of readers or writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Look(usize),
    Load(usize),
    Fill(usize),
    Fence(usize),
    Write(usize),
    Unfence(usize),
    Kill(usize),
    /// What a killed writer has sent arrives.
    LateWrite(usize),
    LateUnfence(usize),
    /// The time of a killed writer's fence is over.
    End(usize),
    /// A lease ends, whose load may still run.
    Expire,
    /// An eviction, or a fence that ends before its writer is done.
    Vanish,
}

impl Fences {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn fence(&self, world: &mut World, writer: usize) {
        world.cell = match world.cell {
            Cell::Lease(_) if self.has(Flaw::FenceSparesLeases) => return,
            Cell::Fence(others) if !self.has(Flaw::SingleToken) => Cell::Fence(others | 1 << writer),
            _ => Cell::Fence(1 << writer),
        };
    }

    fn unfence(&self, world: &mut World, writer: usize) {
        world.cell = match world.cell {
            Cell::Fence(all) if all == 1 << writer || self.has(Flaw::UnfenceAll) => Cell::Absent,
            Cell::Fence(all) => Cell::Fence(all & !(1 << writer)),
            there if self.has(Flaw::UnfenceByCompareAndDelete) => there,
            _ => Cell::Absent,
        };
    }

    fn write(world: &mut World) -> Version {
        world.truth += 1;
        world.truth
    }
}

impl World {
    fn settle(&mut self, wrote: Version) {
        self.floor = self.floor.max(wrote);
    }

    fn answer(&mut self, floor: Version, version: Version) {
        self.stale_read |= version < floor;
    }

    /// Leases are known by their reader, so readers keep their places.
    fn is_killed(&self) -> bool {
        self.writers.iter().any(|writer| matches!(writer, Writer::Killed { .. }))
    }
}

impl Model for Fences {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let world = |cell| World {
            cell,
            truth: 0,
            floor: 0,
            readers: vec![Reader::Idle; self.readers],
            writers: vec![Writer::Idle; self.writers],
            crashes: self.crashes,
            vanishes: self.vanishes,
            stale_read: false,
            recovered: false,
        };
        [Cell::Absent, Cell::Value(0)].map(world).to_vec()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, reader) in world.readers.iter().enumerate() {
            match reader {
                // A look that finds a lease changes nothing.
                Reader::Idle if matches!(world.cell, Cell::Lease(_)) => {}
                Reader::Idle => actions.push(Action::Look(number)),
                Reader::Loading { .. } => actions.push(Action::Load(number)),
                Reader::Filling { .. } => actions.push(Action::Fill(number)),
                Reader::Over => {}
            }
        }
        for (number, writer) in world.writers.iter().enumerate() {
            match *writer {
                Writer::Idle => actions.push(Action::Fence(number)),
                Writer::Fenced => actions.push(Action::Write(number)),
                Writer::Wrote(_) => actions.push(Action::Unfence(number)),
                Writer::Killed { commits, unfences, .. } => {
                    if commits {
                        actions.push(Action::LateWrite(number));
                    }
                    if unfences {
                        actions.push(Action::LateUnfence(number));
                    }
                    actions.push(Action::End(number));
                }
                Writer::Over => {}
            }
            if world.crashes > 0 && matches!(writer, Writer::Fenced | Writer::Wrote(_)) {
                actions.push(Action::Kill(number));
            }
        }
        if matches!(world.cell, Cell::Lease(_)) {
            actions.push(Action::Expire);
        }
        if world.vanishes > 0 && world.cell != Cell::Absent {
            actions.push(Action::Vanish);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let now = &mut world;
        match action {
            Action::Look(number) => {
                let floor = now.floor;
                let mut leads = false;
                match now.cell {
                    Cell::Value(version) => {
                        now.answer(floor, version);
                        now.readers[number] = Reader::Over;
                        return Some(world);
                    }
                    Cell::Fence(_) if !self.has(Flaw::FillUnderFence) => {}
                    _ => {
                        leads = true;
                        now.cell = Cell::Lease(u8::try_from(number).expect("few"));
                    }
                }
                now.readers[number] = Reader::Loading { leads, floor };
            }
            Action::Load(number) => {
                let Reader::Loading { leads, floor } = now.readers[number] else { unreachable!() };
                let read = now.truth;
                now.answer(floor, read);
                now.readers[number] = if leads { Reader::Filling { leads, read } } else { Reader::Over };
            }
            Action::Fill(number) => {
                let Reader::Filling { read, .. } = now.readers[number] else { unreachable!() };
                if now.cell == Cell::Lease(u8::try_from(number).expect("few")) {
                    now.cell = Cell::Value(read);
                    now.recovered |= now.crashes < self.crashes;
                }
                now.readers[number] = Reader::Over;
            }
            Action::Fence(number) => {
                if !self.has(Flaw::FenceAfterwards) {
                    self.fence(now, number);
                }
                now.writers[number] = Writer::Fenced;
            }
            Action::Write(number) => now.writers[number] = Writer::Wrote(Self::write(now)),
            Action::Unfence(number) => {
                let Writer::Wrote(version) = now.writers[number] else { unreachable!() };
                self.unfence(now, number);
                now.settle(version);
                now.writers[number] = Writer::Over;
            }
            Action::Kill(number) => {
                now.crashes -= 1;
                now.writers[number] = match now.writers[number] {
                    Writer::Wrote(wrote) => Writer::Killed { commits: false, unfences: true, wrote },
                    _ => Writer::Killed { commits: true, unfences: false, wrote: 0 },
                };
            }
            Action::LateWrite(number) => {
                let wrote = Self::write(now);
                now.writers[number] = Writer::Killed { commits: false, unfences: false, wrote };
            }
            Action::LateUnfence(number) => {
                let Writer::Killed { wrote, .. } = now.writers[number] else { unreachable!() };
                self.unfence(now, number);
                now.writers[number] = Writer::Killed { commits: false, unfences: false, wrote };
            }
            Action::End(number) => {
                let Writer::Killed { wrote, .. } = now.writers[number] else { unreachable!() };
                if let Cell::Fence(all) = now.cell {
                    let rest = all & !(1 << number);
                    now.cell = if rest == 0 { Cell::Absent } else { Cell::Fence(rest) };
                }
                now.settle(wrote);
                now.writers[number] = Writer::Over;
            }
            Action::Expire => now.cell = Cell::Absent,
            Action::Vanish => {
                now.vanishes -= 1;
                now.cell = Cell::Absent;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(
                I18,
                |_, world: &World| !matches!(world.cell, Cell::Value(version) if version < world.floor),
            ),
            Property::always(I3, |_, world: &World| !world.stale_read),
            // The search has seen what it is about.
            Property::sometimes("a load under a fence", |_, world: &World| {
                let alone = |reader: &Reader| matches!(reader, Reader::Loading { leads: false, .. });
                matches!(world.cell, Cell::Fence(_)) && world.readers.iter().any(alone)
            }),
        ];
        if self.writers > 1 {
            all.push(Property::sometimes(
                "two writers fence at once",
                |_, world: &World| matches!(world.cell, Cell::Fence(tokens) if tokens.count_ones() > 1),
            ));
        }
        if self.crashes > 0 {
            all.push(Property::sometimes("a fence outlives its writer", |_, world: &World| {
                matches!(world.cell, Cell::Fence(_)) && world.is_killed()
            }));
            all.push(Property::sometimes("it is cached again", |_, world: &World| {
                world.recovered && world.floor > 0 && world.cell == Cell::Value(world.truth)
            }));
        }
        all
    }
}

fn world(readers: usize, writers: usize, crashes: u8, vanishes: u8) -> Fences {
    Fences { flaw: None, readers, writers, crashes, vanishes }
}

#[test]
fn fences_of_two_writers_and_two_crashes() {
    holds("fences of two writers, two crashes", world(3, 2, 2, 0));
}

#[test]
fn fences_of_three_writers_and_two_crashes() {
    holds("fences of three writers, two crashes", world(2, 3, 2, 0));
}

#[test]
fn fences_that_end_too_early_when_nobody_is_killed() {
    holds("fences that end too early", world(3, 2, 0, 2));
}

fn breaks(flaw: Flaw, model: Fences, properties: &[&'static str]) {
    finds(flaw, Fences { flaw: Some(flaw), ..model }, properties);
}

/// The second writer's fence takes the place of the first one's, who is killed later.
#[test]
fn a_single_token_is_caught() {
    breaks(Flaw::SingleToken, world(2, 2, 1, 0), &[I18, I3]);
}

/// The first to be done ends the fence of the other.
#[test]
fn unfencing_for_all_is_caught() {
    breaks(Flaw::UnfenceAll, world(2, 2, 1, 0), &[I18, I3]);
}

/// The fence had ended, and a reader has stored the old row.
#[test]
fn unfencing_by_compare_and_delete_is_caught() {
    breaks(Flaw::UnfenceByCompareAndDelete, world(2, 1, 0, 1), &[I18, I3]);
}

/// The writer is killed between the two.
#[test]
fn a_fence_after_the_write_is_caught() {
    breaks(Flaw::FenceAfterwards, world(2, 1, 1, 0), &[I18, I3]);
}

/// A load that began before the fence fills after the write.
#[test]
fn a_fence_that_spares_leases_is_caught() {
    breaks(Flaw::FenceSparesLeases, world(2, 1, 1, 0), &[I18, I3]);
}

/// A load that began under the fence fills after the write.
#[test]
fn a_fill_under_a_fence_is_caught() {
    breaks(Flaw::FillUnderFence, world(2, 1, 1, 0), &[I18, I3]);
}
