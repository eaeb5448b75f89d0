//! Listens for arrivals in the shards of a worker.
//!
//! A shard that has more to read than its task takes isn't asked about: the answer would come at once, again and
//! again. One question is about all others. It is put anew when another shard has caught up, but not for each at
//! a time: after an arrival all of them look, and each is done a moment after the other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::crew::Crew;
use crate::error::StoreError;

/// It looks at least so often.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long those that have caught up wait for the others.
const LAG: Duration = Duration::from_millis(5);
/// After the store couldn't be asked.
const FAULT_PAUSE: Duration = Duration::from_millis(500);

type Listening = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// One question for all shards that have caught up.
pub(super) struct Listener<S> {
    crew: Arc<Crew<S>>,
    listening: Option<(Vec<u32>, Listening)>,
    /// No other question before.
    pause: Option<Pin<Box<Sleep>>>,
    /// The last one failed.
    is_dark: bool,
}

impl<S: Clone + Send + Sync + 'static> Listener<S> {
    pub(super) fn new(crew: Arc<Crew<S>>) -> Self {
        Self { crew, listening: None, pause: None, is_dark: false }
    }

    /// The shards in which there may be something to read, of so many.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, shards: usize) -> Poll<Vec<u32>> {
        let caught_up = self.crew.caught_up.look(cx.waker());
        let asked = self.listening.as_ref().map_or(&[][..], |(asked, _)| asked);
        if caught_up.iter().any(|shard| !asked.contains(shard)) {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(LAG)));
            let are_all = caught_up.len() >= shards && !self.is_dark;
            if pause.as_mut().poll(cx).is_ready() || are_all {
                self.pause = None;
                let (crew, about) = (Arc::clone(&self.crew), caught_up.clone());
                let listening = async move { crew.queue().arrivals(&crew.name, &about, PATIENCE).await };
                self.listening = Some((caught_up, Box::pin(listening)));
            }
        }
        let Some((asked, listening)) = &mut self.listening else { return Poll::Pending };
        let Poll::Ready(heard) = listening.as_mut().poll(cx) else { return Poll::Pending };
        let asked = std::mem::take(asked);
        self.listening = None;
        // They aren't until they have looked.
        self.crew.caught_up.exit(&asked);
        self.is_dark = heard.is_err();
        self.pause = Some(Box::pin(sleep(if self.is_dark { FAULT_PAUSE } else { LAG })));
        Poll::Ready(asked)
    }
}
