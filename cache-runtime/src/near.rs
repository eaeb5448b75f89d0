//! Values kept decoded in this process: a hit costs a look-up and a clone.
//!
//! `near/map.rs` bounds them by bytes and finds them by function and arguments. The server speaks of
//! keys: `near/register.rs` knows which entries were read from a key, and which reads of it are under
//! way. `near/pulse.rs` knows whether the server can be heard at all.
//!
//! # No value outlives its key's change
//!
//! Who reads takes a [`Ticket`] for the key *before* the read is sent, and keeps the value under it.
//! Whoever hears that the key changed calls [`Near::forget`]. Claim: a value kept under a ticket isn't
//! in the map once a `forget` of its key that began after the ticket was made has returned.
//!
//! - The key is listed from the ticket's making to its drop, so its count of `forget`s doesn't start
//!   anew meanwhile. `forget` raises it and takes the entries off the list and out of the map, all
//!   under the lock of the key's desk. [`Ticket::keep`] compares the count with the ticket's, puts the
//!   entry in the map and lists it, all under the same lock.
//! - `forget` first: `keep` finds another count. `keep` first: `forget` finds the entry listed.
//! - An entry leaves the list without `forget` only after it has left the map: who finds it among the
//!   evicted takes it off, by a number that no two entries share. What evicts an entry before it is
//!   listed must wait for the lock with that, so no list keeps what is gone.
//! - A value of a function with tags was read from several keys: its own, and those of its tags. It is kept
//!   under a ticket for each, and `keep` does all of the above for all of them under all their desks at
//!   once, so the claim holds for each. It comes off the other lists when one key's `forget` has taken it
//!   out of the map.
//! - `forget_all` and the end of a connection begin a new epoch; the map is emptied later. An entry bears the
//!   epoch that its *ticket* saw and is a hit in no other: what a late `keep` puts in is dead already.
//!
//! Locks: desk, then map; never two parts of the map. Only `keep` holds several desks, taken in their
//! order. What was evicted for an entry is taken off its lists when its own desks are free again.
//!
//! So the order of events at the connection is all that counts: a push that the server sent before a
//! reply must reach `forget` before the reply reaches `keep`.
//!
//! # The user's code
//!
//! `Drop` runs outside all locks, as does `Clone` of values over 4 KiB. `Clone` of smaller ones runs
//! while readers, not writers, may enter the same part of the map.

mod ear;
mod map;
mod owner;
mod pulse;
mod register;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::SeedableRandomState;

pub(crate) use self::ear::Ear;
use self::map::{Entry, Evicted, Map, OVERHEAD, Others};
use self::owner::{Owner, seeded};
pub(crate) use self::pulse::Line;
use self::pulse::Pulse;
use self::register::Register;
use crate::clock::Coarse;
use crate::site::Instance;

/// Decoded values of all functions of one cache.
pub(crate) struct Near {
    map: Map<SeedableRandomState>,
    pulse: Pulse,
    register: Register,
    /// What the next entry is called.
    next: AtomicU64,
}

impl Near {
    /// Keeps at most so many bytes. What the server was last heard to say counts for `delta`.
    pub(crate) fn new(bytes: u64, delta: Duration) -> Self {
        Self {
            map: Map::new(bytes, seeded()),
            pulse: Pulse::new(delta),
            register: Register::new(),
            next: AtomicU64::new(0),
        }
    }

    /// What `copy` makes of the value that the function returned for these arguments, in their canonical
    /// encoding. Copies of large values cost as much as all the rest: it is made once, and handed on as it is.
    #[inline]
    pub(crate) fn get<V: 'static, R>(
        &self,
        instance: Instance,
        args: &[u8],
        copy: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.get_at(Coarse::now(), instance, args, copy)
    }

    #[inline]
    fn get_at<V: 'static, R>(
        &self,
        now: Coarse,
        instance: Instance,
        args: &[u8],
        copy: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        if !self.pulse.beats(now) {
            return None;
        }
        self.map.get(instance, args, |end, epoch| now < end && epoch == self.pulse.epoch(), copy)
    }

    /// To be taken before a read of this key is sent; what it returns is kept under the ticket.
    pub(crate) fn ticket(self: &Arc<Self>, key: &str) -> Ticket {
        self.ticket_at(Coarse::now(), key)
    }

    fn ticket_at(self: &Arc<Self>, now: Coarse, key: &str) -> Ticket {
        let (epoch, most) = self.pulse.epoch_and_most();
        let (key, seen) = self.register.desk(key.as_bytes()).issue(key.as_bytes());
        let near = Arc::clone(self);
        let is_claimed = AtomicBool::new(false);
        Ticket { near, key, seen, epoch, made: now, most, is_claimed, tags: Vec::new() }
    }

    /// The key has changed, or is about to: what was read from it so far is no hit any more.
    pub(crate) fn forget(&self, key: &[u8]) {
        let mut gone = Vec::new();
        let mut desk = self.register.desk(key);
        desk.forget(key, |tag| gone.extend(self.map.remove(tag)));
        drop(desk);
        self.unlist_others(&gone);
    }

    /// The same for all keys that fit.
    pub(crate) fn forget_matching(&self, fits: impl Fn(&[u8]) -> bool) {
        for mut desk in self.register.desks() {
            let mut gone = Vec::new();
            desk.forget_matching(&fits, |tag| gone.extend(self.map.remove(tag)));
            drop(desk);
            self.unlist_others(&gone);
        }
    }

    /// Any key may have changed.
    pub(crate) fn forget_all(&self) {
        self.pulse.pass();
        self.sweep();
    }

    /// A connection tells from now on what changes among the keys that are read on it. It was heard
    /// to answer what was sent at `sent`.
    ///
    /// This and all that follows down to [`sweep`](Self::sweep) is quick: what isn't to be used any more
    /// is of an earlier epoch, and stays in the map until it is swept.
    pub(crate) fn connected(&self, sent: Coarse) -> Line {
        self.pulse.connected(sent)
    }

    /// The connection has answered what was sent at `sent`.
    pub(crate) fn alive(&self, line: Line, sent: Coarse) {
        self.pulse.alive(line, sent);
    }

    /// The connection is gone: nothing is a hit until there is another one.
    pub(crate) fn disconnected(&self, line: Line) {
        self.pulse.disconnected(line);
    }

    /// Nothing is a hit until there is a connection, or the next best.
    pub(crate) fn silence(&self) {
        self.pulse.silence();
    }

    /// Whoever changes the store tells us, without a connection that could fail.
    pub(crate) fn always_alive(&self) {
        self.pulse.always_alive();
    }

    /// Nobody tells us: values live for `delta` at most.
    pub(crate) fn without_tracking(&self) {
        self.pulse.without_tracking();
    }

    /// Empties the map, and wakes who waits for a key.
    pub(crate) fn sweep(&self) {
        self.map.drain(|gone| self.unlist(gone));
        // All locks of the register once more: an epoch's end is rare.
        self.register.desks().for_each(|mut desk| desk.ring());
    }

    /// Takes what left the map off its lists, then drops it. No lock may be held.
    fn unlist(&self, gone: Vec<Evicted>) {
        for (tag, entry) in &gone {
            let key = &entry.file.key;
            self.register.desk(key).unlist(key, *tag);
        }
        self.unlist_others(&gone);
        drop(gone);
    }

    /// The same, but for what was read from one key only, and is off its list.
    fn unlist_others(&self, gone: &[Evicted]) {
        for (tag, entry) in gone {
            let Some(Others(keys)) = entry.file.others.as_deref() else { continue };
            for key in keys.iter().chain([&entry.file.key]) {
                self.register.desk(key).unlist(key, *tag);
            }
        }
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Near")
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

/// What it costs that an entry is on one list more.
const LISTING: usize = 64;

/// One read of one key that is under way.
pub(crate) struct Ticket {
    near: Arc<Near>,
    key: Arc<[u8]>,
    /// How often the key had been forgotten.
    seen: u64,
    epoch: u64,
    made: Coarse,
    /// For how long what is read may be kept.
    most: Duration,
    is_claimed: AtomicBool,
    /// Of the tags that are read with it.
    tags: Vec<Self>,
}

impl Ticket {
    /// True the first time: of all who share a read, one keeps what it brought.
    pub(crate) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::Relaxed)
    }

    /// With those of the tags that are read with it, each made before that.
    pub(crate) fn with_tags(mut self, tags: Vec<Self>) -> Self {
        self.tags = tags;
        self
    }

    /// Keeps a value that was read under this ticket, and those of its tags, for the rest of its life as the
    /// server told it, unless one of the keys has been forgotten since. `bytes` is the size of its payload.
    pub(crate) fn keep<V>(
        &self,
        instance: Instance,
        args: &[u8],
        value: &V,
        bytes: usize,
        life: Option<Duration>,
    ) where
        V: Clone + Send + Sync + 'static,
    {
        let tags = &self.tags;
        if self.epoch != self.near.pulse.epoch() || tags.iter().any(|tag| tag.epoch != self.epoch) {
            return;
        }
        let listing = tags.iter().map(|tag| tag.key.len() + LISTING).sum::<usize>();
        let size = bytes.max(size_of::<V>()) + self.key.len() + args.len() + listing;
        let weight = size as u64 + OVERHEAD;
        // Else it would be cloned for nothing, at each call.
        if !self.near.map.takes(weight) || life.is_some_and(|life| life.is_zero()) {
            return;
        }
        let others =
            (!tags.is_empty()).then(|| Others(tags.iter().map(|tag| Arc::clone(&tag.key)).collect()));
        let id = self.near.next.fetch_add(1, Ordering::Relaxed);
        // Its life is what was left when the server answered: after the ticket was made.
        let end = self.made.after(life.map_or(self.most, |life| life.min(self.most)));
        let (keys, owner) = ((Arc::clone(&self.key), others.map(Box::new)), Owner::new(instance, args));
        let entry = Entry::new(id, keys, owner, (end, self.epoch), weight, value.clone());
        if tags.is_empty() {
            self.keep_entry(entry);
        } else {
            self.keep_tagged(entry);
        }
    }

    /// Returns when the key is forgotten, or when nobody would hear of it any more.
    ///
    /// Cancel safe.
    pub(crate) async fn until_forgotten(&self) {
        let bell = self.near.register.desk(&self.key).bell(&self.key, self.seen);
        // After the bell was hung: a later epoch rings it.
        if let Some(bell) = bell
            && self.epoch == self.near.pulse.epoch()
        {
            bell.await;
        }
    }

    #[cfg(test)]
    fn is_clean(&self) -> bool {
        self.epoch == self.near.pulse.epoch()
            && self.near.register.desk(&self.key).is_clean(&self.key, self.seen)
    }

    /// Not generic: compiled once.
    fn keep_entry(&self, entry: Entry) {
        let near = &self.near;
        let mut desk = near.register.desk(&self.key);
        if !desk.is_clean(&self.key, self.seen) {
            // The value before the lock: it is of the user's type.
            drop(desk);
            return;
        }
        let (tag, gone) = near.map.insert(entry);
        desk.list(&self.key, tag);
        drop(desk);
        near.unlist(gone);
    }
}

impl Ticket {
    /// As [`keep_entry`](Self::keep_entry), for all keys at once.
    fn keep_tagged(&self, entry: Entry) {
        let near = &self.near;
        let tickets = || self.tags.iter().chain([self]);
        let mut desks = near.register.desks_of(tickets().map(|ticket| &*ticket.key));
        if !tickets().all(|ticket| desks.of(&ticket.key).is_clean(&ticket.key, ticket.seen)) {
            drop(desks);
            return;
        }
        let (tag, gone) = near.map.insert(entry);
        for ticket in tickets() {
            desks.of(&ticket.key).list(&ticket.key, tag);
        }
        drop(desks);
        near.unlist(gone);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.near.register.desk(&self.key).redeem(&self.key);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod world;
