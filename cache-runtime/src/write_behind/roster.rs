//! Which shards a worker has: it tends them, and begins and ends their tasks.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{error, info, warn};

use super::crew::Crew;
use super::listener::Listener;
use super::shard::{Orders, Phase, Task};
use crate::cache::Cache;
use crate::error::StoreError;
use crate::store::queue::{Tenure, Term};

/// What has happened.
enum Event {
    /// When it was asked for, and what was released with it.
    Tended(Instant, Vec<Term>, Result<Tenure, StoreError>),
    TimeToTend,
    /// A task: whether its shard may be given up. None: it panicked.
    Ended(Id, Option<bool>),
    Arrived(Vec<u32>),
    Shutdown,
    DrainIsOver,
}

/// A task at work.
struct Post {
    id: Id,
    term: Term,
    orders: watch::Sender<Orders>,
    abort: AbortHandle,
}

type Tending = Pin<Box<dyn Future<Output = (Instant, Vec<Term>, Result<Tenure, StoreError>)> + Send>>;

/// A worker's shards.
pub(super) struct Roster<S> {
    crew: Arc<Crew<S>>,
    /// By shard. Dropped, they are aborted.
    posts: HashMap<u32, Post>,
    tasks: JoinSet<bool>,
    phase: Phase,
    /// Its shards are its own until then, as far as it knows.
    until: Instant,
    tending: Option<Tending>,
    timer: Pin<Box<Sleep>>,
    /// To be given up with the next tending.
    release: Vec<Term>,
    /// Empty, and kept until it leaves.
    drained: Vec<Term>,
    listener: Listener<S>,
    has_tended: bool,
    /// The store couldn't be asked the last time.
    is_dark: bool,
}

impl<S> Drop for Roster<S> {
    fn drop(&mut self) {
        self.crew.shared.queue.forget(&self.crew.name);
    }
}

impl<S: Clone + Send + Sync + 'static> Roster<S> {
    pub(super) fn new(crew: Arc<Crew<S>>) -> Self {
        let now = Instant::now();
        Self {
            listener: Listener::new(Arc::clone(&crew)),
            crew,
            posts: HashMap::new(),
            tasks: JoinSet::new(),
            phase: Phase::Work,
            until: now,
            tending: None,
            timer: Box::pin(sleep_until(now)),
            release: Vec::new(),
            drained: Vec::new(),
            has_tended: false,
            is_dark: false,
        }
    }

    /// Works until `shutdown`, and drains.
    ///
    /// Cancel: tasks are aborted, and the shards are free after a lease.
    pub(super) async fn run<F: Future>(mut self, shutdown: Pin<&mut F>, is_over: bool) {
        // None: it was ready.
        let mut shutdown = Some(shutdown).filter(|_| !is_over);
        let mut drain = None::<Pin<Box<Sleep>>>;
        if is_over {
            self.drain(&mut drain);
        }
        while !(self.phase != Phase::Work && self.posts.is_empty() && self.may_leave()) {
            let event = poll_fn(|cx| {
                if shutdown.as_mut().is_some_and(|shutdown| shutdown.as_mut().poll(cx).is_ready()) {
                    shutdown = None;
                    return Poll::Ready(Event::Shutdown);
                }
                if drain.as_mut().is_some_and(|drain| drain.as_mut().poll(cx).is_ready()) {
                    drain = None;
                    return Poll::Ready(Event::DrainIsOver);
                }
                self.poll(cx)
            });
            match event.await {
                Event::Shutdown => self.drain(&mut drain),
                Event::DrainIsOver => self.turn_to(Phase::End),
                Event::TimeToTend => self.tend(),
                Event::Tended(sent, _, Ok(tenure)) => self.tended(sent, tenure),
                Event::Tended(_, released, Err(error)) => self.untended(released, &error),
                Event::Ended(id, ended) => self.ended(id, ended),
                Event::Arrived(shards) => {
                    for post in shards.iter().filter_map(|shard| self.posts.get(shard)) {
                        post.orders.send_modify(|orders| orders.arrivals += 1);
                    }
                }
            }
        }
        // What is on its way would take shards again.
        if let Some(tending) = self.tending.take() {
            drop(tending.await);
        }
        if let Err(error) = self.crew.timed(self.crew.queue().leave(&self.crew.name)).await {
            let queue = &self.crew.shared.name;
            info!(target: "cache_aside", queue, %error, "a worker couldn't say that it leaves: its shards are free after a lease");
        }
    }

    /// Whether it knows what it had to drain.
    fn may_leave(&self) -> bool {
        self.has_tended || self.phase == Phase::End
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(tending) = &mut self.tending
            && let Poll::Ready((sent, released, tended)) = tending.as_mut().poll(cx)
        {
            self.tending = None;
            return Poll::Ready(Event::Tended(sent, released, tended));
        }
        if self.tending.is_none() && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::TimeToTend);
        }
        match self.tasks.poll_join_next_with_id(cx) {
            Poll::Ready(Some(Ok((id, is_ours)))) => return Poll::Ready(Event::Ended(id, Some(is_ours))),
            Poll::Ready(Some(Err(failed))) => return Poll::Ready(Event::Ended(failed.id(), None)),
            Poll::Ready(None) | Poll::Pending => {}
        }
        self.listener.poll(cx, self.posts.len()).map(Event::Arrived)
    }

    /// Says that it is alive, gives up what it doesn't need, and takes what is free.
    fn tend(&mut self) {
        let (crew, released) = (Arc::clone(&self.crew), mem::take(&mut self.release));
        self.tending = Some(Box::pin(async move {
            let sent = Instant::now();
            let limits = crew.shared.options.limits;
            let tended = crew.timed(crew.queue().tend(&crew.name, crew.lease(), &released, limits)).await;
            (sent, released, tended)
        }));
    }

    fn tend_in(&mut self, pause: Duration) {
        self.timer.as_mut().reset(Instant::now() + pause);
    }

    fn tended(&mut self, sent: Instant, tenure: Tenure) {
        self.has_tended = true;
        if mem::take(&mut self.is_dark) {
            let queue = &self.crew.shared.name;
            info!(target: "cache_aside", queue, "the store of a queue answers again");
        }
        self.until = sent + self.crew.lease();
        self.tend_in(self.crew.lease() / 3);
        let Tenure { shards, share } = tenure;
        self.posts.retain(|shard, post| {
            let is_ours = shards.contains(&post.term);
            if is_ours {
                post.orders.send_modify(|orders| orders.until = self.until);
            } else {
                // Another worker may be at work on it.
                post.abort.abort();
                self.crew.caught_up.exit(&[*shard]);
            }
            is_ours
        });
        self.drained.retain(|term| shards.contains(term));
        for term in &shards {
            let is_known = self.posts.contains_key(&term.shard) || self.drained.contains(term);
            if !is_known && self.phase != Phase::End && !self.release.contains(term) {
                self.begin(*term);
            }
        }
        self.give_up(shards.len().saturating_sub(share));
        if !self.release.is_empty() {
            self.tend_in(Duration::ZERO);
        }
    }

    /// It has so many more than its share.
    fn give_up(&mut self, beyond: usize) {
        let leaving = |post: &&Post| post.orders.borrow().phase == Phase::End;
        let mut beyond = beyond.saturating_sub(self.posts.values().filter(leaving).count());
        if self.phase == Phase::End || beyond == 0 {
            return;
        }
        let drained = self.drained.len().saturating_sub(beyond);
        beyond -= self.drained.len() - drained;
        self.release.extend(self.drained.drain(drained..));
        let mut staying: Vec<&Post> = self.posts.values().filter(|post| !leaving(post)).collect();
        staying.sort_by_key(|post| post.term.shard);
        for post in staying.into_iter().rev().take(beyond) {
            post.orders.send_modify(|orders| orders.phase = Phase::End);
        }
    }

    fn untended(&mut self, released: Vec<Term>, error: &StoreError) {
        self.release.extend(released);
        if !mem::replace(&mut self.is_dark, true) {
            let queue = &self.crew.shared.name;
            warn!(target: "cache_aside", queue, %error, "the store of a queue can't be asked: nothing is carried out when the lease is over");
        }
        self.tend_in((self.crew.lease() / 10).min(Duration::from_secs(1)));
    }

    fn begin(&mut self, term: Term) {
        let orders = Orders { phase: self.phase, until: self.until, arrivals: 0 };
        let (sender, receiver) = watch::channel(orders);
        let task = Task::new(Arc::clone(&self.crew), term, receiver);
        let abort = self.tasks.spawn(Cache::scope(self.crew.shared.cache.clone(), task.run()));
        self.posts.insert(term.shard, Post { id: abort.id(), term, orders: sender, abort });
    }

    fn ended(&mut self, id: Id, ended: Option<bool>) {
        // One that was aborted isn't there any more.
        let Some(shard) = self.posts.iter().find(|(_, post)| post.id == id).map(|(shard, _)| *shard) else {
            return;
        };
        let Some(post) = self.posts.remove(&shard) else { return };
        self.crew.caught_up.exit(&[shard]);
        match ended {
            Some(false) => {}
            // Given up when it is empty only if another worker wants it.
            Some(true) if self.phase != Phase::Work && post.orders.borrow().phase == self.phase => {
                self.drained.push(post.term);
            }
            Some(true) => {
                self.release.push(post.term);
                self.tend_in(Duration::ZERO);
            }
            None => {
                let queue = &self.crew.shared.name;
                error!(target: "cache_aside", queue, shard, "the task of a shard panicked: this is a bug of cache-aside; another is begun");
                self.release.push(post.term);
            }
        }
    }

    fn drain(&mut self, over: &mut Option<Pin<Box<Sleep>>>) {
        *over = Some(Box::pin(tokio::time::sleep(self.crew.shared.options.drain)));
        self.turn_to(Phase::Drain);
    }

    fn turn_to(&mut self, phase: Phase) {
        self.phase = phase;
        for post in self.posts.values() {
            post.orders.send_if_modified(|orders| {
                let is_earlier = orders.phase != Phase::End;
                if is_earlier {
                    orders.phase = phase;
                    // One more look: what was sent before this is applied.
                    orders.arrivals += 1;
                }
                is_earlier
            });
        }
    }
}
