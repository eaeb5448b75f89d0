//! The questions to sentinels, and what they answer.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{Pipeline, PushInfo, RedisResult, Value, cmd};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Named, Sentinel};
use crate::error::StoreError;
use crate::store::redis::address::Address;
use crate::store::redis::fault;
use crate::store::redis::scan::within;
use crate::store::redis::supervisor::{SETUP, open};

/// A sentinel that hasn't answered for so long isn't waited for alone: the next one is asked too.
const HEAD_START: Duration = Duration::from_millis(100);

/// What a sentinel says.
enum Answer {
    Named {
        named: Named,
        /// Another is being put in its place.
        is_leaving: bool,
    },
    /// It doesn't know the service.
    Unknown,
}

impl Sentinel {
    /// The primary's address, by the first sentinel who knows the newest.
    pub(in crate::store::redis) async fn locate(self: &Arc<Self>) -> Result<Address, StoreError> {
        let mut asked = JoinSet::new();
        let mut waiting = self.sentinels().into_iter();
        let (mut problems, mut refused) = (Vec::new(), false);
        loop {
            let next = waiting.next();
            let is_last = next.is_none();
            if let Some(sentinel) = next {
                let this = Arc::clone(self);
                asked.spawn(async move {
                    let answer = this.ask_once(&sentinel).await;
                    (sentinel, answer)
                });
            }
            let patience = if is_last { 2 * SETUP } else { HEAD_START };
            let Ok(answered) = timeout(patience, asked.join_next()).await else { continue };
            let Some(answered) = answered else { break };
            // A task that failed is one that was dropped with its runtime.
            let Ok((sentinel, answer)) = answered else { continue };
            match answer {
                Ok(Answer::Named { named, is_leaving }) if self.note(&named, is_leaving) => {
                    self.prefer(&sentinel);
                    return Ok(self.primary.at(&named.host, named.port));
                }
                Ok(Answer::Named { .. }) => {
                    problems.push(format!("{} hasn't heard of the last failover", sentinel.shown()));
                }
                Ok(Answer::Unknown) => {
                    problems.push(format!("{} knows no `{}`", sentinel.shown(), self.service));
                }
                Err(problem) => {
                    refused |= matches!(problem, StoreError::Refused(_));
                    problems.push(format!("{}: {problem}", sentinel.shown()));
                }
            }
        }
        let text = format!("no sentinel names the primary ({})", problems.join("; "));
        Err(if refused { StoreError::Refused(text) } else { StoreError::Unavailable(text) })
    }

    async fn ask_once(&self, sentinel: &Address) -> Result<Answer, StoreError> {
        let read = |error| fault::read(&error).0;
        let mut connection = knock(sentinel, None::<mpsc::UnboundedSender<PushInfo>>).await.map_err(read)?;
        self.ask(&mut connection).await.map_err(read)
    }

    /// Who the primary is, and by which configuration.
    async fn ask(&self, connection: &mut MultiplexedConnection) -> RedisResult<Answer> {
        let mut both = Pipeline::with_capacity(2);
        both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        both.cmd("SENTINEL").arg("MASTER").arg(&self.service);
        let replies = within(SETUP, connection.send_packed_commands(&both, 0, 2)).await?;
        let [place, details] = <[Value; 2]>::try_from(replies).map_err(|_| out_of_step())?;
        let (host, port) = match place.extract_error()? {
            Value::Nil => return Ok(Answer::Unknown),
            Value::Array(parts) => match &parts[..] {
                [host, port] => place_of(text(host), text(port)).ok_or_else(out_of_step)?,
                _ => return Err(out_of_step()),
            },
            _ => return Err(out_of_step()),
        };
        // Without it, for a user who may not ask that: none is older than another.
        let version = field(&details, "config-epoch").and_then(|text| text.parse().ok()).unwrap_or(0);
        // Once the replica has obeyed it is the one that is named, while the details are still those of the old.
        let in_progress =
            field(&details, "flags").is_some_and(|flags| flags.contains("failover_in_progress"));
        let detailed = place_of(field(&details, "ip"), field(&details, "port"));
        let is_leaving = in_progress && detailed.is_some_and(|place| place == (host.clone(), port));
        Ok(Answer::Named { named: Named { host, port, version }, is_leaving })
    }

    /// Asks over a connection that is kept.
    pub(super) async fn ask_again(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        if let Answer::Named { named, is_leaving } = self.ask(connection).await? {
            self.note(&named, is_leaving);
        }
        Ok(())
    }

    /// The other sentinels that this one knows.
    pub(super) async fn ask_for_others(
        &self,
        sentinel: &Address,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut question = cmd("SENTINEL");
        question.arg("SENTINELS").arg(&self.service);
        let reply = within(SETUP, connection.send_packed_command(&question)).await?.extract_error()?;
        if let Value::Array(others) = reply {
            let place = |other: &Value| place_of(field(other, "ip"), field(other, "port"));
            self.add(others.iter().filter_map(place).map(|(host, port)| sentinel.at(&host, port)).collect());
        }
        Ok(())
    }
}

/// Opens a connection to a sentinel.
pub(super) async fn knock(
    sentinel: &Address,
    push: Option<impl AsyncPushSender>,
) -> RedisResult<MultiplexedConnection> {
    open(sentinel, push).await
}

pub(super) fn place_of(host: Option<String>, port: Option<String>) -> Option<(String, u16)> {
    host.zip(port?.parse().ok())
}

/// A field of a map, or of a list of names and values.
fn field(reply: &Value, name: &str) -> Option<String> {
    let is_it = |found: &Value| text(found).is_some_and(|found| found == name);
    match reply {
        Value::Map(fields) => {
            fields.iter().find(|(found, _)| is_it(found)).and_then(|(_, value)| text(value))
        }
        Value::Array(parts) => {
            parts.chunks_exact(2).find(|pair| is_it(&pair[0])).and_then(|pair| text(&pair[1]))
        }
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

fn out_of_step() -> redis::RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "a reply doesn't belong to its command").into()
}
