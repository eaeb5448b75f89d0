//! Writes that are on the server's disk before they are answered: `WAITAOF`, on a connection of its own.
//!
//! `WAITAOF` waits for what its own connection has written, and holds up whatever comes behind it there: so it
//! has no place on the connection that all callers share. A server that syncs once a second (`appendfsync
//! everysec`) takes up to a second for it. So all that is to be sent while one is waited for goes out
//! together in the next flush, with one `WAITAOF` behind it.
//!
//! A task on the runtime of whoever found none sends, and ends when nothing is left: a caller that isn't
//! polled for a while holds up nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, PushInfo, RedisResult, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::store::redis::fault::{self, Reaction};
use crate::store::redis::link::Link;
use crate::store::redis::scan::{query, within};
use crate::store::redis::supervisor::{SETUP, open};

/// How long the server may take to sync.
const SYNC: Duration = Duration::from_secs(5);
/// How many go out together.
const MOST: usize = 1000;
/// After so long without a word from it a connection is asked whether it still is one: what is sent over one
/// that is gone may have been carried out, as far as its sender knows.
const IDLE: Duration = Duration::from_secs(1);

/// The reply, and whether what it tells of is on disk.
type Answer = Result<(Value, bool), StoreError>;

/// A command and who waits for its reply.
struct Job {
    command: Cmd,
    reply: oneshot::Sender<Answer>,
}

/// A connection between two flushes.
struct Idle {
    connection: MultiplexedConnection,
    used: Instant,
    /// The epoch of the main connection beside which it was made: the next one may lead to another server.
    main: u64,
}

#[derive(Default)]
pub(super) struct Synced {
    // std mutex: never held across an await
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// A task sends.
    is_served: bool,
    /// While nobody sends.
    idle: Option<Idle>,
    is_closed: bool,
}

impl Synced {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command, and waits for its reply and for the disk.
    ///
    /// Cancel: what isn't under way is not sent.
    pub(super) async fn send(self: &Arc<Self>, link: &Arc<Link>, command: Cmd) -> Answer {
        let Ok(runtime) = Handle::try_current() else {
            return Err(StoreError::Unavailable("there is no tokio runtime to connect on".to_owned()));
        };
        let (reply, answer) = oneshot::channel();
        let is_served = {
            let mut state = self.state();
            state.waiting.push_back(Job { command, reply });
            std::mem::replace(&mut state.is_served, true)
        };
        if !is_served {
            // Not under the lock: a runtime that is ending drops the task right here.
            let server = Server { synced: Arc::clone(self), link: Arc::clone(link) };
            drop(runtime.spawn(server.run()));
        }
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable("the runtime that sent it has ended: it may be queued".to_owned()))
        })
    }

    /// Whether the server can do it at all.
    pub(super) async fn probe(&self, link: &Link) -> RedisResult<Value> {
        let mut connection = dial(link).await?;
        query(&mut connection, cmd("WAITAOF").arg(1).arg(0).arg(1), SETUP).await
    }

    /// Gives up its connection for good.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.idle = None;
    }
}

/// A connection beside the shared one.
pub(super) async fn dial(link: &Link) -> RedisResult<MultiplexedConnection> {
    open(&link.server(), None::<mpsc::UnboundedSender<PushInfo>>).await
}

/// The task that sends.
struct Server {
    synced: Arc<Synced>,
    link: Arc<Link>,
}

impl Drop for Server {
    /// Its runtime has ended: whoever waits on another one hears so, and the next one makes another task.
    fn drop(&mut self) {
        let mut state = self.synced.state();
        if state.is_served {
            state.is_served = false;
            let given_up = std::mem::take(&mut state.waiting);
            drop(state);
            drop(given_up);
        }
    }
}

impl Server {
    async fn run(self) {
        let mut line = self.synced.state().idle.take();
        while let Some(jobs) = self.next(&mut line) {
            let (commands, replies): (Vec<_>, Vec<_>) =
                jobs.into_iter().map(|job| (job.command, job.reply)).unzip();
            let answers = match self.flush(&mut line, commands).await {
                Ok(answers) => answers,
                Err(error) => {
                    line = None;
                    replies.iter().map(|_| Err(error.clone())).collect()
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Whoever has gone away doesn't care.
                let _ = reply.send(answer);
            }
        }
    }

    /// What goes out next. None: nothing is left, and this task is at its end.
    fn next(&self, line: &mut Option<Idle>) -> Option<Vec<Job>> {
        let mut state = self.synced.state();
        state.waiting.retain(|job| !job.reply.is_closed());
        let many = state.waiting.len().min(MOST);
        if many > 0 {
            return Some(state.waiting.drain(..many).collect());
        }
        state.is_served = false;
        state.idle = line.take().filter(|_| !state.is_closed);
        None
    }

    /// Sends these, and waits for the disk. An error: nobody knows what became of them.
    async fn flush(&self, kept: &mut Option<Idle>, commands: Vec<Cmd>) -> Result<Vec<Answer>, StoreError> {
        let link = &self.link;
        // As over the shared connection: nothing is sent while the server is away, or invalidations wait.
        let (_, main) = link.connection().await?;
        let given_up = |error| {
            let (error, reaction) = fault::read(&error);
            if reaction == Reaction::Shout {
                link.shout(&error);
            }
            error
        };
        let usable = match kept.take().filter(|idle| idle.main == main) {
            Some(Idle { mut connection, used, .. }) if used.elapsed() > IDLE => {
                query(&mut connection, &cmd("PING"), SETUP).await.is_ok().then_some(connection)
            }
            other => other.map(|idle| idle.connection),
        };
        let mut connection = match usable {
            Some(connection) => connection,
            None => dial(link).await.map_err(given_up)?,
        };
        let mut all = Pipeline::with_capacity(commands.len() + 1);
        for command in commands {
            all.add_command(command);
        }
        all.cmd("WAITAOF").arg(1).arg(0).arg(SYNC.as_millis());
        let replies = connection.send_packed_commands(&all, 0, all.len());
        let mut replies = within(SYNC + SETUP, replies).await.map_err(given_up)?;
        let on_disk = match replies.pop() {
            Some(Value::Array(counts)) => matches!(counts.first(), Some(Value::Int(1..))),
            Some(Value::ServerError(_)) => false,
            _ => return Err(out_of_step()),
        };
        if replies.len() + 1 != all.len() {
            return Err(out_of_step());
        }
        let mut is_good = true;
        let answers = replies.into_iter().map(|reply| {
            reply.extract_error().map(|reply| (reply, on_disk)).map_err(|error| {
                let (error, reaction) = fault::read(&error);
                is_good &= reaction != Reaction::Replace;
                if reaction == Reaction::Shout {
                    link.shout(&error);
                }
                error
            })
        });
        let answers = answers.collect();
        *kept = is_good.then(|| Idle { connection, used: Instant::now(), main });
        Ok(answers)
    }
}

fn out_of_step() -> StoreError {
    StoreError::Unavailable("a reply doesn't belong to its command".to_owned())
}
