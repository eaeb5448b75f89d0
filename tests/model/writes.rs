//! Write-behind, searched through in a world of its own (I20): one order key, one entry of the cache, senders,
//! workers who lose their shard at any moment and go on all the same, readers of a function with `pending`.
//!
//! Sending appends the write, stores the entry and marks it as pending, in one step. A worker in office takes
//! up what others were handed and didn't settle, then reads on, hands over one write after the other, and
//! settles it: the mark goes if it is that of this write. Who would load an entry takes the lease first, and
//! then asks for the mark: its copy is stored in the place of the lease, or the row is read and filled.
//!
//! Numbers of writes are what they write. The row takes a write only if its number is larger than the one it
//! has, as every handler is told to. Killed is who never takes another step, so that is in here, too.

mod steps;
mod tests;

use stateright::{Model, Property};

/// The number of a write; 0: what was there before the first.
type Seq = u8;
/// What the row holds that was changed past the queue: as new as anything.
const PAST: Seq = 7;
/// Sets of writes, a bit for each.
type Seqs = u8;

const READS: &str = "no read brings the old row back";
const STORED: &str = "nothing older than an acknowledged write is stored";
const APPLIED: &str = "what left the queue was applied";
const ORDER: &str = "handed over in order";
const FORWARD: &str = "the row never goes back";
const OUTLIVES: &str = "what was brought back doesn't outlive its write";
const BURIED: &str = "a dead letter's entry is gone";

/// One mistake in an otherwise right protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The entry is stored in a step of its own, after the append.
    EntryApart,
    /// The entry is stored only where no lease is.
    AppendSparesLeases,
    /// The mark is asked for before the lease is taken.
    AskBeforeLease,
    /// The copy is stored whatever is there.
    RestoreWithoutCompare,
    /// Whoever settles takes the mark away, be it that of a later write.
    SettleUnmarksAll,
    /// The write is settled before it is applied.
    SettleFirst,
    /// Who comes into office reads on at once.
    ReadWithoutRecover,
    /// A worker reads though it isn't in office any more.
    ReadOutOfOffice,
    /// Who loses the office and comes into it again, doesn't notice.
    NoTerms,
    /// The handler doesn't compare numbers.
    ApplyWithoutCompare,
    /// The entry stays when its write becomes a dead letter.
    BuryLeavesEntry,
    /// What a reader brought back stays when its write is settled.
    SettleKeepsCopy,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Writes {
    flaw: Option<Flaw>,
    sends: Seq,
    workers: usize,
    readers: usize,
    /// How often the office goes to somebody else, or to the same worker anew.
    turns: u8,
    /// How many writes become dead letters.
    buries: u8,
    /// How often whatever is under the key goes.
    vanishes: u8,
    /// How often somebody changes the row past the queue, and invalidates the entry.
    pasts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Absent,
    /// Of this reader.
    Lease(usize),
    /// What was stored with the write, or loaded.
    Value(Seq),
    /// What a reader brought back.
    Copy(Seq),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Doing {
    Nothing,
    /// The handler has it.
    Handed(Seq),
    /// The row has taken it, or something newer.
    Applied(Seq),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Worker {
    /// The term it believes to be in; 0: none.
    term: u8,
    has_recovered: bool,
    window: Vec<Seq>,
    doing: Doing,
    /// The term in which that was begun.
    since: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reader {
    Idle,
    /// It found nothing when this was acknowledged, and holds the lease.
    Leads(Seq),
    /// The mistake: it knows whether there is a copy before it holds the lease.
    Asked(Seq, Option<Seq>),
    /// There is a copy.
    Restores(Seq),
    /// There was none: it loads.
    Loads(Seq),
    /// It has read the row.
    Fills(Seq),
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // what was seen
pub(crate) struct World {
    cell: Cell,
    /// Which write the mark is of.
    mark: Option<Seq>,
    /// Writes that aren't settled, and whether somebody has read them.
    queue: Vec<(Seq, bool)>,
    row: Seq,
    /// Somebody changed the row past the queue, after this number.
    is_past: bool,
    sent: Seq,
    /// The newest write whose sender has its Ok.
    acknowledged: Seq,
    handed: Seqs,
    dead: Seqs,
    /// Appended, but the entry isn't stored yet: only by mistake.
    half: Vec<Seq>,
    owner: usize,
    term: u8,
    workers: Vec<Worker>,
    readers: Vec<Reader>,
    turns: u8,
    buries: u8,
    vanishes: u8,
    pasts: u8,
    stale_read: bool,
    out_of_order: bool,
    went_back: bool,
    restored: bool,
}

/// What may happen. Numbers are those of workers or readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Send,
    StoreEntry(Seq),
    /// The office goes to this worker, who may not notice for long that it had it before, or lost it.
    Turn(usize),
    /// The worker hears how it stands.
    Tend(usize),
    Recover(usize),
    Read(usize),
    Hand(usize),
    Apply(usize),
    Settle(usize),
    Bury(usize),
    Look(usize),
    Lease(usize),
    Ask(usize),
    Restore(usize),
    Load(usize),
    Fill(usize),
    /// A lease ends, whose load may still run.
    Expire,
    /// An eviction, the end of a value's life, an invalidation.
    Vanish,
    /// Somebody changes the row past the queue, and invalidates the entry.
    Past,
}

fn bit(seq: Seq) -> Seqs {
    1 << seq
}

impl World {
    /// The newest of these writes that isn't a dead letter.
    fn needed(&self, most: Seq) -> Seq {
        (0..=most).rev().find(|seq| self.dead & bit(*seq) == 0).unwrap_or(0)
    }

    /// What a reader would have a hit on.
    fn shown(&self) -> Option<Seq> {
        match self.cell {
            Cell::Value(seq) | Cell::Copy(seq) => Some(seq),
            Cell::Absent | Cell::Lease(_) => None,
        }
    }

    fn answer(&mut self, floor: Seq, seq: Seq) {
        self.stale_read |= seq < self.needed(floor);
    }
}

impl Model for Writes {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let worker =
            Worker { term: 0, has_recovered: false, window: Vec::new(), doing: Doing::Nothing, since: 0 };
        vec![World {
            cell: Cell::Value(0),
            mark: None,
            queue: Vec::new(),
            row: 0,
            is_past: false,
            sent: 0,
            acknowledged: 0,
            handed: bit(0),
            dead: 0,
            half: Vec::new(),
            owner: 0,
            term: 1,
            workers: vec![worker; self.workers],
            readers: vec![Reader::Idle; self.readers],
            turns: self.turns,
            buries: self.buries,
            vanishes: self.vanishes,
            pasts: self.pasts,
            stale_read: false,
            out_of_order: false,
            went_back: false,
            restored: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.sent < self.sends {
            actions.push(Action::Send);
        }
        actions.extend(world.half.iter().map(|seq| Action::StoreEntry(*seq)));
        for (number, worker) in world.workers.iter().enumerate() {
            if world.turns > 0 {
                actions.push(Action::Turn(number));
            }
            let believes = worker.term > 0;
            if (world.owner == number || believes) && !self.is_in_office(world, number) {
                actions.push(Action::Tend(number));
            }
            match worker.doing {
                Doing::Nothing if believes => {
                    if !worker.has_recovered {
                        actions.push(Action::Recover(number));
                    } else if world.queue.iter().any(|(_, is_read)| !is_read) {
                        actions.push(Action::Read(number));
                    }
                    if !worker.window.is_empty() {
                        actions.push(Action::Hand(number));
                    }
                }
                Doing::Nothing => {}
                Doing::Handed(_) => {
                    actions.push(Action::Apply(number));
                    if world.buries > 0 {
                        actions.push(Action::Bury(number));
                    }
                }
                Doing::Applied(_) => actions.push(Action::Settle(number)),
            }
        }
        for (number, reader) in world.readers.iter().enumerate() {
            match reader {
                // A look that finds a lease changes nothing.
                Reader::Idle if matches!(world.cell, Cell::Lease(_)) => {}
                Reader::Idle => actions.push(Action::Look(number)),
                Reader::Asked(..) => actions.push(Action::Lease(number)),
                Reader::Leads(_) => actions.push(Action::Ask(number)),
                Reader::Restores(_) => actions.push(Action::Restore(number)),
                Reader::Loads(_) => actions.push(Action::Load(number)),
                Reader::Fills(_) => actions.push(Action::Fill(number)),
                Reader::Over => {}
            }
        }
        if matches!(world.cell, Cell::Lease(_)) {
            actions.push(Action::Expire);
        }
        if world.vanishes > 0 && world.cell != Cell::Absent {
            actions.push(Action::Vanish);
        }
        if world.pasts > 0 {
            actions.push(Action::Past);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let now = &mut world;
        match action {
            Action::Send | Action::StoreEntry(_) => self.send(now, action),
            Action::Turn(number) => {
                now.turns -= 1;
                now.owner = number;
                now.term += 1;
            }
            Action::Expire => now.cell = Cell::Absent,
            Action::Vanish => {
                now.vanishes -= 1;
                now.cell = Cell::Absent;
            }
            Action::Past => {
                now.pasts -= 1;
                (now.is_past, now.cell) = (true, Cell::Absent);
            }
            Action::Tend(_)
            | Action::Recover(_)
            | Action::Read(_)
            | Action::Hand(_)
            | Action::Apply(_)
            | Action::Settle(_)
            | Action::Bury(_) => self.work(now, action),
            _ => self.read(now, action),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(READS, |_, world: &World| !world.stale_read),
            Property::always(STORED, |_, world: &World| {
                world.shown().is_none_or(|seq| seq >= world.needed(world.acknowledged))
            }),
            Property::always(APPLIED, |_, world: &World| {
                let left = |seq: Seq| world.queue.iter().all(|(there, _)| *there != seq);
                (1..=world.sent).all(|seq| world.dead & bit(seq) != 0 || !left(seq) || world.row >= seq)
            }),
            Property::always(ORDER, |_, world: &World| !world.out_of_order),
            Property::always(FORWARD, |_, world: &World| !world.went_back),
            Property::always(BURIED, |_, world: &World| {
                world.shown().is_none_or(|seq| world.dead & bit(seq) == 0 || world.row >= seq)
            }),
            Property::always(OUTLIVES, |_, world: &World| {
                let is_over = world.queue.is_empty() && world.is_past;
                !is_over || world.shown().is_none_or(|seq| seq == PAST)
            }),
            // The search has seen what it is about.
            Property::sometimes("all is applied", |model: &Self, world: &World| {
                world.sent == model.sends && world.queue.is_empty() && world.row == world.sent
            }),
        ];
        if self.vanishes > 0 {
            all.push(Property::sometimes("an entry comes back", |_, world: &World| {
                world.restored && world.mark.is_some()
            }));
        }
        if self.turns > 1 {
            all.push(Property::sometimes("a worker out of office applies", |model: &Self, world: &World| {
                let applied = |number: usize| matches!(world.workers[number].doing, Doing::Applied(_));
                (0..model.workers).any(|number| applied(number) && !model.is_in_office(world, number))
            }));
        }
        all
    }
}
