//! Globs on a cluster: every primary goes through its keys.
//!
//! A key that moves meanwhile may be nowhere when it is looked for: not any more where it was, not yet where
//! it is. Who moves it says so, of a slot that is on its way or in the list of its slots. So if any primary says
//! so before, or says something else after, all go through their keys once more: a key that stays is found, and
//! one that moved before stays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::fleet::Fleet;
use super::node::Node;
use super::slot::SLOTS;
use crate::error::StoreError;
use crate::store::{Reach, Store};

/// How often all primaries go through their keys before that is given up.
const PASSES: usize = 8;
/// The pause before nodes are asked again that don't agree.
const PAUSE: Duration = Duration::from_millis(100);

/// What a node says of its slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::redis) struct Own {
    slots: BTreeSet<u16>,
    /// Some are on their way.
    is_moving: bool,
}

/// The line about itself in what `CLUSTER NODES` says.
pub(in crate::store::redis) fn own(nodes: &str) -> Option<Own> {
    let line =
        nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")))?;
    let mut own = Own { slots: BTreeSet::new(), is_moving: false };
    for word in line.split(' ').skip(8) {
        if word.starts_with('[') {
            own.is_moving = true;
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
        let mut is_still = false;
        for _ in 0..PASSES {
            let (nodes, before) = self.owns().await?;
            let each = nodes.iter().map(|node| node.store.remove_matching(glob, reach));
            for count in join_all(each).await {
                removed += count.inspect_err(|_| self.doubt())?;
            }
            let (_, after) = self.owns().await?;
            let is_same = before == after && before.iter().all(|own| !own.is_moving);
            // What moved in a pass stands still in the next one, or says so again.
            if is_same {
                return Ok(removed);
            }
            is_still = before == after;
            if is_still && before.iter().any(|own| own.is_moving) {
                // A slot may stay open for hours: what was on its way in this pass has arrived in the next.
                let each = nodes.iter().map(|node| node.store.remove_matching(glob, reach));
                for count in join_all(each).await {
                    removed += count.inspect_err(|_| self.doubt())?;
                }
                let (_, last) = self.owns().await?;
                if last == after {
                    return Ok(removed);
                }
            }
        }
        let why = if is_still {
            "slots of the cluster move all the time"
        } else {
            "the cluster changes all the time"
        };
        Err(StoreError::Unavailable(why.to_owned()))
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
        let expected = Own { slots: [0, 1, 2, 7].into(), is_moving: true };
        assert_eq!(own(text), Some(expected));
        assert_eq!(own("aa 127.0.0.1:1@2 myself,slave bb 0 0 2 connected").unwrap().slots.len(), 0);
        assert_eq!(own("aa 127.0.0.1:1@2 master - 0 0 2 connected 0-3"), None);
        assert_eq!(own("aa 127.0.0.1:1@2 myself,master - 0 0 2 connected 0-x"), None);
    }
}
