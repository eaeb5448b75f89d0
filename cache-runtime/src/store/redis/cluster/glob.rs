//! Globs on a cluster: every primary goes through its keys, and so does whoever is just being given a slot.
//!
//! A key that moves meanwhile may be nowhere when it is looked for: not any more where it was, not yet where
//! it is. Nodes are asked before and after what they have and what is on its way. If nothing was, and all is as it
//! was, no key has moved. If something was, all go through their keys once more: a key that moves *once* has either
//! been where it was for all of the first time, or is where it goes to for all of the second.
//!
//! That no key moved twice is told by the epochs. Who is given a slot takes the highest epoch of all, unless it has that
//! already ([`CLUSTER SETSLOT .. NODE`](https://redis.io/docs/latest/commands/cluster-setslot/), in the sources
//! `clusterBumpConfigEpochWithoutConsensus`), and whoever wins an election takes a higher one.
//! So if no epoch has changed, none but the one node that had the highest was given slots. And what is told of a slot
//! that is, or was, on its way must be one way: not on to a third, nor back. A resharding goes to one node for
//! long, so this comes to an end while it goes on.
//!
//! Keys that a node has but may not remove are removed where they are: what has arrived of a slot that is still
//! on its way, what went away between two steps, and all of a primary that has just become a replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::fleet::Fleet;
use super::node::Node;
use super::route::route;
use super::slot::SLOTS;
use crate::error::StoreError;
use crate::store::redis::STEP;
use crate::store::redis::fault::redirect;
use crate::store::{Reach, Store};

/// How often all go through their keys before that is given up.
const PASSES: usize = 8;
/// The pause before nodes are asked again that don't agree.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node says of its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::redis) struct Own {
    /// As nodes call it among themselves.
    id: String,
    slots: BTreeSet<u16>,
    /// Those that are on their way to another, and to whom.
    leaving: BTreeMap<u16, String>,
    /// Those that are on their way to it, and from whom.
    coming: BTreeMap<u16, String>,
    /// Grows with each election, and with each slot that it is given, unless it is the highest already.
    epoch: u64,
}

/// The line about itself in what `CLUSTER NODES` says.
pub(in crate::store::redis) fn own(nodes: &str) -> Option<Own> {
    let line =
        nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")))?;
    let id = line.split(' ').next()?.to_owned();
    let mut words = line.split(' ').skip(6);
    let epoch = words.next()?.parse().ok()?;
    let (slots, leaving, coming) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let mut own = Own { id, slots, leaving, coming, epoch };
    for word in words.skip(1) {
        if let Some(moving) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            // `[slot->-id]`, `[slot-<-id]`
            let (slot, rest) = moving.split_once('-')?;
            let (slot, id) = (slot.parse().ok()?, rest.get(2..)?.to_owned());
            if rest.starts_with('>') {
                own.leaving.insert(slot, id)
            } else {
                own.coming.insert(slot, id)
            };
            continue;
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        own.slots.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(own)
}

/// Whether none of them has something on its way.
fn is_quiet(view: &[Own]) -> bool {
    view.iter().all(|own| own.leaving.is_empty() && own.coming.is_empty())
}

/// Whether no key can have moved more than once between the first and the last of these.
fn once(views: &[Vec<Own>]) -> bool {
    let epochs = |view: &[Own]| -> BTreeMap<String, u64> {
        view.iter().map(|own| (own.id.clone(), own.epoch)).collect()
    };
    let first = epochs(&views[0]);
    if views.iter().any(|view| epochs(view) != first) {
        return false;
    }
    // Two that share the highest could both be given slots without a word.
    let highest = first.values().max();
    if first.values().filter(|epoch| Some(*epoch) == highest).count() > 1 {
        return false;
    }
    // From one to another, and neither on nor back: a slot that has arrived may be on its way back already, without
    // a new epoch, and so may the key that was gone when its first owner was looked through, and is again.
    let mut ways: BTreeMap<u16, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for own in views.iter().flatten() {
        let there = own.leaving.iter().map(|(slot, to)| (*slot, (own.id.as_str(), to.as_str())));
        let here = own.coming.iter().map(|(slot, from)| (*slot, (from.as_str(), own.id.as_str())));
        for (slot, way) in there.chain(here) {
            ways.entry(slot).or_default().insert(way);
        }
    }
    for step in views.windows(2) {
        for old in &step[0] {
            for new in step[1].iter().filter(|new| new.id != old.id) {
                for slot in old.slots.intersection(&new.slots) {
                    ways.entry(*slot).or_default().insert((&old.id, &new.id));
                }
            }
        }
    }
    ways.values().all(|ways| ways.len() == 1)
}

impl Fleet {
    /// Removes the keys that fit, everywhere; how many there were.
    pub(super) async fn remove_matching(
        self: &Arc<Self>,
        glob: &str,
        reach: Reach,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        let (mut nodes, view) = self.owns().await?;
        let mut views = vec![view];
        for _ in 0..PASSES {
            removed += self.pass(&nodes, glob, reach).await?;
            let view;
            (nodes, view) = self.owns().await?;
            let is_still = views.last() == Some(&view) && is_quiet(&view);
            views.push(view);
            if is_still || views.len() > 2 && once(&views[views.len() - 3..]) {
                return Ok(removed);
            }
        }
        Err(StoreError::Unavailable("the cluster changes all the time".to_owned()))
    }

    /// All of these go through their keys once.
    async fn pass(
        self: &Arc<Self>,
        nodes: &[Arc<Node>],
        glob: &str,
        reach: Reach,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        let each = nodes.iter().map(|node| node.store.link.remove_matching(glob, reach));
        for done in join_all(each).await {
            let done = done.inspect_err(|_| self.doubt())?;
            removed += done.removed;
            for keys in done.elsewhere.chunks(STEP) {
                let each = keys.iter().map(|key| self.remove_elsewhere(key));
                for gone in join_all(each).await {
                    removed += gone?;
                }
            }
        }
        Ok(removed)
    }

    async fn remove_elsewhere(self: &Arc<Self>, key: &[u8]) -> Result<u64, StoreError> {
        // Ours are all text.
        let Ok(key) = str::from_utf8(key) else { return Ok(0) };
        let key = [key.to_owned()];
        let removed = async { route!(self, &key[0], |store| store.remove_each(&key)) };
        let removed = timeout(self.options.budget, removed).await;
        let removed = removed.map_err(|_| StoreError::Timeout("no answer within the budget".to_owned()))?;
        Ok(removed?.into_iter().sum())
    }

    /// The primaries, which have all slots together, and those that are just being given some; and what each says
    /// of its slots.
    async fn owns(self: &Arc<Self>) -> Result<(Vec<Arc<Node>>, Vec<Own>), StoreError> {
        let mut problem = StoreError::Unavailable("no node has some slots of the cluster".to_owned());
        for _ in 0..PASSES {
            let nodes: Vec<_> = self.map().await?.primaries().into_iter().map(|(node, _)| node).collect();
            match self.ask(nodes).await {
                Ok((nodes, own)) => {
                    let all: BTreeSet<u16> = own.iter().flat_map(|own| &own.slots).copied().collect();
                    if all.len() == usize::from(SLOTS) {
                        return Ok((nodes, own));
                    }
                }
                Err(error) => problem = error,
            }
            self.doubt();
            tokio::time::sleep(PAUSE).await;
        }
        Err(problem)
    }

    async fn ask(
        self: &Arc<Self>,
        mut nodes: Vec<Arc<Node>>,
    ) -> Result<(Vec<Arc<Node>>, Vec<Own>), StoreError> {
        let told = join_all(nodes.iter().map(|node| node.store.slots())).await;
        let mut own = told.into_iter().collect::<Result<Vec<_>, _>>()?;
        let leaving = nodes.iter().zip(&own).flat_map(|(node, own)| {
            own.leaving.iter().map(|(slot, to)| (Arc::clone(node), *slot, to.clone()))
        });
        // Who has no slot yet is in no map.
        for (from, slot, to) in leaving.collect::<Vec<_>>() {
            if own.iter().all(|known| known.id != to) {
                let node = self.importer(&from, slot).await?;
                own.push(node.store.slots().await?);
                nodes.push(node);
            }
        }
        Ok((nodes, own))
    }

    /// Where this slot is on its way to, by the name that the node sends others on to.
    async fn importer(self: &Arc<Self>, from: &Arc<Node>, slot: u16) -> Result<Arc<Node>, StoreError> {
        let key = self.probe(slot);
        let reply = timeout(self.options.budget, from.store.get(&key)).await;
        let found =
            match reply.unwrap_or_else(|_| Err(StoreError::Timeout("a node doesn't answer".to_owned()))) {
                Ok(_) => None,
                Err(error) => match redirect(&error) {
                    Some(found) if found.ask => Some(found),
                    Some(_) => None,
                    None => return Err(error),
                },
            };
        let found = found.ok_or_else(|| StoreError::Unavailable("a slot has just arrived".to_owned()))?;
        let own = from.address.node().map_or("", |(host, _)| host);
        let node = self.node_at(if found.host.is_empty() { own } else { &found.host }, found.port);
        // So it is kept for a while.
        node.importing();
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_its_slots_and_whether_they_move() {
        let text = "aa 127.0.0.1:1@2,host slave bb 0 0 2 connected\n\
                    bb 127.0.0.1:3@4 myself,master - 0 0 2 connected 0-2 7 [7->-aa] [9-<-cc]\n\
                    cc 127.0.0.1:5@6 master - 0 0 3 connected 3-6 8-16383\n";
        let expected = Own {
            id: "bb".to_owned(),
            slots: [0, 1, 2, 7].into(),
            leaving: [(7, "aa".to_owned())].into(),
            coming: [(9, "cc".to_owned())].into(),
            epoch: 2,
        };
        assert_eq!(own(text), Some(expected));
        assert_eq!(own("aa 127.0.0.1:1@2 myself,slave bb 0 0 2 connected").unwrap().slots.len(), 0);
        assert_eq!(own("aa 127.0.0.1:1@2 master - 0 0 2 connected 0-3"), None);
        assert_eq!(own("aa 127.0.0.1:1@2 myself,master - 0 0 2 connected 0-x"), None);
    }

    fn view(nodes: &[(&str, u64, &[u16])]) -> Vec<Own> {
        let own = |(id, epoch, slots): &(&str, u64, &[u16])| Own {
            id: (*id).to_owned(),
            slots: slots.iter().copied().collect(),
            leaving: BTreeMap::new(),
            coming: BTreeMap::new(),
            epoch: *epoch,
        };
        nodes.iter().map(own).collect()
    }

    #[test]
    fn keys_move_once_if_one_node_is_given_slots_and_has_the_highest_epoch() {
        let before = view(&[("a", 1, &[0, 1]), ("b", 2, &[2]), ("c", 3, &[3])]);
        let between = view(&[("a", 1, &[1]), ("b", 2, &[2]), ("c", 3, &[0, 3])]);
        let after = view(&[("a", 1, &[]), ("b", 2, &[2]), ("c", 3, &[0, 1, 3])]);
        assert!(once(&[before.clone(), between.clone(), after.clone()]));
        // Somebody was given slots who may have handed them on, or was elected.
        let risen = view(&[("a", 1, &[]), ("b", 2, &[2]), ("c", 4, &[0, 1, 3])]);
        assert!(!once(&[before.clone(), between.clone(), risen]));
        let another = view(&[("a", 1, &[]), ("b", 2, &[2]), ("d", 3, &[0, 1, 3])]);
        assert!(!once(&[before.clone(), between, another]));
        // From one to the next to the third.
        let second = view(&[("a", 1, &[1]), ("b", 2, &[0, 2]), ("c", 3, &[3])]);
        assert!(!once(&[before, second, after]));
        let shared = view(&[("a", 3, &[0]), ("c", 3, &[1])]);
        assert!(!once(&[shared.clone(), shared.clone(), shared]));
    }

    #[test]
    fn a_slot_that_stays_on_its_way_is_on_one_way() {
        let mut open = view(&[("a", 1, &[0, 1]), ("b", 2, &[2]), ("c", 3, &[3])]);
        open[0].leaving.insert(0, "b".to_owned());
        open[1].coming.insert(0, "a".to_owned());
        assert!(!is_quiet(&open) && once(&[open.clone(), open.clone(), open.clone()]));
        let mut other = open.clone();
        other[0].leaving.insert(0, "c".to_owned());
        assert!(!once(&[open.clone(), open, other]));
    }

    #[test]
    fn a_slot_that_arrived_and_goes_back_moves_twice_without_a_new_epoch() {
        let before = view(&[("a", 1, &[0, 1]), ("b", 2, &[2]), ("c", 3, &[3])]);
        let arrived = view(&[("a", 1, &[1]), ("b", 2, &[2]), ("c", 3, &[0, 3])]);
        let mut back = arrived.clone();
        back[2].leaving.insert(0, "a".to_owned());
        back[0].coming.insert(0, "c".to_owned());
        assert!(!once(&[before.clone(), arrived.clone(), back.clone()]));
        assert!(once(&[arrived.clone(), back.clone(), back.clone()]));
        // When it set out is told by who gives it, or by who is given it.
        let mut open = before.clone();
        open[0].leaving.insert(0, "c".to_owned());
        back[0].coming.clear();
        assert!(once(&[before, open.clone(), arrived]));
        assert!(!once(&[open.clone(), open, back]));
    }
}
