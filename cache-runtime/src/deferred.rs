//! Invalidations of a transaction: collected while it is open, carried out when it is committed.
//!
//! Before the commit an invalidation is too early, for who reads after it stores the old row again. And
//! a read that went through the cache would give the transaction what it has just changed, or give others
//! what it may yet take back. So inside, invalidations wait, and reads go past the cache.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{iter, mem, ptr};

use tracing::warn;

use crate::background;
use crate::cache::Cache;
use crate::error::CacheError;
use crate::record;
use crate::recovery::{Kept, Target};
use crate::shared::Core;
use crate::store::Reach;

tokio::task_local! {
    /// The innermost transaction of this task.
    static OPEN: Arc<Open>;
}

/// A transaction that is open.
#[derive(Debug)]
struct Open {
    /// What it collects.
    collected: Mutex<Invalidations>,
    /// The one that it is a part of.
    outer: Option<Arc<Self>>,
}

/// Whether there ever was one in this process: calls of programs without transactions ask no more.
static USED: AtomicBool = AtomicBool::new(false);

/// How many keys are removed by one command.
const AT_ONCE: usize = 500;

/// Runs a transaction, and collects what is invalidated in it instead of carrying it out. Apply that
/// after the commit.
///
/// Inside:
///
/// - Decorated writers, `clear_cache`, `clear_cache_all`, [`Cache::delete`] and [`Cache::delete_pattern`]
///   (and [`CacheManager`](crate::CacheManager)'s) are collected; those that say how much there was say
///   `false` or 0. So are `put_cache` and `refresh_cache`: what they would store isn't committed yet, so
///   it isn't stored, and what is stored is forgotten later.
/// - A writer with `fence` fences its keys at once, before it writes; `apply` takes the fences away, and so
///   does `discard`.
/// - Cached functions run, whatever is cached, so that the transaction reads its own writes, and nobody
///   else gets them. So do the closures of [`Cache::get_or_set`] and [`Cache::try_get_or_set`]; `cached`
///   finds nothing.
/// - To [`Cache::get`], `get_many`, `exists` and `ttl` what was collected is absent, here or in the `deferred`
///   around this: a key, or a value with a tag that was. Otherwise, and
///   with everything else that [`Cache`] does, keys made by hand are data of their own, which no
///   transaction covers: `set`, `increment` and `expire` act at once. A copy of a row that was changed
///   inside belongs into the cache after the commit.
///
/// This holds for what the future awaits itself. What it spawns is outside: reads go through the cache,
/// and invalidations are carried out at once. The innermost `deferred` collects; a list that is applied
/// inside another `deferred` is carried out, and once more with the outer list: its commit may have been
/// the release of a savepoint. So its fences stand until the outer list is applied or discarded.
///
/// ```
/// use cache_runtime::{Cache, CacheError, Ttl, deferred};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), CacheError> {
/// let cache = Cache::builder().build()?;
/// cache.set("name", "Ada", Ttl::Default).await?;
/// let (written, invalidations) = deferred(async {
///     // BEGIN, UPDATE ...
///     cache.delete("name").await
/// })
/// .await;
/// written?;
/// // COMMIT
/// assert!(cache.exists("name").await?);
/// invalidations.apply().await;
/// assert!(!cache.exists("name").await?);
/// # Ok(()) }
/// ```
///
/// # Cancel safety
/// Dropped before its end, or in a panic, it gives the list to nobody: as a dropped list, that is carried
/// out in the background.
pub async fn deferred<F: Future>(transaction: F) -> (F::Output, Invalidations) {
    USED.store(true, Relaxed);
    let outer = OPEN.try_with(Arc::clone).ok();
    let this = Arc::new(Open { collected: Mutex::default(), outer });
    let output = OPEN.scope(Arc::clone(&this), transaction).await;
    let invalidations = mem::take(&mut *this.collected());
    (output, invalidations)
}

/// What was invalidated inside [`deferred`], and waits for the commit.
///
/// After the commit call [`apply`](Self::apply), after a rollback [`discard`](Self::discard). Dropped
/// without either, nobody knows how the transaction ended (its caller went away while the commit was on
/// its way, or the commit failed with a broken connection): it is carried out in the background. That is
/// right in any case; after a rollback it costs a miss for each entry.
#[must_use = "call `apply` after the commit, `discard` after a rollback"]
#[derive(Debug, Default)]
pub struct Invalidations {
    lists: Vec<List>,
    in_background: bool,
}

/// What waits for one cache.
#[derive(Debug)]
struct List {
    cache: Cache,
    /// Bounded as the queue of what the store couldn't take.
    targets: Kept,
}

impl Invalidations {
    /// Carries them out. When it returns, nobody reads what the transaction has changed from the cache.
    ///
    /// There is no error: what the store can't take is kept, and tried again until it is done; until then
    /// this process reads nothing from that store. A warning is logged, and
    /// [`Cache::pending_invalidations`] counts what waits.
    ///
    /// # Cancel safety
    /// What isn't done yet goes on in the background.
    pub async fn apply(self) {
        self.tell_outer();
        self.carry_out().await;
    }

    /// Forgets the list, not the entries: the transaction was rolled back, so what is cached is right.
    /// Fences are taken away, in the background.
    pub fn discard(mut self) {
        for list in &self.lists {
            list.targets.retain_fenced();
        }
        self.lists.retain(|list| !list.targets.is_empty());
        self.go_on();
    }

    /// Notes one.
    fn add(&mut self, cache: &Cache, target: Target, cover: Option<String>) {
        let known = self.lists.iter().find(|list| is_same(&list.cache, cache));
        if let Some(list) = known {
            list.targets.keep(target, cover);
            return;
        }
        let list = List { cache: cache.clone(), targets: cache.core().kept.alike() };
        list.targets.keep(target, cover);
        self.lists.push(list);
    }

    /// Those of a savepoint are those of its transaction, too; so are its fences, which stand until then.
    fn tell_outer(&self) {
        let _ = OPEN.try_with(|outer| {
            let mut outer = outer.collected();
            for List { cache, targets } in &self.lists {
                for (target, cover) in targets.first(usize::MAX) {
                    if let Target::Fenced(key, _) = &target {
                        // A token that nobody put up takes nobody's fence away, but what isn't one.
                        targets.remove(&target);
                        let none = record::fresh(record::Kind::Fence);
                        targets.keep(Target::Fenced(key.clone(), none), cover.clone());
                    }
                    outer.add(cache, target, cover);
                }
            }
        });
    }

    /// Carries them out in the background.
    fn go_on(&mut self) {
        let lists = mem::take(&mut self.lists);
        if !lists.is_empty() {
            background::run(Self { lists, in_background: true }.carry_out());
        }
    }

    async fn carry_out(mut self) {
        while let Some(List { cache, targets }) = self.lists.last() {
            let some = targets.first(AT_ONCE);
            if some.is_empty() {
                self.lists.pop();
                continue;
            }
            // Cancel: what isn't done yet still stands in the list.
            cache.carry_out(&some).await;
            for (target, _) in &some {
                targets.remove(target);
            }
        }
    }
}

impl Drop for Invalidations {
    fn drop(&mut self) {
        let lists = mem::take(&mut self.lists);
        if self.in_background {
            // The runtime is ending; the next one that uses the store carries it out first.
            for List { cache, targets } in lists {
                for (target, cover) in targets.first(usize::MAX) {
                    cache.core().keep(target, cover);
                }
            }
        } else if !lists.is_empty() {
            let mut rest = Self { lists, in_background: false };
            rest.tell_outer();
            rest.go_on();
        }
    }
}

impl Cache {
    /// Forgets these; what the store can't take is kept.
    async fn carry_out(&self, targets: &[(Target, Option<String>)]) {
        let core = self.core();
        let keys: Vec<String> = targets.iter().filter_map(|(target, _)| target.key()).collect();
        if !keys.is_empty()
            && let Err(error) = core.invalidate_keys(&keys).await
        {
            // The epoch may be among them, and no fence of a tag goes before that.
            self.keep_some(targets.iter(), &error);
            return;
        }
        for one in targets {
            let done = match &one.0 {
                Target::Epoch(_) | Target::Key(_) => continue,
                Target::Glob(glob) => core.invalidate_glob(glob, Reach::Any).await.map(drop),
                Target::Made(glob) => core.invalidate_glob(glob, Reach::Value).await.map(drop),
                Target::Fenced(key, token) => core.unfence(key, *token).await,
            };
            if let Err(error) = done {
                self.keep_some(std::iter::once(one), &error);
            }
        }
        for _ in targets {
            core.books(None).count(|book| &book.invalidations);
        }
    }

    fn keep_some<'a>(&self, targets: impl Iterator<Item = &'a (Target, Option<String>)>, error: &CacheError) {
        warn!(target: "cache_aside", %error, "invalidations of a transaction are kept until the store can take them");
        for (target, cover) in targets {
            self.core().keep(target.clone(), cover.clone());
        }
    }
}

/// Whether this is inside [`deferred`].
pub(crate) fn is_inside() -> bool {
    USED.load(Relaxed) && OPEN.try_with(|_| ()).is_ok()
}

/// Inside [`deferred`], notes an invalidation (the target, and a glob that covers all that are made like
/// it). False: outside, it is to be carried out.
pub(crate) fn collect(cache: &Cache, what: impl FnOnce() -> (Target, Option<String>)) -> bool {
    let note = |open: &Arc<Open>| {
        let (target, cover) = what();
        open.collected().add(cache, target, cover);
    };
    OPEN.try_with(note).is_ok()
}

/// Whether this key was invalidated inside the [`deferred`] that this is in, or one around it.
pub(crate) fn is_gone(core: &Core, key: &str) -> bool {
    let is_noted = |open: &Open| {
        let lists = &open.collected().lists;
        lists.iter().any(|list| ptr::eq(list.cache.core(), core) && list.targets.covers(key))
    };
    let innermost = || OPEN.try_with(Arc::clone).ok();
    is_inside() && iter::successors(innermost(), |open| open.outer.clone()).any(|open| is_noted(&open))
}

impl Open {
    fn collected(&self) -> MutexGuard<'_, Invalidations> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn is_same(a: &Cache, b: &Cache) -> bool {
    ptr::eq(a.core(), b.core())
}
