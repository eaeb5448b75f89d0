//! The steps of one call, as `cache-runtime/src/engine.rs` and `lead.rs` have them. Between two steps
//! the others may do anything, so a pause is nothing special: it is a step that comes late.

use crate::flaw::Flaw;
use crate::flight::{Landing, Turn};
use crate::store::{Cell, Command, Id, Reply, Version};
use crate::world::{At, Kind, Load, Reader, Sight, World};

/// One reader in its world.
pub(crate) struct Steps<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) number: usize,
    pub(crate) flaw: Option<Flaw>,
}

impl Steps<'_> {
    fn me(&mut self) -> &mut Reader {
        &mut self.world.readers[self.number]
    }

    fn process(&mut self) -> usize {
        usize::from(self.me().process)
    }

    fn flight(&mut self) -> &mut crate::flight::Flight {
        let process = self.process();
        &mut self.world.processes[process].flight
    }

    /// The call begins.
    pub(crate) fn begin(&mut self) {
        self.me().floor = self.world.floor;
        self.ask(Command::Get, None);
    }

    fn ask(&mut self, command: Command, load: Option<Load>) {
        self.me().at = At::Asking { command, reply: None, load };
    }

    /// An id for a lease of this process.
    fn lease(&mut self) -> Id {
        match self.flaw {
            Some(Flaw::TokenPerProcess) => 60 + self.me().process,
            _ => self.world.fresh(),
        }
    }

    /// The server carries out what it was asked.
    pub(crate) fn arrive(&mut self) {
        let At::Asking { command, reply: None, load } = self.me().at else { unreachable!() };
        let reply = Some(self.world.serve(command, self.flaw));
        self.me().at = At::Asking { command, reply, load };
    }

    /// The reply is lost, or late beyond the budget; the command may still arrive.
    pub(crate) fn lose(&mut self) {
        let At::Asking { command, reply, load } = self.me().at else { unreachable!() };
        if reply.is_none() {
            self.world.stray(command);
        }
        self.me().at = At::Asking { command, reply: Some(Reply::Lost), load };
    }

    /// The reply is there.
    pub(crate) fn hear(&mut self) {
        let At::Asking { command, reply: Some(reply), load } = self.me().at else { unreachable!() };
        match (self.me().kind, command) {
            (_, Command::Fill { .. }) => self.filled(load.expect("a fill is of a load"), reply),
            (Kind::Call, Command::Get) => {
                let sight = self.sight(reply);
                match sight {
                    Sight::Hit(version) => self.give(version),
                    sight => {
                        let member = self.flight().join();
                        self.me().member = Some(member);
                        self.me().at = At::Queued(sight);
                    }
                }
            }
            (Kind::Call, Command::Acquire { mine } | Command::Replace { mine, .. }) => {
                match self.leased(mine, reply) {
                    Ok(()) => self.load(Some(mine), false),
                    Err(Sight::Busy(seen)) if Some(seen) != self.me().orphan => {
                        self.me().at = At::Polling { seen };
                    }
                    Err(sight) => self.lead(sight),
                }
            }
            (Kind::Refresh, _) => self.refresh(command, reply),
            (Kind::Call, _) => unreachable!("{command:?}"),
        }
    }

    fn sight(&mut self, reply: Reply) -> Sight {
        let process = self.process();
        match reply {
            Reply::Saw(Cell::Absent) => Sight::Absent,
            Reply::Saw(Cell::Dead(id)) => Sight::Dead(id),
            Reply::Saw(Cell::Lease(id)) if self.world.processes[process].orphans.contains(&id) => {
                Sight::Dead(id)
            }
            Reply::Saw(Cell::Lease(id)) => Sight::Busy(id),
            Reply::Saw(Cell::Value(_, version)) => Sight::Hit(version),
            Reply::Did(_) | Reply::Lost => Sight::Dark,
        }
    }

    /// Whether the lease is ours; else what is there.
    fn leased(&mut self, mine: Id, reply: Reply) -> Result<(), Sight> {
        match reply {
            Reply::Saw(Cell::Absent) | Reply::Did(true) => Ok(()),
            Reply::Did(false) => Err(Sight::Absent),
            Reply::Saw(_) => Err(self.sight(reply)),
            Reply::Lost => {
                self.world.stray(Command::Release { held: mine });
                Err(Sight::Dark)
            }
        }
    }

    /// Its turn in the queue.
    pub(crate) fn turn(&mut self) {
        let At::Queued(sight) = self.me().at else { unreachable!() };
        let (mut member, flaw) = (self.me().member.expect("it is in the queue"), self.flaw);
        let turn = self.flight().turn(&mut member, flaw);
        self.me().member = Some(member);
        match turn {
            Turn::Wait => {}
            Turn::Take(version) => self.give(version),
            Turn::Read => {
                self.leave();
                self.ask(Command::Get, None);
            }
            Turn::Alone => {
                self.leave();
                self.load(None, false);
            }
            Turn::Lead { orphan } => {
                self.me().seated = true;
                self.me().orphan = orphan;
                self.lead(sight);
            }
        }
    }

    fn lead(&mut self, sight: Sight) {
        match sight {
            Sight::Dark => self.load(None, false),
            Sight::Hit(version) => {
                self.land(0, Landing::Found);
                self.give(version);
            }
            Sight::Busy(seen) if self.me().orphan == Some(seen) => self.replace(seen),
            Sight::Dead(seen) => self.replace(seen),
            Sight::Busy(_) | Sight::Absent => self.acquire(),
        }
    }

    fn acquire(&mut self) {
        let mine = self.lease();
        self.ask(Command::Acquire { mine }, None);
    }

    fn replace(&mut self, seen: Id) {
        let mine = self.lease();
        self.ask(Command::Replace { seen, mine }, None);
    }

    /// It looks again for the load of another process.
    pub(crate) fn look(&mut self) {
        self.acquire();
    }

    /// It waited up to the load deadline: it loads, and doesn't fill.
    pub(crate) fn give_up(&mut self) {
        self.load(None, false);
    }

    fn load(&mut self, hold: Option<Id>, claimed: bool) {
        let mut load = Load { version: self.world.truth, number: 0, hold, claimed };
        if self.me().seated {
            load.number = self.flight().begin(hold);
            self.world.due -= 1;
        }
        self.me().at = At::Loading(load);
    }

    /// The function returned a value.
    pub(crate) fn loaded(&mut self) {
        let At::Loading(load) = self.me().at else { unreachable!() };
        let me = *self.me();
        let others = self
            .world
            .readers
            .iter()
            .filter(|other| other.member.is_some())
            .filter(|other| other.process == me.process);
        let is_followed = me.member.is_some() && others.count() > 1;
        if load.hold.is_none() && !is_followed {
            return self.give(load.version);
        }
        if self.me().seated && self.flaw != Some(Flaw::NoSeal) {
            self.flight().sealed = true;
        }
        match load.hold {
            None => self.filled(load, Reply::Did(false)),
            Some(held) => {
                let mine = self.world.fresh();
                self.ask(Command::Fill { held, mine, version: load.version }, Some(load));
            }
        }
    }

    fn filled(&mut self, load: Load, reply: Reply) {
        let accepted = reply == Reply::Did(true);
        if let (Reply::Lost, Some(held)) = (reply, load.hold) {
            // A claimed value goes too: it is older than this load. (After a refusal there is nothing
            // left to release, so what is sent then changes nothing.)
            self.world.stray(Command::Release { held });
        }
        self.land(load.number, Landing::Value { version: load.version, accepted });
        self.give(load.version);
    }

    fn release(&mut self, load: Load) {
        if let Some(held) = load.hold.filter(|_| !load.claimed) {
            self.world.stray(Command::Release { held });
        }
    }

    /// The function returned an error, or panicked.
    pub(crate) fn failed(&mut self) {
        let At::Loading(load) = self.me().at else { unreachable!() };
        self.release(load);
        self.land(load.number, Landing::Alone);
        self.end();
    }

    /// The load takes longer than it is shared for.
    pub(crate) fn part(&mut self) {
        let At::Loading(load) = self.me().at else { unreachable!() };
        self.land(load.number, Landing::Alone);
    }

    fn land(&mut self, load: u8, landing: Landing) {
        if std::mem::take(&mut self.me().seated) {
            self.flight().land(load, landing);
        }
    }

    /// The refresher's way.
    fn refresh(&mut self, command: Command, reply: Reply) {
        match (command, reply) {
            (Command::Get, Reply::Saw(Cell::Absent)) => self.acquire(),
            (Command::Get, Reply::Saw(Cell::Value(seen, _)))
                if self.flaw == Some(Flaw::RefreshWithoutClaim) =>
            {
                self.load(Some(seen), true);
            }
            (Command::Get, Reply::Saw(Cell::Value(seen, _))) => {
                let mine = self.world.fresh();
                self.ask(Command::Claim { seen, mine }, None);
            }
            (Command::Get, Reply::Saw(Cell::Dead(seen))) => self.replace(seen),
            (Command::Get, Reply::Saw(Cell::Lease(seen))) => {
                // It takes a running load's right to fill, so that one is in vain.
                self.world.due += 1;
                self.replace(seen);
            }
            (Command::Claim { mine, .. }, Reply::Did(true)) => self.load(Some(mine), true),
            (Command::Acquire { mine } | Command::Replace { mine, .. }, reply) => {
                match self.leased(mine, reply) {
                    Ok(()) => self.load(Some(mine), false),
                    Err(_) => self.load(None, false), // it tries thrice; more of the same
                }
            }
            _ => self.load(None, false),
        }
    }

    fn leave(&mut self) {
        let me = *self.me();
        self.me().member = None;
        self.me().orphan = None;
        if me.member.is_some() {
            if std::mem::take(&mut self.me().seated) && self.flaw != Some(Flaw::SeatIsNotHandedOn) {
                self.flight().vacate();
            }
            let is_in = |other: &Reader| other.process == me.process && other.member.is_some();
            if !self.world.readers.iter().any(is_in) {
                *self.flight() = crate::flight::Flight::default();
            }
        }
    }

    /// The answer.
    fn give(&mut self, version: Version) {
        self.world.harm.stale_read |= version < self.me().floor;
        self.end();
    }

    fn end(&mut self) {
        self.leave();
        let me = self.me();
        *me = Reader {
            process: me.process,
            kind: me.kind,
            floor: 0,
            member: None,
            seated: false,
            orphan: None,
            at: At::Over,
        };
    }

    /// Its caller drops it, wherever it is: guards release the lease and hand over.
    pub(crate) fn drop(&mut self) {
        match self.me().at {
            At::Asking { command, reply, load } => {
                if reply.is_none() {
                    self.world.stray(command);
                }
                match (command, load) {
                    (Command::Acquire { mine } | Command::Replace { mine, .. }, _) => {
                        self.world.stray(Command::Release { held: mine });
                    }
                    (_, Some(load)) => self.release(load),
                    _ => {}
                }
            }
            At::Loading(load) => self.release(load),
            _ => {}
        }
        self.end();
    }

    /// Its process is killed: nobody releases anything.
    pub(crate) fn die(&mut self) {
        if let At::Asking { command, reply: None, .. } = self.me().at {
            self.world.stray(command);
        }
        self.me().member = None;
        self.end();
    }
}
