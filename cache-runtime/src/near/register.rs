//! Who is to be told when a key is forgotten: the tickets that are out for it, and its entries.
//!
//! A key is listed while it has either. Its desk's lock makes one step of what must not be torn
//! apart: see the argument in `near.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::SeedableRandomState;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::owner::{Tag, seeded};

/// All keys, by name.
pub(super) struct Register {
    // std mutexes: never held across an await, and never while a user's value is cloned or dropped
    desks: Box<[Mutex<Desk>]>,
    seed: SeedableRandomState,
}

const DESKS: usize = 64;

/// A part of the keys, behind one lock.
pub(super) struct Desk {
    keys: HashMap<Arc<[u8]>, Listed, SeedableRandomState>,
}

#[derive(Default)]
struct Listed {
    /// How often the key was forgotten while a ticket was out.
    forgotten: u64,
    tickets: usize,
    /// Most keys have one entry: it stands beside the others, which cost allocations.
    entry: Option<Tag>,
    #[allow(clippy::box_collection)] // two words less for each key that has none
    others: Option<Box<BTreeMap<u64, Tag>>>,
    /// Rung when the key is forgotten, for tickets that wait for that.
    bell: Option<Arc<Notify>>,
}

impl Register {
    pub(super) fn new() -> Self {
        let seed = seeded();
        let desk = || Mutex::new(Desk { keys: HashMap::with_hasher(seed.clone()) });
        Self { desks: (0..DESKS).map(|_| desk()).collect(), seed }
    }

    pub(super) fn desk(&self, key: &[u8]) -> MutexGuard<'_, Desk> {
        lock(&self.desks[self.index(key)])
    }

    /// The desks of several keys at once. Nobody waits for another with one of them in hand: they are taken
    /// in their order, and who takes one alone takes no second.
    pub(super) fn desks_of<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Desks<'_> {
        let indices: BTreeSet<usize> = keys.map(|key| self.index(key)).collect();
        let taken = indices.into_iter().map(|index| (index, lock(&self.desks[index]))).collect();
        Desks { register: self, taken }
    }

    fn index(&self, key: &[u8]) -> usize {
        // The map inside goes by the lowest bits and the highest.
        #[allow(clippy::cast_possible_truncation)] // below `DESKS`
        let index = (self.seed.hash_one(key) >> 32) as usize % DESKS;
        index
    }

    pub(super) fn desks(&self) -> impl Iterator<Item = MutexGuard<'_, Desk>> {
        self.desks.iter().map(lock)
    }
}

/// Several desks, and their locks.
pub(super) struct Desks<'a> {
    register: &'a Register,
    taken: Vec<(usize, MutexGuard<'a, Desk>)>,
}

impl Desks<'_> {
    /// The one of a key that they were taken for.
    pub(super) fn of(&mut self, key: &[u8]) -> &mut Desk {
        let index = self.register.index(key);
        let taken = self.taken.iter_mut().find(|(taken, _)| *taken == index);
        &mut taken.expect("it was taken for this key").1
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// One more ticket is out. Gives back the key to keep, and how often it was forgotten so far.
    pub(super) fn issue(&mut self, key: &[u8]) -> (Arc<[u8]>, u64) {
        let key = self.keys.get_key_value(key).map_or_else(|| key.into(), |(key, _)| Arc::clone(key));
        let listed = self.keys.entry(Arc::clone(&key)).or_default();
        listed.tickets += 1;
        (key, listed.forgotten)
    }

    /// A ticket is back.
    pub(super) fn redeem(&mut self, key: &[u8]) {
        self.change(key, |listed| listed.tickets -= 1);
    }

    /// Whether the key has not been forgotten since a ticket that is still out saw this number.
    pub(super) fn is_clean(&self, key: &[u8], seen: u64) -> bool {
        self.keys.get(key).is_some_and(|listed| listed.forgotten == seen)
    }

    /// Done when the key is forgotten; nothing if it has been, since the ticket that is out saw this number.
    pub(super) fn bell(&mut self, key: &[u8], seen: u64) -> Option<OwnedNotified> {
        let listed = self.keys.get_mut(key).filter(|listed| listed.forgotten == seen)?;
        // What is rung from here on is heard, though nobody listens yet.
        Some(Arc::clone(listed.bell.get_or_insert_default()).notified_owned())
    }

    /// Rings for all keys.
    pub(super) fn ring(&mut self) {
        self.keys.values_mut().for_each(Listed::ring);
    }

    /// Lists an entry of a key that has a ticket out.
    pub(super) fn list(&mut self, key: &[u8], tag: Tag) {
        self.change(key, |listed| match listed.entry {
            None => listed.entry = Some(tag),
            Some(_) => drop(listed.others.get_or_insert_default().insert(tag.id, tag)),
        });
    }

    /// Takes an entry off the list, if it is there.
    pub(super) fn unlist(&mut self, key: &[u8], tag: Tag) {
        self.change(key, |listed| {
            if listed.entry == Some(tag) {
                listed.entry = None;
            } else if let Some(others) = &mut listed.others {
                others.remove(&tag.id);
                listed.others.take_if(|others| others.is_empty());
            }
        });
    }

    /// Makes the tickets of a key dirty and takes its entries off the list.
    pub(super) fn forget(&mut self, key: &[u8], each: impl FnMut(Tag)) {
        self.change(key, |listed| listed.forget(each));
    }

    /// The same for the keys that fit.
    pub(super) fn forget_matching(&mut self, fits: impl Fn(&[u8]) -> bool, mut each: impl FnMut(Tag)) {
        self.keys.retain(|key, listed| {
            if fits(key) {
                listed.forget(&mut each);
            }
            !listed.is_idle()
        });
    }

    /// Every list of a key ends here: an idle one is dropped.
    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Listed)) {
        if let Some(listed) = self.keys.get_mut(key) {
            change(listed);
            if listed.is_idle() {
                self.keys.remove(key);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn tags(&self) -> impl Iterator<Item = (Arc<[u8]>, Tag)> {
        self.keys.iter().flat_map(|(key, listed)| {
            let tags = listed.entry.iter().chain(listed.others.iter().flat_map(|others| others.values()));
            tags.map(|tag| (Arc::clone(key), *tag))
        })
    }

    #[cfg(test)]
    pub(super) fn tickets(&self) -> usize {
        self.keys.values().map(|listed| listed.tickets).sum()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Listed {
    fn is_idle(&self) -> bool {
        self.tickets == 0 && self.entry.is_none() && self.others.is_none()
    }

    fn ring(&mut self) {
        if let Some(bell) = self.bell.take() {
            bell.notify_waiters();
        }
    }

    fn forget(&mut self, each: impl FnMut(Tag)) {
        self.forgotten += 1;
        self.ring();
        let others = self.others.take().into_iter().flat_map(|others| others.into_values());
        self.entry.take().into_iter().chain(others).for_each(each);
    }
}
