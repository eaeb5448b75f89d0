//! The generic skin of a decorated call: it knows the user's types and decides nothing.

#![allow(clippy::missing_errors_doc)] // users read the docs of the generated helpers

use std::any::{Any, type_name};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::cache::Cache;
use crate::close::{Far, Nearness};
use crate::deferred;
use crate::engine::{Pass, Step};
use crate::error::CacheError;
use crate::global::{self, CacheRef};
use crate::key::{self, Key, KeyFault, KeyMaker, NamedKey, Piece};
use crate::lead::Lead;
use crate::policy::Fate;
use crate::recovery::Target;
use crate::refresh::take_refresh;
use crate::sight::{Ask, Hit};
use crate::site::{At, Labels};
use crate::tags::Tags;
use crate::value::Kind;

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
    pub(crate) fn named(&mut self) -> Result<NamedKey, CacheError> {
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
    pub(crate) fn cover(&self, cache: &Cache) -> Option<String> {
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
