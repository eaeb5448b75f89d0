//! What the calls of functions with tags ask of the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tracing::debug;

use crate::cache::Cache;
use crate::clock;
use crate::codec;
use crate::commands::Commands;
use crate::deferred;
use crate::entry::{Entry, encode_record};
use crate::error::{CacheError, StoreError};
use crate::hold::Hold;
use crate::key;
use crate::near::Ticket;
use crate::policy::{Fate, Life, Named, Ttl};
use crate::reads::{Question, one_by_one};
use crate::record::{self, Found, Prefix};
use crate::shared::{Core, late};
use crate::sight::{Ask, Hit, Origin, Sight};
use crate::site::At;
use crate::store::joint::{Done, How, Joint, OnEntry, Sighted};
use crate::store::{Aged, Reply};
use crate::tags::{Captured, Tags};

/// What was read of an entry and of its tags.
#[derive(Debug)]
pub(crate) struct Look {
    is_aged: bool,
    entry: Option<Aged>,
    /// Those of the value that is there.
    tags: Option<record::Tags>,
    /// Whether these still are what they were when it was loaded.
    is_valid: bool,
    /// Under which it may be kept in this process.
    ticket: Option<Arc<Ticket>>,
}

impl Look {
    /// Reads the entry, and in the same flush the tags that the arguments name; those that only the value
    /// names in another one. A tag is never read before the entry is asked for.
    async fn read(core: &Core, key: &str, tags: Option<&Tags>, how: How) -> Result<Self, StoreError> {
        let ticket = how.tracked.then(|| core.near.ticket(key));
        let keys = tags.map(|tags| tags.keys.as_slice()).unwrap_or_default();
        let mut tickets = Vec::new();
        let mut watch = |keys: &[String]| {
            if how.tracked {
                tickets.extend(keys.iter().map(|key| core.near.ticket(key)));
            }
        };
        watch(keys);
        let Sighted { entry, versions, mut may_keep } = core.store.sight(Some(key), keys, how).await?;
        let mut is_valid = true;
        let found = entry.as_ref().map(|(bytes, _)| record::read(bytes.clone()));
        let there = if let Some(Found::Value(value)) = found { Some(value.tags) } else { None };
        let (mut others, mut captured) = (Vec::new(), Vec::new());
        for (text, version) in there.iter().flat_map(record::Tags::iter) {
            match tags.and_then(|tags| tags.position(text)) {
                Some(at) => is_valid &= versions.get(at) == Some(&Some(version)),
                None => match core.tag_key(text) {
                    Ok(key) => {
                        others.push(key);
                        captured.push(Some(version));
                    }
                    Err(_) => is_valid = false,
                },
            }
        }
        if is_valid && !others.is_empty() {
            watch(&others);
            let how = How { aged: false, ..how };
            let now = core.store.sight(None, &others, how).await?;
            is_valid = now.versions == captured;
            may_keep &= now.may_keep;
        }
        // Under a paused clock, which near values don't go by, they would outlive their time to live.
        may_keep &= clock::is_real();
        let ticket = ticket.filter(|_| may_keep).map(|ticket| Arc::new(ticket.with_tags(tickets)));
        Ok(Self { is_aged: how.aged, entry, tags: there, is_valid, ticket })
    }

    /// What it is to `ask`.
    fn sight(&self, ask: &Ask, core: &Core) -> Sight {
        let entry = self.entry.clone();
        let mut sight = Sight::of_judged(entry, self.is_aged, ask, core);
        let (Sight::Hit(hit) | Sight::Stale(hit, _)) = &mut sight else { return sight };
        match hit.origin {
            Origin::Store(prefix) => {
                hit.is_tagged = self.tags.as_ref().is_some_and(|tags| !tags.is_empty());
                if !self.is_valid || !self.has_all(ask) {
                    return Sight::Dead(prefix);
                }
            }
            // It has no tags, so whoever invalidates one wouldn't reach it.
            _ if ask.is_tagged() => {
                core.warn_once(&ask.key, "holds plain JSON, which has no tags: not used, and left alone");
                return Sight::HandsOff;
            }
            _ => {}
        }
        let most = ask.site.and_then(|site| site.near).and_then(|near| near.most);
        sight.keeping(self.ticket.as_ref(), most)
    }

    /// Whether the value has the tags that it should: it may have been stored when the function had others.
    fn has_all(&self, ask: &Ask) -> bool {
        match &self.tags {
            Some(tags) if !tags.is_empty() => ask.tags.as_ref().is_none_or(|wanted| wanted.are_in(tags)),
            _ => !ask.is_tagged(),
        }
    }
}

/// What to look for, and how.
pub(crate) struct Sought {
    key: String,
    tags: Option<Arc<Tags>>,
    how: How,
}

impl Question for Sought {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Sought {
    fn look(self, cache: Cache) -> Reply<'static, Arc<Look>> {
        Box::pin(async move {
            Look::read(cache.core(), &self.key, self.tags.as_deref(), self.how).await.map(Arc::new)
        })
    }
}

/// A look that is shared where many look, as all reads are.
async fn look(cache: &Cache, ask: &Ask, how: How, left: Duration) -> Result<Arc<Look>, StoreError> {
    // Those who ask for less don't share with those who ask for more.
    const AGED: u64 = 0x9e37_79b9_7f4a_7c15;
    let core = cache.core();
    let sought = || Sought { key: ask.key.clone(), tags: ask.tags.clone(), how };
    let alone = || sought().look(cache.clone());
    if !core.store.is_remote() {
        return alone().await;
    }
    let send = || {
        let cache = cache.clone();
        move |all: Vec<Sought>| one_by_one(all.into_iter().map(|sought| sought.look(cache.clone())))
    };
    let hash = ask.hash() ^ if how.aged { AGED } else { 0 };
    let times = (left, core.options.budget);
    let look = core.tagged_reads.get(&ask.key, hash, times, sought, alone, send).await;
    // Over which of its connections it had no answer to a tracked read the store finds out by itself.
    let look = if how.tracked { look.unwrap_or_else(|_| Err(late())) } else { core.in_time(look) }?;
    if how.aged && !look.is_aged {
        return core.timed_by(left, alone()).await;
    }
    Ok(look)
}

/// Why there is no hold.
enum Denied {
    /// This was there instead, if anything was.
    There(Option<Bytes>),
    Failed(Sight),
}

impl Commands<'_> {
    /// What stands under the key, its tags read with it.
    pub(crate) async fn judge(&mut self, is_aged: bool) -> Sight {
        let core = self.core();
        let tracked = self.ask.site.is_some_and(|site| site.near.is_some());
        let how = How { aged: is_aged, tracked };
        match Self::within(&mut self.left, core, |left| look(self.cache, &self.ask, how, left)).await {
            Ok(look) => look.sight(&self.ask, core),
            Err(error) => self.failed(&error),
        }
    }

    /// The same, for who won't load.
    pub(crate) async fn peek_judged(&self) -> Result<Sight, StoreError> {
        let (core, how) = (self.core(), How { aged: true, tracked: false });
        let look = look(self.cache, &self.ask, how, core.options.budget).await?;
        Ok(look.sight(&self.ask, core))
    }

    pub(crate) async fn acquire_tagged(&mut self, tags: Arc<Tags>) -> Result<Hold, Sight> {
        let hold = self.hold();
        let lease = OnEntry::Acquire { lease: hold.token(), life: self.core().options.lease };
        match self.hold_tagged(hold, lease, &tags).await {
            Ok(hold) => Ok(hold),
            Err(Denied::Failed(sight)) => Err(sight),
            Err(Denied::There(there)) => {
                let sight = Sight::of(there, &self.ask, self.core());
                Err(self.settled(sight).await)
            }
        }
    }

    pub(crate) async fn replace_tagged(&mut self, seen: Prefix, tags: Arc<Tags>) -> Result<Hold, Sight> {
        let hold = self.hold();
        let life = Some(self.core().options.lease);
        let lease = OnEntry::Swap { seen, value: hold.token(), life };
        match self.hold_tagged(hold, lease, &tags).await {
            Ok(hold) => Ok(hold),
            Err(Denied::Failed(sight)) => Err(sight),
            Err(Denied::There(_)) => Err(Sight::Absent),
        }
    }

    pub(crate) async fn claim_tagged(
        &mut self,
        hit: &Hit,
        seen: Prefix,
        tags: Arc<Tags>,
    ) -> Result<Hold, Sight> {
        let hold = Hold::claim(self.cache.clone(), self.ask.key.clone(), hit.end());
        let claim = OnEntry::Stamp { seen, head: hold.token(), most: hit.left };
        match self.hold_tagged(hold, claim, &tags).await {
            Ok(hold) => Ok(hold),
            Err(Denied::Failed(sight)) => Err(sight),
            Err(Denied::There(_)) => Err(self.look().await),
        }
    }

    /// Makes the hold, and captures the tags in the same flush.
    async fn hold_tagged(&mut self, mut hold: Hold, entry: OnEntry, tags: &Tags) -> Result<Hold, Denied> {
        let core = self.core();
        let flush = core.store.flush(Some((&self.ask.key, entry)), tags.creations());
        let done = match Self::spend(&mut self.left, core, flush).await {
            // What it would have to go by can't be captured: dropping the hold gives it back.
            Ok(Joint { entry: Some(Ok(Done::Found(None) | Done::Did(true))), is_fenced: true, .. }) => {
                return Err(Denied::Failed(Sight::HandsOff));
            }
            Ok(Joint { entry: Some(Ok(done)), versions, .. }) => (done, versions),
            Ok(Joint { entry: Some(Err(error)), .. }) | Err(error) => {
                return Err(Denied::Failed(self.not_leased(hold, &error)));
            }
            Ok(Joint { entry: None, .. }) => unreachable!("it was sent"),
        };
        match done {
            (Done::Found(None) | Done::Did(true), versions) => match tags.captured(versions) {
                Some(captured) => {
                    hold.capture(captured);
                    Ok(hold)
                }
                // Nothing would say whether the value is still valid. Dropping the hold gives it back.
                None => {
                    let error = StoreError::Refused("the version of a tag is missing".to_owned());
                    Err(Denied::Failed(self.failed(&error)))
                }
            },
            (done, _) => {
                hold.disarm();
                Err(Denied::There(if let Done::Found(there) = done { there } else { None }))
            }
        }
    }

    /// As [`put`](Self::put), with the tags as they are when it begins.
    pub(crate) async fn put_tagged(&self, entry: Entry, life: Option<Duration>) -> Result<bool, CacheError> {
        let core = self.core();
        let Some(tags) = &self.ask.tags else { return Ok(self.put(entry.record, life).await?) };
        let tags = tags.with(core, Named::texts(entry.tags)?)?;
        let joint = core.timed(core.store.flush(None, tags.creations())).await?;
        if joint.is_fenced {
            // Whoever has fenced it is about to write what this value may be older than.
            return Ok(false);
        }
        let missing = || CacheError::Server("the version of a tag is missing".to_owned());
        let captured = tags.captured(joint.versions).ok_or_else(missing)?;
        let is_put = self.put(record::tagged(&entry.record, captured.versions()), life).await?;
        let keep: Vec<_> = captured.keep(life).collect();
        if !keep.is_empty() {
            core.timed(core.store.flush(None, keep)).await?;
        }
        Ok(is_put)
    }
}

/// Captures the tags that the result names. False if one may have been invalidated since the load began.
pub(crate) async fn name(
    core: &Core,
    captured: &mut Captured,
    texts: Vec<String>,
) -> Result<bool, CacheError> {
    let named = captured.unknown(core, texts)?;
    if named.keys.is_empty() {
        return Ok(true);
    }
    let joint = core.timed(core.store.flush(None, captured.naming(&named))).await?;
    let is_same = captured.add(&named, joint.versions);
    if !is_same {
        debug!(target: "cache_aside", "fill refused: a tag of the result may have been invalidated meanwhile");
    }
    Ok(is_same)
}

/// What became of a fill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    /// The record stands in the place of the hold.
    pub(crate) is_stored: bool,
    /// No tag was invalidated since they were captured, up to a moment after the flight was sealed.
    pub(crate) is_valid: bool,
}

/// Stores a record in the place of the hold, and reads its tags once more.
pub(crate) async fn fill(
    core: &Core,
    key: &str,
    seen: Prefix,
    record: Bytes,
    life: Option<Duration>,
    captured: &Captured,
) -> Result<Filled, StoreError> {
    let swap = OnEntry::Swap { seen, value: record, life };
    let flush = core.store.flush(Some((key, swap)), captured.beside_fill(life));
    let Joint { entry, versions, .. } = core.timed(flush).await?;
    let is_stored = matches!(entry.transpose()?, Some(Done::Did(true)));
    Ok(Filled { is_stored, is_valid: captured.agrees(&versions) })
}

impl Cache {
    /// Stores a value by hand, with tags.
    pub(crate) async fn set_tagged<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: Ttl,
        tags: &[impl AsRef<str>],
    ) -> Result<(), CacheError> {
        let tags = tags.iter().map(|tag| tag.as_ref().to_owned()).collect();
        let mut ask = self.ask::<T>(key)?;
        ask.tags = Some(Arc::new(Tags::new(self.core(), tags, false)?));
        let is_none = codec::is_none(value);
        let entry = encode_record(self, &ask, value, is_none, Duration::ZERO, Fate::new().ttl(ttl))?;
        match entry.life {
            Life::For(life) => Commands::new(self, ask).put_tagged(entry, life).await.map(drop),
            Life::Over => self.core().invalidate_key(&ask.key).await.map(drop),
        }
    }

    /// Forgets all that a function with tags returned: by the tag that it has of its own.
    pub(crate) async fn invalidate_function(&self, at: At) -> Result<(), CacheError> {
        let (tag, core) = (key::tag_of(&at), self.core());
        if core.are_deferred(self, std::slice::from_ref(&tag)) {
            return Ok(());
        }
        core.books(Some(at.site)).count(|book| &book.invalidations);
        core.invalidate_tags(&[&tag]).await.inspect_err(|_| core.keep_tag(&tag, &tag))
    }
}

impl Core {
    /// Those of these whose tags are what they were when the value was loaded; all read before this.
    pub(crate) async fn valid(
        &self,
        mut found: Vec<Option<Bytes>>,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let (mut owners, mut keys, mut captured) = (Vec::new(), Vec::new(), Vec::new());
        for (at, slot) in found.iter_mut().enumerate() {
            let Some(Found::Value(value)) = slot.clone().map(record::read) else { continue };
            for (text, version) in value.tags.iter() {
                match self.tag_key(text) {
                    // Its own write, which waits for the commit.
                    Ok(key) if deferred::is_gone(self, &key) => *slot = None,
                    Ok(key) => {
                        owners.push(at);
                        keys.push(key);
                        captured.push(Some(version));
                    }
                    Err(_) => *slot = None,
                }
            }
        }
        if !keys.is_empty() {
            let how = How { aged: false, tracked: false };
            let now = self.timed(self.store.sight(None, &keys, how)).await?.versions;
            for ((owner, now), captured) in owners.into_iter().zip(now).zip(captured) {
                if now != captured {
                    found[owner] = None;
                }
            }
        }
        Ok(found)
    }
}
