//! A cache entry on its way into a queue: it is stored in the step that appends its write.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PendingCopy;
use crate::cache::Cache;
use crate::call::Call;
use crate::codec;
use crate::deferred::is_same;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::policy::{Fate, Life, Named, Ttl};
use crate::put::encode_put;
use crate::record;
use crate::shared::Core;
use crate::store::queue::NewEntry;
use crate::tags::Tags;
use crate::value::{Kind, Stores};

/// A value, and the key that it is to be stored under: what `cache_entry`, a helper of each cached function,
/// makes.
///
/// Nothing is stored yet. A queue stores it in the same step in which it takes the write.
#[derive(Clone)]
#[must_use = "nothing is stored before it is sent together with a write"]
pub struct CacheEntry {
    cache: Cache,
    /// With the namespace.
    key: String,
    /// An untagged record, or plain JSON.
    body: Bytes,
    life: Life,
    /// Nothing: its function has no tags.
    tags: Option<Tags>,
}

impl fmt::Debug for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are nobody's business, and neither are the arguments that keys and tags are made of.
        f.debug_struct("CacheEntry").field("life", &self.life).finish_non_exhaustive()
    }
}

impl CacheEntry {
    /// Plain JSON under a key made by hand, as [`Cache::set`] stores it.
    pub(crate) fn json<T: Serialize + ?Sized>(
        cache: &Cache,
        key: &str,
        value: &T,
        ttl: Ttl,
    ) -> Result<Self, CacheError> {
        let core = cache.core();
        let (key, life) = (core.full(key.to_owned())?, core.life(ttl));
        let body = codec::to_json(value, core.options.max_value)?;
        Ok(Self { cache: cache.clone(), key, body, life, tags: None })
    }

    /// Whether it belongs to this cache.
    pub(crate) fn is_of(&self, cache: &Cache) -> bool {
        is_same(&self.cache, cache)
    }

    /// What the queue is to store, with the tags as they are now.
    ///
    /// The copy is complete in any case: while the write is queued it is the answer. The entry itself stays
    /// empty where the rules of its function refuse the value, and where somebody has fenced a tag of it, for
    /// he is about to write what this value may be older than.
    ///
    /// # Errors
    /// If the value has tags, and the store can't be asked for them.
    pub(crate) async fn prepare(&self, core: &Core) -> Result<NewEntry, CacheError> {
        let tags = self.tags.as_ref().map(Tags::texts).unwrap_or_default();
        let copy = PendingCopy::write(self.life, tags, &self.body);
        let (value, life) = match self.life {
            Life::Over => (None, None),
            Life::For(life) => (self.value(core).await?, life),
        };
        Ok(NewEntry { key: self.key.clone(), value, life, copy })
    }

    /// What is to stand in the entry, under an id of its own each time; nothing if a tag is fenced.
    async fn value(&self, core: &Core) -> Result<Option<Bytes>, CacheError> {
        if !record::is_record(&self.body) {
            return Ok(Some(self.body.clone()));
        }
        let record = record::renewed(&self.body);
        let (Some(tags), Life::For(life)) = (&self.tags, self.life) else { return Ok(Some(record)) };
        let joint = core.timed(core.store.flush(None, tags.creations())).await?;
        // Where a fence stands there is none.
        let Some(captured) = tags.captured(joint.versions) else { return Ok(None) };
        // They are to outlive the entry, which is stored in a moment.
        let keep: Vec<_> = captured.keep(life).collect();
        if !keep.is_empty() {
            core.timed(core.store.flush(None, keep)).await?;
        }
        Ok(Some(record::tagged(&record, captured.versions())))
    }
}

/// A value as an entry of the function that stands at `call`, by the rules of `put_cache`.
// Users read the docs of the generated helper, which calls this as it does `put`.
#[allow(clippy::missing_errors_doc, clippy::needless_pass_by_value)]
pub fn cache_entry<K, R, V, J>(
    mut call: Call,
    _kind: K,
    value: &V,
    judge: J,
) -> Result<CacheEntry, CacheError>
where
    K: Kind<R>,
    K::Value: DeserializeOwned,
    V: Stores<R> + ?Sized,
    J: FnOnce(&K::Value) -> Fate,
{
    let cache = Cache::clone(&*call.cache()?);
    let ask = call.ask::<K::Value>(&cache)?;
    let Entry { record, life, tags } = encode_put::<K, R, _, _>(&cache, &ask, value, judge)?;
    let named = Named::texts(tags)?;
    let tags = ask.tags.map(|tags| tags.with(cache.core(), named)).transpose()?;
    Ok(CacheEntry { cache, key: ask.key, body: record, life, tags })
}
