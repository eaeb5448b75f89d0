//! The bounded map. It knows nothing of tickets or connections, and of time only what it is told.

use std::any::Any;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError};

use crossbeam_utils::sync::{ShardedLock, ShardedLockWriteGuard};
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::owner::{Kept, Owner, Sought, Tag};
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

type Shard = Cache<Owner, Entry, Weight, Kept, Gone>;

pub(super) type Entry = Arc<Held<dyn Any + Send + Sync>>;

/// A value and what it takes to be a hit.
#[repr(C)]
pub(super) struct Held<V: ?Sized> {
    /// The key in the store that it was read from.
    pub(super) key: Arc<[u8]>,
    /// Boxed twice: most have none, and a hit reads past it.
    pub(super) others: Option<Box<Others>>,
    pub(super) weight: u64,
    pub(super) end: Coarse,
    pub(super) epoch: u64,
    pub(super) value: V,
}

/// The keys of its tags.
pub(super) struct Others(pub(super) Box<[Arc<[u8]>]>);

/// An entry that is no longer in the map. Values are of the user's types: drop them outside of all locks.
pub(super) type Evicted = (Owner, Entry);

impl<S: BuildHasher> Map<S> {
    pub(super) fn new(bytes: u64, seed: S) -> Self {
        let shards = (bytes / SHARD_BYTES).clamp(1, MOST_SHARDS);
        let shards = 1 << shards.ilog2();
        let most = bytes / shards;
        Self { shards: (0..shards).map(|_| ShardedLock::new(shard(most))).collect(), most, seed }
    }

    /// What `copy` makes of the value, if there is one of this type and `is_live` says yes.
    #[inline]
    pub(super) fn get<V: 'static, R>(
        &self,
        instance: Instance,
        args: &[u8],
        is_live: impl FnOnce(&Held<dyn Any + Send + Sync>) -> bool,
        copy: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        let sought = Sought { hash: self.hash(instance, args), instance, args };
        let shard = self.shard(sought.hash).read().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.get(&sought)?;
        if !is_live(entry) {
            return None;
        }
        if entry.weight <= CLONED_INSIDE {
            return entry.value.downcast_ref().map(copy);
        }
        let entry = Arc::clone(entry);
        drop(shard);
        entry.value.downcast_ref().map(copy)
    }

    /// Whether an entry of this weight can be put in at all.
    pub(super) fn takes(&self, weight: u64) -> bool {
        weight <= self.most
    }

    /// Puts an entry in, under a tag with this id, which must be new. Gives back the tag, and whatever
    /// left the map for it; that may be the entry itself.
    pub(super) fn insert(
        &self,
        id: u64,
        instance: Instance,
        args: &[u8],
        entry: Entry,
    ) -> (Tag, Vec<Evicted>) {
        let tag = Tag { id, hash: self.hash(instance, args) };
        let owner = Owner::new(tag, instance, args);
        let mut gone = Vec::new();
        self.write(tag.hash).insert_with_lifecycle(owner, entry, &mut gone);
        (tag, gone)
    }

    pub(super) fn remove(&self, tag: Tag) -> Option<Evicted> {
        self.write(tag.hash).remove(&tag)
    }

    /// Empties the map, shard by shard: what is put in meanwhile may stay.
    pub(super) fn drain(&self, mut each: impl FnMut(Vec<Evicted>)) {
        for shard in &self.shards {
            let gone = write(shard).drain().collect();
            each(gone);
        }
    }

    #[inline]
    fn hash(&self, instance: Instance, args: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        instance.hash(&mut hasher);
        hasher.write(args);
        hasher.finish()
    }

    #[inline]
    fn shard(&self, hash: u64) -> &ShardedLock<Shard> {
        // The map inside goes by the lowest bits and the highest.
        #[allow(clippy::cast_possible_truncation)] // masked
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        &self.shards[index]
    }

    fn write(&self, hash: u64) -> ShardedLockWriteGuard<'_, Shard> {
        write(self.shard(hash))
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| write(shard).weight()).sum()
    }

    #[cfg(test)]
    pub(super) fn tags(&self) -> Vec<(Arc<[u8]>, Tag)> {
        let tags = |shard| {
            let shard: &Shard = &write(shard);
            let keys = |entry: &Entry| {
                let others = entry.others.iter().flat_map(|others| others.0.iter());
                others.chain([&entry.key]).cloned().collect::<Vec<_>>()
            };
            let tags = shard.iter().map(|(owner, entry)| keys(entry).into_iter().map(|key| (key, owner.tag)));
            tags.flatten().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(tags).collect()
    }
}

fn write(shard: &ShardedLock<Shard>) -> ShardedLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

fn shard(bytes: u64) -> Shard {
    let options = OptionsBuilder::new()
        .weight_capacity(bytes)
        // Only bounds how many evicted entries are remembered (half of it).
        .estimated_items_capacity(usize::try_from(bytes / 2048).unwrap_or(usize::MAX))
        .build()
        .expect("both capacities are set");
    Cache::with_options(options, Weight, Kept, Gone)
}

struct Weight;

impl Weighter<Owner, Entry> for Weight {
    fn weight(&self, _: &Owner, entry: &Entry) -> u64 {
        entry.weight
    }
}

/// Hands out what leaves the map, be it evicted, replaced or refused.
struct Gone;

impl Lifecycle<Owner, Entry> for Gone {
    type RequestState = Vec<Evicted>;

    fn on_evict(&self, gone: &mut Vec<Evicted>, owner: Owner, entry: Entry) {
        gone.push((owner, entry));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasherDefault;

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

    fn held<V: Send + Sync + 'static>(value: V, weight: u64) -> Entry {
        Arc::new(Held { key: b"key"[..].into(), others: None, weight, end: Coarse::NEVER, epoch: 0, value })
    }

    fn get<S: BuildHasher>(map: &Map<S>, instance: Instance, args: &[u8]) -> Option<u64> {
        map.get(instance, args, |_| true, u64::clone)
    }

    #[test]
    fn colliding_owners_keep_their_own_values() {
        let map = Map::new(1 << 20, BuildHasherDefault::<Colliding>::default());
        let args: Vec<Vec<u8>> = (0..64).map(|len| vec![1; len]).collect();
        let mut tags = Vec::new();
        for (n, args) in (0..).zip(&args) {
            tags.push(map.insert(2 * n, instance(), args, held(n, 100)).0);
            tags.push(map.insert(2 * n + 1, other_instance(), args, held(1000 + n, 100)).0);
        }
        for (n, args) in (0..).zip(&args) {
            assert_eq!(get(&map, instance(), args), Some(n));
            assert_eq!(get(&map, other_instance(), args), Some(1000 + n));
        }
        assert_eq!(get(&map, instance(), b"never put in"), None);
        for tag in tags.iter().step_by(2) {
            assert_eq!(map.remove(*tag).map(|(owner, _)| owner.tag), Some(*tag));
        }
        for (n, args) in (0..).zip(&args) {
            assert_eq!(get(&map, instance(), args), None);
            assert_eq!(get(&map, other_instance(), args), Some(1000 + n));
        }
    }

    #[test]
    fn a_value_of_another_type_is_a_miss() {
        let map = Map::new(1 << 20, seeded());
        map.insert(0, instance(), b"small", held(1_u64, 100));
        map.insert(1, instance(), b"large", held(1_u64, 100_000));
        for args in [b"small", b"large"] {
            assert_eq!(get(&map, instance(), args), Some(1));
            assert_eq!(map.get(instance(), args, |_| true, i64::clone), None);
            assert_eq!(map.get(instance(), args, |_| true, Arc::<u64>::clone), None);
        }
    }

    #[test]
    fn what_is_replaced_or_refused_is_handed_back() {
        let map = Map::new(1 << 20, seeded());
        let (first, gone) = map.insert(0, instance(), b"a", held(1_u64, 100));
        assert!(gone.is_empty());
        let (_, gone) = map.insert(1, instance(), b"a", held(2_u64, 100));
        assert_eq!(gone.iter().map(|(owner, _)| owner.tag).collect::<Vec<_>>(), [first]);
        assert!(map.remove(first).is_none(), "the tag names the entry that was replaced");
        let (large, gone) = map.insert(2, instance(), b"a", held(3_u64, 2 << 20));
        assert_eq!(gone.len(), 2);
        assert_eq!(gone.last().map(|(owner, _)| owner.tag), Some(large));
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
            back += map.insert(n, instance(), &n.to_le_bytes(), held(n, 1000 + n % 1000)).1.len();
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
                map.insert(id, instance(), &args, held(key, WEIGHT));
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
