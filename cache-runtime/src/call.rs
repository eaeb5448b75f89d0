//! The generic skin of a decorated call: it knows the user's types and decides nothing.

#![allow(clippy::missing_errors_doc)] // users read the docs of the generated helpers

use std::any::{Any, type_name};
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::cache::Cache;
use crate::close::{Far, Nearness};
use crate::commands::Commands;
use crate::deferred;
use crate::engine::{Pass, Step};
use crate::error::CacheError;
use crate::events::Stats;
use crate::global::{self, CacheRef};
use crate::key::{self, Key, KeyFault, KeyMaker, LONGEST, NamedKey, Piece};
use crate::lead::Lead;
use crate::policy::{Fate, Life};
use crate::put::encode_put;
use crate::recovery::Target;
use crate::sight::{Ask, Hit};
use crate::site::{At, Labels, Site};
use crate::store::Reach;
use crate::tags::Tags;
use crate::value::{Kind, Stores};

/// One call being prepared; `N` says whether it keeps what it reads in this process, too.
#[derive(Debug)]
pub struct Call<N = Far> {
    pub(crate) at: At,
    pub(crate) cache: Option<Cache>,
    pub(crate) when: bool,
    pub(crate) key: Option<Result<NamedKey, KeyFault>>,
    // Boxed: most functions have none.
    pub(crate) tags: Option<Box<TagTexts>>,
    pub(crate) near: N,
}

/// The texts of a call's tags.
pub(crate) type TagTexts = Result<Vec<String>, KeyFault>;

impl Call {
    /// A call of the function that stands here.
    pub fn new(at: At) -> Self {
        Self { at, cache: None, when: true, key: None, tags: None, near: Far }
    }

    /// In this cache instead of the global one.
    #[must_use]
    pub fn on(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Whether the cache is used at all.
    #[must_use]
    pub fn when(mut self, yes: bool) -> Self {
        self.when = yes;
        self
    }

    /// Makes the key, unless the cache isn't used.
    #[must_use]
    pub fn key(mut self, build: impl FnOnce(KeyMaker<'_>)) -> Self {
        if self.when {
            let mut key = Key::new();
            build(key.maker());
            self.key = Some(key.name(&self.at));
        }
        self
    }
}

impl<N> Call<N> {
    /// With the tags that the arguments name, unless the cache isn't used. A function whose result names
    /// tags has these too, be they none.
    #[must_use]
    pub fn tags(mut self, tags: &[&[Piece<'_>]]) -> Self {
        if self.when {
            self.tags = Some(Box::new(tags.iter().map(|pieces| key::tag(pieces)).collect()));
        }
        self
    }

    /// Once: a call has one way.
    pub(crate) fn cache(&mut self) -> Result<CacheRef, CacheError> {
        self.cache.take().map_or_else(global::current, |cache| Ok(CacheRef::Owned(cache)))
    }

    /// Once.
    fn named(&mut self) -> Result<NamedKey, CacheError> {
        Ok(self.key.take().unwrap_or(Err(KeyFault::Empty))?)
    }

    /// What to ask the cache for.
    pub(crate) fn ask<V>(&mut self, cache: &Cache) -> Result<Ask, CacheError> {
        self.ask_of(cache, type_name::<V>())
    }

    /// The same for a value of the type of this name. It is compiled once, not for every type.
    fn ask_of(&mut self, cache: &Cache, value: &'static str) -> Result<Ask, CacheError> {
        let NamedKey { text, identity } = self.named()?;
        let site = self.at.site;
        let of_result = site.tags == Some(Labels::Result);
        let tags = match site.tags {
            Some(_) => {
                let mut texts = self.tags.as_deref().cloned().transpose()?.unwrap_or_default();
                texts.push(key::tag_of(&self.at));
                Some(Arc::new(Tags::new(cache.core(), texts, of_result)?))
            }
            None => None,
        };
        Ok(Ask {
            tags,
            key: cache.core().full(text)?,
            identity,
            fingerprint: site.fingerprint(value),
            version: site.version,
            flight: site.flight,
            site: Some(site),
        })
    }

    /// A glob that covers the key and all that are made like it.
    fn cover(&self, cache: &Cache) -> Option<String> {
        let glob = key::all_of(&self.at);
        (!glob.starts_with('*')).then(|| cache.core().full_glob(&glob))
    }

    /// The cache and the question, or nothing: the call goes past the cache.
    ///
    /// Inside a transaction all do. What a refresh would store isn't committed yet, so later the entry
    /// is forgotten.
    pub(crate) fn open<V>(&mut self, refresh: bool) -> Option<(CacheRef, Ask)> {
        self.open_of(refresh, type_name::<V>())
    }

    fn open_of(&mut self, refresh: bool, value: &'static str) -> Option<(CacheRef, Ask)> {
        if !self.when {
            return None;
        }
        let site = self.at.site;
        let Ok(cache) = self.cache() else {
            // `global` said so, once.
            site.counters.bypass();
            return None;
        };
        match self.ask_of(&cache, value) {
            Ok(ask) if deferred::is_inside() => {
                cache.core().books(Some(site)).count(|book| &book.bypassed);
                if refresh {
                    deferred::collect(&cache, || (Target::Key(ask.key), self.cover(&cache)));
                }
                None
            }
            Ok(ask) => Some((cache, ask)),
            Err(error) => {
                cache.core().books(Some(site)).count(|book| &book.bypassed);
                if site.first_warning() {
                    warn!(target: "cache_aside", function = site.name, module = site.module, %error, "not cached: there is no key");
                }
                None
            }
        }
    }
}

/// The decorated call.
///
/// Cancel safe: a caller that is dropped leaves leases and flights in order.
pub async fn call<K, R, L, F, J>(mut call: Call<impl Nearness<K::Value>>, _kind: K, load: L, judge: J) -> R
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    L: FnOnce() -> F,
    F: Future<Output = R>,
    J: FnOnce(&K::Value) -> Fate,
{
    let refresh = take_refresh(call.at.site);
    match call.open::<K::Value>(refresh) {
        None => load().await,
        Some((cache, ask)) => through::<K, R, L, F, J>(&cache, ask, &call.near, refresh, load, judge).await,
    }
}

/// One call's way through the cache, with the types that only its caller knows.
pub(crate) async fn through<K, R, L, F, J>(
    cache: &Cache,
    ask: Ask,
    near: &impl Nearness<K::Value>,
    refresh: bool,
    load: L,
    judge: J,
) -> R
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    L: FnOnce() -> F,
    F: Future<Output = R>,
    J: FnOnce(&K::Value) -> Fate,
{
    let mut pass = Pass::new(cache, ask, refresh);
    let mut leader = match enter(&mut pass, near).await {
        Entered::Value(value, _) => return K::join(Ok(value)),
        Entered::Load(leader) => leader,
    };
    // An error isn't held while anything is waited for: it may be bound to its thread.
    let value = match K::split(leader.drive(pin!(load())).await) {
        Ok(value) => value,
        Err(error) => {
            leader.fail();
            return K::join(Err(error));
        }
    };
    let fate = judge(&value);
    let encoded = leader.encode(&value, fate);
    leader.fill(encoded).await;
    K::join(Ok(value))
}

/// The decorated call of a function with `stale_if_error`: as [`call`], but the error is held until
/// it is known whether there is a value to answer with.
pub async fn call_stale<K, R, L, F, J>(
    mut call: Call<impl Nearness<K::Value>>,
    _kind: K,
    load: L,
    judge: J,
) -> R
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    L: FnOnce() -> F,
    F: Future<Output = R>,
    J: FnOnce(&K::Value) -> Fate,
{
    let refresh = take_refresh(call.at.site);
    let Some((cache, ask)) = call.open::<K::Value>(refresh) else { return load().await };
    let mut pass = Pass::new(&cache, ask, refresh);
    match enter(&mut pass, &call.near).await {
        Entered::Value(value, _) => K::join(Ok(value)),
        Entered::Load(mut leader) => {
            let outcome = leader.drive_caught(pin!(load())).await.map(K::split);
            let (returned, is_stale) = finish(leader, outcome, judge).await;
            if is_stale {
                pass.count_stale();
            }
            K::join(returned)
        }
    }
}

pub(crate) enum Entered<V> {
    /// A value, and what it was decoded from.
    Value(V, Hit),
    /// The function is to run.
    Load(Box<Lead>),
}

/// Looks for a value that decodes.
pub(crate) async fn enter<V: DeserializeOwned>(pass: &mut Pass<'_>, near: &impl Nearness<V>) -> Entered<V> {
    loop {
        match pass.next().await {
            Step::Load(lead) => return Entered::Load(lead),
            Step::Hit(hit) => match hit.decode() {
                Ok(value) => {
                    pass.accept(&hit);
                    near.keep(&hit, &value);
                    return Entered::Value(value, hit);
                }
                Err(_) => pass.reject(&hit),
            },
        }
    }
}

/// What a function ended with: what it returned, taken apart, or its panic.
pub(crate) type Outcome<V, E> = Result<Result<V, E>, Box<dyn Any + Send>>;

/// Stores what the function returned; if it failed, answers with the stale value where there is one,
/// and says so.
pub(crate) async fn finish<V, E, J>(lead: Box<Lead>, outcome: Outcome<V, E>, judge: J) -> (Result<V, E>, bool)
where
    V: Serialize + DeserializeOwned,
    J: FnOnce(&V) -> Fate,
{
    let failed = match outcome {
        // The rules and the encoding are the user's code, too.
        Ok(Ok(value)) => match catch_unwind(AssertUnwindSafe(|| lead.encode(&value, judge(&value)))) {
            Ok(encoded) => {
                lead.fill(encoded).await;
                return (Ok(value), false);
            }
            Err(panic) => Err(panic),
        },
        Ok(Err(error)) => Ok(error),
        Err(panic) => Err(panic),
    };
    let stale = lead.fail_over().await;
    if let Some(value) = stale.and_then(|hit| hit.decode().ok()) {
        return (Ok(value), true);
    }
    match failed {
        Ok(error) => (Err(error), false),
        Err(panic) => resume_unwind(panic),
    }
}

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

thread_local! {
    /// The function whose next call in this poll is a refresh.
    static REFRESH: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `run`, a call of the function that stands here, as a refresh: it doesn't read, it loads and stores.
pub async fn refresh<F: Future>(at: At, run: F) -> F::Output {
    let site = std::ptr::from_ref(at.site).addr();
    let mut run = pin!(run);
    let mut first = true;
    // A decorated function reaches `call` in its first poll, before it waits for anything.
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            REFRESH.set(Some(site));
            let _mark = Mark;
            run.as_mut().poll(cx)
        } else {
            run.as_mut().poll(cx)
        }
    })
    .await
}

/// Takes the mark away, also when the poll panics.
struct Mark;

impl Drop for Mark {
    fn drop(&mut self) {
        REFRESH.set(None);
    }
}

/// Whether the next call of the function in this poll is a refresh.
pub(crate) fn is_refresh(site: &'static Site) -> bool {
    REFRESH.get() == Some(std::ptr::from_ref(site).addr())
}

pub(crate) fn take_refresh(site: &'static Site) -> bool {
    let asked = is_refresh(site);
    if asked {
        REFRESH.set(None);
    }
    asked
}
