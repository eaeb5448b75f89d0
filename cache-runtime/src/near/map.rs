//! The bounded map. It knows nothing of tickets or connections, and of time only what it is told.

use std::any::Any;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use crossbeam_utils::sync::{ShardedLock, ShardedLockWriteGuard};
use hashbrown::HashTable;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::owner::{Kept, Owner, Tag};
use crate::clock::Coarse;
use crate::site::Instance;

/// What an entry costs beyond its key, its arguments and its payload, in this map and in the register.
/// Measured with values of 100 bytes and of 1 KiB.
pub(super) const OVERHEAD: u64 = 400;

/// Larger values are shared out of the lock and cloned outside; smaller ones are cloned under it, which
/// saves readers of one value a reference count that they would pass back and forth.
const CLONED_INSIDE: u64 = 4096;

/// Small shards couldn't hold large values.
const SHARD_BYTES: u64 = 4 << 20;
const MOST_SHARDS: u64 = 16;

/// Decoded values, bounded by bytes.
pub(super) struct Map<S> {
    // Each thread reads through a lock of its own, so that a hot key's readers share no line that is
    // written. Writers take all of them, which a miss can afford.
    shards: Box<[ShardedLock<Shard>]>,
    /// What one of them holds.
    most: u64,
    seed: S,
}

/// A part of the entries: what the policy knows is in the index.
struct Shard {
    /// What a hit reads. It is small, for among many entries a hit's time goes into waiting for memory.
    index: HashTable<Place>,
    /// Which entries there are, by the hash of whose they are, and which of them goes when there is no
    /// room. Of two owners with one hash, the later takes the place of the other.
    policy: Cache<u64, Box<File>, Weight, Kept, Gone>,
    /// Grows as entries are put in, so that uses are counted by that and not by time.
    turn: u32,
    /// How many more make the next turn.
    left: usize,
}

struct Place {
    held: Box<Held<dyn Any + Send + Sync>>,
    /// The turn in which the policy was last told of its use. Once is enough, and costs a hit less.
    told: AtomicU32,
}

/// A value, and what it takes to be a hit.
#[repr(C)] // as it is read
struct Held<V: ?Sized> {
    owner: Owner,
    end: Coarse,
    epoch: u64,
    value: V,
}

/// A large value.
struct Shared<V>(Arc<V>);

/// What a hit doesn't read of an entry.
pub(super) struct File {
    /// No other entry has it.
    id: u64,
    /// The key in the store that it was read from.
    pub(super) key: Arc<[u8]>,
    /// Boxed twice: most have none.
    pub(super) others: Option<Box<Others>>,
    weight: u64,
}

/// An entry that isn't in the map, or no longer. Values are of the user's types: drop them outside of all locks.
pub(super) struct Entry {
    pub(super) file: Box<File>,
    held: Box<Held<dyn Any + Send + Sync>>,
}

impl Entry {
    /// A value, and whose it is, read from this key and others.
    pub(super) fn new<V: Send + Sync + 'static>(
        id: u64,
        (key, others): (Arc<[u8]>, Option<Box<Others>>),
        owner: Owner,
        (end, epoch): (Coarse, u64),
        weight: u64,
        value: V,
    ) -> Self {
        let file = Box::new(File { id, key, others, weight });
        if weight <= CLONED_INSIDE {
            Self { file, held: Box::new(Held { owner, end, epoch, value }) }
        } else {
            Self { file, held: Box::new(Held { owner, end, epoch, value: Shared(Arc::new(value)) }) }
        }
    }
}

impl Shard {
    fn new(bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes)
            // Only bounds how many evicted entries are remembered (half of it).
            .estimated_items_capacity(usize::try_from(bytes / 2048).unwrap_or(usize::MAX))
            .build()
            .expect("both capacities are set");
        let policy = Cache::with_options(options, Weight, Kept, Gone);
        Self { index: HashTable::new(), policy, turn: 0, left: 0 }
    }

    /// One more is put in. Before the policy has gone once through all it has, it is told sixteen times
    /// what is used.
    fn count(&mut self) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => (self.turn, self.left) = (self.turn.wrapping_add(1), self.policy.len() / 16),
        }
    }

    /// What the policy doesn't know any more.
    fn take(&mut self, hash: u64, file: Box<File>, hash_of: &dyn Fn(&Owner) -> u64) -> Option<Evicted> {
        let found = self.index.find_entry(hash, |place| hash_of(&place.held.owner) == hash);
        debug_assert!(found.is_ok(), "what the policy knows is in the index");
        let (Place { held, .. }, _) = found.ok()?.remove();
        Some((Tag { id: file.id, hash }, Entry { file, held }))
    }
}

/// The keys of its tags.
pub(super) struct Others(pub(super) Box<[Arc<[u8]>]>);

/// An entry that is no longer in the map, and how it was called there.
pub(super) type Evicted = (Tag, Entry);

impl<S: BuildHasher> Map<S> {
    pub(super) fn new(bytes: u64, seed: S) -> Self {
        let shards = (bytes / SHARD_BYTES).clamp(1, MOST_SHARDS);
        let shards = 1 << shards.ilog2();
        let most = bytes / shards;
        Self { shards: (0..shards).map(|_| ShardedLock::new(Shard::new(most))).collect(), most, seed }
    }

    /// What `copy` makes of the value, if there is one of this type and `is_live` says yes to its end and its
    /// epoch.
    #[inline]
    pub(super) fn get<V: 'static, R>(
        &self,
        instance: Instance,
        args: &[u8],
        is_live: impl FnOnce(Coarse, u64) -> bool,
        copy: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        let hash = Owner::hash(&self.seed, instance, args);
        let shard = self.shard(hash).read().unwrap_or_else(PoisonError::into_inner);
        let Place { held, told } = shard.index.find(hash, |place| place.held.owner.is(instance, args))?;
        if !is_live(held.end, held.epoch) {
            return None;
        }
        if told.load(Relaxed) != shard.turn {
            told.store(shard.turn, Relaxed);
            shard.policy.get(&hash);
        }
        if let Some(value) = held.value.downcast_ref() {
            return Some(copy(value));
        }
        let Shared(value) = held.value.downcast_ref()?;
        let value = Arc::clone(value);
        drop(shard);
        Some(copy(&value))
    }

    /// Whether an entry of this weight can be put in at all.
    pub(super) fn takes(&self, weight: u64) -> bool {
        weight <= self.most
    }

    /// Puts an entry in. Gives back its tag, and whatever left the map for it; that may be the entry itself.
    pub(super) fn insert(&self, Entry { file, held }: Entry) -> (Tag, Vec<Evicted>) {
        let hash_of = |owner: &Owner| owner.hashed(&self.seed);
        let tag = Tag { id: file.id, hash: hash_of(&held.owner) };
        let mut shard = write(self.shard(tag.hash));
        shard.count();
        let (mut files, mut gone) = (Vec::new(), Vec::new());
        shard.policy.insert_with_lifecycle(tag.hash, file, &mut files);
        let mut held = Some(held);
        for (hash, file) in files {
            // It may be refused itself.
            match held.take_if(|_| file.id == tag.id) {
                Some(held) => gone.push((tag, Entry { file, held })),
                None => gone.extend(shard.take(hash, file, &hash_of)),
            }
        }
        if let Some(held) = held {
            let place = Place { held, told: AtomicU32::new(shard.turn.wrapping_sub(1)) };
            shard.index.insert_unique(tag.hash, place, |place| hash_of(&place.held.owner));
        }
        (tag, gone)
    }

    pub(super) fn remove(&self, tag: Tag) -> Option<Evicted> {
        let mut shard = write(self.shard(tag.hash));
        let (hash, file) = shard.policy.remove_if(&tag.hash, |file| file.id == tag.id)?;
        shard.take(hash, file, &|owner| owner.hashed(&self.seed))
    }

    /// Empties the map, shard by shard: what is put in meanwhile may stay.
    pub(super) fn drain(&self, mut each: impl FnMut(Vec<Evicted>)) {
        for shard in &self.shards {
            let mut shard = write(shard);
            let files: Vec<_> = shard.policy.drain().collect();
            let take = |(hash, file)| shard.take(hash, file, &|owner| owner.hashed(&self.seed));
            let gone = files.into_iter().filter_map(take).collect();
            drop(shard);
            each(gone);
        }
    }

    #[inline]
    fn shard(&self, hash: u64) -> &ShardedLock<Shard> {
        // The map inside goes by the lowest bits and the highest.
        #[allow(clippy::cast_possible_truncation)] // masked
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        &self.shards[index]
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| write(shard).policy.weight()).sum()
    }

    #[cfg(test)]
    pub(super) fn tags(&self) -> Vec<(Arc<[u8]>, Tag)> {
        let tags = |shard| {
            let shard: &Shard = &write(shard);
            let tags = shard.policy.iter().flat_map(|(hash, file)| {
                let tag = Tag { id: file.id, hash: *hash };
                let others = file.others.iter().flat_map(|others| others.0.iter());
                others.chain([&file.key]).map(move |key| (Arc::clone(key), tag))
            });
            tags.collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(tags).collect()
    }
}

fn write(shard: &ShardedLock<Shard>) -> ShardedLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

struct Weight;

impl Weighter<u64, Box<File>> for Weight {
    fn weight(&self, _: &u64, file: &Box<File>) -> u64 {
        file.weight
    }
}

/// Hands out what leaves the map, be it evicted, replaced or refused.
struct Gone;

impl Lifecycle<u64, Box<File>> for Gone {
    type RequestState = Vec<(u64, Box<File>)>;

    fn on_evict(&self, gone: &mut Self::RequestState, hash: u64, file: Box<File>) {
        gone.push((hash, file));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, Hasher};

    use super::*;
    use crate::near::owner::seeded;
    use crate::near::tests::{Zipf, instance, other_instance};

    /// Every owner has the same hash.
    #[derive(Default)]
    struct Colliding;

    impl Hasher for Colliding {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    fn held<V: Send + Sync + 'static>(id: u64, owner: Owner, value: V, weight: u64) -> Entry {
        Entry::new(id, (b"key"[..].into(), None), owner, (Coarse::NEVER, 0), weight, value)
    }

    fn owner(args: &[u8]) -> Owner {
        Owner::new(instance(), args)
    }

    fn get<S: BuildHasher>(map: &Map<S>, instance: Instance, args: &[u8]) -> Option<u64> {
        map.get(instance, args, |_, _| true, u64::clone)
    }

    #[test]
    fn of_colliding_owners_the_last_has_a_value_and_no_other_gets_it() {
        let map = Map::new(1 << 20, BuildHasherDefault::<Colliding>::default());
        let all = || (0..64).flat_map(|len| [(instance(), vec![1; len]), (other_instance(), vec![1; len])]);
        let mut last = None;
        for (n, (instance, args)) in (0..).zip(all()) {
            let (tag, gone) = map.insert(held(n, Owner::new(instance, &args), n, 100));
            assert_eq!(gone.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), last.as_slice());
            for (other, (instance, args)) in (0..).zip(all()) {
                assert_eq!(get(&map, instance, &args), (other == n).then_some(n));
            }
            assert!(last.is_none_or(|last| map.remove(last).is_none()), "it has left");
            last = Some(tag);
        }
        assert_eq!(map.remove(last.unwrap()).map(|(tag, _)| tag), last);
        assert!(all().all(|(instance, args)| get(&map, instance, &args).is_none()));
    }

    #[test]
    fn a_value_of_another_type_is_a_miss() {
        let map = Map::new(1 << 20, seeded());
        map.insert(held(0, owner(b"small"), 1_u64, 100));
        map.insert(held(1, owner(b"large"), 1_u64, 100_000));
        for args in [b"small", b"large"] {
            assert_eq!(get(&map, instance(), args), Some(1));
            assert_eq!(map.get(instance(), args, |_, _| true, i64::clone), None);
            assert_eq!(map.get(instance(), args, |_, _| true, Arc::<u64>::clone), None);
        }
    }

    #[test]
    fn what_is_replaced_or_refused_is_handed_back() {
        let map = Map::new(1 << 20, seeded());
        let (first, gone) = map.insert(held(0, owner(b"a"), 1_u64, 100));
        assert!(gone.is_empty());
        let (_, gone) = map.insert(held(1, owner(b"a"), 2_u64, 100));
        assert_eq!(gone.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [first]);
        assert!(map.remove(first).is_none(), "the tag names the entry that was replaced");
        let (large, gone) = map.insert(held(2, owner(b"a"), 3_u64, 2 << 20));
        assert_eq!(gone.len(), 2);
        assert_eq!(gone.last().map(|(tag, _)| *tag), Some(large));
        assert_eq!(get(&map, instance(), b"a"), None);
        assert_eq!(map.weight(), 0);
    }

    #[test]
    fn bytes_are_bounded() {
        let bytes = 8 << 20;
        let map = Map::new(bytes, seeded());
        let (mut put, mut back) = (0, 0);
        for n in 0..50_000_u64 {
            put += 1;
            back += map.insert(held(n, owner(&n.to_le_bytes()), n, 1000 + n % 1000)).1.len();
            assert!(n % 1000 != 0 || map.weight() <= bytes);
        }
        assert!(map.weight() <= bytes && map.weight() > bytes * 9 / 10, "{}", map.weight());
        map.drain(|gone| back += gone.len());
        assert_eq!((map.weight(), back), (0, put));
    }

    #[test]
    fn a_scan_does_not_flush_the_hot() {
        const WEIGHT: u64 = 1024;
        const ROOM: u64 = 4096;
        let map = Map::new(ROOM * WEIGHT, seeded());
        let mut id = 0;
        let mut call = |key: u64| {
            let args = key.to_le_bytes();
            let hit = get(&map, instance(), &args).is_some();
            if !hit {
                id += 1;
                map.insert(held(id, owner(&args), key, WEIGHT));
            }
            hit
        };
        let mut zipf = Zipf::new(10_000);
        let mut ratio = |call: &mut dyn FnMut(u64) -> bool, scan: &mut dyn Iterator<Item = u64>, many| {
            let mut hits = 0_u32;
            for _ in 0..many {
                hits += u32::from(call(zipf.draw()));
                // Ten keys that nobody asks for again between any two of the load.
                Iterator::take(&mut *scan, 10).for_each(|key| assert!(!call(key)));
            }
            f64::from(hits) / f64::from(many)
        };
        ratio(&mut call, &mut std::iter::empty(), 100_000);
        let before = ratio(&mut call, &mut std::iter::empty(), 100_000);
        let during = ratio(&mut call, &mut (10_000..1_010_000), 100_000);
        let after = ratio(&mut call, &mut std::iter::empty(), 20_000);
        assert!(before > 0.8 && during > before - 0.15 && after > before - 0.1, "{before} {during} {after}");
    }
}
