//! The connection and its supervisor.
//!
//! All callers share one multiplexed connection. A task of its own makes it, carries out the
//! invalidations that were kept meanwhile, and only then publishes it. No caller waits for a
//! connection that is being made again: while there is none, answers are errors at once. Only the
//! first callers, and those after the runtime of the supervisor has ended, wait for it, within
//! their budget.
//!
//! The breaker is the same thing: after so many operations in a row that weren't answered in time,
//! the connection is taken away, and the supervisor, not a caller, tries whether the server is back.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::address::Address;
use super::fault::{self, Reaction};
use super::{STEP, count_of};
use crate::clock;
use crate::error::StoreError;
use crate::recovery::{Kept, Target};

/// How long a step of making a connection may take: opening it, greeting, one kept invalidation.
const SETUP: Duration = Duration::from_secs(1);
/// The pause before a command that a server in transition refused is sent again.
const AGAIN: Duration = Duration::from_millis(10);

/// How the link behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkOptions {
    /// How long an operation may take.
    pub(crate) budget: Duration,
    /// After how many unanswered operations in a row the connection is given up.
    pub(crate) breaker: u32,
    /// The first and the longest pause between attempts to connect.
    pub(crate) reconnect: (Duration, Duration),
}

pub(super) struct Link {
    address: Address,
    options: LinkOptions,
    kept: Arc<Kept>,
    // std mutex: never held across an await
    state: Mutex<State>,
    /// Rung when the state changes.
    changed: Notify,
    /// Rung when the supervisor should look at the connection.
    attention: Notify,
    unanswered: AtomicU32,
    resp2: AtomicBool,
    shouted: Mutex<BTreeSet<String>>,
}

enum State {
    /// Nobody takes care of a connection.
    Idle,
    /// The first attempt is under way.
    Connecting,
    Up {
        connection: MultiplexedConnection,
        epoch: u64,
    },
    /// There is none, for this reason; the supervisor tries again.
    Down(String),
    Closed,
}

impl Link {
    pub(super) fn new(address: Address, options: LinkOptions, kept: Arc<Kept>) -> Self {
        Self {
            address,
            options,
            kept,
            state: Mutex::new(State::Idle),
            changed: Notify::new(),
            attention: Notify::new(),
            unanswered: AtomicU32::new(0),
            resp2: AtomicBool::new(false),
            shouted: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one command. `repeat`: it may be sent again over a new connection if this one is gone.
    pub(super) async fn send(self: &Arc<Self>, command: &Cmd, repeat: bool) -> Result<Value, StoreError> {
        let mut repeat = repeat;
        loop {
            let (mut connection, epoch) = self.connection().await?;
            match connection.send_packed_command(command).await.and_then(Value::extract_error) {
                Ok(reply) => {
                    self.answered();
                    return Ok(reply);
                }
                Err(error) => match self.react(&error, epoch) {
                    // The runtime that drove the connection has ended: this one drives the next.
                    (_, Reaction::Replace) if repeat && matches!(*self.state(), State::Idle) => {
                        repeat = false;
                    }
                    (_, Reaction::Again) => tokio::time::sleep(AGAIN).await,
                    (error, _) => return Err(error),
                },
            }
        }
    }

    /// Sends commands in one flush; each has its own reply.
    pub(super) async fn send_all(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let (mut connection, epoch) = self.connection().await?;
        match connection.send_packed_commands(commands, 0, commands.len()).await {
            Ok(replies) => {
                self.answered();
                let read = |reply: Value| reply.extract_error().map_err(|error| self.react(&error, epoch).0);
                Ok(replies.into_iter().map(read).collect())
            }
            Err(error) => Err(self.react(&error, epoch).0),
        }
    }

    /// As [`send_all`](Self::send_all), for so many commands.
    pub(super) async fn send_many<const N: usize>(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<[Result<Value, StoreError>; N], StoreError> {
        let replies = self.send_all(commands).await?;
        self.expect(replies.try_into().ok())
    }

    /// A reply of the form that the command has; any other shows that replies and commands no
    /// longer match, so the connection is given up.
    pub(super) fn expect<T>(&self, reply: Option<T>) -> Result<T, StoreError> {
        reply.ok_or_else(|| {
            self.distrust("a reply doesn't belong to its command");
            StoreError::Unavailable("a reply doesn't belong to its command".to_owned())
        })
    }

    /// Scans for keys that fit and unlinks them, step by step; each step has the budget.
    pub(super) async fn remove_matching(self: &Arc<Self>, glob: &str) -> Result<u64, StoreError> {
        let (mut removed, mut cursor) = (0, b"0".to_vec());
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor[..]).arg("MATCH").arg(glob).arg("COUNT").arg(STEP);
            let (next, keys) = self.expect(page(self.step(&scan).await?))?;
            for keys in keys.chunks(STEP) {
                let reply = self.step(cmd("UNLINK").arg(keys)).await?;
                removed += self.expect(count_of(&reply))?;
            }
            if next == b"0" {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    async fn step(self: &Arc<Self>, command: &Cmd) -> Result<Value, StoreError> {
        match tokio::time::timeout(self.options.budget, self.send(command, true)).await {
            Ok(answered) => answered,
            Err(_) => {
                self.overdue();
                Err(StoreError::Timeout("no answer within the budget".to_owned()))
            }
        }
    }

    fn answered(&self) {
        if self.unanswered.load(Relaxed) != 0 {
            self.unanswered.store(0, Relaxed);
        }
    }

    /// An operation was given up by its caller.
    pub(super) fn overdue(&self) {
        let in_a_row = self.unanswered.fetch_add(1, Relaxed) + 1;
        if in_a_row >= self.options.breaker {
            self.distrust("the server doesn't answer");
        }
    }

    /// The connection is not to be used any more, whatever state it is in.
    pub(super) fn distrust(&self, why: &'static str) {
        self.lose(None, why);
    }

    pub(super) fn close(&self) {
        *self.state() = State::Closed;
        self.attention.notify_one();
        self.changed.notify_waiters();
    }

    fn react(&self, error: &redis::RedisError, epoch: u64) -> (StoreError, Reaction) {
        let (error, reaction) = fault::read(error);
        match reaction {
            Reaction::Replace => self.lose(Some(epoch), "the connection broke"),
            Reaction::Shout => self.shout(&error),
            Reaction::Keep | Reaction::Again => {}
        }
        (error, reaction)
    }

    /// Takes the connection away, if it is still the one of this epoch.
    fn lose(&self, of: Option<u64>, why: &str) {
        let mut state = self.state();
        let lost = match *state {
            State::Up { epoch, .. } => of.is_none_or(|of| of == epoch),
            // A server that takes connections and says nothing: nobody waits for it any more.
            State::Connecting => of.is_none(),
            State::Idle | State::Down(_) | State::Closed => false,
        };
        if lost {
            *state = State::Down(why.to_owned());
            drop(state);
            warn!(target: "cache_aside", server = self.address.shown(), why, "the connection is given up: functions run uncached until there is another");
            self.attention.notify_one();
            self.changed.notify_waiters();
        }
    }

    fn shout(&self, problem: &StoreError) {
        let text = problem.to_string();
        let mut shouted = self.shouted.lock().unwrap_or_else(PoisonError::into_inner);
        if shouted.len() < 100 && shouted.insert(text.clone()) {
            error!(target: "cache_aside", server = self.address.shown(), problem = text, "the server refuses: check user, password and permissions");
        }
    }

    /// The connection; while the first one is being made, it is waited for.
    async fn connection(self: &Arc<Self>) -> Result<(MultiplexedConnection, u64), StoreError> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                match &*state {
                    State::Up { connection, epoch } => return Ok((connection.clone(), *epoch)),
                    State::Down(why) => return Err(StoreError::Unavailable(why.clone())),
                    State::Closed => return Err(StoreError::Unavailable("it was closed".to_owned())),
                    State::Connecting => {}
                    State::Idle => match Handle::try_current() {
                        Ok(runtime) => {
                            *state = State::Connecting;
                            runtime.spawn(Supervisor { link: Arc::clone(self) }.run());
                        }
                        Err(_) => {
                            return Err(StoreError::Unavailable("there is no tokio runtime".to_owned()));
                        }
                    },
                }
            }
            changed.await;
        }
    }

    /// Publishes a connection, unless an invalidation was kept since they were carried out.
    fn publish(&self, connection: MultiplexedConnection, epoch: u64) -> bool {
        let mut state = self.state();
        if matches!(*state, State::Closed) {
            return true;
        }
        if !self.kept.is_empty() {
            return false;
        }
        self.answered();
        *state = State::Up { connection, epoch };
        drop(state);
        self.changed.notify_waiters();
        true
    }
}

/// Makes connections for as long as its runtime lives.
struct Supervisor {
    link: Arc<Link>,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut state = self.link.state();
        if !matches!(*state, State::Closed) {
            *state = State::Idle;
        }
        drop(state);
        self.link.changed.notify_waiters();
    }
}

impl Supervisor {
    async fn run(self) {
        let link = &self.link;
        let (first, longest) = link.options.reconnect;
        let (mut pause, mut epoch, mut was_down) = (first, 0, false);
        while !matches!(*link.state(), State::Closed) {
            epoch += 1;
            match self.establish(epoch).await {
                Ok(()) => {
                    if std::mem::replace(&mut was_down, true) {
                        info!(target: "cache_aside", server = link.address.shown(), "connected again");
                    }
                    let begun = Instant::now();
                    link.attention.notified().await;
                    // A connection that held is made anew at once; one that breaks again and again isn't.
                    if begun.elapsed() > SETUP {
                        pause = first;
                    }
                }
                Err(problem) => self.down(&problem, &mut was_down),
            }
            if matches!(*link.state(), State::Closed) {
                return;
            }
            clock::sleep_jittered(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn down(&self, problem: &StoreError, was_down: &mut bool) {
        let link = &self.link;
        let mut state = link.state();
        if !matches!(*state, State::Closed) {
            *state = State::Down(problem.to_string());
        }
        drop(state);
        link.changed.notify_waiters();
        if !std::mem::replace(was_down, true) {
            warn!(target: "cache_aside", server = link.address.shown(), %problem, "the server can't be reached: functions run uncached until it is back");
        }
    }

    /// Connects, carries out what was kept, publishes.
    async fn establish(&self, epoch: u64) -> Result<(), StoreError> {
        let link = &self.link;
        let mut connection = self.connect(epoch).await?;
        // A server that is loading its data greets and then refuses everything else.
        match query(&mut connection, &cmd("PING")).await {
            Ok(_) | Err(StoreError::Refused(_)) => {}
            Err(problem) => return Err(problem),
        }
        loop {
            for (target, kept) in link.kept.all() {
                carry_out(&mut connection, &target).await.inspect_err(|problem| {
                    warn!(target: "cache_aside", server = link.address.shown(), %problem, "kept invalidations can't be carried out yet");
                })?;
                link.kept.done(&target, kept);
            }
            if link.publish(connection.clone(), epoch) {
                return Ok(());
            }
        }
    }

    async fn connect(&self, epoch: u64) -> Result<MultiplexedConnection, StoreError> {
        let link = &self.link;
        let open = async |resp3: bool| -> RedisResult<MultiplexedConnection> {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(SETUP))
                // Callers have a budget of their own; a timer per command costs a tenth of the throughput.
                .set_response_timeout(None);
            let config = if resp3 { config.set_push_sender(on_push(link, epoch)) } else { config };
            let client = Client::open(link.address.info(resp3))?;
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        let resp3 = link.address.resp3(!link.resp2.load(Relaxed));
        let mut opened = within(open(resp3)).await;
        let may_fall_back = resp3 && !link.address.resp3(false);
        if may_fall_back && opened.as_ref().is_err_and(fault::lacks_resp3) {
            link.resp2.store(true, Relaxed);
            opened = within(open(false)).await;
        }
        opened.map_err(|error| {
            let (problem, reaction) = fault::read(&error);
            if reaction == Reaction::Shout {
                link.shout(&problem);
            }
            problem
        })
    }
}

/// Notices a connection that ends while nobody uses it; RESP3 only.
fn on_push(link: &Arc<Link>, epoch: u64) -> impl Fn(PushInfo) -> Result<(), Infallible> + use<> {
    let link = Arc::downgrade(link);
    move |push| {
        if let (PushKind::Disconnection, Some(link)) = (push.kind, link.upgrade()) {
            link.lose(Some(epoch), "the server closed it");
        }
        Ok(())
    }
}

/// Carries out one kept invalidation.
async fn carry_out(connection: &mut MultiplexedConnection, target: &Target) -> Result<(), StoreError> {
    match target {
        Target::Key(key) => query(connection, cmd("UNLINK").arg(key)).await.map(drop),
        Target::Glob(glob) => {
            let mut cursor = b"0".to_vec();
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(&cursor[..]).arg("MATCH").arg(glob).arg("COUNT").arg(STEP);
                let Some((next, keys)) = page(query(connection, &scan).await?) else {
                    return Err(StoreError::Unavailable("a reply doesn't belong to its command".to_owned()));
                };
                if !keys.is_empty() {
                    query(connection, cmd("UNLINK").arg(&keys)).await?;
                }
                if next == b"0" {
                    return Ok(());
                }
                cursor = next;
            }
        }
    }
}

async fn query(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, StoreError> {
    within(async { connection.send_packed_command(command).await.and_then(Value::extract_error) })
        .await
        .map_err(|error| fault::read(&error).0)
}

/// A step of setting up, which may not take longer than [`SETUP`].
async fn within<T>(step: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(SETUP, step).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// A page of `SCAN`: the next cursor and the keys, which may be any bytes.
fn page(reply: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else { return None };
    let [Value::BulkString(cursor), Value::Array(keys)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let keys = keys.into_iter().map(|key| if let Value::BulkString(key) = key { Some(key) } else { None });
    Some((cursor, keys.collect::<Option<_>>()?))
}
