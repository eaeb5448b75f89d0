//! One shard: slots bounded by bytes, with times to live. Its owner holds its lock.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::time::Instant;

use crate::error::StoreError;
use crate::record::Prefix;
use crate::store::sessions::{self, Act, Found, Lives};
use crate::store::{Decision, Limit, Reach, fence, window};

/// What an entry costs beyond its key and value: the slot, the index, two allocations.
const OVERHEAD: u64 = 160;

/// A part of the keys, behind one lock.
pub(super) struct Shard {
    slots: Cache<Box<str>, Slot, Weight>,
    /// No slot is over before this. May be too early: slots go and lives get longer.
    due: Option<Instant>,
    made: Instant,
    /// Writes since the last look for slots that are over.
    writes: usize,
}

/// What stands under a key.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) value: Bytes,
    pub(super) end: Option<Instant>,
}

struct Weight;

impl Weighter<Box<str>, Slot> for Weight {
    fn weight(&self, key: &Box<str>, slot: &Slot) -> u64 {
        (key.len() + slot.value.len()) as u64 + OVERHEAD
    }
}

impl Slot {
    pub(super) fn new(value: Bytes, life: Option<Duration>) -> Self {
        // A life that overflows the clock never ends.
        let end = life.and_then(|life| Instant::now().checked_add(life));
        Self { value, end }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }

    /// What is left of its life; none: it never ends.
    pub(super) fn left(&self) -> Option<Duration> {
        self.end.map(|end| end - Instant::now())
    }
}

impl Shard {
    pub(super) fn new(bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes)
            // Only bounds how many evicted keys are remembered (half of it), some 100 bytes each.
            .estimated_items_capacity(usize::try_from(bytes / 2048).unwrap_or(usize::MAX))
            .build()
            .expect("both capacities are set");
        Self {
            slots: Cache::with_options(
                options,
                Weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            due: None,
            made: Instant::now(),
            writes: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.slots.weight()
    }

    pub(super) fn live(&mut self, key: &str) -> Option<Slot> {
        let slot = self.slots.get(key)?.clone();
        if slot.is_over() {
            self.slots.remove(key);
            return None;
        }
        Some(slot)
    }

    /// The slot under `key` if its value starts with `seen`.
    pub(super) fn seen(&mut self, key: &str, seen: &Prefix) -> Option<Slot> {
        self.live(key).filter(|slot| slot.value.starts_with(seen))
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Slot> {
        let (_, slot) = self.slots.remove(key)?;
        (!slot.is_over()).then_some(slot)
    }

    pub(super) fn put(&mut self, key: &str, slot: Slot) {
        self.sweep();
        self.due = self.due.into_iter().chain(slot.end).min();
        self.slots.insert(key.into(), slot);
    }

    /// Drops some of what is over, once in an eighth as many writes as there are slots: a write pays
    /// for a look at eight, and none for dropping all.
    fn sweep(&mut self) {
        self.writes += 1;
        let few = self.slots.len() / 8 + 16;
        if self.writes < few {
            return;
        }
        self.writes = 0;
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let (due, room) = (Cell::new(None::<Instant>), Cell::new(2 * few));
        self.slots.retain(|_, slot| {
            let over = slot.end.is_some_and(|end| end <= now) && room.get() > 0;
            if over {
                room.set(room.get() - 1);
            } else {
                due.set(due.get().into_iter().chain(slot.end).min());
            }
            !over
        });
        self.due = due.get();
    }

    /// Puts up a fence for this long, or takes it away.
    pub(super) fn change_fence(&mut self, key: &str, token: &Prefix, life: Option<Duration>) {
        let there = self.live(key);
        let there = there.as_ref().map(|slot| (&slot.value[..], slot.left()));
        match fence::change(there, token, life) {
            Some((bytes, life)) => self.put(key, Slot::new(bytes, Some(life))),
            None => drop(self.slots.remove(key)),
        }
    }

    pub(super) fn remove_matching(&mut self, glob: &[u8], reach: Reach) -> u64 {
        let count = Cell::new(0);
        self.slots.retain(|key, slot| {
            if !reach.fits(glob, key.as_bytes()) {
                return true;
            }
            count.set(count.get() + u64::from(!slot.is_over()));
            false
        });
        count.get()
    }

    /// One more call, if the limit allows it.
    pub(super) fn admit(&mut self, key: &str, limit: Limit) -> Result<Decision, StoreError> {
        let there = self.live(key);
        let log = there.as_ref().map_or(&[][..], |slot| &slot.value);
        let (decision, log) = window::admit(log, self.micros(), limit)?;
        if let Some(log) = log {
            self.put(key, Slot::new(log.into(), Some(limit.life())));
        }
        Ok(decision)
    }

    /// What is asked of the sessions of a user.
    pub(super) fn sessions(&mut self, key: &str, act: Act, lives: Lives) -> Result<Vec<Found>, StoreError> {
        let there = self.live(key).map(|slot| slot.value);
        let (found, after) = sessions::act(there, self.micros() / 1000, act, lives)?;
        match after {
            Some((bytes, life)) => self.put(key, Slot::new(bytes, Some(life))),
            None => drop(self.slots.remove(key)),
        }
        Ok(found)
    }

    /// A clock that begins later than any time is long that is looked back.
    fn micros(&self) -> u64 {
        const BEGIN: u64 = 1 << 52;
        BEGIN + u64::try_from(self.made.elapsed().as_micros()).unwrap_or(0)
    }

    pub(super) fn increment(
        &mut self,
        key: &str,
        by: i64,
        life: Option<Duration>,
    ) -> Result<i64, StoreError> {
        let refused = |text: &str| StoreError::Refused(text.to_owned());
        let old = self.live(key);
        let number = old.as_ref().map_or(Some(0), |slot| integer(&slot.value));
        let number = number.ok_or_else(|| refused("ERR value is not an integer or out of range"))?;
        let sum = number.checked_add(by);
        let sum = sum.ok_or_else(|| refused("ERR increment or decrement would overflow"))?;
        let mut slot = Slot::new(sum.to_string().into(), life);
        slot.end = old.and_then(|old| old.end).or(slot.end);
        self.put(key, slot);
        Ok(sum)
    }
}

/// An integer as Redis reads it: as it would be written, no plus, no zeros in front, no blanks.
fn integer(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Kind, fresh};

    fn slot(value: &str, secs: u64) -> Slot {
        Slot::new(value.to_owned().into(), Some(Duration::from_secs(secs)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_makes_room() {
        let mut shard = Shard::new(1 << 20);
        for n in 0..1000 {
            shard.put(&format!("old:{n}"), slot("x", 1));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        for n in 0..800 {
            shard.put(&format!("new:{n}"), slot("x", 9));
            assert!(shard.slots.len() < 1200);
        }
        assert_eq!(shard.slots.len(), 800);
        tokio::time::advance(Duration::from_secs(9)).await;
        for _ in 0..800 {
            shard.put("n", slot("x", 9));
        }
        assert_eq!(shard.slots.len(), 1);
    }

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        let mut shard = Shard::new(1 << 20);
        let refused = |text: &str| Err(StoreError::Refused(text.into()));
        let mut add = |value: &[u8], by| {
            shard.put("n", Slot::new(Bytes::copy_from_slice(value), None));
            shard.increment("n", by, None)
        };
        let not = refused("ERR value is not an integer or out of range");
        for value in ["", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "\u{e9}"] {
            assert_eq!(add(value.as_bytes(), 1), not, "{value}");
        }
        assert_eq!(add(&fresh(Kind::Value), 1), not);
        for (value, by) in [(i64::MAX, 1), (i64::MIN, -1)] {
            let text = value.to_string();
            assert_eq!(add(text.as_bytes(), 0), Ok(value));
            let sum = add(text.as_bytes(), by);
            assert_eq!(sum, refused("ERR increment or decrement would overflow"));
        }
    }
}
