//! What the server's replies say. None: they are of another form.
//!
//! A write that somebody else put into a stream lacks a field or another: it is handed over all the same, so
//! that it becomes a dead letter instead of holding up its shard.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use crate::store::queue::{Delivery, Figures, Letter, Tenure, Term};

fn array<const N: usize>(reply: Value) -> Option<[Value; N]> {
    let Value::Array(parts) = reply else { return None };
    parts.try_into().ok()
}

fn list(reply: Value) -> Option<Vec<Value>> {
    if let Value::Array(parts) = reply { Some(parts) } else { None }
}

pub(super) fn number<T: TryFrom<i64>>(reply: &Value) -> Option<T> {
    if let Value::Int(number) = reply { T::try_from(*number).ok() } else { None }
}

pub(super) fn text(reply: Value) -> Option<String> {
    if let Value::BulkString(bytes) = reply { String::from_utf8(bytes).ok() } else { None }
}

/// The first part, which says what became of it.
pub(super) fn outcome(reply: &Value) -> Option<i64> {
    if let Value::Array(parts) = reply { number(parts.first()?) } else { None }
}

/// How many shards there are instead, if that is what it says.
#[allow(clippy::option_option)]
pub(super) fn other_shards(reply: &Value) -> Option<Option<u32>> {
    match (outcome(reply)?, reply) {
        (-1, Value::Array(parts)) => number(parts.get(1)?).map(Some),
        _ => Some(None),
    }
}

pub(super) fn appended(reply: Value) -> Option<u64> {
    let [_, seq] = array(reply)?;
    text(seq)?.parse().ok()
}

pub(super) fn tenure(reply: Value) -> Option<Tenure> {
    let [_, most, mine] = array(reply)?;
    let term_of = |one| {
        let [shard, term] = array(one)?;
        Some(Term { shard: number(&shard)?, number: text(term)?.parse().ok()? })
    };
    let mut shards = list(mine)?.into_iter().map(term_of).collect::<Option<Vec<_>>>()?;
    shards.sort_unstable_by_key(|term| term.shard);
    Some(Tenure { shards, share: number(&most)? })
}

/// The fields of an entry of a stream.
#[derive(Default)]
struct Fields {
    seq: Option<u64>,
    kind: String,
    key: String,
    payload: Bytes,
    entries: Vec<String>,
    cause: String,
    attempts: u32,
}

impl Fields {
    fn read(reply: Value) -> Option<Self> {
        let (mut fields, mut parts) = (Self::default(), list(reply)?.into_iter());
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else { return None };
            let text = || String::from_utf8_lossy(&value).into_owned();
            match &name[..] {
                b"seq" => fields.seq = text().parse().ok(),
                b"kind" => fields.kind = text(),
                b"key" => fields.key = text(),
                b"payload" => fields.payload = Bytes::from(value),
                b"entries" => fields.entries = serde_json::from_slice(&value).unwrap_or_default(),
                b"cause" => fields.cause = text(),
                b"attempts" => fields.attempts = text().parse().unwrap_or_default(),
                _ => {}
            }
        }
        Some(fields)
    }
}

/// The number in an id.
fn seq_of(id: &str) -> Option<u64> {
    id.split('-').next()?.parse().ok()
}

fn age(seq: u64, now: u64) -> Duration {
    Duration::from_micros(now.saturating_sub(seq))
}

/// The server's time in microseconds, and what is handed over.
pub(super) fn deliveries(reply: Value) -> Option<Vec<Delivery>> {
    let [now, found] = array(reply)?;
    let now = text(now)?.parse().ok()?;
    let delivery = |one| {
        let [id, fields, deliveries] = array(one)?;
        let (id, fields) = (text(id)?, Fields::read(fields)?);
        let seq = fields.seq.or_else(|| seq_of(&id))?;
        Some(Delivery {
            id,
            seq,
            kind: fields.kind,
            order_key: fields.key,
            payload: fields.payload,
            entries: fields.entries,
            deliveries: number(&deliveries)?,
            age: age(seq, now),
        })
    };
    list(found)?.into_iter().map(delivery).collect()
}

/// The same, and whether there is another page.
pub(super) fn page(reply: Value) -> Option<(Vec<Delivery>, bool)> {
    let [now, found, more] = array(reply)?;
    Some((deliveries(Value::Array(vec![now, found]))?, more == Value::Int(1)))
}

/// What `TIME` and `XRANGE` say.
pub(super) fn letters(time: Value, found: Value) -> Option<Vec<Letter>> {
    let [seconds, micros] = array(time)?;
    let now = text(seconds)?.parse::<u64>().ok()? * 1_000_000 + text(micros)?.parse::<u64>().ok()?;
    let letter = |one| {
        let [id, fields] = array(one)?;
        let (id, fields) = (text(id)?, Fields::read(fields)?);
        // A stranger's has the time in ms as its id.
        let seq = fields.seq.or_else(|| seq_of(&id)?.checked_mul(1000))?;
        Some(Letter {
            id,
            seq,
            kind: fields.kind,
            order_key: fields.key,
            payload: fields.payload,
            cause: fields.cause,
            attempts: fields.attempts,
            age: age(seq, now),
        })
    };
    list(found)?.into_iter().map(letter).collect()
}

pub(super) fn figures(reply: Value) -> Option<Figures> {
    let [_, pending, oldest, letters, retries, workers] = array(reply)?;
    let oldest: i64 = number(&oldest)?;
    Some(Figures {
        pending: number(&pending)?,
        oldest: u64::try_from(oldest).ok().map(Duration::from_micros),
        letters: number(&letters)?,
        retries: number(&retries)?,
        workers: number(&workers)?,
    })
}

/// What is behind a mark: 16 digits, the length of a head, the head.
pub(super) fn copy(mark: &Bytes) -> Option<Bytes> {
    let head = usize::from(*mark.get(16)?);
    (mark.len() >= 17 + head).then(|| mark.slice(17 + head..))
}
