//! Where a key is asked for, and where it is after all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fleet::Fleet;
use super::node::Node;
use super::slot::slot_of;
use crate::error::StoreError;
use crate::store::redis::RedisStore;
use crate::store::redis::fault::redirect;
use crate::store::{Reply, Store};

/// How often one operation may be sent on. Two are common while a slot moves.
const REDIRECTS: usize = 8;
/// The pause before it is sent on once more than that is common: nodes may not agree yet.
const PAUSE: Duration = Duration::from_millis(10);

/// A node that is asked, by somebody who may give it up.
struct Asked<'a> {
    fleet: &'a Arc<Fleet>,
    node: Arc<Node>,
    /// Since when it hasn't answered.
    begun: Option<Instant>,
}

impl Drop for Asked<'_> {
    /// Its time was up; or its caller went away for reasons of his own, mostly sooner.
    fn drop(&mut self) {
        if self.begun.is_some_and(|begun| begun.elapsed() >= self.fleet.options.budget / 2) {
            self.node.store.overdue();
            self.fleet.doubt();
        }
    }
}

/// What a node says, which is asked for several keys at once.
pub(super) async fn asked<T>(
    fleet: &Arc<Fleet>,
    node: &Arc<Node>,
    operation: Reply<'_, T>,
) -> Result<T, StoreError> {
    let mut asked = Asked { fleet, node: Arc::clone(node), begun: Some(Instant::now()) };
    let reply = operation.await;
    asked.begun = None;
    if let Err(StoreError::Unavailable(_) | StoreError::Timeout(_)) = reply {
        fleet.doubt();
    }
    reply
}

/// One operation on its way.
pub(super) struct Route<'a> {
    asked: Asked<'a>,
    is_asking: bool,
    redirects: usize,
}

impl<'a> Route<'a> {
    pub(super) async fn to(fleet: &'a Arc<Fleet>, key: &str) -> Result<Self, StoreError> {
        let node = fleet.owner(slot_of(key.as_bytes())).await?;
        Ok(Self { asked: Asked { fleet, node, begun: None }, is_asking: false, redirects: 0 })
    }

    /// Who is asked next.
    pub(super) fn store(&mut self) -> &RedisStore {
        let Asked { node, begun, .. } = &mut self.asked;
        *begun = Some(Instant::now());
        if self.is_asking { node.importing() } else { &node.store }
    }

    /// What was answered; nothing if another node is to be asked.
    pub(super) async fn follow<T>(&mut self, reply: Result<T, StoreError>) -> Option<Result<T, StoreError>> {
        let Asked { fleet, node, begun } = &mut self.asked;
        *begun = None;
        let error = match reply {
            Err(error) => error,
            done => return Some(done),
        };
        let Some(redirect) = redirect(&error) else {
            if let StoreError::Unavailable(_) | StoreError::Timeout(_) = error {
                // Another node may have its slots by now.
                fleet.doubt();
            }
            return Some(Err(error));
        };
        self.redirects += 1;
        if self.redirects > REDIRECTS {
            fleet.doubt();
            return Some(Err(StoreError::Unavailable(
                "the nodes of the cluster send it to and fro".to_owned(),
            )));
        }
        if self.redirects > 2 {
            tokio::time::sleep(PAUSE).await;
        }
        let own = node.address.node().map_or("", |(host, _)| host);
        let host = if redirect.host.is_empty() { own } else { &redirect.host };
        let next = if redirect.ask {
            fleet.node_at(host, redirect.port)
        } else {
            match fleet.moved(redirect.slot, host, redirect.port) {
                Ok(node) => node,
                Err(error) => return Some(Err(error)),
            }
        };
        *node = next;
        self.is_asking = redirect.ask;
        None
    }
}

/// Sends an operation on one key to who has it.
macro_rules! route {
    ($fleet:expr, $key:expr, |$store:ident| $operation:expr) => {{
        let mut route = $crate::store::redis::cluster::route::Route::to($fleet, $key).await?;
        loop {
            let reply = {
                let $store = route.store();
                $operation.await
            };
            if let Some(done) = route.follow(reply).await {
                break done;
            }
        }
    }};
}
pub(super) use route;
