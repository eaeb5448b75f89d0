//! Globs on a cluster: every primary goes through its keys.
//!
//! A key that moves meanwhile may be nowhere when it is looked for: not any more where it was, not yet where
//! it is. Who moves it says so, of a slot that is on its way; then all go through their keys twice, and what was on
//! its way at first has arrived. And whoever was given slots, or took over from another, has another epoch: if
//! any primary says something else after than before, all begin again.
//!
//! Keys that a node has but may not remove are removed where they are: what has arrived of a slot that is still
//! on its way, what went away between two steps, and all of a primary that has just become a replica.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::fleet::Fleet;
use super::node::Node;
use super::route::route;
use super::slot::SLOTS;
use crate::error::StoreError;
use crate::store::Reach;
use crate::store::redis::STEP;

/// How often all primaries go through their keys before that is given up.
const PASSES: usize = 8;
/// The pause before nodes are asked again that don't agree.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node says of its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::redis) struct Own {
    slots: BTreeSet<u16>,
    /// Those that are on their way, as it says it.
    moving: BTreeSet<String>,
    /// Grows with each election and each slot that it is given.
    epoch: u64,
}

/// The line about itself in what `CLUSTER NODES` says.
pub(in crate::store::redis) fn own(nodes: &str) -> Option<Own> {
    let line =
        nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")))?;
    let mut words = line.split(' ').skip(6);
    let epoch = words.next()?.parse().ok()?;
    let mut own = Own { slots: BTreeSet::new(), moving: BTreeSet::new(), epoch };
    for word in words.skip(1) {
        if word.starts_with('[') {
            own.moving.insert(word.to_owned());
            continue;
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        own.slots.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(own)
}

impl Fleet {
    /// Removes the keys that fit, everywhere; how many there were.
    pub(super) async fn remove_matching(
        self: &Arc<Self>,
        glob: &str,
        reach: Reach,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        for _ in 0..PASSES {
            let (nodes, before) = self.owns().await?;
            removed += self.pass(&nodes, glob, reach).await?;
            if before.iter().any(|own| !own.moving.is_empty()) {
                // A slot may stay open for hours: what was on its way has arrived.
                removed += self.pass(&nodes, glob, reach).await?;
            }
            let (_, after) = self.owns().await?;
            if before == after {
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

    /// The primaries, and what each says of its slots; together they have all.
    async fn owns(self: &Arc<Self>) -> Result<(Vec<Arc<Node>>, Vec<Own>), StoreError> {
        let mut problem = StoreError::Unavailable("no node has some slots of the cluster".to_owned());
        for _ in 0..PASSES {
            let nodes: Vec<_> = self.map().await?.primaries().into_iter().map(|(node, _)| node).collect();
            let told = join_all(nodes.iter().map(|node| node.store.slots())).await;
            match told.into_iter().collect::<Result<Vec<Own>, _>>() {
                Ok(own) => {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_its_slots_and_whether_they_move() {
        let text = "aa 127.0.0.1:1@2,host slave bb 0 0 2 connected\n\
                    bb 127.0.0.1:3@4 myself,master - 0 0 2 connected 0-2 7 [7->-aa]\n\
                    cc 127.0.0.1:5@6 master - 0 0 3 connected 3-6 8-16383\n";
        let expected = Own { slots: [0, 1, 2, 7].into(), moving: ["[7->-aa]".to_owned()].into(), epoch: 2 };
        assert_eq!(own(text), Some(expected));
        assert_eq!(own("aa 127.0.0.1:1@2 myself,slave bb 0 0 2 connected").unwrap().slots.len(), 0);
        assert_eq!(own("aa 127.0.0.1:1@2 master - 0 0 2 connected 0-3"), None);
        assert_eq!(own("aa 127.0.0.1:1@2 myself,master - 0 0 2 connected 0-x"), None);
    }
}
