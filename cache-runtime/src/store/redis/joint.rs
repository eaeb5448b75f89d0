//! An entry and tags in one flush.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Pipeline, Value};

use super::abilities::{self, acquisition, is_refused, wants_whole};
use super::fault::redirect;
use super::link::Link;
use super::script::{KEEP, STAMP, SWAP};
use super::wire::{bytes_of, count_of, life_of, millis};
use crate::error::StoreError;
use crate::store::joint::{Done, How, Joint, OnEntry, OnTag, Seen, Sighted, is_fence, version_of};

type Replies = std::vec::IntoIter<Result<Value, StoreError>>;

fn next(link: &Link, replies: &mut Replies) -> Result<Value, StoreError> {
    link.expect(replies.next())?
}

/// What isn't there, and what the server doesn't say of it.
fn there(link: &Link, reply: Result<Value, StoreError>) -> Result<Option<Bytes>, StoreError> {
    match reply {
        Ok(reply) => link.expect(bytes_of(reply)),
        Err(error) if redirect(&error).is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

pub(super) async fn sight(
    link: &Arc<Link>,
    key: Option<&str>,
    tags: &[String],
    how: How,
) -> Result<Sighted, StoreError> {
    let mut all = Pipeline::with_capacity(2 + tags.len());
    if let Some(key) = key {
        if how.aged {
            all.cmd("PTTL").arg(key);
        }
        all.cmd("GET").arg(key);
    }
    for tag in tags {
        all.cmd("GET").arg(tag);
    }
    let (replies, mut may_keep) =
        if how.tracked { link.ask_tracked_all(&all).await? } else { (link.ask_all(&all).await?, false) };
    let mut replies = replies.into_iter();
    let mut entry = None;
    if key.is_some() {
        let left = if how.aged { link.expect(life_of(&next(link, &mut replies)?))? } else { None };
        entry = link.expect(bytes_of(next(link, &mut replies)?))?.map(|value| (value, left.flatten()));
        // A value that came between the two: nobody knows for how long it may be kept.
        may_keep &= !(how.aged && left.is_none() && entry.is_some());
    }
    let version = |reply| Ok(there(link, reply)?.and_then(|bytes| version_of(&bytes)));
    let versions = replies.map(version).collect::<Result<_, _>>()?;
    Ok(Sighted { entry, versions, may_keep })
}

/// Nothing of it is sent a second time: not even when the connection breaks, so that no version arrives
/// twice. Only a script that the server doesn't know is sent whole.
pub(super) async fn flush(
    link: &Arc<Link>,
    entry: Option<(&str, OnEntry)>,
    tags: &[OnTag],
) -> Result<Joint, StoreError> {
    if entry.is_some() {
        abilities::scripts(link).await?;
    }
    let mut all = Pipeline::with_capacity(1 + 2 * tags.len());
    let mut script = None;
    if let Some((key, entry)) = &entry {
        match entry {
            OnEntry::Acquire { lease, life } => drop(all.add_command(acquisition(link, key, lease, *life))),
            OnEntry::Swap { seen, value, life } => {
                let args = [&seen[..], value, &number(*life)].map(<[u8]>::to_vec);
                script = Some((&SWAP, key, args));
            }
            OnEntry::Stamp { seen, head, most } => {
                let args = [&seen[..], head, &number(*most)].map(<[u8]>::to_vec);
                script = Some((&STAMP, key, args));
            }
        }
    }
    if let Some((script, key, args)) = &script {
        all.add_command(script.call(link, &[key], &slices(args)));
    }
    for tag in tags {
        match tag {
            OnTag::Create { key, version, life } => {
                all.add_command(acquisition(link, key, version, *life)).cmd("PTTL").arg(key);
            }
            OnTag::Read { key } => drop(all.cmd("GET").arg(key)),
            OnTag::Keep { key, life } => drop(all.add_command(KEEP.call(link, &[key], &[&number(*life)]))),
        }
    }
    let mut replies = link.send_all(&all).await?.into_iter();
    let mut done = None;
    if let Some((_, entry)) = &entry {
        let mut reply = next(link, &mut replies);
        if let (Err(error), Some((script, key, args))) = (&reply, &script)
            && wants_whole(link, error)
        {
            reply = script.whole(link, &[key], &slices(args)).await;
        }
        done = Some(match (reply, entry) {
            (Err(error), _) => {
                is_refused(link, &error);
                Err(error)
            }
            (Ok(reply), OnEntry::Acquire { .. }) => link.expect(bytes_of(reply)).map(Done::Found),
            (Ok(reply), _) => link.expect(count_of(&reply)).map(|count| Done::Did(count == 1)),
        });
    }
    let mut versions = Vec::with_capacity(tags.len());
    let mut is_fenced = false;
    let mut version = |bytes: Option<Bytes>| {
        is_fenced |= bytes.as_ref().is_some_and(is_fence);
        bytes.and_then(|bytes| version_of(&bytes))
    };
    for tag in tags {
        match tag {
            OnTag::Create { version: ours, .. } => {
                let (reply, left) = (replies.next(), replies.next());
                let (reply, left) = (link.expect(reply)?, link.expect(left)?);
                if let Err(error) = &reply {
                    is_refused(link, error);
                }
                let left = left.ok().and_then(|left| life_of(&left)).flatten().flatten();
                let version = match reply {
                    Ok(Value::Nil) => Some(*ours),
                    reply => version(there(link, reply)?),
                };
                versions.push(version.map(|version| Seen { version, left }));
            }
            OnTag::Read { .. } => {
                let version = version(there(link, link.expect(replies.next())?)?);
                versions.push(version.map(|version| Seen { version, left: None }));
            }
            OnTag::Keep { key, life } => {
                let mut reply = link.expect(replies.next())?;
                if reply.as_ref().is_err_and(|error| wants_whole(link, error)) {
                    reply = KEEP.whole(link, &[key], &[&number(*life)]).await;
                }
                if let Err(error) = reply
                    && redirect(&error).is_some()
                {
                    return Err(error);
                }
            }
        }
    }
    Ok(Joint { entry: done, versions, is_fenced })
}

fn number(life: Option<Duration>) -> Vec<u8> {
    life.map(|life| millis(life).to_string()).unwrap_or_default().into_bytes()
}

fn slices(args: &[Vec<u8>; 3]) -> [&[u8]; 3] {
    args.each_ref().map(Vec::as_slice)
}
