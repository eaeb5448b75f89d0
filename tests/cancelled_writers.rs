//! Writers of all kinds whose caller goes away at any moment: what they wrote is read, and neither a fence
//! nor a token stays behind (I1, I3, I7, I18).

mod support;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Poll;

use cache_aside::{Cache, cache, cache_invalidate, cache_put, deferred};
use serde::{Deserialize, Serialize};
use support::server::Server;
use support::{ms, secs};
use tokio::task::yield_now;
use tokio::time::Instant;

/// A row, and how often it was read.
#[derive(Debug, Clone, Default)]
struct Db(Arc<(AtomicU64, AtomicU64)>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    number: u64,
    org: u64,
}

impl Db {
    fn row(&self) -> Row {
        Row { number: self.0.0.load(SeqCst), org: 3 }
    }

    async fn write(&self, to: u64) -> Row {
        yield_now().await;
        self.0.0.store(to, SeqCst);
        yield_now().await;
        self.row()
    }
}

#[cache(ttl = 600, key = "row:{id}", tags = ["row:{id}", "org:{value.org}"], near = true, cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> Row {
    let _ = id;
    db.0.1.fetch_add(1, SeqCst);
    db.row()
}

#[cache_invalidate("row:{id}", cache = cache)]
async fn by_key(cache: &Cache, db: &Db, id: u64, to: u64) -> Row {
    let _ = id;
    db.write(to).await
}

#[cache_invalidate("row:?", "other:{id}", tags = ["row:{id}", "rows"], cache = cache)]
async fn by_all(cache: &Cache, db: &Db, id: u64, to: u64) -> Row {
    let _ = id;
    db.write(to).await
}

#[cache_invalidate(row(cache, id), fence = 600)]
async fn by_fence(cache: &Cache, db: &Db, id: u64, to: u64) -> Row {
    let _ = id;
    db.write(to).await
}

#[cache_put(row(cache, id))]
async fn by_put(cache: &Cache, db: &Db, id: u64, to: u64) -> Row {
    let _ = id;
    db.write(to).await
}

async fn by_transaction(cache: &Cache, db: &Db, id: u64, to: u64) -> Row {
    let (row, list) = deferred(async {
        let (row, inner) = deferred(by_fence(cache, db, id, to)).await;
        inner.apply().await;
        by_all(cache, db, id, to).await;
        row
    })
    .await;
    list.apply().await;
    row
}

const WRITERS: usize = 5;

fn write<'a>(way: usize, cache: &'a Cache, db: &'a Db, to: u64) -> Pin<Box<dyn Future<Output = Row> + 'a>> {
    match way {
        0 => Box::pin(by_key(cache, db, 1, to)),
        1 => Box::pin(by_all(cache, db, 1, to)),
        2 => Box::pin(by_fence(cache, db, 1, to)),
        3 => Box::pin(by_put(cache, db, 1, to)),
        _ => Box::pin(by_transaction(cache, db, 1, to)),
    }
}

/// Polls it so many times, then drops it: at once, or when it would be polled again. True if it ended before.
async fn dropped(call: impl Future, polls: usize, at_once: bool) -> bool {
    let (mut call, mut done) = (pin!(call), 0);
    poll_fn(|cx| {
        if done == polls {
            return Poll::Ready(false);
        }
        done += 1;
        match call.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if at_once && done == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_writer_that_is_dropped_leaves_nothing_stale_and_nobody_waiting() {
    let server = Server::redis().start();
    let builder = Cache::builder().store_budget(secs(3)).lease(secs(30));
    let embedded = builder.clone().build().unwrap();
    let remote = builder.clone().redis(server.url()).build().unwrap();
    let other = builder.redis(server.url()).build().unwrap();
    for (cache, other) in [(embedded.clone(), embedded), (remote, other)] {
        let (db, mut to) = (Db::default(), 0);
        for (way, at_once) in (0..WRITERS).flat_map(|way| [(way, false), (way, true)]) {
            for polls in 0.. {
                for cache in [&cache, &other, &cache] {
                    assert_eq!(row(cache, &db, 1).await, db.row());
                }
                to += 1;
                let has_ended = dropped(write(way, &cache, &db, to), polls, at_once).await;
                let begun = Instant::now();
                for cache in [&other, &cache] {
                    // In the background, if it was dropped: then the value, and that it is kept, come soon.
                    loop {
                        let before = db.0.1.load(SeqCst);
                        let read = [row(cache, &db, 1).await, row(cache, &db, 1).await];
                        if read == [db.row(), db.row()] && db.0.1.load(SeqCst) <= before + 1 {
                            break;
                        }
                        let late = begun.elapsed() > secs(10);
                        assert!(!late, "way {way}, {polls} polls: {read:?} for {:?}", db.row());
                        tokio::time::sleep(ms(2)).await;
                    }
                }
                if has_ended {
                    assert_eq!(db.row().number, to);
                    break;
                }
            }
        }
    }
}
