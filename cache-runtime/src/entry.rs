//! What is stored of a value: its record, for how long, and under which tags.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::cache::Cache;
use crate::error::CacheError;
use crate::policy::{Fate, Jitter, Life, Named, whole_millis};
use crate::record::{self, Head, Kind};
use crate::sight::Ask;

/// A record, and how long its key lives.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Bytes,
    pub(crate) life: Life,
    /// Those that the value names; they don't stand in the record yet.
    pub(crate) tags: Option<Box<Named>>,
}

/// A record of this value, as a load or a put of `ask` stores it.
pub(crate) fn encode_record<V: Serialize + ?Sized>(
    cache: &Cache,
    ask: &Ask,
    value: &V,
    is_none: bool,
    took: Duration,
    fate: Fate,
) -> Result<Entry, CacheError> {
    let mut encode = |record: &mut Vec<u8>| ask.codec().encode(value, record, cache.core().options.max_value);
    encode_by(cache, ask, &mut encode, is_none, took, fate)
}

/// The same for a payload that is written behind the header so. It is compiled once, not for every type.
fn encode_by(
    cache: &Cache,
    ask: &Ask,
    payload: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), CacheError>,
    is_none: bool,
    took: Duration,
    mut fate: Fate,
) -> Result<Entry, CacheError> {
    let tags = fate.take_tags();
    let default = cache.core().options.default_ttl;
    let life = match ask.site {
        Some(site) => fate.life(is_none, site.keep_none, site.jitter, default),
        None => fate.life(is_none, true, Jitter::None, default),
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // What never ends is never stale.
    let grace = ask.site.map(|site| site.grace).unwrap_or_default();
    let (fresh, grace) = match life {
        // As much of it as a key can live for.
        Life::For(Some(fresh)) => (fresh, whole_millis(fresh.saturating_add(grace)).saturating_sub(fresh)),
        Life::For(None) | Life::Over => Default::default(),
    };
    let head = Head {
        flags: if is_none { record::FLAG_NONE } else { 0 },
        codec: ask.codec().byte(),
        version: ask.version,
        fingerprint: ask.fingerprint,
        identity: ask.identity,
        load_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        life_ms: millis(fresh),
        grace_ms: millis(grace),
    };
    let mut record = record::begin(record::fresh(Kind::Value), &head);
    payload(&mut record)?;
    let life = match life {
        Life::For(Some(fresh)) => Life::For(Some(whole_millis(fresh.saturating_add(grace)))),
        other => other,
    };
    Ok(Entry { record: record::finish(record), life, tags })
}
