//! Everything there is at one moment: the server, the database, the processes and the network.

use crate::ageing::Entry;
use crate::flaw::Flaw;
use crate::flight::{Flight, Member};
use crate::store::{Cell, Command, Id, Reply, Version};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) cell: Cell,
    /// Whose load has the right to fill: the last lease or claim that was granted, while it is there.
    pub(crate) rightful: Option<Id>,
    /// What the database holds.
    pub(crate) truth: Version,
    /// The newest version whose invalidation, or refresh by hand, returned Ok.
    pub(crate) floor: Version,
    /// Sorted: who is who doesn't matter.
    pub(crate) readers: Vec<Reader>,
    pub(crate) writers: Vec<Writer>,
    /// One for each process.
    pub(crate) processes: Vec<Process>,
    /// Commands that nobody waits for: they may arrive at any time, or never.
    pub(crate) strays: Vec<Command>,
    /// How much may still go wrong.
    pub(crate) faults: u8,
    /// How many loads may still begin: one, and one for each invalidation and fault.
    pub(crate) due: i8,
    pub(crate) harms: Harms,
}

/// What must never happen, and leaves no other trace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harm {
    /// A read returned a version below the floor of its beginning.
    StaleRead = 1,
    /// An older version was put in the place of a newer one.
    Overwritten = 2,
    /// A load filled whose right had gone to another, or was gone.
    Usurped = 4,
    /// A stale answer of a version whose invalidation returned Ok before that answer was settled on.
    DeadServed = 8,
    /// A value past its life was taken for a fresh one.
    Overdue = 16,
}

/// What happened of that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Harms(u8);

impl Harms {
    pub(crate) fn note(&mut self, harm: Harm, happened: bool) {
        self.0 |= if happened { harm as u8 } else { 0 };
    }

    pub(crate) fn has(self, harm: Harm) -> bool {
        self.0 & harm as u8 != 0
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) flight: Flight,
    /// Leases of this process that couldn't be released.
    pub(crate) orphans: Vec<Id>,
}

/// Who reads, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A cached call.
    Call,
    /// `refresh_cache`: it loads whatever is there, and fills under a claim.
    Refresh,
    /// A load that nobody waits for: its caller has an answer. It is in a task of its own.
    Background,
}

/// One call, from its question to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reader {
    pub(crate) process: u8,
    pub(crate) kind: Kind,
    /// The floor when it began.
    pub(crate) floor: Version,
    pub(crate) member: Option<Member>,
    /// It leads the flight of its process.
    pub(crate) seated: bool,
    /// The lease that it may take over.
    pub(crate) orphan: Option<Id>,
    pub(crate) at: At,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum At {
    /// It hasn't begun.
    Idle,
    /// A command is on its way, or its reply.
    Asking {
        command: Command,
        reply: Option<Reply>,
        load: Option<Load>,
    },
    /// In the queue, having seen this.
    Queued(Sight),
    /// It leads, and waits for the load of another process.
    Polling {
        seen: Id,
        /// It sees a stale value meanwhile.
        stale: Option<Version>,
    },
    Loading(Load),
    /// It has its answer, or is no more.
    Over,
}

/// A load that runs or has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Load {
    /// What it read: at its beginning, the worst moment.
    pub(crate) version: Version,
    /// Its number in the flight; 0 without one.
    pub(crate) number: u8,
    /// The lease or claim that it fills under.
    pub(crate) hold: Option<Id>,
    /// What it got its right by: the hold, but for a flaw.
    pub(crate) token: Option<Id>,
    /// The hold is a claim on this version, which isn't released.
    pub(crate) claimed: Option<Version>,
}

/// What a call makes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Sight {
    Hit(Version),
    /// A hit that is to be refreshed ahead, which nobody does.
    Due(Entry),
    Absent,
    Dead(Id),
    Busy(Id),
    /// Past its life: claimed by somebody who loads, resting, or neither.
    Stale(Entry),
    Dark,
}

/// A program that writes the database, then invalidates; in any process, or in none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Writer {
    Idle,
    /// It wrote this version, and its `DEL` is on its way.
    Sent(Version),
    /// The `DEL` is done, and the reply on its way.
    Done(Version),
    Over,
}

impl World {
    /// An id that is named nowhere, so that nobody can tell it from one that never was.
    pub(crate) fn fresh(&self) -> Id {
        let mut used = 0u64;
        let mut mark = |id: Option<Id>| {
            if let Some(id) = id {
                used |= 1 << id;
            }
        };
        mark(self.cell.id());
        for reader in &self.readers {
            mark(reader.orphan);
            match reader.at {
                At::Asking { command, reply, load } => {
                    command.ids().into_iter().for_each(&mut mark);
                    mark(load.and_then(|load| load.hold));
                    if let Some(Reply::Saw(cell) | Reply::There(cell)) = reply {
                        mark(cell.id());
                    }
                }
                At::Queued(Sight::Dead(id) | Sight::Busy(id)) | At::Polling { seen: id, .. } => {
                    mark(Some(id));
                }
                At::Queued(Sight::Stale(entry)) => mark(Some(entry.id)),
                At::Idle | At::Queued(_) | At::Over => {}
                At::Loading(load) => mark(load.hold),
            }
        }
        for process in &self.processes {
            mark(process.flight.lease);
            mark(process.flight.orphan);
            process.orphans.iter().for_each(|id| mark(Some(*id)));
        }
        self.strays.iter().for_each(|command| {
            command.ids().into_iter().for_each(&mut mark);
        });
        Id::try_from(used.trailing_ones()).expect("few ids are in use")
    }

    /// Whether some call, or some command on its way, still goes by this lease or claim.
    pub(crate) fn is_held(&self, hold: Id) -> bool {
        self.readers.iter().any(|reader| match reader.at {
            At::Asking {
                command:
                    Command::Acquire { mine } | Command::Replace { mine, .. } | Command::Claim { mine, .. },
                ..
            } => mine == hold,
            At::Asking { command: Command::Convert { mine, .. }, .. } if mine == hold => true,
            At::Asking { load: Some(load), .. } | At::Loading(load) => load.hold == Some(hold),
            _ => false,
        })
    }

    /// Carries out a command at the server.
    pub(crate) fn serve(&mut self, command: Command, flaw: Option<Flaw>) -> Reply {
        let before = self.cell;
        let reply = command.apply(&mut self.cell, flaw);
        if let (Cell::Value(old), Cell::Value(new)) = (before, self.cell) {
            self.harms.note(Harm::Overwritten, new.version < old.version);
        }
        match command {
            Command::Fill { token, .. } if reply == Reply::Did(true) => {
                self.harms.note(Harm::Usurped, self.rightful != Some(token));
                self.rightful = None;
            }
            Command::Acquire { mine } if reply == Reply::Saw(Cell::Absent) => self.rightful = Some(mine),
            Command::Replace { mine, .. } | Command::Claim { mine, .. } | Command::Convert { mine, .. }
                if reply == Reply::Did(true) =>
            {
                self.rightful = Some(mine);
            }
            // What was there, or loading, is to be loaded again.
            Command::Delete if before != self.cell => self.due += 1,
            _ => {}
        }
        if self.cell == Cell::Absent {
            self.rightful = None;
        }
        reply
    }

    /// What was there is gone.
    pub(crate) fn vanish(&mut self) {
        self.cell = Cell::Absent;
        self.rightful = None;
    }

    /// A command that nobody waits for.
    pub(crate) fn stray(&mut self, command: Command) {
        if command != Command::Get {
            self.strays.push(command);
        }
    }

    /// One more thing went wrong, for which one more load is excused.
    pub(crate) fn fault(&mut self) {
        self.faults -= 1;
        self.due += 1;
    }

    /// In the one order that equal worlds share.
    pub(crate) fn sorted(mut self) -> Self {
        self.readers.sort_unstable();
        self.writers.sort_unstable();
        self.strays.sort_unstable();
        self.processes.iter_mut().for_each(|process| process.orphans.sort_unstable());
        self
    }
}
