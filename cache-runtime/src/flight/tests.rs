//! Whoever goes away, wherever it is: no flight is left, and no lease (I7).
//!
//! What the others notice of it is in `tests/cancel/`.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::{Flights, SHARDS, Subject};
use crate::cache::Cache;
use crate::error::StoreError;
use crate::record::{self, Found, Prefix};
use crate::recovery::Kept;
use crate::store::joint::{self, Joint, OnEntry, OnTag, Sighted};
use crate::store::queue::Queue;
use crate::store::sessions;
use crate::store::{Aged, Expiry, Keeper, MemoryStore, Reply, Store, Tracked};

/// A store that answers in its own time: one can be cancelled before an operation reached it, and after.
#[derive(Debug)]
struct Remote(Arc<MemoryStore>);

macro_rules! remotely {
    ($($name:ident($($arg:ident: $what:ty),*) -> $out:ty;)*) => { $(
        #[allow(clippy::elidable_lifetime_names, clippy::needless_lifetimes, reason = "some keys need it")]
        fn $name<'a>(&'a self, $($arg: $what),*) -> Reply<'a, $out> {
            Box::pin(async move {
                yield_now().await;
                let out = self.0.$name($($arg),*).await;
                yield_now().await;
                out
            })
        }
    )* };
}

impl Store for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn track(&self, keeper: Arc<dyn Keeper>) {
        self.0.track(keeper);
    }

    fn queue(&self, base: &str) -> Arc<dyn Queue> {
        self.0.queue(base)
    }

    remotely! {
        get(key: &'a str) -> Option<Bytes>;
        get_aged(key: &'a str) -> Option<Aged>;
        get_tracked(key: &'a str) -> Tracked;
        sight(key: Option<&'a str>, tags: &'a [String], how: joint::How) -> Sighted;
        flush(entry: Option<(&'a str, OnEntry)>, tags: Vec<OnTag>) -> Joint;
        acquire(key: &'a str, lease: Bytes, life: Duration) -> Option<Bytes>;
        swap(key: &'a str, seen: Prefix, value: Bytes, life: Option<Duration>) -> bool;
        stamp(key: &'a str, seen: Prefix, head: Bytes, most: Option<Duration>) -> bool;
        extend(key: &'a str, seen: Prefix, life: Duration) -> bool;
        fence(key: &'a str, token: Prefix, life: Duration) -> ();
        unfence(key: &'a str, token: Prefix) -> ();
        release(key: &'a str, seen: Prefix) -> bool;
        set(key: &'a str, value: Bytes, life: Option<Duration>) -> ();
        remove(key: &'a str) -> Option<Bytes>;
        remove_many(keys: &'a [String]) -> u64;
        remove_matching(glob: &'a str, reach: crate::store::Reach) -> u64;
        get_each(keys: &'a [String]) -> Vec<Result<Option<Bytes>, StoreError>>;
        get_each_aged(keys: &'a [String]) -> Vec<Result<Option<Aged>, StoreError>>;
        get_many(keys: &'a [String]) -> Vec<Option<Bytes>>;
        get_many_aged(keys: &'a [String]) -> Vec<Option<Aged>>;
        set_many(pairs: Vec<(String, Bytes)>, life: Option<Duration>) -> ();
        increment(key: &'a str, by: i64, life: Option<Duration>) -> i64;
        sessions(key: &'a str, act: sessions::Act, lives: sessions::Lives) -> Vec<sessions::Found>;
        admit(key: &'a str, limit: crate::store::Limit) -> crate::store::Decision;
        expire(key: &'a str, life: Option<Duration>) -> bool;
        expiry(key: &'a str) -> (Expiry, bool);
        ping() -> ();
    }
}

fn remote() -> (Cache, Arc<MemoryStore>) {
    let options = Cache::builder().build().unwrap().core().options.clone();
    let store = Arc::new(MemoryStore::new(1 << 20));
    let cache =
        Cache::over(Box::new(Remote(Arc::clone(&store))), options, Arc::new(Kept::new(1, "*".into())));
    (cache, store)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Ok,
    Err,
    Slow,
    Never,
    Panic,
}

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

fn call(cache: &Cache, how: How) -> Call {
    let cache = cache.clone();
    Box::pin(async move {
        let load = async || {
            yield_now().await;
            match how {
                How::Ok => {}
                How::Err => return Err(()),
                // Long enough for its lease to be extended.
                How::Slow => sleep(Duration::from_secs(4)).await,
                How::Never => pending().await,
                How::Panic => resume_unwind(Box::new("boom")), // without a word
            }
            Ok(1)
        };
        let _ = cache.try_get_or_set("k", Duration::from_secs(60), load).await;
    })
}

/// Polls it so many times at most, each time that it is woken; whether it was stopped by that.
async fn is_stopped(call: &mut Call, mut polls: usize) -> bool {
    let polls = poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(true);
        }
        polls -= 1;
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(Poll::Pending) if polls == 0 => Poll::Ready(true),
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) | Err(_) => Poll::Ready(false),
        }
    });
    // A load that never ends is never woken again when its deadline is over.
    timeout(Duration::from_secs(60), polls).await.unwrap_or(false)
}

/// A caller who is dropped after so many polls, among others or alone; whether there were so many.
async fn cancelled(how: How, follows: bool, others: usize, polls: usize) -> bool {
    let (cache, store) = remote();
    let leader = follows.then(|| tokio::spawn(call(&cache, how)));
    if follows {
        sleep(Duration::from_millis(1)).await;
    }
    let mut victim = call(&cache, if follows { How::Ok } else { how });
    let mut tasks: Vec<_> = (0..others).map(|_| tokio::spawn(call(&cache, How::Err))).collect();
    let stopped = is_stopped(&mut victim, polls).await;
    drop(victim);
    match leader {
        Some(leader) if how == How::Never => leader.abort(),
        leader => tasks.extend(leader),
    }
    for task in tasks {
        // It may have been told to panic.
        let _ = task.await;
    }
    let case = format!("{how:?}, follows: {follows}, {others} others, {polls} polls");
    // What goes on in the background needs a moment, and no lease.
    sleep(Duration::from_millis(1)).await;
    assert!(cache.core().flights.is_empty(), "{case}: a flight is left");
    match store.get("k").await.unwrap().map(record::read) {
        None | Some(Found::Value(_)) => stopped,
        Some(left) => panic!("{case}: {left:?} is left"),
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_anywhere_no_flight_and_no_lease_is_left() {
    let mut most = 0;
    for how in [How::Ok, How::Err, How::Slow, How::Never, How::Panic] {
        for (follows, others) in [(false, 0), (false, 2), (true, 0), (true, 2)] {
            for polls in 0.. {
                if !cancelled(how, follows, others, polls).await {
                    most = most.max(polls);
                    break;
                }
            }
        }
    }
    assert!(most > 15, "each operation has places to stop at: {most}");
}

#[test]
fn there_are_not_more_than_it_has_room_for() {
    let flights = Arc::new(Flights::with_room_for(SHARDS * 2));
    let subject =
        |number: usize| Subject { key: number.to_string(), identity: [0; 16], fingerprint: 0, version: 0 };
    let members: Vec<_> = (0..1000).filter_map(|number| flights.join(subject(number))).collect();
    assert!(members.len() > SHARDS && members.len() <= SHARDS * 2, "{}", members.len());
    let known = members[0].flight.subject.as_ref().clone();
    assert!(flights.join(known.clone()).is_some(), "who joins takes no room");
    drop(members);
    assert!(flights.is_empty());
    assert!(flights.join(known).is_some());
}
