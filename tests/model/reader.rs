//! The steps of one call, as `cache-runtime/src/engine.rs` and `lead.rs` have them. Between two steps
//! the others may do anything, so a pause is nothing special: it is a step that comes late.

use crate::ageing::{Age, Claim, Entry, Options};
use crate::flaw::Flaw;
use crate::flight::{Landing, Turn};
use crate::store::{Cell, Command, Id, Reply, Version};
use crate::world::{At, Harm, Kind, Load, Reader, Sight, World};

/// One reader in its world.
pub(crate) struct Steps<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) number: usize,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) options: Options,
    /// Other commands may come between the two of a look.
    pub(crate) split: bool,
}

impl Steps<'_> {
    pub(crate) fn me(&mut self) -> &mut Reader {
        &mut self.world.readers[self.number]
    }

    fn process(&mut self) -> usize {
        usize::from(self.me().process)
    }

    pub(crate) fn flight(&mut self) -> &mut crate::flight::Flight {
        let process = self.process();
        &mut self.world.processes[process].flight
    }

    /// The call begins.
    pub(crate) fn begin(&mut self) {
        // A refresh is asked for because of a write, with or without an invalidation.
        let is_refresh = self.me().kind == Kind::Refresh;
        self.me().floor = if is_refresh { self.world.truth } else { self.world.floor };
        self.ask(Command::Get, None);
    }

    pub(crate) fn ask(&mut self, command: Command, load: Option<Load>) {
        self.me().at = At::Asking { command, reply: None, load };
    }

    /// An id for a lease of this process.
    fn lease(&mut self) -> Id {
        match self.flaw {
            Some(Flaw::TokenPerProcess) => 60 + self.me().process,
            _ => self.world.fresh(),
        }
    }

    /// The server carries out what it was asked: a look in two halves.
    pub(crate) fn arrive(&mut self) {
        let At::Asking { command, reply, load } = self.me().at else { unreachable!() };
        let is_look = matches!(command, Command::Get | Command::Acquire { .. });
        let is_split = self.split && is_look && self.me().kind == Kind::Call;
        let reply = match reply {
            None if is_split && self.flaw == Some(Flaw::LifeAskedLast) => {
                match self.world.serve(command, self.flaw) {
                    Reply::Saw(cell) => Reply::There(cell),
                    reply => reply,
                }
            }
            None if is_split => Reply::Life(self.world.cell.age()),
            Some(Reply::Life(age)) => {
                let reply = self.world.serve(command, self.flaw);
                self.judged(reply, age)
            }
            Some(Reply::There(cell)) => {
                let age = self.world.cell.age();
                self.judged(Reply::Saw(cell), age)
            }
            _ => self.world.serve(command, self.flaw),
        };
        self.me().at = At::Asking { command, reply: Some(reply), load };
    }

    /// What was there, with the age that the other command made one think of.
    fn judged(&mut self, reply: Reply, age: Option<Age>) -> Reply {
        let Reply::Saw(Cell::Value(entry)) = reply else { return reply };
        // Without a life there was nothing: a value that came since is fresh, one that went wasn't.
        let age = age.unwrap_or(Age::Fresh);
        self.world.harms.note(Harm::Overdue, entry.age == Age::Stale && age != Age::Stale);
        Reply::Saw(Cell::Value(Entry { age, ..entry }))
    }

    /// The reply is lost, or late beyond the budget; the command may still arrive.
    pub(crate) fn lose(&mut self) {
        let At::Asking { command, reply, load } = self.me().at else { unreachable!() };
        if reply.is_none_or(Reply::is_half) {
            self.world.stray(command);
        }
        self.me().at = At::Asking { command, reply: Some(Reply::Lost), load };
    }

    /// The reply is there.
    pub(crate) fn hear(&mut self) {
        let At::Asking { command, reply: Some(reply), load } = self.me().at else { unreachable!() };
        match (self.me().kind, command) {
            (_, Command::Fill { .. }) => self.filled(load.expect("a fill is of a load"), reply),
            (_, Command::Claim { seen, mine, .. }) => self.claimed(seen, mine, reply),
            (_, Command::Rest { version, .. }) => {
                self.rested(load.expect("a rest is from a load"), version, reply);
            }
            (_, Command::Convert { mine, .. }) => {
                self.converted(load.expect("there is a load under the claim"), mine, reply);
            }
            (Kind::Call, Command::Get) => {
                let sight = self.sight(reply);
                if !self.answers(sight) {
                    let member = self.flight().join();
                    self.me().member = Some(member);
                    self.me().at = At::Queued(sight);
                }
            }
            (Kind::Call, Command::Acquire { mine } | Command::Replace { mine, .. }) => {
                match self.leased(mine, reply) {
                    Ok(()) => self.load(Some(mine), None),
                    Err(Sight::Busy(seen)) if Some(seen) != self.me().orphan => {
                        self.me().at = At::Polling { seen, stale: None };
                    }
                    Err(Sight::Stale(Entry { id: seen, version, claim: Claim::Held, .. }))
                        if Some(seen) != self.me().orphan =>
                    {
                        self.me().at = At::Polling { seen, stale: Some(version) };
                    }
                    Err(sight) => self.lead(sight),
                }
            }
            (Kind::Refresh, Command::Delete) => {
                self.refreshed(load.expect("it had a load"), reply != Reply::Lost);
            }
            (Kind::Refresh, _) => self.refresh(command, reply),
            (Kind::Call | Kind::Background, _) => unreachable!("{command:?}"),
        }
    }

    /// Answers if what was seen is enough for that.
    fn answers(&mut self, sight: Sight) -> bool {
        match sight {
            Sight::Hit(version) => self.give(version),
            Sight::Due(entry) => self.refresh_ahead(entry),
            Sight::Stale(Entry { version, claim: Claim::Resting, .. }) => self.give_stale(version),
            _ => return false,
        }
        true
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
            Reply::Saw(Cell::Value(mut entry)) => {
                if entry.is_held() && self.world.processes[process].orphans.contains(&entry.id) {
                    entry.claim = Claim::Free;
                }
                match (entry.age, entry.claim) {
                    (Age::Stale, _) => Sight::Stale(entry),
                    (Age::Due, Claim::Free) => Sight::Due(entry),
                    _ => Sight::Hit(entry.version),
                }
            }
            _ => Sight::Dark,
        }
    }

    /// Whether the lease is ours; else what is there.
    pub(crate) fn leased(&mut self, mine: Id, reply: Reply) -> Result<(), Sight> {
        match reply {
            Reply::Saw(Cell::Absent) | Reply::Did(true) => Ok(()),
            Reply::Did(false) => Err(Sight::Absent),
            Reply::Lost => {
                self.world.stray(Command::Release { held: mine });
                Err(Sight::Dark)
            }
            _ => Err(self.sight(reply)),
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
                self.load(None, None);
            }
            Turn::Lead { orphan } => {
                self.me().seated = true;
                self.me().orphan = orphan;
                self.lead(sight);
            }
        }
    }

    pub(crate) fn lead(&mut self, sight: Sight) {
        let orphan = self.me().orphan;
        match sight {
            Sight::Dark => self.load(None, None),
            Sight::Hit(_) | Sight::Due(_) | Sight::Stale(Entry { claim: Claim::Resting, .. }) => {
                self.land(0, Landing::Found);
                self.answers(sight);
            }
            Sight::Busy(seen) if orphan == Some(seen) => self.replace(seen),
            Sight::Dead(seen) => self.replace(seen),
            Sight::Stale(seen) if orphan == Some(seen.id) || !seen.is_held() => self.claim(seen),
            // The look may be older than the seat; acquiring looks again.
            Sight::Busy(_) | Sight::Stale(_) | Sight::Absent => self.acquire(),
        }
    }

    pub(crate) fn acquire(&mut self) {
        let mine = self.lease();
        self.ask(Command::Acquire { mine }, None);
    }

    pub(crate) fn replace(&mut self, seen: Id) {
        let mine = self.lease();
        self.ask(Command::Replace { seen, mine }, None);
    }

    /// It looks again for the load of another process.
    pub(crate) fn look(&mut self) {
        self.acquire();
    }

    /// It waited up to the load deadline: it loads, and doesn't fill.
    pub(crate) fn give_up(&mut self) {
        self.load(None, None);
    }

    pub(crate) fn load(&mut self, hold: Option<Id>, claimed: Option<Version>) {
        let mut load = Load { version: self.world.truth, number: 0, hold, token: hold, claimed };
        if self.me().seated {
            load.number = self.flight().begin(hold);
        }
        if self.me().seated || self.me().kind == Kind::Background {
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
                let (version, token) = (load.version, load.token.unwrap_or(held));
                self.ask(Command::Fill { held, mine, version, token }, Some(load));
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
        if self.me().kind == Kind::Refresh && load.hold.is_some() {
            return match reply {
                // What is there may be older than this refresh.
                Reply::Did(false) if self.flaw != Some(Flaw::RefusedRefreshLeavesValue) => {
                    self.ask(Command::Delete, Some(load));
                }
                reply => self.refreshed(load, reply != Reply::Lost),
            };
        }
        self.give(load.version);
    }
}
