//! How workers hear that there is something to read: `XREAD BLOCK`, on a connection of each worker's own.
//!
//! Here also stands what a worker was last handed of each shard: what comes behind it is news.
//!
//! Whoever gives up waiting leaves the question under way, for the next one who waits: the server holds it
//! anyway, and a new connection for each time that a worker turned to something else would cost more. If it
//! doesn't ask for all that is wanted, the server is told over the shared connection to end it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd};
use tokio::time::{Instant, sleep, timeout};

use super::replies;
use super::synced::dial;
use crate::error::StoreError;
use crate::store::queue::{Delivery, Term};
use crate::store::redis::link::Link;
use crate::store::redis::scan::query;
use crate::store::redis::supervisor::SETUP;

/// The longest time that the server is asked to hold a question.
const HELD: Duration = Duration::from_secs(30);
/// Shards run out of work one after the other: one question for all of them.
const DEBOUNCE: Duration = Duration::from_millis(1);
/// How long a question that is to end may go on, before the server is told again: it may not have arrived.
const AGAIN: Duration = Duration::from_millis(5);
/// The pause after a connection broke or couldn't be made.
const PAUSE: Duration = Duration::from_millis(200);
/// What no worker has asked for so long is dropped, with its connection: it went away without a word.
const ABSENT: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Doorbell {
    // std mutex: never held across an await
    bells: Mutex<HashMap<String, Bell>>,
}

struct Bell {
    /// By shard.
    seen: HashMap<u32, Seen>,
    line: Line,
    used: Instant,
}

/// What a worker was last handed in a term.
struct Seen {
    term: u64,
    id: String,
}

#[derive(Default)]
enum Line {
    #[default]
    None,
    Idle(Wire),
    Asked(Question),
}

struct Wire {
    connection: MultiplexedConnection,
    /// By which it is told to end a question. None: the server doesn't say.
    id: Option<i64>,
    /// The epoch of the main connection beside which it was made: the next one may lead to another server.
    main: u64,
}

/// A question that is under way.
struct Question {
    wire: Wire,
    /// The streams that are asked about.
    streams: Vec<String>,
    /// When it is answered at the latest, on a connection that is one.
    until: Instant,
    reply: Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>,
}

/// Before anything.
pub(super) const BEGIN: &str = "0-0";

impl Bell {
    fn new() -> Self {
        Self { seen: HashMap::new(), line: Line::None, used: Instant::now() }
    }
}

impl Doorbell {
    fn bells(&self) -> MutexGuard<'_, HashMap<String, Bell>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, worker: &str, act: impl FnOnce(&mut Bell) -> T) -> T {
        let mut bells = self.bells();
        if let Some(bell) = bells.get_mut(worker) {
            return act(bell);
        }
        act(bells.entry(worker.to_owned()).or_insert_with(Bell::new))
    }

    /// The last id that has come to this worker in this term. None: it hasn't recovered, or was absent.
    pub(super) fn seen(&self, worker: &str, term: Term) -> Option<String> {
        let id = |bell: &mut Bell| {
            bell.seen.get(&term.shard).filter(|seen| seen.term == term.number).map(|seen| seen.id.clone())
        };
        self.with(worker, id)
    }

    /// The worker has given a sign of life. One that has always something to do never waits.
    pub(super) fn is_alive(&self, worker: &str) {
        if let Some(bell) = self.bells().get_mut(worker) {
            bell.used = Instant::now();
        }
    }

    /// These have come, behind `before`.
    pub(super) fn came(&self, worker: &str, term: Term, deliveries: &[Delivery], before: &str) {
        let id = deliveries.last().map_or(before, |last| &last.id).to_owned();
        self.with(worker, |bell| bell.seen.insert(term.shard, Seen { term: term.number, id }));
    }

    /// Puts this in the place of the line of a worker that hasn't gone, and gives back what was there.
    fn put(&self, worker: &str, line: Line) -> Line {
        let mut bells = self.bells();
        match bells.get_mut(worker) {
            Some(bell) => std::mem::replace(&mut bell.line, line),
            None => line,
        }
    }

    /// The worker has gone.
    pub(super) fn forget(&self, worker: &str) {
        let gone = self.bells().remove(worker);
        drop(gone);
    }

    pub(super) fn close(&self) {
        let gone = std::mem::take(&mut *self.bells());
        drop(gone);
    }

    /// Waits until something is in one of these streams that this worker hasn't been handed.
    ///
    /// Cancel safe: the question stays under way for who asks next.
    pub(super) async fn wait(
        &self,
        link: &Arc<Link>,
        worker: &str,
        streams: &[(u32, &str)],
        patience: Duration,
    ) -> Result<(), StoreError> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let Ok(question) = timeout(left, self.question(link, worker, streams, left)).await else {
                return Ok(());
            };
            let Some(question) = question else {
                return Self::pause(end).await;
            };
            let mut held = Held { bell: self, worker, question: Some(question) };
            let Ok(reply) = timeout(end.saturating_duration_since(Instant::now()), held.reply()).await else {
                return Ok(());
            };
            let question = held.question.take().expect("it was asked");
            match reply {
                Ok(reply @ (Value::Nil | Value::Array(_))) => {
                    self.put(worker, Line::Idle(question.wire));
                    // It may have been asked about more than is wanted now.
                    if streams.iter().any(|(_, stream)| rings(&reply, stream)) {
                        return Ok(());
                    }
                }
                Ok(_) | Err(_) => {
                    drop(question);
                    return Self::pause(end).await;
                }
            }
        }
    }

    /// Who asked reads then, and hears from the server itself what is wrong.
    async fn pause(end: Instant) -> Result<(), StoreError> {
        sleep(PAUSE.min(end.saturating_duration_since(Instant::now()))).await;
        Ok(())
    }

    /// The question that is under way, if it will do, or a new one. None: there is no connection.
    async fn question(
        &self,
        link: &Arc<Link>,
        worker: &str,
        streams: &[(u32, &str)],
        left: Duration,
    ) -> Option<Question> {
        // As over the shared connection: not while the server is away.
        let (_, main) = link.connection().await.ok()?;
        let now = Instant::now();
        let (before, ids) = {
            let mut bells = self.bells();
            sweep(&mut bells, worker, now);
            let bell = bells.entry(worker.to_owned()).or_insert_with(Bell::new);
            bell.used = now;
            let seen = |shard| bell.seen.get(shard).map_or(BEGIN, |seen: &Seen| &seen.id).to_owned();
            let ids: Vec<String> = streams.iter().map(|(shard, _)| seen(shard)).collect();
            (std::mem::take(&mut bell.line), ids)
        };
        let wire = match before {
            Line::Asked(Question { wire, .. }) | Line::Idle(wire) if wire.main != main => None,
            Line::Asked(question) if question.is_about(streams) && now < question.until => {
                return Some(question);
            }
            Line::Idle(wire) => Some(wire),
            Line::Asked(question) if now < question.until => question.end(link).await,
            Line::Asked(_) | Line::None => None,
        };
        let wire = match wire {
            Some(wire) => wire,
            None => Wire::new(link, main).await?,
        };
        // Cancel: it stays.
        self.put(worker, Line::Idle(wire));
        sleep(DEBOUNCE).await;
        let Line::Idle(wire) = self.put(worker, Line::None) else { return None };
        let held = left.clamp(Duration::from_millis(1), HELD);
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(held.as_millis()).arg("STREAMS");
        let names: Vec<String> = streams.iter().map(|(_, stream)| (*stream).to_owned()).collect();
        read.arg(&names).arg(&ids);
        let mut asked = wire.connection.clone();
        let reply =
            Box::pin(async move { asked.send_packed_command(&read).await.and_then(Value::extract_error) });
        Some(Question { wire, streams: names, until: Instant::now() + held + SETUP, reply })
    }
}

/// Drops the bells of who was absent, but for this one's.
fn sweep(bells: &mut HashMap<String, Bell>, worker: &str, now: Instant) {
    bells.retain(|name, bell| name == worker || now.duration_since(bell.used) < ABSENT);
}

impl Wire {
    async fn new(link: &Link, main: u64) -> Option<Self> {
        let mut connection = dial(link).await.ok()?;
        let id = query(&mut connection, cmd("CLIENT").arg("ID"), SETUP).await;
        Some(Self { connection, main, id: id.ok().and_then(|id| replies::number(&id)) })
    }
}

/// Whether there is something in this stream, as the reply says.
fn rings(reply: &Value, stream: &str) -> bool {
    let is_it = |part: &Value| match part {
        Value::Array(one) => {
            matches!(one.first(), Some(Value::BulkString(name)) if name == stream.as_bytes())
        }
        _ => false,
    };
    matches!(reply, Value::Array(parts) if parts.iter().any(is_it))
}

impl Question {
    fn is_about(&self, streams: &[(u32, &str)]) -> bool {
        streams.iter().all(|(_, stream)| self.streams.iter().any(|asked| asked == stream))
    }

    /// Has the server end it. What it says then doesn't matter: the next one asks for the same and more.
    async fn end(mut self, link: &Arc<Link>) -> Option<Wire> {
        let mut unblock = cmd("CLIENT");
        unblock.arg("UNBLOCK").arg(self.wire.id?);
        let until = Instant::now() + SETUP;
        while Instant::now() < until {
            link.send(&unblock, true).await.ok()?;
            if let Ok(reply) = timeout(AGAIN, self.reply.as_mut()).await {
                return reply.is_ok().then_some(self.wire);
            }
        }
        None
    }
}

/// A question in the hands of who waits. Dropped, it goes back to its bell.
struct Held<'a> {
    bell: &'a Doorbell,
    worker: &'a str,
    question: Option<Question>,
}

impl Held<'_> {
    /// The reply; or an error when it is overdue.
    async fn reply(&mut self) -> RedisResult<Value> {
        let question = self.question.as_mut().expect("until it is answered");
        let until = question.until;
        match tokio::time::timeout_at(until, question.reply.as_mut()).await {
            Ok(reply) => reply,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(question) = self.question.take() {
            self.bell.put(self.worker, Line::Asked(question));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_never_waits_is_not_absent() {
        let (bell, term) = (Doorbell::default(), Term { shard: 0, number: 1 });
        for worker in ["busy", "gone"] {
            assert_eq!(bell.seen(worker, term), None);
            bell.came(worker, term, &[], "5-0");
        }
        for _ in 0..3 {
            tokio::time::advance(ABSENT / 2).await;
            bell.is_alive("busy");
            sweep(&mut bell.bells(), "other", Instant::now());
        }
        assert_eq!((bell.seen("busy", term).as_deref(), bell.seen("gone", term)), (Some("5-0"), None));
    }
}
