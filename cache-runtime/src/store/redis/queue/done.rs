//! Writes that leave the queue: applied, or dead.

use std::collections::BTreeMap;

use redis::Value;

use super::scripts::{BURY, SETTLE};
use super::{Keys, RedisQueue, holder};
use crate::error::StoreError;
use crate::store::queue::{Buried, Delivery, Limits, Term};

/// The last number that stored each entry, of these writes.
fn entries_of(done: &[Delivery]) -> BTreeMap<&str, u64> {
    let mut last = BTreeMap::new();
    for write in done {
        for key in &write.entries {
            let seq = last.entry(key.as_str()).or_insert(write.seq);
            *seq = write.seq.max(*seq);
        }
    }
    last
}

/// Those of these names that a script told of, from 1.
fn told<'a>(reply: &Value, names: &[&'a str]) -> Option<Vec<&'a str>> {
    let Value::Array(places) = reply else { return None };
    let name = |place: &Value| {
        let Value::Int(place) = place else { return None };
        names.get(usize::try_from(*place).ok()?.checked_sub(1)?).copied()
    };
    places.iter().map(name).collect()
}

impl RedisQueue {
    /// As [`settle`](crate::store::queue::Queue::settle): the entries that aren't pending any more. In a cluster
    /// nothing was done to them yet.
    pub(in crate::store::redis) async fn settle_them<'a>(
        &self,
        worker: &str,
        term: Term,
        done: &'a [Delivery],
    ) -> Result<Option<Vec<&'a str>>, StoreError> {
        let (shard, holder, many) = (term.shard.to_string(), holder(worker, term), done.len().to_string());
        let (names, numbers): (Vec<&str>, Vec<String>) =
            entries_of(done).into_iter().map(|(key, seq)| (key, seq.to_string())).unzip();
        let Keys { own, meta, pending, .. } = &self.keys;
        let mut keys = vec![own.as_str(), self.keys.stream(term.shard), meta, pending];
        let mut args = vec![shard.as_bytes(), holder.as_bytes(), many.as_bytes()];
        args.extend(done.iter().map(|write| write.id.as_bytes()));
        args.extend(numbers.iter().map(String::as_bytes));
        if self.is_apart() {
            args.extend(names.iter().map(|name| name.as_bytes()));
        } else {
            keys.extend(&names);
        }
        let Some(reply) = self.own(&SETTLE, &keys, &args).await? else { return Ok(None) };
        self.link.expect(told(&reply, &names)).map(Some)
    }

    /// As [`bury`](crate::store::queue::Queue::bury), and the entries that aren't pending any more.
    pub(in crate::store::redis) async fn bury_it<'a>(
        &self,
        worker: &str,
        term: Term,
        dead: &'a Delivery,
        cause: &str,
        limits: Limits,
    ) -> Result<(Buried, Vec<&'a str>), StoreError> {
        let (shard, holder) = (term.shard.to_string(), holder(worker, term));
        let (letters, seq) = (limits.letters.to_string(), dead.seq.to_string());
        let attempts = dead.deliveries.to_string();
        let names: Vec<&str> = dead.entries.iter().map(String::as_str).collect();
        let Keys { own, meta, pending, dead: letters_key, .. } = &self.keys;
        let mut keys = vec![own.as_str(), self.keys.stream(term.shard), meta, pending, letters_key];
        let mut args =
            [&shard, &holder, &dead.id, &letters, &seq, cause, &attempts].map(str::as_bytes).to_vec();
        if self.is_apart() {
            args.extend(names.iter().map(|name| name.as_bytes()));
        } else {
            keys.extend(&names);
        }
        Ok(match self.own(&BURY, &keys, &args).await? {
            None => (Buried::Lost, Vec::new()),
            Some(Value::Int(0)) => (Buried::Full, Vec::new()),
            Some(reply) => (Buried::Done, self.link.expect(told(&reply, &names))?),
        })
    }
}
