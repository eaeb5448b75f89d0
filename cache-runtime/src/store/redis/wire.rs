//! What is sent, and what comes back: parts of commands, and the forms of replies.
//!
//! A reply of another form is `None`: then replies and commands no longer match.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value, cmd};

/// What `PTTL` says of a key that isn't there.
pub(super) const GONE: i64 = -2;

/// How old it is before what it is: a life is never longer than that of the value.
pub(super) fn aged(key: &str) -> Pipeline {
    let mut both = Pipeline::with_capacity(2);
    both.cmd("PTTL").arg(key).cmd("GET").arg(key);
    both
}

#[allow(clippy::option_option)] // a reply of another form, no value, a value
pub(super) fn bytes_of(reply: Value) -> Option<Option<Bytes>> {
    match reply {
        Value::Nil => Some(None),
        Value::BulkString(bytes) => Some(Some(Bytes::from(bytes))),
        _ => None,
    }
}

pub(super) fn count_of(reply: &Value) -> Option<u64> {
    match reply {
        Value::Int(count) => u64::try_from(*count).ok(),
        _ => None,
    }
}

/// What `PTTL` says: of a key that isn't there, of one that never expires, what is left.
#[allow(clippy::option_option)]
pub(super) fn life_of(reply: &Value) -> Option<Option<Option<Duration>>> {
    match reply {
        Value::Int(GONE) => Some(None),
        Value::Int(-1) => Some(Some(None)),
        Value::Int(left) => u64::try_from(*left).ok().map(|left| Some(Some(Duration::from_millis(left)))),
        _ => None,
    }
}

pub(super) fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}

pub(super) fn set(key: &str, value: &[u8], life: Option<Duration>) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key).arg(value);
    if let Some(life) = life {
        set.arg("PX").arg(millis(life));
    }
    set
}
