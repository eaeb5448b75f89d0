//! What a step changes.

use super::{Action, Cell, Doing, Flaw, PAST, Reader, Seq, Worker, World, Writes, bit};

impl Writes {
    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(super) fn is_in_office(&self, world: &World, worker: usize) -> bool {
        let term = world.workers[worker].term;
        world.owner == worker && if self.has(Flaw::NoTerms) { term > 0 } else { term == world.term }
    }

    /// Whether it still is in the office in which it handed over what it is doing.
    fn may_end(&self, world: &World, worker: usize) -> bool {
        let Worker { term, since, .. } = world.workers[worker];
        self.is_in_office(world, worker) && (term == since || self.has(Flaw::NoTerms))
    }

    fn store_entry(&self, world: &mut World, seq: Seq) {
        if !(self.has(Flaw::AppendSparesLeases) && matches!(world.cell, Cell::Lease(_))) {
            world.cell = Cell::Value(seq);
        }
        world.acknowledged = world.acknowledged.max(seq);
    }

    /// The write leaves the queue; what becomes of its mark and of its entry.
    fn remove(&self, world: &mut World, seq: Seq, is_dead: bool) {
        world.queue.retain(|(there, _)| *there != seq);
        if world.mark == Some(seq) || self.has(Flaw::SettleUnmarksAll) {
            world.mark = None;
            let is_own = world.cell == Cell::Value(seq);
            let stays = if is_dead {
                self.has(Flaw::BuryLeavesEntry)
            } else {
                is_own || self.has(Flaw::SettleKeepsCopy) || self.has(Flaw::SettleUnmarksAll)
            };
            if !stays {
                world.cell = Cell::Absent;
            }
        } else if world.mark.is_none() && !self.has(Flaw::BuryLeavesEntry) {
            world.cell = Cell::Absent;
        }
    }

    fn settle(&self, world: &mut World, number: usize, seq: Seq) {
        if self.may_end(world, number) {
            self.remove(world, seq, false);
        }
    }

    /// A sender's step.
    pub(super) fn send(&self, now: &mut World, action: Action) {
        match action {
            Action::Send => {
                now.sent += 1;
                let seq = now.sent;
                now.queue.push((seq, false));
                now.mark = Some(seq);
                if self.has(Flaw::EntryApart) {
                    now.half.push(seq);
                } else {
                    self.store_entry(now, seq);
                }
            }
            Action::StoreEntry(seq) => {
                now.half.retain(|half| *half != seq);
                self.store_entry(now, seq);
            }
            _ => unreachable!(),
        }
    }

    /// A worker's step.
    pub(super) fn work(&self, now: &mut World, action: Action) {
        match action {
            Action::Tend(number) => {
                let term = if now.owner == number { now.term } else { 0 };
                let worker = &mut now.workers[number];
                (worker.term, worker.has_recovered) = (term, self.has(Flaw::ReadWithoutRecover));
                worker.window.clear();
            }
            Action::Recover(number) => {
                let mine = self.is_in_office(now, number);
                let read = now.queue.iter().filter(|(_, is_read)| *is_read && mine).map(|(seq, _)| *seq);
                let window = read.collect();
                let worker = &mut now.workers[number];
                (worker.window, worker.has_recovered) = (window, mine);
            }
            Action::Read(number) => {
                if self.is_in_office(now, number) || self.has(Flaw::ReadOutOfOffice) {
                    let next = now.queue.iter_mut().find(|(_, is_read)| !is_read).expect("it was asked");
                    next.1 = true;
                    now.workers[number].window.push(next.0);
                }
            }
            Action::Hand(number) => {
                let seq = now.workers[number].window.remove(0);
                now.out_of_order |= (0..seq).any(|before| (now.handed | now.dead) & bit(before) == 0);
                now.handed |= bit(seq);
                let worker = &mut now.workers[number];
                (worker.doing, worker.since) = (Doing::Handed(seq), worker.term);
                if self.has(Flaw::SettleFirst) {
                    self.settle(now, number, seq);
                }
            }
            Action::Apply(number) => {
                let Doing::Handed(seq) = now.workers[number].doing else { unreachable!() };
                if seq > now.row || self.has(Flaw::ApplyWithoutCompare) {
                    now.went_back |= seq < now.row;
                    (now.row, now.is_past) = (seq, false);
                }
                let settled = self.has(Flaw::SettleFirst);
                now.workers[number].doing = if settled { Doing::Nothing } else { Doing::Applied(seq) };
            }
            Action::Settle(number) => {
                let Doing::Applied(seq) = now.workers[number].doing else { unreachable!() };
                self.settle(now, number, seq);
                now.workers[number].doing = Doing::Nothing;
            }
            Action::Bury(number) => {
                let Doing::Handed(seq) = now.workers[number].doing else { unreachable!() };
                if self.may_end(now, number) && now.queue.iter().any(|(there, _)| *there == seq) {
                    now.buries -= 1;
                    now.dead |= bit(seq);
                    self.remove(now, seq, true);
                }
                now.workers[number].doing = Doing::Nothing;
            }
            _ => unreachable!(),
        }
    }

    /// A reader's step.
    pub(super) fn read(&self, now: &mut World, action: Action) {
        match action {
            Action::Look(number) => {
                let floor = now.acknowledged;
                now.readers[number] = match now.cell {
                    Cell::Value(seq) | Cell::Copy(seq) => {
                        now.answer(floor, seq);
                        Reader::Over
                    }
                    _ if self.has(Flaw::AskBeforeLease) => Reader::Asked(floor, now.mark),
                    _ => {
                        now.cell = Cell::Lease(number);
                        Reader::Leads(floor)
                    }
                };
            }
            Action::Lease(number) => {
                let Reader::Asked(floor, copy) = now.readers[number] else { unreachable!() };
                now.readers[number] = match (now.cell, copy) {
                    (Cell::Absent, Some(seq)) => {
                        now.cell = Cell::Lease(number);
                        now.answer(floor, seq);
                        Reader::Restores(seq)
                    }
                    (Cell::Absent, None) => {
                        now.cell = Cell::Lease(number);
                        Reader::Loads(floor)
                    }
                    _ => Reader::Idle,
                };
            }
            Action::Ask(number) => {
                let Reader::Leads(floor) = now.readers[number] else { unreachable!() };
                now.readers[number] = match now.mark {
                    Some(seq) => {
                        now.answer(floor, seq);
                        Reader::Restores(seq)
                    }
                    None => Reader::Loads(floor),
                };
            }
            Action::Restore(number) => {
                let Reader::Restores(seq) = now.readers[number] else { unreachable!() };
                if now.cell == Cell::Lease(number) || self.has(Flaw::RestoreWithoutCompare) {
                    now.cell = Cell::Copy(seq);
                    now.restored = true;
                }
                now.readers[number] = Reader::Over;
            }
            Action::Load(number) => {
                let Reader::Loads(floor) = now.readers[number] else { unreachable!() };
                let row = if now.is_past { PAST } else { now.row };
                now.answer(floor, row);
                now.readers[number] = Reader::Fills(row);
            }
            Action::Fill(number) => {
                let Reader::Fills(row) = now.readers[number] else { unreachable!() };
                if now.cell == Cell::Lease(number) {
                    now.cell = Cell::Value(row);
                }
                now.readers[number] = Reader::Over;
            }
            _ => unreachable!(),
        }
    }
}
