//! The steps of a refresh: by hand, ahead in the background, or of a stale value in a flight's seat. The
//! value stays readable meanwhile; a claim, its id, is what the fill compares.

use crate::ageing::{Claim, Entry};
use crate::flaw::Flaw;
use crate::flight::Landing;
use crate::reader::Steps;
use crate::store::{Cell, Command, Id, Reply, Version};
use crate::world::{At, Harm, Kind, Load, Sight, World};

impl Steps<'_> {
    /// A stale value that nobody loads anew, or somebody who is gone: this leader does.
    pub(crate) fn claim(&mut self, seen: Entry) {
        let mine = self.world.fresh();
        self.ask(Command::Claim { seen, mine, mark: Claim::Held }, None);
    }

    /// Answers with a value that is to be refreshed ahead, and begins with that. The refresher has no
    /// seat in the flight.
    pub(crate) fn refresh_ahead(&mut self, seen: Entry) {
        self.land(0, Landing::Found);
        self.check(seen.version);
        self.leave();
        self.me().floor = 0;
        self.me().kind = Kind::Background;
        match self.flaw {
            Some(Flaw::RefreshWithoutClaim) => self.load(Some(seen.id), Some(seen.version)),
            _ => self.claim(seen),
        }
    }

    /// Whether the claim is ours.
    pub(crate) fn claimed(&mut self, seen: Entry, mine: Id, reply: Reply) {
        let hold = if self.flaw == Some(Flaw::ClaimKeepsId) { seen.id } else { mine };
        match (self.me().kind, reply) {
            (_, Reply::Did(true)) => {
                self.load(Some(hold), Some(seen.version));
                self.loading().token = Some(mine);
            }
            (kind, reply) => {
                if reply == Reply::Lost && kind != Kind::Refresh {
                    self.world.stray(Command::Unclaim { held: hold });
                }
                match (kind, reply) {
                    (Kind::Background, _) => self.end(),
                    (Kind::Refresh, _) => self.load(None, None), // it tries thrice; more of the same
                    (Kind::Call, Reply::Lost) => self.lead(Sight::Dark),
                    (Kind::Call, _) => self.lead(Sight::Absent),
                }
            }
        }
    }

    fn loading(&mut self) -> &mut Load {
        let At::Loading(load) = &mut self.me().at else { unreachable!() };
        load
    }

    /// The function returned an error, or panicked.
    pub(crate) fn failed(&mut self) {
        let At::Loading(load) = self.me().at else { unreachable!() };
        self.world.due += 1;
        match (load.claimed, load.hold) {
            (Some(version), _) if self.flaw == Some(Flaw::ErrorAnswersUnasked) => {
                self.me().floor = self.world.floor;
                self.land(load.number, Landing::Found);
                self.give_stale(version);
            }
            (Some(version), Some(held)) if self.me().kind != Kind::Refresh => {
                // What is answered now must still be there now.
                self.me().floor = self.world.floor;
                self.ask(Command::Rest { held, version }, Some(load));
            }
            _ => {
                self.release(load);
                self.land(load.number, Landing::Alone);
                self.end();
            }
        }
    }

    /// Whether the stale value was still there when the load had failed.
    pub(crate) fn rested(&mut self, load: Load, version: Version, reply: Reply) {
        if reply == Reply::Did(true) {
            self.land(load.number, Landing::Found);
            self.give_stale(version);
        } else {
            self.land(load.number, Landing::Alone);
            self.end();
        }
    }

    /// The value that it claims is about to end: the load goes on under a lease.
    pub(crate) fn convert(&mut self) {
        let mine = self.world.fresh();
        let load = *self.loading();
        self.ask(Command::Convert { held: load.hold.expect("it has a claim"), mine }, Some(load));
    }

    pub(crate) fn converted(&mut self, load: Load, mine: Id, reply: Reply) {
        self.me().at = At::Loading(load);
        match reply {
            Reply::Did(true) => {
                *self.loading() = Load { hold: Some(mine), token: Some(mine), claimed: None, ..load };
                if self.me().seated {
                    self.flight().lease = Some(mine);
                }
            }
            Reply::Lost => self.world.stray(Command::Release { held: mine }),
            _ => {}
        }
    }

    /// The patience of one who has seen a stale value ends, and there is one. His own load goes on in
    /// its task.
    pub(crate) fn lose_patience(&mut self, version: Version) {
        self.me().floor = self.world.floor;
        self.check_stale(version);
        if let At::Loading(_) = self.me().at {
            self.me().kind = Kind::Background;
            self.me().floor = 0;
        } else {
            self.end();
        }
    }

    /// A stale answer, settled on at the floor that is noted.
    pub(crate) fn give_stale(&mut self, version: Version) {
        self.check_stale(version);
        self.end();
    }

    fn check_stale(&mut self, version: Version) {
        let me = *self.me();
        self.world.harms.note(Harm::DeadServed, me.kind == Kind::Call && version < me.floor);
    }

    /// A refresh by hand returns. If the server answered all that it asked, nothing older stays.
    pub(crate) fn refreshed(&mut self, load: Load, is_sure: bool) {
        if is_sure {
            self.world.floor = self.world.floor.max(self.me().floor);
        }
        self.give(load.version);
    }

    /// The way of a refresh by hand.
    pub(crate) fn refresh(&mut self, command: Command, reply: Reply) {
        match (command, reply) {
            (Command::Get, Reply::Saw(Cell::Absent)) => self.acquire(),
            (Command::Get, Reply::Saw(Cell::Value(seen))) => {
                if self.flaw == Some(Flaw::RefreshWithoutClaim) {
                    return self.load(Some(seen.id), Some(seen.version));
                }
                // It takes a running load's right to fill, so that one is in vain.
                self.world.due += i8::from(seen.is_held());
                let mine = self.world.fresh();
                self.ask(Command::Claim { seen, mine, mark: Claim::Free }, None);
            }
            (Command::Get, Reply::Saw(Cell::Dead(seen))) => self.replace(seen),
            (Command::Get, Reply::Saw(Cell::Lease(seen))) => {
                self.world.due += 1; // likewise
                self.replace(seen);
            }
            (Command::Acquire { mine } | Command::Replace { mine, .. }, reply) => {
                match self.leased(mine, reply) {
                    Ok(()) => self.load(Some(mine), None),
                    Err(_) => self.load(None, None),
                }
            }
            _ => self.load(None, None),
        }
    }
}

/// What a caller that waits for a load could answer with if he looked now. Nothing: he has seen no
/// stale value, or it has gone.
pub(crate) fn in_reach(world: &World, number: usize, flaw: Option<Flaw>) -> Option<Version> {
    let reader = &world.readers[number];
    let seen = match reader.at {
        At::Queued(Sight::Stale(entry)) => entry.version,
        At::Polling { stale: Some(version), .. } | At::Loading(Load { claimed: Some(version), .. }) => {
            version
        }
        _ => return None,
    };
    match (reader.kind, world.cell) {
        (Kind::Call, _) if flaw == Some(Flaw::TimeoutAnswersUnasked) => Some(seen),
        (Kind::Call, Cell::Value(entry)) => Some(entry.version),
        _ => None,
    }
}
