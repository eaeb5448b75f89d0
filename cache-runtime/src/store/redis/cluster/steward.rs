//! The task that knows the map of a cluster, and carries out invalidations that were kept.
//!
//! It lives on the runtime of whoever asked first. When that runtime ends, or is no longer polled, the next
//! caller who misses it puts another in its place; the old one, should it wake, sees that it is out of office.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{PushInfo, Value, cmd};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{error, warn};

use super::fleet::Fleet;
use super::route::route;
use super::slot::{Range, SLOTS, ranges, slot_of};
use crate::error::StoreError;
use crate::recovery::Target;
use crate::store::redis::address::Address;
use crate::store::redis::fault;
use crate::store::redis::scan::query;
use crate::store::redis::supervisor::{SETUP, open};
use crate::store::{Reach, Store};

/// How often a sign of life is given.
const BEAT: Duration = Duration::from_millis(500);
/// The map is asked for no more often than this, however often it is doubted.
const SHORTEST: Duration = Duration::from_millis(250);
/// And as often as this, though nobody doubts it.
const LONGEST: Duration = Duration::from_secs(10);
/// How long kept invalidations are tried after the last handle of the cache is gone.
const LAST_WORDS: u64 = 60_000;

/// A map, the host of who told it, and how good it is: whether that node thinks that the cluster is well, how many
/// slots it knows of, how many elections and moves.
struct View {
    ranges: Vec<Range>,
    host: String,
    rank: (bool, usize, u64),
}

/// What `CLUSTER INFO` says.
fn state(info: &Value) -> Option<(bool, u64)> {
    let text = match info {
        Value::BulkString(text) => str::from_utf8(text).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Some((field("cluster_state")? == "ok", field("cluster_current_epoch")?.trim().parse().ok()?))
}

/// What a server says that is part of no cluster, and what to write then.
fn alone(address: &Address, error: StoreError) -> StoreError {
    match (&error, address.node()) {
        (StoreError::Refused(text), Some((host, port))) if text.contains("cluster support disabled") => {
            let scheme = if address.certificates().is_some() { "rediss" } else { "redis" };
            StoreError::Refused(format!(
                "the server is part of no cluster: write REDIS_URL={scheme}://{host}:{port}"
            ))
        }
        _ => error,
    }
}

/// Whether a key may be one of tags; that it looks like one does no harm.
fn is_of_tags(key: &str) -> bool {
    key.contains("@tag") || key.contains("@fn:")
}

pub(super) struct Steward {
    fleet: Arc<Fleet>,
    number: u64,
}

impl Drop for Steward {
    fn drop(&mut self) {
        self.fleet.vacate(self.number);
    }
}

impl Steward {
    pub(super) fn new(fleet: Arc<Fleet>, number: u64) -> Self {
        Self { fleet, number }
    }

    pub(super) async fn run(self) {
        let fleet = &self.fleet;
        let (first, longest) = fleet.options.reconnect;
        let mut pause = first;
        let mut looked: Option<Instant> = None;
        while fleet.is_in_office(self.number) {
            fleet.beat();
            let since = looked.map_or(LONGEST, |looked| looked.elapsed());
            if since >= LONGEST || since >= SHORTEST && fleet.take_doubt() {
                looked = Some(Instant::now());
                if let Err(problem) = self.look().await {
                    fleet.fail(&problem.to_string());
                    // Nobody else will ask for it.
                    looked = None;
                }
            }
            let is_done = looked.is_some() && self.carry_out().await;
            if is_done || fleet.closing().is_some_and(|since| since >= LAST_WORDS) {
                if fleet.closing().is_some() {
                    if !is_done {
                        error!(target: "cache_aside", lost = fleet.kept.len(), "kept invalidations are given up with their cache");
                    }
                    return fleet.close();
                }
                pause = first;
                match SHORTEST.checked_sub(since) {
                    Some(rest) => tokio::time::sleep(rest).await,
                    None => drop(timeout(BEAT, fleet.attention.notified()).await),
                }
            } else {
                fleet.beat();
                self.rest(pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(BEAT)).await;
                pause = (pause * 2).min(longest);
            }
        }
    }

    /// Pauses, until a node is back that was away.
    async fn rest(&self, pause: Duration) {
        let nodes = self.fleet.known();
        let links = nodes.iter().map(|node| &node.store.link);
        let mut away: FuturesUnordered<_> =
            links.filter(|link| link.epoch().is_none()).map(|link| link.until_up()).collect();
        if away.is_empty() {
            tokio::time::sleep(pause).await;
        } else {
            let _ = timeout(pause, away.next()).await;
        }
    }

    /// Asks for the map, one node after the other, until one knows of all slots and is as far on as the last
    /// one was; else it is the best that there is. One that was cut off from the others may not be.
    async fn look(&self) -> Result<(), StoreError> {
        let mut best: Option<View> = None;
        let mut problem = StoreError::Unavailable("the cluster has no nodes".to_owned());
        let mut nodes: Vec<_> = self.fleet.known().iter().map(|node| node.address.clone()).collect();
        fastrand::shuffle(&mut nodes);
        nodes.extend(self.fleet.seeds.iter().cloned());
        for address in nodes {
            self.fleet.beat();
            let view = match self.ask(&address).await {
                Ok(view) => view,
                Err(error) => {
                    problem = error;
                    continue;
                }
            };
            let is_good =
                view.rank.0 && view.rank.1 == usize::from(SLOTS) && view.rank.2 >= self.fleet.epoch();
            if best.as_ref().is_none_or(|best| view.rank > best.rank) {
                best = Some(view);
            }
            if is_good {
                break;
            }
        }
        let View { ranges, host, rank } = best.ok_or(problem)?;
        self.fleet.learn(&ranges, &host, rank.2);
        Ok(())
    }

    /// The map as one node sees it.
    async fn ask(&self, address: &Address) -> Result<View, StoreError> {
        let unreadable =
            || StoreError::Unavailable("what a node says of its cluster can't be read".to_owned());
        let told = async {
            let mut connection = open(address, None::<mpsc::UnboundedSender<PushInfo>>).await?;
            let slots = query(&mut connection, cmd("CLUSTER").arg("SLOTS"), SETUP).await?;
            // Not everybody may ask.
            let info = query(&mut connection, cmd("CLUSTER").arg("INFO"), SETUP).await.ok();
            Ok((slots, info))
        };
        let (slots, info) = told.await.map_err(|error| alone(address, fault::read(&error).0))?;
        let ranges = ranges(&slots).ok_or_else(unreadable)?;
        let host = address.node().map(|(host, _)| host.to_owned()).unwrap_or_default();
        let covered = ranges.iter().map(|range| usize::from(range.last) + 1 - usize::from(range.first)).sum();
        let (is_well, epoch) = info.as_ref().and_then(state).unwrap_or((true, 0));
        Ok(View { ranges, host, rank: (is_well, covered, epoch) })
    }

    /// Whether all that was kept has been carried out. What a node that is away has to do keeps no other waiting.
    async fn carry_out(&self) -> bool {
        let fleet = &self.fleet;
        let (mut away, mut epoch_waits) = (BTreeSet::new(), false);
        for (target, number) in fleet.kept.all() {
            fleet.beat();
            let node = match &target {
                Target::Epoch(key) | Target::Key(key) | Target::Fenced(key, _) => {
                    // No tag goes before the epoch does.
                    if epoch_waits && is_of_tags(key) {
                        continue;
                    }
                    fleet.owner(slot_of(key.as_bytes())).await.ok().map(|node| node.number)
                }
                // They take all.
                Target::Glob(_) | Target::Made(_) if !away.is_empty() => continue,
                Target::Glob(_) | Target::Made(_) => None,
            };
            if node.is_some() && away.contains(&node) {
                continue;
            }
            match self.carry(&target).await {
                Ok(()) => fleet.kept.done(&target, number),
                Err(problem) => {
                    warn!(target: "cache_aside", %problem, "kept invalidations can't be carried out yet");
                    away.insert(node);
                    epoch_waits |= matches!(target, Target::Epoch(_));
                }
            }
        }
        fleet.kept.is_empty()
    }

    async fn carry(&self, target: &Target) -> Result<(), StoreError> {
        let fleet = &self.fleet;
        let done = async {
            match target {
                Target::Epoch(key) | Target::Key(key) => {
                    route!(fleet, key, |store| store.remove(key)).map(drop)
                }
                Target::Fenced(key, token) => route!(fleet, key, |store| store.unfence(key, *token)),
                Target::Glob(glob) => fleet.remove_matching(glob, Reach::Any).await.map(drop),
                Target::Made(glob) => fleet.remove_matching(glob, Reach::Value).await.map(drop),
            }
        };
        match target {
            // Each of their steps has its own limit.
            Target::Glob(_) | Target::Made(_) => done.await,
            _ => timeout(SETUP, done)
                .await
                .unwrap_or_else(|_| Err(StoreError::Timeout("no answer within a second".to_owned()))),
        }
    }
}
