//! What the helpers of a decorated function do: `clear_cache`, `cached`, `put_cache` and the like.

#![allow(clippy::missing_errors_doc)] // users read the docs of the generated helpers

use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::commands::Commands;
use crate::deferred;
use crate::error::CacheError;
use crate::events::Stats;
use crate::key::{self, KeyFault, LONGEST};
use crate::policy::{Fate, Life};
use crate::put::encode_put;
use crate::recovery::Target;
use crate::site::At;
use crate::store::Reach;
use crate::value::{Kind, Stores};

/// Forgets the entry of these arguments; true if there was a value.
pub async fn clear(mut call: Call) -> Result<bool, CacheError> {
    let cache = call.cache()?;
    let key = cache.core().full(call.named()?.text)?;
    if deferred::collect(&cache, || (Target::Key(key.clone()), call.cover(&cache))) {
        return Ok(false);
    }
    cache.core().books(Some(call.at.site)).count(|book| &book.invalidations);
    let core = cache.core();
    // It may not be lost; it is kept, and its caller is told that it isn't done yet.
    core.invalidate_key(&key).await.inspect_err(|_| core.keep(Target::Key(key.clone()), call.cover(&cache)))
}

/// Forgets every entry of the function.
pub async fn clear_all(mut call: Call) -> Result<(), CacheError> {
    let cache = call.cache()?;
    if call.at.site.tags.is_some() {
        return Box::pin(cache.invalidate_function(call.at)).await;
    }
    let glob = cache.core().full_glob(&key::all_of(&call.at));
    if deferred::collect(&cache, || (Target::Made(glob.clone()), None)) {
        return Ok(());
    }
    cache.core().books(Some(call.at.site)).count(|book| &book.invalidations);
    let core = cache.core();
    let done = core.invalidate_glob(&glob, Reach::Value).await;
    done.inspect_err(|_| core.keep(Target::Made(glob.clone()), None)).map(drop)
}

/// The key of these arguments, without the namespace.
pub fn cache_key(call: &Call) -> Result<String, CacheError> {
    let text = call.key.clone().unwrap_or(Err(KeyFault::Empty))?.text;
    if text.len() > LONGEST {
        Err(CacheError::KeyTooLong { bytes: text.len(), max: LONGEST })
    } else {
        Ok(text)
    }
}

/// Looks without loading.
pub async fn cached<K, R>(mut call: Call, _kind: K) -> Result<Option<R>, CacheError>
where
    K: Kind<R>,
    K::Value: DeserializeOwned,
{
    let cache = call.cache()?;
    let commands = Commands::new(&cache, call.ask::<K::Value>(&cache)?);
    if deferred::is_inside() {
        return Ok(None);
    }
    let Some(hit) = commands.peek().await? else { return Ok(None) };
    Ok(hit.decode().ok().map(|value| K::join(Ok(value))))
}

/// Stores by hand; the last put wins, but an older `version` never overwrites a newer one.
pub async fn put<K, R, V, J>(mut call: Call, _kind: K, value: &V, judge: J) -> Result<(), CacheError>
where
    K: Kind<R>,
    K::Value: DeserializeOwned,
    V: Stores<R> + ?Sized,
    J: FnOnce(&K::Value) -> Fate,
{
    let cache = call.cache()?;
    let (core, ask) = (cache.core(), call.ask::<K::Value>(&cache)?);
    if deferred::collect(&cache, || (Target::Key(ask.key.clone()), call.cover(&cache))) {
        return Ok(());
    }
    let site = call.at.site;
    let entry = encode_put::<K, R, _, _>(&cache, &ask, value, judge)?;
    match entry.life {
        Life::For(life) => {
            let commands = Commands::new(&cache, ask);
            let is_put = if site.tags.is_some() {
                Box::pin(commands.put_tagged(entry, life)).await?
            } else {
                commands.put(entry.record, life).await?
            };
            if !is_put {
                core.books(Some(site)).count(|book| &book.fills_refused);
            }
            Ok(())
        }
        // The rules refuse this value; what stood there is older than it.
        Life::Over => core.invalidate_key(&ask.key).await.map(drop),
    }
}

/// What happened to the function in this process.
pub fn stats(at: At) -> Stats {
    at.site.counters.snapshot(0)
}
