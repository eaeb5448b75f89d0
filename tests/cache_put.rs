//! What a writer returned is what readers get next, and never what an older one returned (SPEC 2.5; I1, I3).

#[path = "support/sample.rs"]
mod sample;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cache_aside::{Cache, Expiry, Ttl, cache, cache_invalidate, cache_put, global};
use sample::{eventually, hasty};
use support::proxy::Proxy;
use support::server::Server;
use support::{embedded, ms, secs};
use tokio::time::sleep;

/// One row, as a database has it.
#[derive(Debug, Default)]
struct Row {
    value: AtomicU64,
    loads: AtomicU64,
}

/// Reads the row at once, and takes its time to hand it over.
#[cache(ttl = 60, skip(row, takes))]
async fn read(row: &Row, takes: Duration) -> Result<u64, String> {
    let value = row.value.load(SeqCst);
    row.loads.fetch_add(1, SeqCst);
    sleep(takes).await;
    Ok(value)
}

/// Writes the row after the first pause, and returns after the second.
#[cache_put(read())]
async fn write(row: &Row, value: u64, before: Duration, after: Duration) -> Result<u64, Failed> {
    sleep(before).await;
    row.value.store(value, SeqCst);
    sleep(after).await;
    if value == BAD { Err(Failed) } else { Ok(value) }
}

/// Another error than the reader's: only the value counts.
#[derive(Debug, PartialEq)]
struct Failed;

const BAD: u64 = 666;
const NOW: Duration = Duration::ZERO;

async fn cached() -> Option<u64> {
    read::cached().await.unwrap().map(Result::unwrap)
}

#[tokio::test(start_paused = true)]
async fn a_writer_s_result_is_the_next_hit() {
    Cache::scope(embedded(), async {
        let row = Row::default();
        assert_eq!(read(&row, NOW).await, Ok(0));
        assert_eq!(write(&row, 1, NOW, NOW).await, Ok(1));
        assert_eq!(read(&row, NOW).await, Ok(1));
        assert_eq!(row.loads.load(SeqCst), 1, "it was a hit");
        let left = global().unwrap().ttl(&read::cache_key().unwrap()).await.unwrap();
        assert_eq!(left, Expiry::In(secs(60)), "the reader's time to live");
        assert_eq!(write(&row, 2, NOW, NOW).await, Ok(2));
        assert_eq!(cached().await, Some(2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_may_have_written_leaves_no_entry() {
    Cache::scope(embedded(), async {
        let row = Row::default();
        write(&row, 1, NOW, NOW).await.unwrap();
        assert_eq!(write(&row, BAD, NOW, NOW).await, Err(Failed));
        assert_eq!(cached().await, None, "an `Err`");
        write(&row, 2, NOW, NOW).await.unwrap();
        tokio::time::timeout(ms(50), write(&row, 3, NOW, secs(1))).await.unwrap_err();
        assert_eq!(cached().await, None, "a caller who went away");
        assert_eq!(read(&row, NOW).await, Ok(3));

        #[cache_put(read())]
        async fn panics() -> u64 {
            sleep(ms(1)).await;
            panic!("in the body")
        }
        let cache = global().unwrap();
        tokio::spawn(Cache::scope(cache.clone(), panics())).await.unwrap_err();
        assert_eq!(cached().await, None, "a panic");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn readers_wait_for_a_put_and_get_its_value() {
    Cache::scope(embedded(), async {
        let row = Row::default();
        read(&row, NOW).await.unwrap();
        let (written, read) = tokio::join!(write(&row, 1, ms(500), ms(500)), async {
            sleep(ms(700)).await;
            read(&row, NOW).await
        });
        assert_eq!((written, read), (Ok(1), Ok(1)));
        assert_eq!(row.loads.load(SeqCst), 1, "nobody loaded");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_a_put_does_not_overwrite_it() {
    Cache::scope(embedded(), async {
        let row = Row::default();
        let (old, new) = tokio::join!(read(&row, ms(300)), async {
            sleep(ms(100)).await;
            write(&row, 1, NOW, NOW).await
        });
        assert_eq!((old, new), (Ok(0), Ok(1)));
        assert_eq!(cached().await, Some(1));
        let (new, old) = tokio::join!(
            async {
                sleep(ms(100)).await;
                write(&row, 2, ms(500), NOW).await
            },
            read::refresh_cache(&row, ms(300))
        );
        assert_eq!((old, new), (Ok(1), Ok(2)));
        assert_eq!(cached().await, None, "a refresh by hand that is refused removes what it finds");
    })
    .await;
}

/// Two writers, by when they begin, write and return: the entry is never what is not in the row.
#[tokio::test(start_paused = true)]
async fn of_two_writers_the_older_value_never_stays() {
    let mut kept = 0;
    for begins in [0, 10, 30, 50, 70, 90] {
        for before in [5, 25, 45, 65] {
            for after in [5, 25, 45] {
                Cache::scope(embedded(), async {
                    let row = Row::default();
                    let second = async {
                        sleep(ms(begins)).await;
                        write(&row, 2, ms(before), ms(after)).await.unwrap();
                    };
                    let first = write(&row, 1, ms(40), ms(40));
                    let reads = async {
                        for _ in 0..50 {
                            sleep(ms(7)).await;
                            let _ = read(&row, ms(3)).await;
                        }
                    };
                    let (first, (), ()) = tokio::join!(first, second, reads);
                    first.unwrap();
                    let (row, found) = (row.value.load(SeqCst), cached().await);
                    assert!(found.is_none_or(|found| found == row), "{begins} {before} {after}");
                    kept += u64::from(found.is_some());
                })
                .await;
            }
        }
    }
    assert!(kept > 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_conflict_the_entry_goes() {
    Cache::scope(embedded(), async {
        let row = Row::default();
        let cache = global().unwrap();
        let key = read::cache_key().unwrap();
        // Its token is gone, and somebody has read the row before it was written.
        let (written, ()) = tokio::join!(write(&row, 1, ms(100), ms(100)), async {
            sleep(ms(50)).await;
            cache.delete(&key).await.unwrap();
            assert_eq!(read(&row, NOW).await, Ok(0));
            assert_eq!(cached().await, Some(0));
        });
        assert_eq!((written, cached().await), (Ok(1), None), "a value is there");
        let (written, ()) = tokio::join!(write(&row, 2, ms(100), ms(100)), async {
            sleep(ms(50)).await;
            cache.delete(&key).await.unwrap();
        });
        assert_eq!((written, cached().await), (Ok(2), None), "nothing is there");
        let (written, ()) = tokio::join!(write(&row, 3, ms(100), ms(100)), async {
            sleep(ms(50)).await;
            cache.delete(&key).await.unwrap();
            read(&row, ms(200)).await.unwrap();
        });
        assert_eq!((written, cached().await), (Ok(3), None), "a load's lease is there");
        let (written, put) = tokio::join!(write(&row, 4, ms(100), ms(100)), async {
            sleep(ms(50)).await;
            read::put_cache(&9).await
        });
        put.unwrap();
        assert_eq!((written, cached().await), (Ok(4), None), "a put by hand is there");
        assert_eq!(cache.stats().fills_refused, 5, "four puts, one load");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_body_keeps_its_token_and_may_read_what_it_writes() {
    Cache::scope(embedded(), async {
        let row = Row::default();
        assert_eq!(write(&row, 1, secs(10), secs(10)).await, Ok(1));
        assert_eq!(cached().await, Some(1));

        #[cache_put(read())]
        async fn bump(row: &Row) -> Result<u64, String> {
            let next = read(row, NOW).await? + 1;
            row.value.store(next, SeqCst);
            read(row, NOW).await
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(bump(&row).await, Ok(2));
        assert_eq!(begun.elapsed(), NOW, "it didn't wait for itself");
        assert_eq!(cached().await, Some(2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_does_not_wait_for_a_reader_who_waits_for_it() {
    Cache::scope(embedded(), async {
        #[cache_put(read())]
        async fn bump(row: &Row) -> Result<u64, String> {
            sleep(ms(100)).await;
            let next = read(row, NOW).await? + 1;
            row.value.store(next, SeqCst);
            Ok(next)
        }
        let row = Row::default();
        let begun = tokio::time::Instant::now();
        let (bumped, read) = tokio::join!(bump(&row), async {
            sleep(ms(50)).await;
            read(&row, NOW).await
        });
        assert_eq!((bumped, read), (Ok(1), Ok(1)));
        assert!(begun.elapsed() < secs(1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn under_a_key_of_its_own_it_stores_plain_json() {
    #[cache(ttl = 60, key = "user:{id}")]
    async fn get_user(id: u64) -> Option<String> {
        Some(format!("loaded {id}"))
    }
    #[cache_put(key = "user:{id}", ttl = Duration::from_secs(id))]
    async fn rename(id: u64, name: String) -> Result<String, String> {
        if name.is_empty() { Err(name) } else { Ok(name) }
    }
    #[cache_put(key_builder = |name| format!("len:{name}"), ttl = |value| Duration::from_secs(*value), cache = cache)]
    async fn length(cache: &Cache, name: String) -> u64 {
        let _ = cache;
        let length = name.len() as u64;
        drop(name);
        length
    }
    Cache::scope(embedded(), async {
        let cache = global().unwrap();
        get_user(7).await;
        rename(7, "Ada".to_owned()).await.unwrap();
        assert_eq!(cache.get::<String>("user:7").await.unwrap().as_deref(), Some("Ada"));
        assert_eq!(cache.ttl("user:7").await.unwrap(), Expiry::In(secs(7)));
        assert_eq!(get_user(7).await.as_deref(), Some("Ada"));
        rename(7, String::new()).await.unwrap_err();
        assert!(!cache.exists("user:7").await.unwrap());
        cache.set("user:7", &1, Ttl::Default).await.unwrap();
        rename(7, "Bob".to_owned()).await.unwrap();
        assert_eq!(cache.get::<String>("user:7").await.unwrap().as_deref(), Some("Bob"));

        let other = embedded();
        assert_eq!(length(&other, "abc".to_owned()).await, 3);
        assert_eq!(other.ttl("len:abc").await.unwrap(), Expiry::In(secs(3)));
        assert_eq!(length(&other, String::new()).await, 0);
        assert!(!other.exists("len:").await.unwrap(), "a zero `ttl` isn't stored");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn methods_put_into_the_cache_of_their_target() {
    #[cache(ttl = 60)]
    async fn twice(id: u64) -> u64 {
        id
    }
    struct Service {
        cache: Cache,
    }
    impl Service {
        #[cache(ttl = 60, key = "it:{id}", cache = &self.cache, none_ttl = 5)]
        async fn get(&self, id: u64) -> Result<Option<u64>, String> {
            Ok(Some(id))
        }
        #[cache(helpers = "method", jitter = "10%")]
        async fn number(id: u64) -> u64 {
            id
        }
        #[cache_put(Self::number(id))]
        #[cache_put(twice(id))]
        #[cache_invalidate("other:{id}")]
        async fn set(&self, id: u64) -> u64 {
            let _ = &self.cache;
            id * 2
        }
        #[cache_put(self.get(id))]
        async fn none(&self, id: u64) -> Option<u64> {
            let _ = id;
            None
        }
    }
    impl Service {
        #[cache_put(self.get(id))]
        async fn set_some(&self, id: u64) -> Result<Option<u64>, u8> {
            Ok(Some(id * 3))
        }
    }
    let service = Service { cache: embedded() };
    Cache::scope(embedded(), async {
        service.none(1).await;
        assert_eq!(service.get_cached(1).await.unwrap(), Some(Ok(None)));
        assert_eq!(service.cache.ttl("it:1").await.unwrap(), Expiry::In(secs(5)));
        global().unwrap().set("other:1", &1, Ttl::Default).await.unwrap();
        assert_eq!(service.set(1).await, 2);
        assert_eq!(Service::number_cached(1).await.unwrap(), Some(2));
        assert_eq!(twice::cached(1).await.unwrap(), Some(2));
        assert!(!global().unwrap().exists("other:1").await.unwrap());
        service.set_some(1).await.unwrap();
        assert_eq!(service.get_cached(1).await.unwrap(), Some(Ok(Some(3))));
    })
    .await;
}

#[tokio::test]
async fn without_a_store_the_entry_goes_as_soon_as_there_is_one() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let cache = hasty(&proxy.url()).build().unwrap();
    let row = Arc::new(Row::default());
    Cache::scope(cache.clone(), async {
        cache.ping().await.unwrap();
        write(&row, 1, NOW, NOW).await.unwrap();
        assert_eq!(cached().await, Some(1));
        proxy.refuse(true);
        proxy.cut().await;
        assert_eq!(write(&row, 2, NOW, NOW).await, Ok(2));
        assert_eq!(cache.pending_invalidations(), 1);
        assert_eq!(read(&row, NOW).await, Ok(2), "not from the store");
        proxy.refuse(false);
        eventually("it is carried out", || cache.pending_invalidations() == 0).await;
        assert_eq!(read(&row, NOW).await, Ok(2));
        // Lost in the body: the token can't be compared.
        let (written, ()) = tokio::join!(write(&row, 3, ms(50), ms(50)), async {
            sleep(ms(20)).await;
            proxy.refuse(true);
            proxy.cut().await;
        });
        assert_eq!(written, Ok(3));
        proxy.refuse(false);
        eventually("it is carried out", || cache.pending_invalidations() == 0).await;
        assert_eq!(read(&row, NOW).await, Ok(3));
    })
    .await;
}

/// Its value names a tag too.
#[cache(ttl = 60, tags = ["row:{id}", "parity:{value.0}"], skip(row))]
async fn read_tagged(row: &Row, id: u64) -> (u64, u64) {
    row.loads.fetch_add(1, SeqCst);
    let value = row.value.load(SeqCst) + id;
    (value % 2, value)
}

#[cache_put(read_tagged(id))]
async fn write_tagged(row: &Row, id: u64, value: u64, takes: Duration) -> (u64, u64) {
    row.value.store(value - id, SeqCst);
    sleep(takes).await;
    (value % 2, value)
}

#[tokio::test]
async fn what_is_put_has_its_tags() {
    let server = Server::redis().start();
    let remote = Cache::builder().redis(server.url()).store_budget(secs(5)).build().unwrap();
    for cache in [embedded(), remote] {
        Cache::scope(cache.clone(), async {
            let row = Row::default();
            assert_eq!(write_tagged(&row, 1, 7, NOW).await, (1, 7));
            assert_eq!(read_tagged(&row, 1).await, (1, 7));
            assert_eq!(row.loads.load(SeqCst), 0, "it was a hit");
            for (loads, tag) in [(1, "row:1"), (2, "parity:1")] {
                cache.invalidate_tags(&[tag]).await.unwrap();
                assert_eq!((read_tagged(&row, 1).await, row.loads.load(SeqCst)), ((1, 7), loads), "{tag}");
                assert_eq!(write_tagged(&row, 1, 7, NOW).await, (1, 7));
            }
            // The row is written by then, and may have been written again.
            for tag in ["row:1", "parity:0"] {
                let put = write_tagged(&row, 1, 8, ms(100));
                let invalidated = async {
                    sleep(ms(30)).await;
                    row.value.store(8, SeqCst);
                    cache.invalidate_tags(&[tag]).await.unwrap();
                };
                assert_eq!(tokio::join!(put, invalidated).0, (0, 8));
                assert_eq!(read_tagged(&row, 1).await, (1, 9), "{tag}");
            }
        })
        .await;
    }
}
