//! The sessions of one user, under one key.
//!
//! One key, so that all that is asked of them is one step in one slot of a cluster: a session is renewed
//! while it is read, the old id ends when the new one begins, and who deletes the key ends them all. A key
//! that is lost takes its sessions along, never the other way round.
//!
//! On a server it is a hash: the digest of an id, and `made 13 | seen 13 | data`, in milliseconds by the
//! server's clock, in decimal digits. Here it is one value: for each session
//!
//! ```text
//! digest 32 | made 8 | seen 8 | length 4 | data
//! ```
//!
//! `redis/sessions.rs` has the same in Lua.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use crate::error::StoreError;

/// How many a user may have: one more ends the one that wasn't seen for the longest time.
pub(super) const MOST: usize = 100;
/// What somebody else wrote is under the key.
const FOREIGN: &str = "ERR the key holds something else than sessions";

/// What an id is known by here.
pub(crate) type Digest = [u8; 32];

/// What is asked of the sessions of a user.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// A new one.
    Create { id: Digest, data: Bytes },
    /// Gives it, and renews it.
    Open { id: Digest },
    /// Renews it, with new data; what stands before the first line feed stays.
    Update { id: Digest, data: Bytes },
    /// Renews it, under another id.
    Rotate { old: Digest, new: Digest },
    /// Ends it.
    Destroy { id: Digest },
    /// Gives all.
    List,
}

/// After what time a session ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lives {
    /// Since it was seen; milliseconds.
    pub(super) idle: u64,
    /// Since it was made.
    pub(super) absolute: u64,
}

impl Lives {
    /// At least a millisecond, at most a hundred years.
    pub(crate) fn new(idle: Duration, absolute: Duration) -> Self {
        const LONGEST: u128 = 100 * 365 * 24 * 60 * 60 * 1000;
        let millis = |time: Duration| u64::try_from(time.as_millis().clamp(1, LONGEST)).expect("it is 3e12");
        Self { idle: millis(idle), absolute: millis(absolute) }
    }
}

/// A session that was there, as it was; only [`Open`](Act::Open) and [`List`](Act::List) give its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Since it was made.
    pub(crate) age: Duration,
    /// Since it was seen.
    pub(crate) idle: Duration,
    pub(crate) data: Bytes,
}

struct Entry {
    id: Digest,
    made: u64,
    seen: u64,
    data: Bytes,
}

impl Entry {
    const HEAD: usize = 52;

    fn read(all: &mut Bytes) -> Option<Self> {
        let mut head = (all.len() >= Self::HEAD).then(|| all.split_to(Self::HEAD))?;
        let id = head.split_to(32)[..].try_into().ok()?;
        let (made, seen, length) = (head.get_u64(), head.get_u64(), usize::try_from(head.get_u32()).ok()?);
        let data = (all.len() >= length).then(|| all.split_to(length))?;
        Some(Self { id, made, seen, data })
    }

    fn write(&self, all: &mut Vec<u8>) {
        all.put_slice(&self.id);
        all.put_u64(self.made);
        all.put_u64(self.seen);
        all.put_u32(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        all.put_slice(&self.data);
    }

    /// How much longer it lives, in milliseconds.
    fn left(&self, now: u64, lives: Lives) -> u64 {
        (self.seen + lives.idle).min(self.made + lives.absolute).saturating_sub(now)
    }

    fn found(&self, now: u64, data: Bytes) -> Found {
        let since = |time: u64| Duration::from_millis(now.saturating_sub(time));
        Found { age: since(self.made), idle: since(self.seen), data }
    }
}

/// What stands under the key afterwards, and for how long.
type After = Option<(Bytes, Duration)>;

/// What is found, and what stands there then.
pub(super) fn act(
    there: Option<Bytes>,
    now: u64,
    act: Act,
    lives: Lives,
) -> Result<(Vec<Found>, After), StoreError> {
    let mut there = there.unwrap_or_default();
    let mut all = Vec::new();
    while !there.is_empty() {
        let entry = Entry::read(&mut there).ok_or_else(|| StoreError::Refused(FOREIGN.to_owned()))?;
        all.push(entry);
    }
    all.retain(|entry| entry.left(now, lives) > 0);
    let found = on(&mut all, now, act);
    let life = all.iter().map(|entry| entry.left(now, lives)).max();
    let after = life.map(|life| {
        let mut bytes = Vec::with_capacity(all.iter().map(|entry| Entry::HEAD + entry.data.len()).sum());
        for entry in &all {
            entry.write(&mut bytes);
        }
        (bytes.into(), Duration::from_millis(life))
    });
    Ok((found, after))
}

/// All of them are alive.
fn on(all: &mut Vec<Entry>, now: u64, act: Act) -> Vec<Found> {
    let id = match act {
        Act::Create { id, data } => {
            all.sort_by_key(|entry| entry.seen);
            all.drain(..(all.len() + 1).saturating_sub(MOST));
            all.push(Entry { id, made: now, seen: now, data });
            return Vec::new();
        }
        Act::List => return all.iter().map(|entry| entry.found(now, entry.data.clone())).collect(),
        Act::Open { id } | Act::Update { id, .. } | Act::Rotate { old: id, .. } | Act::Destroy { id } => id,
    };
    let Some(at) = all.iter().position(|entry| entry.id == id) else { return Vec::new() };
    let entry = &mut all[at];
    let found = entry.found(now, Bytes::new());
    entry.seen = now;
    match act {
        Act::Open { .. } => return vec![Found { data: entry.data.clone(), ..found }],
        Act::Update { data, .. } => {
            let first = entry.data.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            entry.data = [&entry.data[..first], &data].concat().into();
        }
        Act::Rotate { new, .. } => entry.id = new,
        _ => drop(all.swap_remove(at)),
    }
    vec![found]
}
