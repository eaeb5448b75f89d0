//! Everything there is at one moment: the server, the database, the processes and the network.

use crate::flight::{Flight, Member};
use crate::store::{Cell, Command, Id, Reply, Version};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) cell: Cell,
    /// What the database holds.
    pub(crate) truth: Version,
    /// The newest version whose invalidation returned Ok.
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
    pub(crate) harm: Harm,
}

/// What must never happen, and leaves no other trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Harm {
    /// A read returned a version below the floor of its beginning.
    pub(crate) stale_read: bool,
    /// A fill put an older version in the place of a newer one.
    pub(crate) overwritten: bool,
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
    /// The hold is a claim, which isn't released.
    pub(crate) claimed: bool,
}

/// What a call makes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Sight {
    Hit(Version),
    Absent,
    Dead(Id),
    Busy(Id),
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
                    if let Some(Reply::Saw(cell)) = reply {
                        mark(cell.id());
                    }
                }
                At::Queued(Sight::Dead(id) | Sight::Busy(id)) | At::Polling { seen: id } => mark(Some(id)),
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

    /// Whether some call, or some command on its way, still goes by this lease.
    pub(crate) fn is_held(&self, lease: Id) -> bool {
        self.readers.iter().any(|reader| match reader.at {
            At::Asking { command: Command::Acquire { mine } | Command::Replace { mine, .. }, .. } => {
                mine == lease
            }
            At::Asking { load: Some(load), .. } | At::Loading(load) => load.hold == Some(lease),
            _ => false,
        })
    }

    /// Carries out a command at the server.
    pub(crate) fn serve(&mut self, command: Command, flaw: Option<crate::flaw::Flaw>) -> Reply {
        let before = self.cell;
        let reply = command.apply(&mut self.cell, flaw);
        match (command, before, self.cell) {
            (Command::Fill { version, .. }, Cell::Value(_, there), Cell::Value(..)) => {
                self.harm.overwritten |= reply == Reply::Did(true) && version < there;
            }
            // What was there, or loading, is to be loaded again.
            (Command::Delete, _, _) if before != self.cell => self.due += 1,
            _ => {}
        }
        reply
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
