//! The operations of a store, each as commands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value, cmd};

use super::script::{self, ADD, EXTEND, RELEASE, STAMP, SWAP};
use super::wire::{aged, bytes_of, count_of, life_of, millis, set};
use super::{RedisStore, STEP, abilities, joint, sessions};
use crate::error::StoreError;
use crate::record::{self, Prefix};
use crate::store::joint::{How, Joint, OnEntry, OnTag, Sighted};
use crate::store::queue::Queue;
use crate::store::sessions::{Act, Found, Lives};
use crate::store::{
    Aged, Connecting, Decision, Each, Expiry, Keeper, Limit, Reach, Reply, Store, Tracked, fresh_for,
};

impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let reply = self.ask(cmd("GET").arg(key)).await?;
            self.link.expect(bytes_of(reply))
        })
    }

    fn get_aged<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Aged>> {
        Box::pin(async move {
            let replies = self.link.ask_many(&aged(key)).await?;
            self.aged(replies)
        })
    }

    fn get_tracked<'a>(&'a self, key: &'a str) -> Reply<'a, Tracked> {
        Box::pin(async move {
            let (replies, may_keep) = self.link.ask_tracked(&aged(key)).await?;
            self.tracked(replies, may_keep)
        })
    }

    fn sight<'a>(&'a self, key: Option<&'a str>, tags: &'a [String], how: How) -> Reply<'a, Sighted> {
        Box::pin(joint::sight(&self.link, key, tags, how))
    }

    fn flush<'a>(&'a self, entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Reply<'a, Joint> {
        Box::pin(async move { joint::flush(&self.link, entry, &tags).await })
    }

    fn track(&self, keeper: Arc<dyn Keeper>) {
        self.link.tracking.tell(keeper);
    }

    fn acquire<'a>(&'a self, key: &'a str, lease: Bytes, life: Duration) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let reply = abilities::acquire(&self.link, key, &lease, life).await?;
            self.link.expect(bytes_of(reply))
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        value: Bytes,
        life: Option<Duration>,
    ) -> Reply<'a, bool> {
        Box::pin(async move {
            let life = life.map(|life| millis(life).to_string()).unwrap_or_default();
            self.flag(&SWAP, key, &[&seen, &value, life.as_bytes()]).await
        })
    }

    fn stamp<'a>(
        &'a self,
        key: &'a str,
        seen: Prefix,
        head: Bytes,
        most: Option<Duration>,
    ) -> Reply<'a, bool> {
        Box::pin(async move {
            let most = most.map(|most| millis(most).to_string()).unwrap_or_default();
            self.flag(&STAMP, key, &[&seen, &head, most.as_bytes()]).await
        })
    }

    fn extend<'a>(&'a self, key: &'a str, seen: Prefix, life: Duration) -> Reply<'a, bool> {
        Box::pin(async move {
            let life = millis(life).to_string();
            self.flag(&EXTEND, key, &[&seen, life.as_bytes()]).await
        })
    }

    fn release<'a>(&'a self, key: &'a str, seen: Prefix) -> Reply<'a, bool> {
        Box::pin(async move { self.flag(&RELEASE, key, &[&seen]).await })
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, life: Option<Duration>) -> Reply<'a, ()> {
        Box::pin(async move {
            let reply = self.send(&set(key, &value, life)).await?;
            self.link.expect((reply == Value::Okay).then_some(()))
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> Reply<'a, Option<Bytes>> {
        Box::pin(async move {
            let mut both = Pipeline::with_capacity(2);
            both.cmd("GETRANGE").arg(key).arg(0).arg(record::PREFIX - 1).cmd("UNLINK").arg(key);
            let [head, removed] = self.link.send_many(&both).await?;
            let removed = self.link.expect(count_of(&removed?))?;
            // A list or a hash has no bytes to show, and is removed all the same.
            let head = head.ok().and_then(bytes_of).flatten().unwrap_or_default();
            Ok((removed > 0).then_some(head))
        })
    }

    fn fence<'a>(&'a self, key: &'a str, token: Prefix, life: Duration) -> Reply<'a, ()> {
        Box::pin(async move {
            let reply = script::fence(&self.link, key, &token, Some(life)).await?;
            self.link.expect((reply == Value::Int(1)).then_some(()))
        })
    }

    fn unfence<'a>(&'a self, key: &'a str, token: Prefix) -> Reply<'a, ()> {
        Box::pin(async move {
            let reply = script::fence(&self.link, key, &token, None).await?;
            self.link.expect((reply == Value::Int(1)).then_some(()))
        })
    }

    fn remove_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, u64> {
        Box::pin(async move {
            let mut removed = 0;
            for keys in keys.chunks(STEP) {
                let reply = self.ask(cmd("UNLINK").arg(keys)).await?;
                removed += self.link.expect(count_of(&reply))?;
            }
            Ok(removed)
        })
    }

    fn remove_matching<'a>(&'a self, glob: &'a str, reach: Reach) -> Reply<'a, u64> {
        Box::pin(async move { Ok(self.link.remove_matching(glob, reach).await?.removed) })
    }

    fn get_each<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Bytes>> {
        Box::pin(async move {
            // No MGET: it hides what is no string, one key that the user may not read fails it for all,
            // and in a cluster the keys are on several servers.
            let mut all = Pipeline::with_capacity(keys.len());
            for key in keys {
                let mut get = Cmd::with_capacity(2, "GET".len() + key.len());
                get.arg("GET").arg(key);
                all.add_command(get);
            }
            let replies = self.link.ask_all(&all).await?;
            Ok(replies.into_iter().map(|reply| self.link.expect(bytes_of(reply?))).collect())
        })
    }

    fn get_each_aged<'a>(&'a self, keys: &'a [String]) -> Each<'a, Option<Aged>> {
        Box::pin(async move {
            let mut all = Pipeline::with_capacity(2 * keys.len());
            for key in keys {
                all.cmd("PTTL").arg(key).cmd("GET").arg(key);
            }
            let mut replies = self.link.ask_all(&all).await?.into_iter();
            let pairs = std::iter::from_fn(|| Some([replies.next()?, replies.next()?]));
            Ok(pairs.map(|pair| self.aged(pair)).collect())
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            if self.is_node() {
                let read = |reply| match reply {
                    // As `MGET` says it.
                    Err(StoreError::WrongType(_)) => Ok(None),
                    reply => self.link.expect(bytes_of(reply?)),
                };
                return self.each("GET", keys).await?.into_iter().map(read).collect();
            }
            let reply = self.ask(cmd("MGET").arg(keys)).await?;
            let found = match reply {
                Value::Array(found) if found.len() == keys.len() => {
                    found.into_iter().map(bytes_of).collect::<Option<Vec<_>>>()
                }
                _ => None,
            };
            self.link.expect(found)
        })
    }

    fn get_many_aged<'a>(&'a self, keys: &'a [String]) -> Reply<'a, Vec<Option<Aged>>> {
        Box::pin(async move {
            let mut all = Pipeline::with_capacity(2 * keys.len());
            for key in keys {
                all.cmd("PTTL").arg(key).cmd("GET").arg(key);
            }
            let mut replies = self.link.send_all(&all).await?.into_iter();
            let mut found = Vec::with_capacity(keys.len());
            for _ in keys {
                let mut next = || self.link.expect(replies.next())?;
                let left = self.link.expect(life_of(&next()?))?;
                let value = self.link.expect(bytes_of(next()?))?;
                found.push(value.map(|value| (value, left.flatten())));
            }
            Ok(found)
        })
    }

    fn set_many(&self, pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> Reply<'_, ()> {
        Box::pin(async move {
            if pairs.is_empty() {
                return Ok(());
            }
            let mut all = Pipeline::with_capacity(pairs.len());
            for (key, value) in &pairs {
                all.add_command(set(key, value, life));
            }
            for reply in self.link.send_all(&all).await? {
                let reply = reply?;
                self.link.expect((reply == Value::Okay).then_some(()))?;
            }
            Ok(())
        })
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, life: Option<Duration>) -> Reply<'a, i64> {
        Box::pin(async move {
            let reply = match life {
                None => self.send(cmd("INCRBY").arg(key).arg(by)).await?,
                Some(life) => {
                    let (by, life) = (by.to_string(), millis(life).to_string());
                    ADD.run(&self.link, &[key], &[by.as_bytes(), life.as_bytes()]).await?
                }
            };
            self.link.expect(if let Value::Int(sum) = reply { Some(sum) } else { None })
        })
    }

    fn admit<'a>(&'a self, key: &'a str, limit: Limit) -> Reply<'a, Decision> {
        Box::pin(async move { script::admit(&self.link, key, limit).await })
    }

    fn sessions<'a>(&'a self, key: &'a str, act: Act, lives: Lives) -> Reply<'a, Vec<Found>> {
        Box::pin(async move { sessions::act(&self.link, key, &act, lives).await })
    }

    fn expire<'a>(&'a self, key: &'a str, life: Option<Duration>) -> Reply<'a, bool> {
        Box::pin(async move {
            let count = match life {
                Some(life) => self.send(cmd("PEXPIRE").arg(key).arg(millis(life))).await?,
                None => {
                    let mut both = Pipeline::with_capacity(2);
                    both.cmd("PERSIST").arg(key).cmd("EXISTS").arg(key);
                    let [persisted, exists] = self.link.send_many(&both).await?;
                    persisted?;
                    exists?
                }
            };
            Ok(self.link.expect(count_of(&count))? == 1)
        })
    }

    fn expiry<'a>(&'a self, key: &'a str) -> Reply<'a, (Expiry, bool)> {
        Box::pin(async move {
            let mut both = Pipeline::with_capacity(2);
            both.cmd("PTTL").arg(key).cmd("GETRANGE").arg(key).arg(0).arg(record::HEADER - 1);
            let [left, head] = self.link.ask_many(&both).await?;
            // A list or a hash has no bytes to show, and a life all the same.
            let head = head.ok().and_then(bytes_of).flatten().unwrap_or_default();
            Ok(match self.link.expect(life_of(&left?))? {
                Some(left) if record::is_value(&head) => (fresh_for(&head, left), record::has_tags(&head)),
                _ => (Expiry::Missing, false),
            })
        })
    }

    fn queue(&self, base: &str) -> Arc<dyn Queue> {
        self.own_queue(base)
    }

    fn ping(&self) -> Reply<'_, ()> {
        Box::pin(async move {
            let reply = self.ask(&cmd("PING")).await?;
            self.link.expect(matches!(reply, Value::SimpleString(_)).then_some(()))
        })
    }

    fn overdue(&self) {
        self.link.overdue();
    }

    fn distrust(&self, why: &'static str) {
        self.link.distrust(why);
    }

    /// The connection is made anew, and what is kept is carried out first.
    fn invalidation_waits(&self) {
        self.link.distrust("an invalidation waits");
    }

    fn connection(&self) -> Option<Connecting<'_>> {
        Some(Box::pin(self.pool.get(&self.link)))
    }

    fn close(&self) {
        self.link.close();
        self.pool.close();
        self.queues().values().for_each(|queue| queue.close());
    }
}
