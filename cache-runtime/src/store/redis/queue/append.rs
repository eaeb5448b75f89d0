//! New writes.

use redis::Value;

use super::keys::Keys;
use super::scripts::APPEND;
use super::{RedisQueue, TRIES, replies};
use crate::error::StoreError;
use crate::store::queue::{Appended, Limits, NewEntry, NewWrite, shard_of};
use crate::store::redis::abilities;
use crate::store::redis::wire::millis;

/// The script asks for all streams.
const NEEDS_ALL: i64 = -2;

/// How an entry's life is told: nothing is for ever, `-` that there is no value.
fn life(entry: &NewEntry) -> String {
    match (&entry.value, entry.life) {
        (None, _) => "-".to_owned(),
        (Some(_), None) => String::new(),
        (Some(_), Some(life)) => millis(life).to_string(),
    }
}

impl RedisQueue {
    pub(super) async fn append_to(
        &self,
        write: &NewWrite<'_>,
        limits: Limits,
    ) -> Result<Appended, StoreError> {
        let names: Vec<&str> = write.entries.iter().map(|entry| entry.key.as_str()).collect();
        let names = match names[..] {
            [] => Vec::new(),
            _ => serde_json::to_vec(&names).expect("strings are JSON"),
        };
        let lives: Vec<String> = write.entries.iter().map(life).collect();
        let capacity = limits.capacity.to_string();
        let mut takes_all = false;
        for _ in 0..TRIES {
            let shards = self.shards(limits);
            let shard = shard_of(write.order_key, shards);
            let Keys { meta, pending, .. } = &self.keys;
            let mut keys = vec![meta.as_str(), pending];
            let which = if takes_all {
                keys.extend(self.keys.streams(shards));
                shard
            } else {
                keys.push(self.keys.stream(shard));
                0
            };
            let [shards, all, which] = [shards, u32::from(takes_all), which].map(|number| number.to_string());
            let mut args = vec![
                shards.as_bytes(),
                all.as_bytes(),
                which.as_bytes(),
                capacity.as_bytes(),
                write.kind.as_bytes(),
                write.order_key.as_bytes(),
                write.payload,
                &names,
            ];
            for (entry, life) in write.entries.iter().zip(&lives) {
                if !self.is_apart() {
                    keys.push(&entry.key);
                }
                args.extend([entry.value.as_deref().unwrap_or_default(), life.as_bytes(), &entry.copy]);
            }
            let (reply, is_durable) = self.add(write.synced, &keys, &args).await?;
            if self.is_other(&reply, limits)? {
                continue;
            }
            return match replies::outcome(&reply) {
                Some(NEEDS_ALL) if !takes_all => {
                    takes_all = true;
                    continue;
                }
                Some(0) => Ok(Appended::Full),
                Some(1) if is_durable => self.link.expect(replies::appended(reply)).map(Appended::At),
                Some(1) => Err(StoreError::Timeout(
                    "the write may be queued, and isn't known to be on the server's disk".to_owned(),
                )),
                _ => self.link.expect(None),
            };
        }
        Err(Self::unsettled())
    }

    /// One step of an append. The flag: what the reply tells of is as durable as was asked.
    async fn add(&self, synced: bool, keys: &[&str], args: &[&[u8]]) -> Result<(Value, bool), StoreError> {
        if !synced {
            return Ok((self.run(&APPEND, keys, args).await?, true));
        }
        match self.synced.send(&self.link, APPEND.call(&self.link, keys, args)).await {
            Err(error) if abilities::wants_whole(&self.link, &error) => {
                self.synced.send(&self.link, APPEND.whole_call(keys, args)).await
            }
            answered => answered,
        }
    }
}
