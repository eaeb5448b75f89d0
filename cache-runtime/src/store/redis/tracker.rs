//! The task that makes one tracked connection, and asks every so often whether it still is one.
//!
//! It lives on the runtime of whoever missed the connection, and ends with it: the next who misses it puts
//! another task in its place, wherever that is.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, PushInfo, PushKind, RedisError, Value, cmd};

use super::fault;
use super::link::Link;
use super::scan::within;
use super::supervisor::{SETUP, open};
use crate::clock;
use crate::store::Keeper;

/// Makes one connection, for as long as its runtime lives and nobody ends it.
pub(super) struct Tracker {
    link: Arc<Link>,
    number: u64,
    /// The epoch of the main connection beside which it is made.
    main: u64,
}

impl Drop for Tracker {
    /// The library's task ends with the runtime too, and that without a word.
    fn drop(&mut self) {
        self.link.tracking.end(Some(self.number), "its task has ended");
    }
}

/// Why there is no connection.
enum Problem {
    /// This server doesn't tell.
    Unable(String),
    /// It may do so later.
    Passing(String),
}

impl Tracker {
    pub(super) fn new(link: Arc<Link>, number: u64, main: u64) -> Self {
        Self { link, number, main }
    }

    pub(super) async fn run(self) {
        let tracking = &self.link.tracking;
        match self.establish().await {
            // If the main connection is lost right now, whoever reads next sees that this one is of another epoch.
            Ok((connection, sent)) if self.link.epoch() == Some(self.main) => {
                if tracking.publish(self.number, connection.clone(), self.main, sent) {
                    self.tend(connection, sent).await;
                }
            }
            Ok(_) => {}
            Err(Problem::Unable(why)) => tracking.unable(self.number, &why),
            Err(Problem::Passing(why)) => tracking.end(Some(self.number), &why),
        }
    }

    /// A connection that tracks, and when it was asked to.
    async fn establish(&self) -> Result<(MultiplexedConnection, u64), Problem> {
        let link = &self.link;
        let Some(keeper) = link.tracking.keeper() else {
            return Err(Problem::Passing("nobody keeps anything".to_owned()));
        };
        if !link.address().resp3(!link.resp2.load(Relaxed)) {
            return Err(Problem::Unable("RESP2 is spoken".to_owned()));
        }
        let push = on_push(Arc::clone(keeper), link, self.number);
        let mut connection = open(&link.server(), Some(push))
            .await
            .map_err(|error| if fault::lacks_resp3(&error) { unable(&error) } else { passing(&error) })?;
        let mut both = Pipeline::with_capacity(2);
        both.cmd("CLIENT").arg("TRACKING").arg("ON").add_command(hello());
        let sent = clock::coarse();
        let replies = within(SETUP, connection.send_packed_commands(&both, 0, 2));
        let mut replies =
            replies.await.map_err(|error| passing(&error))?.into_iter().map(Value::extract_error);
        match replies.next() {
            Some(Ok(Value::Okay)) => {}
            Some(Err(error)) if fault::lacks_tracking(&error) => return Err(unable(&error)),
            Some(Err(error)) => return Err(passing(&error)),
            _ => return Err(Problem::Passing(OUT_OF_STEP.to_owned())),
        }
        match replies.next() {
            Some(Ok(reply)) => is_primary(&reply).map_err(|why| Problem::Passing(why.to_owned()))?,
            Some(Err(error)) => return Err(passing(&error)),
            None => return Err(Problem::Passing(OUT_OF_STEP.to_owned())),
        }
        Ok((connection, sent))
    }

    /// Asks for signs of life until the connection has ended.
    async fn tend(&self, mut connection: MultiplexedConnection, mut sent: u64) {
        let tracking = &self.link.tracking;
        loop {
            let beat = (tracking.delta() / 3)
                .saturating_sub(Duration::from_millis(clock::coarse().saturating_sub(sent)));
            let _ = tokio::time::timeout(beat, tracking.attention.notified()).await;
            if !tracking.is_up(self.number) {
                return;
            }
            // When it was *sent* counts: an answer shows that all pushes before the question are here.
            sent = clock::coarse();
            match self.ask(&mut connection).await {
                Ok(()) => tracking.alive(self.number, sent),
                Err(why) => return tracking.end(Some(self.number), &why),
            }
        }
    }
}

impl Tracker {
    /// Whether the server is who is to be asked.
    async fn ask(&self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        let tracking = &self.link.tracking;
        let mut question = Pipeline::with_capacity(2);
        question.add_command(hello());
        // A primary that the rest of its cluster doesn't hear says for a while that it is one. Then it refuses
        // the keys that it had.
        let mut patience = tracking.delta();
        if let Some(key) = tracking.probed() {
            question.cmd("GET").arg(&*key);
            // The others' signs of life count no longer than this one's: it ends before they would be too old.
            patience = patience * 2 / 3;
        }
        let replies = within(patience, connection.send_packed_commands(&question, 0, question.len())).await;
        let said = |error: &RedisError| fault::read(error).0.to_string();
        let replies = replies.map_err(|error| said(&error))?;
        let replies: Result<Vec<_>, _> = replies.into_iter().map(Value::extract_error).collect();
        match replies.map_err(|error| said(&error))?.first() {
            Some(greeting) => is_primary(greeting).map_err(str::to_owned),
            None => Err(OUT_OF_STEP.to_owned()),
        }
    }
}

const OUT_OF_STEP: &str = "a reply doesn't belong to its command";

/// The question for a sign of life. A server that was demoted tells of no more changes that its successor
/// makes, and still answers `PING` and `GET`. This one says what it is, as `ROLE` does; but that one is
/// refused to users who have `-@dangerous`, and the greeting is refused to nobody.
fn hello() -> Cmd {
    greeting(3)
}

pub(super) fn greeting(protocol: u8) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg(protocol);
    hello
}

/// What the greeting says of the server under this name.
pub(super) fn said(greeting: &Value, name: &str) -> Option<Vec<u8>> {
    // RESP2 has no maps.
    let fields: Vec<(&Value, &Value)> = match greeting {
        Value::Map(fields) => fields.iter().map(|(name, value)| (name, value)).collect(),
        Value::Array(parts) => parts.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => return None,
    };
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => Some(bytes.clone()),
        Value::SimpleString(text) => Some(text.clone().into_bytes()),
        _ => None,
    };
    let field =
        fields.into_iter().find(|(field, _)| text(field).is_some_and(|field| field == name.as_bytes()));
    field.and_then(|(_, value)| text(value))
}

/// Whether the greeting says that the server is one.
pub(super) fn is_primary(greeting: &Value) -> Result<(), &'static str> {
    match (greeting, said(greeting, "role")) {
        (_, Some(role)) if role == b"master" => Ok(()),
        (Value::Map(_) | Value::Array(_), _) => Err("the server is no primary"),
        _ => Err(OUT_OF_STEP),
    }
}

fn unable(error: &RedisError) -> Problem {
    Problem::Unable(fault::read(error).0.to_string())
}

fn passing(error: &RedisError) -> Problem {
    Problem::Passing(fault::read(error).0.to_string())
}

/// Tells the keeper what the server says unasked.
///
/// Nothing may come between the two, no channel and no task: redis-rs calls this within
/// `PipelineSink::send_result`, in the task that reads the connection, before it looks at the next reply.
/// Only so has the keeper heard of a change when a later reply is handed out.
fn on_push(
    keeper: Arc<dyn Keeper>,
    link: &Arc<Link>,
    number: u64,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + use<> {
    let link = Arc::downgrade(link);
    move |push| {
        match (push.kind, link.upgrade()) {
            (PushKind::Invalidate, _) => tell(&*keeper, &push.data),
            (PushKind::Disconnection, Some(link)) => {
                link.tracking.end(Some(number), "the server closed it");
            }
            _ => {}
        }
        Ok(())
    }
}

/// An invalidation: an array of keys, or nil for all; what isn't understood may be about any key.
pub(super) fn tell(keeper: &dyn Keeper, data: &[Value]) {
    let [Value::Array(keys)] = data else { return keeper.forget_all() };
    for key in keys {
        match key {
            Value::BulkString(key) => keeper.forget(key),
            _ => keeper.forget_all(),
        }
    }
}
