//! Writers with a fence, which are killed: what they wrote is seen from the commit on, whatever becomes of
//! them (I18). Only in quiet around them: an eviction, or an invalidation without a fence, takes fences away.

use std::time::Duration;

use cache_aside::{Cache, cache, cache_invalidate};
use fastrand::Rng;

use crate::history::{Log, now};
use crate::support::fleet::{self, Lines};
use crate::support::{ms, secs};
use crate::truth::Truth;
use crate::worker::{Read, Subject, load, pause};

#[cache(key = "row:{key}", ttl = 600)]
async fn row(key: usize, truth: &Truth, rng: Rng) -> u64 {
    load(key, truth, rng, 10_000).await
}

#[cache_invalidate(row(key), fence = "10s")]
async fn write_fenced(key: usize, truth: &Truth, rng: &mut Rng, committed: impl FnOnce(u64)) {
    write(key, truth, rng, committed).await;
}

#[cache_invalidate(row(key))]
async fn write_bare(key: usize, truth: &Truth, rng: &mut Rng, committed: impl FnOnce(u64)) {
    write(key, truth, rng, committed).await;
}

/// A write that takes its time before and after the commit.
async fn write(key: usize, truth: &Truth, rng: &mut Rng, committed: impl FnOnce(u64)) {
    pause(rng, 10_000).await;
    committed(truth.write(key).await);
    pause(rng, 30_000).await;
}

/// How long nothing is said of what writers without a fence wrote: by then all of them are done that live.
const GRACE: Duration = ms(300);

/// A process with such a writer, or with one that has no fence.
#[derive(Debug)]
pub(crate) struct Writers {
    cache: Cache,
    log: Log,
    is_fenced: bool,
}

impl Writers {
    pub(crate) fn of_member(is_fenced: bool) -> Self {
        let server = fleet::given("SERVER").expect("the parent says where");
        let cache = Cache::builder().redis(server).lease(ms(100)).poll(ms(2), ms(20)).store_budget(secs(10));
        Self { cache: cache.build().expect("the settings are good"), log: Log(Lines::of_member()), is_fenced }
    }
}

impl Subject for Writers {
    // Many: those of a killed writer aren't cached for as long as a run lasts.
    const KEYS: usize = 64;

    fn pace(&self) -> u64 {
        20_000
    }

    async fn read(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<Read> {
        let since = now();
        let version = Cache::scope(self.cache.clone(), row(key, truth, rng.fork())).await;
        Some(Read { version, since })
    }

    /// What has to be seen is said at the commit, for the writer may not live to return it.
    async fn write(&self, key: usize, truth: &Truth, rng: &mut Rng) -> Option<u64> {
        let grace = if self.is_fenced { Duration::ZERO } else { GRACE };
        let committed = |version| self.log.known(key, version, grace);
        Cache::scope(self.cache.clone(), async {
            if self.is_fenced {
                write_fenced(key, truth, rng, committed).await;
            } else {
                write_bare(key, truth, rng, committed).await;
            }
        })
        .await;
        None
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        let stats = self.cache.stats();
        vec![("hits", stats.hits), ("loads", stats.loads), ("store_errors", stats.store_errors)]
    }
}
