//! What a queue holds; its owner holds its lock.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::store::queue::{Delivery, Tenure, Term, shard_of};

/// All of it.
#[derive(Default)]
pub(super) struct State {
    /// Nothing before the first limits: they say how many.
    pub(super) lanes: Vec<Lane>,
    /// Until when they are alive.
    pub(super) workers: HashMap<String, Instant>,
    /// By key of the entry: what the last write says that stored it and isn't settled.
    pub(super) marks: HashMap<String, Mark>,
    pub(super) letters: BTreeMap<u64, Dead>,
    pub(super) retries: u64,
    /// The last number of a write.
    pub(super) seq: u64,
    /// Counts places, terms and letters.
    pub(super) count: u64,
    pub(super) has_warned: bool,
}

/// A shard.
#[derive(Default)]
pub(super) struct Lane {
    /// By their place.
    pub(super) writes: BTreeMap<u64, Write>,
    /// What is before this place was handed over.
    pub(super) unread: u64,
    pub(super) owner: Option<(String, u64)>,
}

pub(super) struct Write {
    pub(super) seq: u64,
    pub(super) kind: String,
    pub(super) order_key: String,
    pub(super) payload: Bytes,
    pub(super) entries: Vec<String>,
    pub(super) deliveries: u32,
    pub(super) appended: Instant,
}

pub(super) struct Mark {
    /// The place of the write, and its shard.
    pub(super) write: (u32, u64),
    pub(super) copy: Bytes,
    /// How the value begins that was stored with it; nothing: none was.
    pub(super) stored: Option<Bytes>,
}

pub(super) struct Dead {
    pub(super) write: Write,
    pub(super) cause: String,
}

impl State {
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn pending(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.writes.len() as u64).sum()
    }

    /// The shard, if this is its term: it is until another takes it, however late its worker is.
    pub(super) fn lane(&mut self, worker: &str, term: Term) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(term.shard as usize)?;
        let (owner, number) = lane.owner.as_ref()?;
        (owner == worker && *number == term.number).then_some(lane)
    }

    pub(super) fn tend(&mut self, worker: &str, lease: Duration, release: &[Term]) -> Tenure {
        let now = Instant::now();
        for term in release {
            let lane = self.lanes.get_mut(term.shard as usize);
            let is_that = |lane: &&mut Lane| lane.owner == Some((worker.to_owned(), term.number));
            if let Some(lane) = lane.filter(is_that) {
                lane.owner = None;
            }
        }
        self.workers.insert(worker.to_owned(), now + lease);
        self.workers.retain(|_, end| *end > now);
        let share = self.lanes.len().div_ceil(self.workers.len());
        let mut shards = Vec::new();
        for (lane, shard) in self.lanes.iter_mut().zip(0..) {
            lane.owner.take_if(|(owner, _)| !self.workers.contains_key(owner));
            if let Some((owner, number)) = &lane.owner
                && owner == worker
            {
                shards.push(Term { shard, number: *number });
            }
        }
        for (lane, shard) in self.lanes.iter_mut().zip(0..) {
            if lane.owner.is_none() && shards.len() < share {
                self.count += 1;
                lane.owner = Some((worker.to_owned(), self.count));
                shards.push(Term { shard, number: self.count });
            }
        }
        shards.sort_by_key(|term| term.shard);
        Tenure { shards, share }
    }

    pub(super) fn append(&mut self, mut write: Write) -> (u32, u64) {
        let shards = u32::try_from(self.lanes.len()).expect("a u32 said how many");
        let (shard, place) = (shard_of(&write.order_key, shards), self.next());
        write.deliveries = 0;
        self.lanes[shard as usize].writes.insert(place, write);
        (shard, place)
    }
}

impl Lane {
    /// Those that were handed over, or those that weren't.
    pub(super) fn deliver(&mut self, is_new: bool, most: usize) -> Vec<Delivery> {
        let range = if is_new { self.unread..u64::MAX } else { 0..self.unread };
        let mut unread = self.unread;
        let delivered = self.writes.range_mut(range).take(most).map(|(place, write)| {
            if is_new {
                (write.deliveries, unread) = (1, place + 1);
            }
            Delivery {
                id: place.to_string(),
                seq: write.seq,
                kind: write.kind.clone(),
                order_key: write.order_key.clone(),
                payload: write.payload.clone(),
                entries: write.entries.clone(),
                deliveries: write.deliveries,
                age: write.appended.elapsed(),
            }
        });
        let delivered = delivered.collect();
        self.unread = unread;
        delivered
    }

    pub(super) fn has_unread(&self) -> bool {
        self.writes.last_key_value().is_some_and(|(place, _)| *place >= self.unread)
    }

    pub(super) fn take(&mut self, id: &str) -> Option<(u64, Write)> {
        let place = id.parse().ok()?;
        Some((place, self.writes.remove(&place)?))
    }
}
