//! What is asked of many keys: of each node those that it has, side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::ClusterStore;
use super::node::Node;
use super::route::asked;
use super::slot::slot_of;
use crate::error::StoreError;
use crate::store::redis::fault::redirect;
use crate::store::{Each, Reply};

/// Keys that a node has, and their places among all.
type Group = (Arc<Node>, Vec<usize>, Vec<String>);

impl ClusterStore {
    /// The places of these keys in their order, by who has them.
    pub(super) async fn by_node(
        &self,
        keys: impl Iterator<Item = &str>,
    ) -> Result<Vec<(Arc<Node>, Vec<usize>)>, StoreError> {
        let mut found = BTreeMap::<usize, (Arc<Node>, Vec<usize>)>::new();
        for (place, key) in keys.enumerate() {
            let node = self.fleet.owner(slot_of(key.as_bytes())).await?;
            found.entry(node.number).or_insert_with(|| (node, Vec::new())).1.push(place);
        }
        Ok(found.into_values().collect())
    }

    /// These keys, by who has them.
    async fn groups(&self, keys: &[String]) -> Result<Vec<Group>, StoreError> {
        let groups = self.by_node(keys.iter().map(String::as_str)).await?;
        let own = |places: &[usize]| places.iter().map(|place| keys[*place].clone()).collect();
        let group = |(node, places): (Arc<Node>, Vec<usize>)| {
            let own = own(&places);
            (node, places, own)
        };
        Ok(groups.into_iter().map(group).collect())
    }

    /// As the others, with an answer for each key: a node that is away takes nobody else along.
    pub(super) async fn each_by_itself<T: Send>(
        &self,
        keys: &[String],
        together: impl for<'n> Fn(&'n Node, &'n [String]) -> Each<'n, T>,
        alone: impl for<'n> Fn(&'n Self, &'n str) -> Reply<'n, T>,
    ) -> Result<Vec<Result<T, StoreError>>, StoreError> {
        let waits = |key: &String| self.gate(key).err();
        let mut all: Vec<Option<Result<T, StoreError>>> =
            keys.iter().map(|key| waits(key).map(Err)).collect();
        let groups = self.groups(keys).await?;
        // Who waits for keys of other nodes has some of his budget left.
        let patience = self.fleet.options.budget / 2;
        let ask = async |(node, _, own): &Group| {
            let reply = asked(&self.fleet, node, together(node, own));
            tokio::time::timeout(patience, reply)
                .await
                .unwrap_or_else(|_| Err(StoreError::Timeout("a node doesn't answer".to_owned())))
        };
        let replies = join_all(groups.iter().map(ask)).await;
        for (reply, (_, places, own)) in replies.into_iter().zip(&groups) {
            let found: Vec<Result<T, StoreError>> = match reply {
                Ok(found) => found,
                Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
            };
            for ((place, key), one) in places.iter().zip(own).zip(found) {
                let slot = &mut all[*place];
                if slot.is_none() {
                    *slot = Some(match one {
                        Err(error) if redirect(&error).is_some() => alone(self, key).await,
                        one => one,
                    });
                }
            }
        }
        let missing = || {
            Err(StoreError::Unavailable("a node answered for fewer keys than it was asked for".to_owned()))
        };
        Ok(all.into_iter().map(|one| one.unwrap_or_else(missing)).collect())
    }

    /// What `together` brings of the keys of each node, in their order; and for those of a node that sends one of
    /// them on, what `alone` brings of each.
    pub(super) async fn each<T>(
        &self,
        keys: &[String],
        together: impl for<'n> Fn(&'n Node, &'n [String]) -> Reply<'n, Vec<T>>,
        alone: impl for<'n> Fn(&'n Self, &'n str) -> Reply<'n, T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all: Vec<Option<T>> = keys.iter().map(|_| None).collect();
        let groups = self.groups(keys).await?;
        let ask = async |(node, _, own): &Group| asked(&self.fleet, node, together(node, own)).await;
        let replies = join_all(groups.iter().map(ask)).await;
        for (reply, (_, places, own)) in replies.into_iter().zip(&groups) {
            let found = match reply {
                Ok(found) => found,
                Err(error) if redirect(&error).is_some() => join_all(own.iter().map(|key| alone(self, key)))
                    .await
                    .into_iter()
                    .collect::<Result<_, _>>()?,
                Err(error) => return Err(error),
            };
            for (place, one) in places.iter().zip(found) {
                all[*place] = Some(one);
            }
        }
        all.into_iter().collect::<Option<_>>().ok_or_else(|| {
            StoreError::Unavailable("a node answered for fewer keys than it was asked for".to_owned())
        })
    }
}
