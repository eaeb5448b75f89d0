//! Everything there is at one moment: the server, the database, the processes and the network.

use super::server::{Cell, Command, Entry, Key, Number, Numbers, Reply, Server};
use crate::flight::{Flight, Member};
use crate::store::{Id, Version};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(super) server: Server,
    /// What the database holds.
    pub(super) truth: Version,
    /// The newest version whose invalidation of a tag returned Ok, for each tag.
    pub(super) floors: [Version; 2],
    /// Sorted: who is who doesn't matter.
    pub(super) readers: Vec<Reader>,
    pub(super) writers: Vec<Writer>,
    /// One for each process.
    pub(super) flights: Vec<Flight>,
    /// Commands that nobody waits for: they may arrive at any time, or never.
    pub(super) strays: Vec<Command>,
    /// How much may still go wrong.
    pub(super) faults: u8,
    /// A read returned a version below the floor of its beginning.
    pub(super) stale_read: bool,
}

/// One call, from its question to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reader {
    pub(super) process: u8,
    /// The highest floor when it began.
    pub(super) floor: Version,
    pub(super) member: Option<Member>,
    /// It leads the flight of its process.
    pub(super) seated: bool,
    pub(super) at: At,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum At {
    /// It hasn't begun.
    Idle,
    Asking(Flush),
    /// In the queue, having seen this.
    Queued(Sight),
    /// It leads, and waits for the load of another process.
    Polling(Id),
    Loading(Load),
    /// It has its answer, or is no more.
    Over,
}

/// What a call makes of what is there, if that is no hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Sight {
    Absent,
    /// A value that isn't valid.
    Dead(Id),
    Busy(Id),
    Dark,
}

/// A load that runs or has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Load {
    /// What it read: at its beginning, the worst moment.
    pub(super) version: Version,
    /// Its number in the flight.
    pub(super) number: u8,
    pub(super) lease: Option<Id>,
    pub(super) captured: Numbers,
}

/// Commands sent together. Those of other clients may come between, and they may overtake each other
/// (they may go to different nodes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Flush {
    pub(super) step: Step,
    /// Those that haven't arrived, by what they are about.
    pub(super) left: [Option<Command>; 4],
    /// Of the entry.
    pub(super) reply: Option<Reply>,
    pub(super) saw: Numbers,
}

impl Flush {
    /// Whether it matters when the replies are heard: the queue is sealed, or lands, no sooner.
    pub(super) fn is_heard_late(self) -> bool {
        matches!(self.step, Step::Name(_) | Step::Fill(_))
    }
}

/// What a flush is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// What is there, and the tags of the arguments.
    Look,
    /// The tags of the result that was found.
    Judge(Entry),
    /// A lease, and what has to be captured before the load.
    Acquire {
        mine: Id,
    },
    Replace {
        mine: Id,
    },
    /// The tags of the result that was loaded; then, whether the epoch is as it was.
    Name(Load),
    /// The value; and the tags, once more.
    Fill(Load),
}

/// A program that writes the database, then invalidates a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Writer {
    pub(super) tag: Key,
    pub(super) at: Writing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Writing {
    Idle,
    /// It wrote this version, and its invalidation is on its way.
    Sent(Version),
    /// One of the two keys is gone.
    Half(Version),
    Over,
}

impl World {
    /// An id that is named nowhere, so that nobody can tell it from one that never was.
    pub(super) fn fresh(&self) -> Id {
        let mut used = Used::default();
        used.cell(self.server.cell);
        for reader in &self.readers {
            match reader.at {
                At::Asking(flush) => {
                    match flush.step {
                        Step::Acquire { mine } | Step::Replace { mine } => used.add(Some(mine)),
                        Step::Judge(entry) => used.add(Some(entry.id)),
                        Step::Name(load) | Step::Fill(load) => used.add(load.lease),
                        Step::Look => {}
                    }
                    if let Some(Reply::Saw(cell)) = flush.reply {
                        used.cell(cell);
                    }
                    flush.left.into_iter().flatten().for_each(|command| used.command(command));
                }
                At::Queued(Sight::Dead(id) | Sight::Busy(id)) | At::Polling(id) => used.add(Some(id)),
                At::Loading(load) => used.add(load.lease),
                At::Idle | At::Queued(_) | At::Over => {}
            }
        }
        self.strays.iter().for_each(|command| used.command(*command));
        used.lowest()
    }

    /// A number that is named nowhere as a version of this key.
    pub(super) fn draw(&self, key: Key) -> Number {
        let mut used = Used::default();
        let mut seen = |numbers: Numbers| used.add(numbers[key as usize]);
        seen(self.server.numbers);
        let of_cell = |cell| if let Cell::Value(entry) = cell { entry.tags } else { Numbers::default() };
        seen(of_cell(self.server.cell));
        let of_command = |command| match command {
            Command::Fill { entry } => entry.tags,
            Command::Create(created, number) if created == key => [Some(number); 3],
            _ => Numbers::default(),
        };
        for reader in &self.readers {
            match reader.at {
                At::Asking(flush) => {
                    seen(flush.saw);
                    match flush.step {
                        Step::Judge(entry) => seen(entry.tags),
                        Step::Name(load) | Step::Fill(load) => seen(load.captured),
                        Step::Look | Step::Acquire { .. } | Step::Replace { .. } => {}
                    }
                    if let Some(Reply::Saw(cell)) = flush.reply {
                        seen(of_cell(cell));
                    }
                    flush.left.into_iter().flatten().for_each(|command| seen(of_command(command)));
                }
                At::Loading(load) => seen(load.captured),
                At::Idle | At::Queued(_) | At::Polling(_) | At::Over => {}
            }
        }
        self.strays.iter().for_each(|command| seen(of_command(*command)));
        used.lowest()
    }

    /// Whether some call still goes by this lease.
    pub(super) fn is_held(&self, lease: Id) -> bool {
        self.readers.iter().any(|reader| match reader.at {
            At::Asking(Flush { step: Step::Acquire { mine } | Step::Replace { mine }, .. }) => mine == lease,
            At::Asking(Flush { step: Step::Name(load) | Step::Fill(load), .. }) | At::Loading(load) => {
                load.lease == Some(lease)
            }
            _ => false,
        })
    }

    /// In the one order that equal worlds share, and without what changes nothing any more.
    pub(super) fn sorted(mut self) -> Self {
        let (world, strays) = (&self, self.strays.iter().copied());
        self.strays = strays.filter(|stray| world.matters(*stray)).collect();
        self.readers.sort_unstable();
        self.writers.sort_unstable();
        self.strays.sort_unstable();
        self
    }

    /// Whether it may find something to do: nobody else can put that lease there.
    fn matters(&self, stray: Command) -> bool {
        let Command::Release { held } = stray else { return true };
        let puts = |command: &Command| match *command {
            Command::Acquire { mine } | Command::Replace { mine, .. } => mine == held,
            _ => false,
        };
        self.server.cell == Cell::Lease(held) || self.strays.iter().any(puts)
    }
}

/// Which small numbers are named somewhere.
#[derive(Default)]
struct Used(u64);

impl Used {
    fn add(&mut self, number: Option<u8>) {
        if let Some(number) = number {
            self.0 |= 1 << number;
        }
    }

    fn cell(&mut self, cell: Cell) {
        match cell {
            Cell::Absent => {}
            Cell::Lease(id) | Cell::Value(Entry { id, .. }) => self.add(Some(id)),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Acquire { mine: id } | Command::Release { held: id } => self.add(Some(id)),
            Command::Replace { seen, mine } => [seen, mine].map(Some).into_iter().for_each(|id| self.add(id)),
            Command::Fill { entry } => self.add(Some(entry.id)),
            _ => {}
        }
    }

    fn lowest(self) -> u8 {
        u8::try_from(self.0.trailing_ones()).expect("few are in use")
    }
}
