//! One shard of a worker: its writes, one after the other, until the shard is another's.
//!
//! ```text
//! recover    what others were handed and haven't settled
//! read       up to a window
//! try        the first write whose order key isn't parked; what is done is settled while the next one runs
//! bury       what has failed for good, when all before it is settled
//! ```

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tracing::{debug, error, warn};

use super::crew::{Crew, Failure};
use super::window::{Next, Window};
use crate::error::StoreError;
use crate::store::Reply;
use crate::store::queue::{Buried, Delivery, Term};

/// The first and the longest pause after the store couldn't be asked.
const FAULT_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How many may be applied and wait for being settled. Behind so many nothing is tried.
const MOST_DONE: usize = 1024;

/// What a worker tells the tasks of its shards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orders {
    pub(super) phase: Phase,
    /// The shard is its own until then, as far as it knows.
    pub(super) until: Instant,
    /// How often there may have been something to read.
    pub(super) arrivals: u64,
}

/// How much longer a shard is worked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Until it is told otherwise.
    Work,
    /// Until there is nothing to do.
    Drain,
    /// What runs is finished.
    End,
}

/// The shard isn't worked at any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It is another worker's.
    Lost,
    Ended,
}

type Settling = Pin<Box<dyn Future<Output = (Vec<Delivery>, Result<bool, StoreError>)> + Send>>;

/// The task of one shard, for one term.
pub(super) struct Task<S> {
    crew: Arc<Crew<S>>,
    term: Term,
    orders: watch::Receiver<Orders>,
    window: Window,
    /// There may be more to read.
    unread: bool,
    /// Those that were heard of.
    arrivals: u64,
    /// Applied, and not on its way to the store.
    done: Vec<Delivery>,
    settling: Option<Settling>,
    /// The store couldn't be asked: settled again after that.
    pause: Option<Pin<Box<Sleep>>>,
    is_lost: bool,
    /// How often in a row the store couldn't be asked.
    faults: u32,
    has_said_full: bool,
}

impl<S: Clone + Send + Sync + 'static> Task<S> {
    pub(super) fn new(crew: Arc<Crew<S>>, term: Term, orders: watch::Receiver<Orders>) -> Self {
        let window = Window::new(crew.shared.options.retries, crew.shared.options.coalesces);
        Self {
            crew,
            term,
            orders,
            window,
            unread: true,
            arrivals: 0,
            done: Vec::new(),
            settling: None,
            pause: None,
            is_lost: false,
            faults: 0,
            has_said_full: false,
        }
    }

    /// Works until it is told to end; true if the shard is still its own, and may be given up.
    ///
    /// Cancel: what is applied and isn't settled is handed over once more.
    pub(super) async fn run(mut self) -> bool {
        let stop = self.work().await.unwrap_or_else(|stop| stop);
        if stop == Stop::Ended {
            self.flush().await;
        }
        !self.is_lost && stop != Stop::Lost
    }

    async fn work(&mut self) -> Result<Stop, Stop> {
        let (crew, term) = (Arc::clone(&self.crew), self.term);
        let recover = || -> Reply<'_, _> { Box::pin(crew.at_length(crew.queue().recover(&crew.name, term))) };
        let recovered = self.insist_on(recover).await?;
        self.window.recover(recovered.ok_or(Stop::Lost)?);
        // Whether more may have come while something was tried.
        let mut has_tried = false;
        loop {
            // Handlers and stores that never wait would keep the thread.
            coop::consume_budget().await;
            self.settle_beside_nothing().await;
            if self.is_lost {
                return Err(Stop::Lost);
            }
            let orders = self.orders();
            if orders.phase == Phase::End {
                return Ok(Stop::Ended);
            }
            if orders.arrivals != self.arrivals {
                (self.arrivals, self.unread) = (orders.arrivals, true);
            }
            let next = self.window.next(Instant::now());
            // What is parked may be as large as it likes: it doesn't hold up others.
            let is_wanted = || matches!(next, Next::Wait(_)) || self.window.is_low();
            if self.unread && self.window.room() > 0 && is_wanted() {
                self.read().await?;
                continue;
            }
            match next {
                // After its lease another worker may have begun.
                Next::Try(_) | Next::Bury(_) if Instant::now() >= orders.until => self.hear(None).await,
                Next::Try(_) if self.done.len() >= MOST_DONE => self.catch_up().await,
                Next::Try(run) => {
                    has_tried = true;
                    self.attempt(&run).await?;
                }
                Next::Bury(at) => self.bury(at).await?,
                // One look before it listens: where there is much to do, there is more.
                Next::Wait(_) if has_tried => (has_tried, self.unread) = (false, true),
                Next::Wait(_) if orders.phase == Phase::Drain && self.window.len() == 0 => {
                    return Ok(Stop::Ended);
                }
                Next::Wait(until) => self.hear(until).await,
            }
        }
    }

    /// What the worker says now; [`hear`](Self::hear) waits for something else.
    fn orders(&mut self) -> Orders {
        let mut orders = *self.orders.borrow_and_update();
        if self.orders.has_changed().is_err() {
            // The worker is gone, and this task is about to be.
            orders.phase = Phase::End;
        }
        orders
    }

    async fn read(&mut self) -> Result<(), Stop> {
        let (crew, term, most) = (Arc::clone(&self.crew), self.term, self.window.room());
        let read = self.insist(|| crew.queue().read(&crew.name, term, most)).await?;
        let deliveries = read.ok_or(Stop::Lost)?;
        self.unread = deliveries.len() == most;
        if !self.unread {
            self.crew.caught_up.enter(self.term.shard);
        }
        self.window.extend(deliveries);
        Ok(())
    }

    /// Waits for other orders, or until then.
    async fn hear(&mut self, until: Option<Instant>) {
        let mut orders = self.orders.clone();
        let changed = async move { drop(orders.changed().await) };
        match until {
            None => self.drive(changed).await,
            Some(until) => drop(self.drive(timeout_at(until, changed)).await),
        }
    }

    /// Waits until what is done is on its way to the store, or for other orders.
    async fn catch_up(&mut self) {
        let mut orders = self.orders.clone();
        let mut changed = pin!(orders.changed());
        poll_fn(|cx| {
            self.settle(cx);
            if self.is_lost || self.done.len() < MOST_DONE {
                return Poll::Ready(());
            }
            changed.as_mut().poll(cx).map(drop)
        })
        .await;
    }

    /// Tries the last of the run.
    async fn attempt(&mut self, run: &[usize]) -> Result<(), Stop> {
        let (crew, term) = (Arc::clone(&self.crew), self.term);
        let at = *run.last().expect("a run has a last one");
        // What kills its worker takes along what runs beside it, and is counted; alone it is counted alone.
        let _room = if self.window.get(at).is_suspect() {
            (None, Some(self.drive(crew.room.write()).await))
        } else {
            (Some(self.drive(crew.room.read()).await), None)
        };
        if Instant::now() >= self.orders.borrow().until {
            return Ok(());
        }
        if let Some(retry) = self.window.get(at).count_as {
            let id = self.window.get(at).delivery.id.clone();
            if !self.insist(|| crew.queue().again(&crew.name, term, &id, retry)).await? {
                return Err(Stop::Lost);
            }
            self.window.counted(at);
            if Instant::now() >= self.orders.borrow().until {
                return Ok(());
            }
        }
        let held = self.window.get(at);
        let running = crew.begin(&held.delivery, held.age());
        let ended = self.drive(running).await;
        let Delivery { kind, seq, deliveries: attempt, .. } = &self.window.get(at).delivery;
        let queue = &crew.shared.name;
        match ended {
            Ok(()) => {
                debug!(target: "cache_aside", queue, kind, seq, attempt, coalesced = run.len() - 1, "written");
                self.done.extend(self.window.done(run));
            }
            Err(Failure::Payload(cause)) => self.window.doom(at, cause),
            Err(Failure::Handler(cause)) => {
                debug!(target: "cache_aside", queue, kind, seq, attempt, "a write failed");
                let options = &crew.shared.options;
                self.window.fail(at, cause, |attempts| options.pause_after(attempts));
            }
        }
        Ok(())
    }

    async fn bury(&mut self, at: usize) -> Result<(), Stop> {
        // Those of its order key before it leave the queue before it.
        if !self.flush().await {
            return Ok(());
        }
        let (crew, term) = (Arc::clone(&self.crew), self.term);
        let held = self.window.get(at);
        let (dead, cause) = (held.delivery.clone(), held.cause().to_owned());
        let Delivery { kind, seq, deliveries: attempts, .. } = &dead;
        let (queue, limits) = (&crew.shared.name, crew.shared.options.limits);
        let forget = || crew.shared.forget(dead.entries.iter().map(|key| &**key));
        forget();
        let buried = self.insist(|| crew.queue().bury(&crew.name, term, &dead, &cause, limits)).await;
        forget();
        match buried? {
            Buried::Done => {
                error!(target: "cache_aside", queue, kind, seq, attempts, "a write is given up: `dead_letters` has its cause");
                self.window.buried(at);
            }
            Buried::Full => {
                if !self.has_said_full {
                    self.has_said_full = true;
                    let letters = limits.letters;
                    error!(target: "cache_aside", queue, letters, "there is no room for another dead letter: it holds up its order key until some are replayed or discarded");
                }
                self.window.park(at, crew.shared.options.backoff.1);
            }
            Buried::Lost => return Err(Stop::Lost),
        }
        Ok(())
    }

    /// Asks the store until it answers.
    async fn insist<'q, T: Send + 'q>(&mut self, ask: impl Fn() -> Reply<'q, T>) -> Result<T, Stop> {
        let crew = Arc::clone(&self.crew);
        self.insist_on(|| crew.timed(ask())).await
    }

    /// The same, with a time that it takes.
    async fn insist_on<T, F>(&mut self, ask: impl Fn() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match self.drive(ask()).await {
                Ok(answer) => {
                    self.faults = 0;
                    return Ok(answer);
                }
                Err(_) if self.is_lost => return Err(Stop::Lost),
                Err(error) => {
                    let until = Instant::now() + self.fault(&error);
                    while Instant::now() < until {
                        if self.orders().phase == Phase::End {
                            return Err(Stop::Ended);
                        }
                        self.hear(Some(until)).await;
                    }
                }
            }
        }
    }

    /// The store couldn't be asked: how long to wait.
    fn fault(&mut self, error: &StoreError) -> Duration {
        if self.faults == 0 {
            let (queue, shard) = (&self.crew.shared.name, self.term.shard);
            warn!(target: "cache_aside", queue, shard, %error, "the store of a queue can't be asked: tried again until it can");
        }
        let doubled = FAULT_PAUSE.0.saturating_mul(1 << self.faults.min(10));
        self.faults = self.faults.saturating_add(1);
        doubled.min(FAULT_PAUSE.1).mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Polls `future`, and settles what is done meanwhile.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                self.settle(cx);
            }
            polled
        })
        .await
    }

    /// One look at what is being settled.
    async fn settle_beside_nothing(&mut self) {
        poll_fn(|cx| {
            self.settle(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Settles what is done, all of it that there is at a time: one batch after the other.
    fn settle(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(settling) = &mut self.settling {
                let Poll::Ready((batch, settled)) = settling.as_mut().poll(cx) else { return };
                self.settling = None;
                match settled {
                    Ok(true) => self.faults = 0,
                    Ok(false) => self.is_lost = true,
                    Err(error) => {
                        let later = std::mem::replace(&mut self.done, batch);
                        self.done.extend(later);
                        self.pause = Some(Box::pin(sleep(self.fault(&error))));
                    }
                }
            }
            if self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_pending()) {
                return;
            }
            self.pause = None;
            if self.done.is_empty() || self.is_lost {
                return;
            }
            let (crew, term, batch) = (Arc::clone(&self.crew), self.term, std::mem::take(&mut self.done));
            self.settling = Some(Box::pin(async move { crew.settle(term, batch).await }));
        }
    }

    /// Settles all that is done, as long as the shard is its own, and to the end of its lease when it is to end; false
    /// if it couldn't.
    async fn flush(&mut self) -> bool {
        loop {
            let until = self.orders.borrow().until;
            let settled = poll_fn(|cx| {
                self.settle(cx);
                let is_empty = self.done.is_empty() && self.settling.is_none();
                if is_empty || self.is_lost { Poll::Ready(()) } else { Poll::Pending }
            });
            if timeout_at(until, settled).await.is_ok() {
                return !self.is_lost;
            }
            // It may have been prolonged meanwhile. Who is to end waits no longer for a store that settles nothing.
            let orders = *self.orders.borrow();
            if orders.phase == Phase::End || orders.until <= until {
                return false;
            }
        }
    }
}
