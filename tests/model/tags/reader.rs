//! The steps of one call. Between two steps the others may do anything, so a pause is a step that comes
//! late.

use super::Tags;
use super::mutants::Flaw;
use super::server::{Cell, Command, Entry, Key, Numbers, Reply};
use super::world::{At, Flush, Load, Reader, Sight, Step, World};
use crate::flight::{Flight, Landing, Turn};
use crate::store::{Id, Version};

/// One reader in its world.
pub(super) struct Steps<'a> {
    pub(super) world: &'a mut World,
    pub(super) number: usize,
    pub(super) tags: &'a Tags,
}

impl Steps<'_> {
    fn me(&mut self) -> &mut Reader {
        &mut self.world.readers[self.number]
    }

    fn flight(&mut self) -> &mut Flight {
        let process = usize::from(self.me().process);
        &mut self.world.flights[process]
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.tags.flaw == Some(flaw)
    }

    /// The call begins.
    pub(super) fn begin(&mut self) {
        self.me().floor = self.world.floors.into_iter().max().unwrap_or_default();
        self.look();
    }

    fn look(&mut self) {
        self.ask(Step::Look, Some(Command::Get), Numbers::default());
    }

    /// Sends what this step needs: a command for the entry, and what it has to know of the tags.
    fn ask(&mut self, step: Step, entry: Option<Command>, saw: Numbers) {
        let about = |key| self.about(key, step);
        let left = [about(Key::Argument), about(Key::Result), about(Key::Epoch), entry];
        self.me().at = At::Asking(Flush { step, left, reply: None, saw });
    }

    fn about(&self, key: Key, step: Step) -> Option<Command> {
        let tag = if key == Key::Epoch { Key::Result } else { key };
        if !self.tags.has(tag) {
            return None;
        }
        let is_late = self.has(Flaw::CaptureAfterLoad);
        let captures = match (key, step) {
            (Key::Argument, Step::Look | Step::Fill(_))
            | (Key::Result, Step::Judge(_) | Step::Fill(_))
            | (Key::Epoch, Step::Name(_)) => false,
            (Key::Argument, Step::Acquire { .. } | Step::Replace { .. }) if !is_late => true,
            (Key::Argument, Step::Name(_)) if is_late => true,
            (Key::Result, Step::Name(_)) | (Key::Epoch, Step::Acquire { .. } | Step::Replace { .. }) => true,
            _ => return None,
        };
        Some(if captures { Command::Create(key, self.world.draw(key)) } else { Command::Read(key) })
    }

    /// The server carries out one of the commands.
    pub(super) fn arrive(&mut self, key: Key) {
        let At::Asking(mut flush) = self.me().at else { unreachable!() };
        let command = flush.left[key as usize].take().expect("it was sent");
        let reply = self.world.server.apply(command, self.tags.flaw);
        match reply {
            Reply::Is(number) => flush.saw[key as usize] = number,
            reply => flush.reply = Some(reply),
        }
        self.me().at = At::Asking(flush);
        // When the replies to the others are heard makes no difference: what follows may come late, too.
        if flush.left == [None; 4] && !flush.is_heard_late() {
            self.hear();
        }
    }

    /// The replies are lost, or late beyond the budget. Commands that were on their way may still arrive,
    /// also at once.
    pub(super) fn lose(&mut self) {
        let At::Asking(flush) = self.me().at else { unreachable!() };
        self.abandon(flush);
        if self.has(Flaw::CreationSentAgain) {
            let is_creation = |command: &Command| matches!(command, Command::Create(..));
            self.world.strays.extend(flush.left.into_iter().flatten().filter(is_creation));
        }
        match flush.step {
            Step::Look | Step::Judge(_) => self.go_on(Sight::Dark),
            Step::Acquire { mine } | Step::Replace { mine } => {
                self.world.strays.push(Command::Release { held: mine });
                self.load(None, Numbers::default());
            }
            Step::Name(load) | Step::Fill(load) => self.refuse(load),
        }
    }

    fn abandon(&mut self, flush: Flush) {
        let matters = |command: &Command| !matches!(command, Command::Get | Command::Read(_));
        self.world.strays.extend(flush.left.into_iter().flatten().filter(matters));
    }

    /// The replies are there.
    pub(super) fn hear(&mut self) {
        let At::Asking(Flush { step, reply, saw, .. }) = self.me().at else { unreachable!() };
        match (step, reply) {
            (Step::Acquire { mine }, Some(Reply::Saw(Cell::Absent)))
            | (Step::Replace { mine }, Some(Reply::Did(true))) => self.load(Some(mine), saw),
            (Step::Replace { .. }, _) => self.lead(Sight::Absent),
            (Step::Look | Step::Acquire { .. }, Some(Reply::Saw(cell))) => self.saw(cell, saw),
            (Step::Judge(entry), _) => self.judged(entry, saw),
            (Step::Name(load), _) => self.named(load, saw),
            (Step::Fill(load), reply) => self.filled(load, reply == Some(Reply::Did(true)), saw),
            (Step::Look | Step::Acquire { .. }, _) => unreachable!("{reply:?}"),
        }
    }

    fn saw(&mut self, cell: Cell, saw: Numbers) {
        match cell {
            Cell::Absent => self.go_on(Sight::Absent),
            Cell::Lease(id) if self.me().seated => self.me().at = At::Polling(id),
            Cell::Lease(id) => self.go_on(Sight::Busy(id)),
            Cell::Value(entry) if self.tags.has(Key::Result) => {
                self.ask(Step::Judge(entry), None, saw);
            }
            Cell::Value(entry) => self.judged(entry, saw),
        }
    }

    /// All that its tags are now is known.
    fn judged(&mut self, entry: Entry, saw: Numbers) {
        if !self.tags.is_valid(entry.tags, saw) {
            return self.go_on(Sight::Dead(entry.id));
        }
        self.land(0, Landing::Found);
        self.give(entry.version);
    }

    /// No hit: into the queue, or on if it leads already.
    fn go_on(&mut self, sight: Sight) {
        if self.me().seated {
            return self.lead(sight);
        }
        let member = self.flight().join();
        self.me().member = Some(member);
        self.me().at = At::Queued(sight);
    }

    /// Its turn in the queue.
    pub(super) fn turn(&mut self) {
        let At::Queued(sight) = self.me().at else { unreachable!() };
        let mut member = self.me().member.expect("it is in the queue");
        let turn = self.flight().turn(&mut member, None);
        self.me().member = Some(member);
        match turn {
            Turn::Wait => {}
            Turn::Take(version) => self.give(version),
            Turn::Read => {
                self.leave();
                self.look();
            }
            Turn::Alone => unreachable!("nobody lands so"),
            Turn::Lead { .. } => {
                self.me().seated = true;
                self.lead(sight);
            }
        }
    }

    fn lead(&mut self, sight: Sight) {
        match sight {
            Sight::Dark => self.load(None, Numbers::default()),
            Sight::Dead(seen) => {
                let mine = self.world.fresh();
                self.ask(Step::Replace { mine }, Some(Command::Replace { seen, mine }), Numbers::default());
            }
            Sight::Busy(_) | Sight::Absent => self.acquire(),
        }
    }

    /// It asks for the lease, or looks again for the load of another process.
    pub(super) fn acquire(&mut self) {
        let mine = self.world.fresh();
        self.ask(Step::Acquire { mine }, Some(Command::Acquire { mine }), Numbers::default());
    }

    fn load(&mut self, lease: Option<Id>, captured: Numbers) {
        let number = self.flight().begin(lease);
        self.me().at = At::Loading(Load { version: self.world.truth, number, lease, captured });
    }

    /// The function returned a value.
    pub(super) fn loaded(&mut self) {
        let At::Loading(load) = self.me().at else { unreachable!() };
        if load.lease.is_none() {
            self.refuse(load);
        } else if self.tags.has(Key::Result) || self.has(Flaw::CaptureAfterLoad) {
            self.ask(Step::Name(load), None, Numbers::default());
        } else {
            self.fill(load);
        }
    }

    /// The tags of the result are known, and whether one was invalidated meanwhile.
    fn named(&mut self, mut load: Load, saw: Numbers) {
        let epoch = Key::Epoch as usize;
        if saw[epoch] != load.captured[epoch] && !self.has(Flaw::NoEpoch) {
            return self.refuse(load);
        }
        for tag in Key::TAGS {
            load.captured[tag as usize] = load.captured[tag as usize].or(saw[tag as usize]);
        }
        self.fill(load);
    }

    fn fill(&mut self, mut load: Load) {
        load.captured[Key::Epoch as usize] = None;
        self.flight().sealed = true;
        let id = load.lease.expect("without one there is no fill");
        let entry = Entry { id, version: load.version, tags: load.captured };
        self.ask(Step::Fill(load), Some(Command::Fill { entry }), Numbers::default());
    }

    fn filled(&mut self, load: Load, is_stored: bool, saw: Numbers) {
        let is_same = self.tags.is_valid(load.captured, saw) || self.has(Flaw::NoReread);
        self.finish(load, is_stored && is_same);
    }

    /// It isn't stored, or nobody knows.
    fn refuse(&mut self, load: Load) {
        if let Some(held) = load.lease {
            self.world.strays.push(Command::Release { held });
        }
        self.finish(load, false);
    }

    /// Who started a load may keep its value, whatever became of the fill.
    fn finish(&mut self, load: Load, accepted: bool) {
        self.land(load.number, Landing::Value { version: load.version, accepted });
        self.give(load.version);
    }

    fn land(&mut self, load: u8, landing: Landing) {
        if std::mem::take(&mut self.me().seated) {
            self.flight().land(load, landing);
        }
    }

    fn leave(&mut self) {
        self.me().member = None;
        let process = self.me().process;
        let is_in = |other: &Reader| other.process == process && other.member.is_some();
        if !self.world.readers.iter().any(is_in) {
            *self.flight() = Flight::default();
        }
    }

    fn give(&mut self, version: Version) {
        self.world.stale_read |= version < self.me().floor;
        self.end();
    }

    fn end(&mut self) {
        self.leave();
        let process = self.me().process;
        *self.me() = Reader { process, floor: 0, member: None, seated: false, at: At::Over };
    }

    /// Its process is killed: nobody releases anything.
    pub(super) fn die(&mut self) {
        if let At::Asking(flush) = self.me().at {
            self.abandon(flush);
        }
        self.end();
    }
}
