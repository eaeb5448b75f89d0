//! What some servers can do and others can't: asked for when a connection is made, in the flush that asks
//! whether it serves, and corrected by what is refused later.
//!
//! It belongs to the connection, not to the process: the next one may lead to a server of another version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tracing::{error, info};

use super::fault;
use super::link::Link;
use super::scan::within;
use super::script::ACQUIRE;
use super::tracker::{greeting, said};
use super::wire::{millis, set};
use crate::clock;
use crate::error::StoreError;

/// The first major version that has `SET` with both `NX` and `GET`; Valkey counts on from there.
const BOTH_SINCE: u32 = 7;

/// For how many milliseconds scripts that were refused aren't tried again.
const REST: u64 = 5_000;

#[derive(Debug, Default)]
pub(super) struct Abilities {
    /// `SET` takes both `NX` and `GET`.
    set_nx_get: AtomicBool,
    /// Scripts can't be named by their digests, and are sent whole.
    whole_scripts: AtomicBool,
    /// Until then (by `clock::millis`) no script is tried; 0: they run.
    no_scripts: AtomicU64,
    /// What was said, once each.
    said: [AtomicBool; 4],
}

impl Abilities {
    pub(super) fn set_nx_get(&self) -> bool {
        self.set_nx_get.load(Relaxed)
    }

    pub(super) fn whole_scripts(&self) -> bool {
        self.whole_scripts.load(Relaxed)
    }

    fn is_news(&self, number: usize) -> bool {
        !self.said[number].swap(true, Relaxed)
    }

    /// By the version that the greeting names; gives it, if that is too old. Where there is none: what every
    /// server can.
    fn learn(&self, greeting: Option<&Value>) -> Option<String> {
        self.whole_scripts.store(false, Relaxed);
        self.no_scripts.store(0, Relaxed);
        let version = greeting.and_then(|reply| said(reply, "version"));
        let version = version.and_then(|version| String::from_utf8(version).ok()).unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let can = major.is_some_and(|major| major >= BOTH_SINCE);
        self.set_nx_get.store(can, Relaxed);
        (!can).then_some(version)
    }
}

fn lacks_set_nx_get(link: &Link, release: &str) {
    link.abilities.set_nx_get.store(false, Relaxed);
    if link.abilities.is_news(0) {
        info!(target: "cache_aside", server = link.address().shown(), release, "the server has no `SET` with `NX` and `GET`, as Redis 7 has: a script takes leases instead");
    }
}

/// The first that is asked on a connection: a question that shows whether the server serves, and what it can do.
///
/// What is asked about scripts is plain text. A server quotes the arguments of a command that it doesn't know, and
/// redis-rs gives up a connection on which an error isn't UTF-8, as most records aren't.
pub(super) async fn meet(
    link: &Link,
    connection: &mut MultiplexedConnection,
    question: &Cmd,
    protocol: u8,
    patience: Duration,
) -> RedisResult<()> {
    let mut all = Pipeline::with_capacity(4);
    all.add_command(question.clone()).add_command(greeting(protocol));
    all.add_command(by_digest()).add_command(whole());
    let replies = within(patience, connection.send_packed_commands(&all, 0, all.len())).await?;
    let mut replies = replies.into_iter().map(Value::extract_error);
    let answer = replies.next().transpose().map(drop);
    let greeted = replies.next();
    // Who doesn't know us says nothing of what he can.
    let is_stranger = matches!(&greeted, Some(Err(error)) if error.code() == Some("NOAUTH"));
    if let Some(release) = link.abilities.learn(greeted.and_then(Result::ok).as_ref())
        && !is_stranger
    {
        lacks_set_nx_get(link, &release);
    }
    let mut refusal = || replies.next().and_then(Result::err).map(|error| fault::read(&error).0);
    match (refusal(), refusal()) {
        // In whatever words: there is nothing here that a server could mind, but that there is no key.
        (_, Some(StoreError::Refused(text)))
            if (text.starts_with("ERR ") || text.starts_with("NOPERM "))
                && !text.to_lowercase().contains("keys") =>
        {
            lacks_scripts(link);
        }
        (Some(error), None) => {
            wants_whole(link, &error);
        }
        _ => {}
    }
    answer
}

/// A script that no server knows.
fn by_digest() -> Cmd {
    let mut script = cmd("EVALSHA");
    script.arg("0".repeat(40)).arg(0);
    script
}

fn whole() -> Cmd {
    let mut script = cmd("EVAL");
    script.arg("return 1").arg(0);
    script
}

/// Sets a key that isn't there, or gives what is.
pub(super) async fn acquire(
    link: &Arc<Link>,
    key: &str,
    value: &[u8],
    life: Duration,
) -> Result<Value, StoreError> {
    scripts(link).await?;
    if link.abilities.set_nx_get() {
        let reply = link.send(&set_nx_get(key, value, life), false).await;
        if !reply.as_ref().is_err_and(|error| is_refused(link, error)) {
            return reply;
        }
    }
    link.send(&acquire_by_script(key, value, life), false).await.inspect_err(|error| note(link, error))
}

/// The command that does it.
pub(super) fn acquisition(link: &Link, key: &str, value: &[u8], life: Duration) -> Cmd {
    if link.abilities.set_nx_get() {
        return set_nx_get(key, value, life);
    }
    acquire_by_script(key, value, life)
}

/// Sent whole: by a digest that the server doesn't know yet, what belongs into one flush would need another.
fn acquire_by_script(key: &str, value: &[u8], life: Duration) -> Cmd {
    ACQUIRE.whole_call(&[key], &[value, millis(life).to_string().as_bytes()])
}

/// Whether a server refused the words of such a command; then it did nothing, and won't be sent another.
pub(super) fn is_refused(link: &Link, error: &StoreError) -> bool {
    let refused = matches!(error, StoreError::Refused(text) if text == "ERR syntax error");
    if refused {
        lacks_set_nx_get(link, "not what it says");
    }
    note(link, error);
    refused
}

/// Before a lease is taken, and before a script: an error if the server refuses scripts. Without them nobody could
/// fill what the lease is for, and others would wait for it.
pub(super) async fn scripts(link: &Arc<Link>) -> Result<(), StoreError> {
    let until = link.abilities.no_scripts.load(Relaxed);
    if until == 0 {
        return Ok(());
    }
    let now = clock::millis();
    // Somebody may have allowed it. One asks; the others wait neither for that nor in a queue behind their own.
    if now >= until && link.abilities.no_scripts.compare_exchange(until, now + REST, Relaxed, Relaxed).is_ok()
    {
        match link.send(&whole(), false).await {
            Ok(_) => {
                link.abilities.no_scripts.store(0, Relaxed);
                return Ok(());
            }
            Err(error) => note(link, &error),
        }
    }
    Err(StoreError::Refused("the server runs no scripts (`EVAL`), which leases and fills need".to_owned()))
}

/// Whether a script that was named by its digest is to be sent whole: the server doesn't know it, or nobody may
/// name any.
pub(super) fn wants_whole(link: &Link, error: &StoreError) -> bool {
    let lacks = fault::lacks_command(error, "evalsha");
    if lacks {
        link.abilities.whole_scripts.store(true, Relaxed);
        if link.abilities.is_news(1) {
            info!(target: "cache_aside", server = link.address().shown(), "the server has no `EVALSHA`: scripts are sent whole");
        }
    }
    lacks || fault::is_unknown_script(error)
}

/// What was said to a script that was sent whole.
pub(super) fn note(link: &Link, error: &StoreError) {
    if fault::lacks_command(error, "eval") {
        lacks_scripts(link);
    }
}

fn lacks_scripts(link: &Link) {
    link.abilities.no_scripts.store(clock::millis() + REST, Relaxed);
    if link.abilities.is_news(2) {
        error!(target: "cache_aside", server = link.address().shown(), "the server runs no scripts (`EVAL`), which leases and fills need: functions run uncached until its user may `+eval` and `+evalsha`");
    }
}

/// The connection speaks RESP2, though RESP3 was asked for.
pub(super) fn lacks_resp3(link: &Link) {
    if link.abilities.is_news(3) {
        info!(target: "cache_aside", server = link.address().shown(), "the server has no RESP3 (`HELLO 3`): RESP2 is spoken, in which it can't tell what changes");
    }
}

fn set_nx_get(key: &str, value: &[u8], life: Duration) -> Cmd {
    let mut set = set(key, value, Some(life));
    set.arg("NX").arg("GET");
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_can_belongs_to_its_connection() {
        let greeting = |version: &str| {
            let text = |text: &str| Value::BulkString(text.into());
            Value::Map(vec![(text("server"), text("redis")), (text("version"), text(version))])
        };
        let abilities = Abilities::default();
        for (version, can) in
            [("6.2.14", false), ("7.0.0", true), ("10.1", true), ("6.0.20", false), ("", false)]
        {
            abilities.learn(Some(&greeting(version)));
            assert_eq!(abilities.set_nx_get(), can, "{version}");
        }
        abilities.whole_scripts.store(true, Relaxed);
        abilities.no_scripts.store(1, Relaxed);
        // The next connection leads to another.
        assert_eq!(abilities.learn(Some(&greeting("8.2.3"))), None);
        assert!(abilities.set_nx_get() && !abilities.whole_scripts());
        assert_eq!(abilities.no_scripts.load(Relaxed), 0);
        assert_eq!(abilities.learn(None), Some(String::new()));
        assert!(!abilities.set_nx_get(), "a server that doesn't say its version");
    }
}
