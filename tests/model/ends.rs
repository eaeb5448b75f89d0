//! How a call ends: with an answer, dropped, or killed; and how its turn in the flight does.

use crate::flaw::Flaw;
use crate::flight::{Flight, Landing};
use crate::reader::Steps;
use crate::store::{Command, Reply, Version};
use crate::world::{At, Harm, Kind, Load, Reader};

impl Steps<'_> {
    /// What a guard does: it doesn't wait for it.
    pub(crate) fn release(&mut self, load: Load) {
        match (load.hold, load.claimed) {
            (Some(held), None) => self.world.stray(Command::Release { held }),
            (Some(held), Some(_)) if self.me().kind != Kind::Refresh => {
                self.world.stray(Command::Unclaim { held });
            }
            _ => {}
        }
    }

    /// The load takes longer than it is shared for.
    pub(crate) fn part(&mut self) {
        let At::Loading(load) = self.me().at else { unreachable!() };
        self.land(load.number, Landing::Alone);
    }

    pub(crate) fn land(&mut self, load: u8, landing: Landing) {
        if std::mem::take(&mut self.me().seated) {
            self.flight().land(load, landing);
        }
    }

    pub(crate) fn leave(&mut self) {
        let me = *self.me();
        self.me().member = None;
        self.me().orphan = None;
        if me.member.is_some() {
            if std::mem::take(&mut self.me().seated) && self.flaw != Some(Flaw::SeatIsNotHandedOn) {
                self.flight().vacate();
            }
            let is_in = |other: &Reader| other.process == me.process && other.member.is_some();
            if !self.world.readers.iter().any(is_in) {
                *self.flight() = Flight::default();
            }
        }
    }

    /// The answer.
    pub(crate) fn give(&mut self, version: Version) {
        if self.flaw == Some(Flaw::MissJoinsRefresh) && self.me().kind == Kind::Background {
            self.share(version);
        }
        self.check(version);
        self.end();
    }

    /// An answer of this version, to a question as old as its floor.
    pub(crate) fn check(&mut self, version: Version) {
        let me = *self.me();
        self.world.harms.note(Harm::StaleRead, me.kind != Kind::Background && version < me.floor);
    }

    /// The flaw: others of this process take what a refresher brings.
    fn share(&mut self, version: Version) {
        let process = self.me().process;
        for number in 0..self.world.readers.len() {
            let other = &self.world.readers[number];
            if other.process == process && matches!(other.at, At::Queued(_)) {
                Steps { world: self.world, number, ..*self }.give(version);
            }
        }
    }

    pub(crate) fn end(&mut self) {
        self.leave();
        let me = self.me();
        *me = Reader {
            process: me.process,
            kind: if me.kind == Kind::Refresh { Kind::Refresh } else { Kind::Call },
            floor: 0,
            member: None,
            seated: false,
            orphan: None,
            at: At::Over,
        };
    }

    /// Its caller drops it, wherever it is: guards release the lease or the claim, and hand over. What
    /// runs in a task of its own goes on; only the end of its runtime drops it.
    pub(crate) fn drop(&mut self) {
        let me = *self.me();
        match me.at {
            At::Loading(Load { claimed: Some(_), .. })
            | At::Asking { load: Some(Load { claimed: Some(_), .. }), .. }
                if self.options.timeout && me.kind == Kind::Call =>
            {
                self.me().kind = Kind::Background;
                self.me().floor = 0;
                return;
            }
            At::Asking { command, reply, load } => {
                if reply.is_none_or(Reply::is_half) {
                    self.world.stray(command);
                }
                match (command, load) {
                    (Command::Acquire { mine } | Command::Replace { mine, .. }, _) => {
                        self.world.stray(Command::Release { held: mine });
                    }
                    (Command::Claim { mine, .. }, _) if me.kind != Kind::Refresh => {
                        self.world.stray(Command::Unclaim { held: mine });
                    }
                    (command, Some(load)) => {
                        if let Command::Convert { mine, .. } = command {
                            self.world.stray(Command::Release { held: mine });
                        }
                        self.release(load);
                    }
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
        if let At::Asking { command, reply, .. } = self.me().at
            && reply.is_none_or(Reply::is_half)
        {
            self.world.stray(command);
        }
        self.me().member = None;
        self.end();
    }
}
