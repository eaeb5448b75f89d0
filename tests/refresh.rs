//! A refresh ends what was there before it, also where its value isn't stored, and never waits for itself
//! (I1, I5, I10).

mod support;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cache_aside::{Cache, cache};
use serde::{Deserialize, Serialize, Serializer};
use support::server::Server;
use support::{ms, secs};

/// One number, and the cache in front of it. Each function here doesn't store it where it is 0.
#[derive(Debug)]
struct Table {
    cache: Cache,
    number: AtomicU64,
    loads: AtomicU64,
    takes: Duration,
    _server: Option<Server>,
}

impl Table {
    /// On the embedded store, and on a server.
    fn on_each_store(takes: Duration) -> [Self; 2] {
        let server = Server::redis().start();
        let builder = Cache::builder().value_size(1000).store_budget(secs(3));
        [(builder.clone(), None), (builder.redis(server.url()), Some(server))].map(|(builder, server)| Self {
            cache: builder.build().unwrap(),
            number: AtomicU64::new(7),
            loads: AtomicU64::new(0),
            takes,
            _server: server,
        })
    }

    async fn load(&self) -> u64 {
        self.loads.fetch_add(1, SeqCst);
        let number = self.number.load(SeqCst);
        tokio::time::sleep(self.takes).await;
        number
    }

    fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }

    fn write(&self, number: u64) {
        self.number.store(number, SeqCst);
    }
}

#[cache(ttl = 60, key = "none", cache_none = false, cache = &table.cache)]
async fn none(table: &Table) -> Option<u64> {
    Some(table.load().await).filter(|number| *number > 0)
}

#[cache(ttl = 60, key = "refused", unless = |number| *number == 0, cache = &table.cache)]
async fn refused(table: &Table) -> u64 {
    table.load().await
}

#[cache(key = "short", ttl = |number| secs(*number), cache = &table.cache)]
async fn short(table: &Table) -> u64 {
    table.load().await
}

#[cache(ttl = 60, key = "large", cache = &table.cache)]
async fn large(table: &Table) -> (u64, String) {
    let number = table.load().await;
    (number, "x".repeat(if number == 0 { 2000 } else { 1 }))
}

#[derive(Debug, Deserialize)]
struct Odd(u64);

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { Err(serde::ser::Error::custom("zero")) } else { self.0.serialize(serializer) }
    }
}

#[cache(ttl = 60, key = "odd", cache = &table.cache)]
async fn odd(table: &Table) -> Odd {
    Odd(table.load().await)
}

/// The number was 7 and is 0: after the refresh nobody reads the 7.
async fn ends_the_old_value(
    table: &Table,
    name: &str,
    read: impl AsyncFn(&Table) -> u64,
    refresh: impl AsyncFn(&Table) -> u64,
) {
    table.write(7);
    let before = table.loads();
    assert_eq!((read(table).await, read(table).await, table.loads() - before), (7, 7, 1), "{name}");
    table.write(0);
    assert_eq!(refresh(table).await, 0, "{name}");
    assert_eq!((read(table).await, table.loads() - before), (0, 3), "{name}: the old one is over");
    table.write(8);
    assert_eq!((read(table).await, read(table).await, table.loads() - before), (8, 8, 4), "{name}");
}

#[tokio::test]
async fn a_refresh_whose_value_is_not_stored_ends_the_old_value() {
    for table in Table::on_each_store(ms(0)) {
        let unwrap = |number: Option<u64>| number.unwrap_or(0);
        ends_the_old_value(
            &table,
            "cache_none = false",
            async |table| unwrap(none(table).await),
            async |table| unwrap(none::refresh_cache(table).await),
        )
        .await;
        ends_the_old_value(
            &table,
            "unless",
            async |table| refused(table).await,
            async |table| refused::refresh_cache(table).await,
        )
        .await;
        ends_the_old_value(
            &table,
            "no time to live",
            async |table| short(table).await,
            async |table| short::refresh_cache(table).await,
        )
        .await;
        ends_the_old_value(
            &table,
            "too large",
            async |table| large(table).await.0,
            async |table| large::refresh_cache(table).await.0,
        )
        .await;
        ends_the_old_value(
            &table,
            "no encoding",
            async |table| odd(table).await.0,
            async |table| odd::refresh_cache(table).await.0,
        )
        .await;
    }
}

#[tokio::test]
async fn a_refresh_whose_value_is_not_stored_leaves_what_came_after_it() {
    for table in Table::on_each_store(ms(100)) {
        assert_eq!(refused(&table).await, 7);
        table.write(0);
        let (refreshed, ()) = tokio::join!(refused::refresh_cache(&table), async {
            tokio::time::sleep(ms(50)).await;
            assert_eq!(refused::cached(&table).await.unwrap(), Some(7), "others read on meanwhile");
            refused::put_cache(&table, &9).await.unwrap();
        });
        assert_eq!((refreshed, refused(&table).await), (0, 9));
    }
}

/// Calls itself with the same arguments, so many times.
#[cache(ttl = 60, key = "itself", cache = &table.cache)]
async fn itself(table: &Table, left: u32) -> u64 {
    if left == 0 { table.load().await } else { 1 + Box::pin(itself(table, left - 1)).await }
}

/// Calls itself through another.
#[cache(ttl = 60, key = "through", cache = &table.cache)]
async fn through(table: &Table, left: u32) -> u64 {
    if left == 0 { table.load().await } else { 1 + Box::pin(another(table, left)).await }
}

#[cache(ttl = 60, key = "another", cache = &table.cache)]
async fn another(table: &Table, left: u32) -> u64 {
    10 + through(table, left - 1).await
}

#[tokio::test]
async fn a_refresh_that_reaches_itself_does_not_wait_for_itself() {
    for table in Table::on_each_store(ms(10)) {
        let begun = Instant::now();
        assert_eq!(itself::refresh_cache(&table, 2).await, 9, "where nothing was");
        assert_eq!(
            itself::refresh_cache(&table, 2).await,
            10,
            "where its value was: the inner call is a hit"
        );
        assert_eq!(through::refresh_cache(&table, 1).await, 18);
        assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_refresh_in_the_place_of_a_load_does_not_wait_for_itself() {
    for table in Table::on_each_store(ms(300)) {
        let begun = Instant::now();
        let (loaded, refreshed) = tokio::join!(itself(&table, 0), async {
            tokio::time::sleep(ms(50)).await;
            itself::refresh_cache(&table, 1).await
        });
        assert_eq!((loaded, refreshed), (7, 8));
        assert!(begun.elapsed() < secs(2), "{:?}", begun.elapsed());
    }
}

#[cache(ttl = 60, refresh_ahead = 20, key = "raced", cache = &table.cache)]
async fn raced(table: &'static Table) -> Result<u64, u64> {
    match table.load().await {
        13 => Err(13),
        number => Ok(number),
    }
}

/// Another load claims the value over a refresh by hand, and fails: the value before both is over.
#[tokio::test]
async fn a_refresh_that_lost_its_claim_ends_the_old_value_too() {
    for table in Table::on_each_store(ms(300)) {
        let table: &'static Table = Box::leak(Box::new(table));
        assert_eq!(raced(table).await, Ok(7));
        table.write(8);
        let refresh = tokio::spawn(raced::refresh_cache(table));
        while table.loads() < 2 {
            tokio::time::sleep(ms(5)).await;
        }
        // As if its claim had passed: what is left of the life says so, and is within the window.
        table.write(13);
        table.cache.expire("raced", secs(10)).await.unwrap();
        assert_eq!(raced(table).await, Ok(7), "it isn't over yet");
        while table.loads() < 3 {
            tokio::time::sleep(ms(5)).await;
        }
        assert_eq!(refresh.await.unwrap(), Ok(8));
        assert_eq!(raced::cached(table).await.unwrap(), None);
    }
}
