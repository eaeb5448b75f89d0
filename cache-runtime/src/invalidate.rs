//! Forgetting: keys and globs, and the guard of a writer.

mod tags;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, warn};

use crate::background;
use crate::cache::Cache;
use crate::call::Call;
use crate::deferred;
use crate::error::CacheError;
use crate::global;
use crate::key::{self, Piece};
use crate::record::{self, Prefix};
use crate::recovery::Target as Full;
use crate::shared::Core;
use crate::site::{self, Site};
use crate::store::{self, Reach};
use crate::value::Kind;

/// What is to be forgotten, without the namespace.
#[derive(Debug, Clone)]
struct Target {
    text: String,
    of: Of,
    /// The template with `*` for each value: what it is known by in warnings.
    shape: String,
    /// What a fence is known by that was put up for it, or may have been.
    token: Option<Prefix>,
    /// Where; none: in the cache that is the global one when it is carried out.
    cache: Option<Cache>,
    /// The cached function whose entry it is.
    site: Option<&'static Site>,
}

impl Target {
    fn cache(&self) -> Option<Cache> {
        self.cache.clone().or_else(|| global::global().ok())
    }
}

/// What a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Key,
    Glob,
    Tag,
}

/// Whether an `Err` of the writer invalidates too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Only what went well.
    Ok,
    /// In any case.
    Always,
}

/// What one call of a writer invalidates. While it is armed, dropping it carries it out in the
/// background: a writer whose caller went away may have written.
#[derive(Debug)]
pub struct Plan {
    on: On,
    cache: Option<Cache>,
    targets: Vec<Target>,
    fence: Option<Duration>,
    armed: bool,
    in_background: bool,
}

impl Plan {
    /// Nothing yet.
    pub fn new(on: On) -> Self {
        Self { on, cache: None, targets: Vec::new(), fence: None, armed: false, in_background: false }
    }

    /// In this cache instead of the global one.
    #[must_use]
    pub fn on(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Fences keys and tags for so long before the body runs.
    #[must_use]
    pub fn fence(mut self, life: Duration) -> Self {
        self.fence = Some(life);
        self
    }

    /// Adds a key, or a glob if the text of the template holds one. Values never make a glob.
    #[must_use]
    pub fn pattern(self, pieces: &[Piece<'_>]) -> Self {
        self.target(pieces, str::to_owned, |text| if store::has_meta(text) { Of::Glob } else { Of::Key })
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(self, pieces: &[Piece<'_>]) -> Self {
        self.target(pieces, store::escape_literal, |_| Of::Tag)
    }

    fn target(
        mut self,
        pieces: &[Piece<'_>],
        shown: impl Fn(&str) -> String,
        of: impl FnOnce(&str) -> Of,
    ) -> Self {
        let shape = pieces
            .iter()
            .map(|piece| if let Piece::Text(text) = piece { shown(text) } else { "*".to_owned() })
            .collect();
        match key::join(pieces) {
            Ok(text) => {
                let (of, cache) = (of(&text), self.cache.clone());
                self.targets.push(Target { text, of, shape, cache, site: None, token: None });
            }
            Err(_) => warn!(target: "cache_aside", "a `Display` failed: an invalidation is lost"),
        }
        self
    }

    /// Adds the entry of a cached function, in that function's cache.
    #[must_use]
    pub fn entry(mut self, call: Call) -> Self {
        // Arguments that have no place in a key have no entry.
        if let Some(Ok(named)) = call.key {
            let shape = key::all_of(&call.at);
            let site = Some(call.at.site);
            let (text, cache) = (named.text, call.cache);
            self.targets.push(Target { text, of: Of::Key, shape, cache, site, token: None });
        }
        self
    }

    /// Adds all entries of a cached function, in that function's cache.
    #[must_use]
    pub fn all(mut self, call: Call) -> Self {
        let (text, of) = match call.at.site.tags {
            Some(_) => (key::tag_of(&call.at), Of::Tag),
            None => (key::all_of(&call.at), Of::Glob),
        };
        let site = Some(call.at.site);
        let (shape, cache) = (text.clone(), call.cache);
        self.targets.push(Target { shape, text, of, cache, site, token: None });
        self
    }

    /// From now on dropping it carries it out.
    pub(crate) fn armed(mut self) -> Self {
        self.armed = true;
        self
    }

    /// Leaves the fences that others have put up: with a token that nobody has, what isn't a fence goes.
    pub(crate) fn fenced(mut self) -> Self {
        for target in self.targets.iter_mut().filter(|target| target.of == Of::Key) {
            target.token = Some(record::fresh(record::Kind::Fence));
        }
        self
    }

    /// Nothing is to be done any more.
    pub(crate) fn disarm(&mut self) {
        self.targets.clear();
    }

    /// Puts up the fences. Where that fails, the key is as one without: it is invalidated after the body.
    async fn raise(&mut self) {
        let Some(life) = self.fence else { return };
        for target in self.targets.iter_mut().filter(|target| target.of == Of::Key) {
            let Some(cache) = target.cache() else { continue };
            let Ok(key) = cache.core().full(target.text.clone()) else { continue };
            let token = record::fresh(record::Kind::Fence);
            target.token = Some(token);
            warn_if_open(&key, cache.core().raise(&key, token, life).await);
        }
        let mut tags: Vec<_> = self.targets.iter_mut().filter(|target| target.of == Of::Tag).collect();
        // Those of one attribute are of one cache.
        let Some(cache) = tags.first().and_then(|target| target.cache()) else { return };
        let (core, token) = (cache.core(), record::fresh(record::Kind::Fence));
        tags.retain(|target| core.tag_key(&target.text).is_ok());
        for target in &mut tags {
            target.token = Some(token);
        }
        // The gate before the epoch: see `tags.rs`.
        let gate = core.tag_gate();
        warn_if_open(&gate, core.raise(&gate, token, life).await);
        let epoch = core.tag_epoch();
        warn_if_open(&epoch, core.invalidate_keys(std::slice::from_ref(&epoch)).await.map(drop));
        for key in tags.iter().filter_map(|target| core.tag_key(&target.text).ok()) {
            warn_if_open(&key, core.raise(&key, token, life).await);
        }
    }

    /// Inside a transaction it waits for the commit.
    fn defer(&mut self) {
        self.targets.retain(|target| !target.is_deferred());
    }

    /// Carries it out.
    ///
    /// Cancel safe: what isn't done yet goes on in the background.
    pub(crate) async fn carry_out(mut self) {
        self.armed = true;
        self.defer();
        let is_tag = |target: &&Target| target.of == Of::Tag;
        while let Some(cache) = self.targets.iter().filter(is_tag).find_map(Target::cache) {
            let is_here = |target: &Target| {
                is_tag(&target) && target.cache().is_some_and(|of| deferred::is_same(&of, &cache))
            };
            let tags: Vec<_> = self.targets.iter().filter(|target| is_here(target)).cloned().collect();
            cache.core().forget_tags(&tags).await;
            self.targets.retain(|target| !is_here(target));
        }
        while let Some(target) = self.targets.last().cloned() {
            if let Some(cache) = target.cache() {
                cache.core().forget(&target).await;
            }
            self.targets.pop();
        }
        self.armed = false;
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if !self.armed {
            self.targets.retain(Target::is_fenced);
        }
        if self.targets.is_empty() {
            return;
        }
        let mut targets = std::mem::take(&mut self.targets);
        // The scope of the caller ends with it, so its cache is found now.
        for target in &mut targets {
            target.cache = target.cache();
        }
        targets.retain(|target| !target.is_deferred());
        if self.in_background {
            // The runtime is ending; the next one that uses the store carries it out first.
            for target in targets {
                if let Some(cache) = &target.cache {
                    cache.core().keep_target(&target);
                }
            }
        } else if !targets.is_empty() {
            let mut rest = Self::new(self.on);
            (rest.targets, rest.in_background) = (targets, true);
            background::run(rest.armed().carry_out());
        }
    }
}

/// A decorated writer: runs `body`, then carries out the plan and what `after` adds to it.
///
/// Cancel safe: once the body has begun, what was planned before it is carried out in any case.
pub async fn invalidate<K, R, F, A>(mut plan: Plan, _kind: K, body: F, after: A) -> R
where
    K: Kind<R>,
    F: Future<Output = R>,
    A: FnOnce(Plan, &K::Value) -> Plan,
{
    if plan.fence.is_some() {
        // Cancel: the fences that may be up are taken away.
        Box::pin(plan.raise()).await;
    }
    plan.armed = true;
    // Cancel, panic: the plan's `Drop`.
    let returned = K::split(body.await);
    match &returned {
        Ok(value) => after(plan, value).carry_out().await,
        Err(_) if plan.on == On::Always => plan.carry_out().await,
        Err(_) => {
            plan.targets.retain(Target::is_fenced);
            plan.carry_out().await;
        }
    }
    K::join(returned)
}

impl Target {
    fn is_fenced(&self) -> bool {
        self.token.is_some()
    }

    /// Inside a transaction it waits for the commit.
    fn is_deferred(&self) -> bool {
        self.cache().is_some_and(|cache| cache.core().is_deferred(&cache, self))
    }
}

impl Core {
    /// Fences a full key for so long.
    async fn raise(&self, key: &str, token: Prefix, life: Duration) -> Result<(), CacheError> {
        self.timed(self.store.fence(key, token, life)).await?;
        debug!(target: "cache_aside", key, ?life, "fenced");
        Ok(())
    }

    /// Takes the fence of this token away from a full key, and forgets what else stands there.
    pub(crate) async fn unfence(&self, key: &str, token: Prefix) -> Result<(), CacheError> {
        self.timed(self.store.unfence(key, token)).await?;
        debug!(target: "cache_aside", key, "invalidated, and unfenced");
        Ok(())
    }

    /// Forgets what stands under a full key; true if it was a value.
    pub(crate) async fn invalidate_key(&self, key: &str) -> Result<bool, CacheError> {
        let was = self.timed(self.store.remove(key)).await?;
        debug!(target: "cache_aside", key, "invalidated");
        Ok(was.is_some_and(|bytes| record::is_value(&bytes)))
    }

    /// Forgets what stands under full keys.
    pub(crate) async fn invalidate_keys(&self, keys: &[String]) -> Result<u64, CacheError> {
        let count = self.timed(self.store.remove_many(keys)).await?;
        for key in keys {
            debug!(target: "cache_aside", key, "invalidated");
        }
        Ok(count)
    }

    /// Forgets every key that fits a full glob.
    pub(crate) async fn invalidate_glob(&self, glob: &str, reach: Reach) -> Result<u64, CacheError> {
        let count = self.store.remove_matching(glob, reach).await?;
        debug!(target: "cache_aside", glob, count, "invalidated");
        Ok(count)
    }

    async fn forget(&self, target: &Target) {
        self.books(target.site).count(|book| &book.invalidations);
        let Some(full) = self.full_target(target) else { return };
        let done = match &full {
            Full::Epoch(key) | Full::Key(key) => self.invalidate_keys(std::slice::from_ref(key)).await,
            Full::Glob(glob) => self.invalidate_glob(glob, Reach::Any).await,
            Full::Made(glob) => self.invalidate_glob(glob, Reach::Value).await,
            // It was there, or its entry was forgotten when it was put up.
            Full::Fenced(key, token) => self.unfence(key, *token).await.map(|()| 1),
        };
        match done {
            Ok(0) if target.site.is_none() => warn_if_unknown(&target.shape),
            Ok(_) => {}
            Err(error) => {
                warn!(target: "cache_aside", pattern = target.text, %error, "an invalidation is kept until the store can take it");
                self.keep(full, self.cover(target));
            }
        }
    }
}

impl Core {
    /// The target under the namespace; nothing if no entry can have so long a key.
    fn full_target(&self, target: &Target) -> Option<Full> {
        if target.of == Of::Glob {
            let glob = self.full_glob(&target.text);
            return Some(if target.site.is_some() { Full::Made(glob) } else { Full::Glob(glob) });
        }
        let key = self.full(target.text.clone()).ok()?;
        Some(target.token.map_or_else(|| Full::Key(key.clone()), |token| Full::Fenced(key.clone(), token)))
    }

    /// A glob that covers the target's key and all of its template.
    fn cover(&self, target: &Target) -> Option<String> {
        let begins_with_text = !target.shape.starts_with('*');
        begins_with_text.then(|| self.full_glob(&target.shape))
    }

    /// Whether a transaction has noted it.
    fn is_deferred(&self, cache: &Cache, target: &Target) -> bool {
        if target.of == Of::Tag {
            return is_noted(cache, self.tag_targets(&target.text, &target.shape, target.token));
        }
        let Some(full) = self.full_target(target) else { return false };
        deferred::collect(cache, || (full, self.cover(target)))
    }

    fn keep_target(&self, target: &Target) {
        if target.of == Of::Tag {
            return self.keep_all(self.tag_targets(&target.text, &target.shape, target.token));
        }
        if let Some(full) = self.full_target(target) {
            self.keep(full, self.cover(target));
        }
    }
}

/// Whether a transaction has noted them all.
fn is_noted(cache: &Cache, targets: Vec<(Full, Option<String>)>) -> bool {
    deferred::is_inside() && targets.into_iter().all(|target| deferred::collect(cache, || target))
}

fn warn_if_open(key: &str, raised: Result<(), CacheError>) {
    if let Err(error) = raised {
        warn!(target: "cache_aside", key, %error, "a fence can't be put up: if the writer is killed, its invalidation is lost");
    }
}

/// Says once that a pattern fits no cached function. A function is known from its first call on, so
/// a pattern isn't suspected before it has found nothing for the third time.
fn warn_if_unknown(shape: &str) {
    const SUSPECT: u32 = 3;
    static FOUND_NOTHING: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let mut found_nothing = FOUND_NOTHING.lock().unwrap_or_else(PoisonError::into_inner);
    let times = found_nothing.entry(shape.to_owned()).or_default();
    *times = times.saturating_add(1);
    if *times == SUSPECT && !site::called_so_far().iter().any(|site| store::may_share(shape, &site.glob())) {
        warn!(
            target: "cache_aside",
            pattern = shape,
            "the pattern fits no cached function that this process has called; right if it is meant for other keys"
        );
    }
}
