//! What every store does alike about fences. Each check is given a cache over an empty store.

use std::pin::{Pin, pin};
use std::time::Duration;

use cache_aside::{Cache, CacheError, Expiry, Ttl, cache, cache_invalidate};
use tokio::sync::{AcquireError, Notify, Semaphore, SemaphorePermit};

use super::{Loads, ms, secs};

type Checked = Result<(), CacheError>;

#[cache(ttl = 600, key = "fenced:{id}", cache = cache)]
async fn read(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(Duration::ZERO).await
}

/// What a writer waits for in its body; closed, it fails.
struct Gate {
    begun: Notify,
    go: Semaphore,
}

impl Gate {
    fn new() -> Self {
        Self { begun: Notify::new(), go: Semaphore::new(0) }
    }

    async fn pass(&self) -> Result<(), AcquireError> {
        self.begun.notify_one();
        self.go.acquire().await.map(SemaphorePermit::forget)
    }
}

#[cache_invalidate("fenced:{id}", fence = "1m", cache = cache)]
async fn write(cache: &Cache, id: u64, gate: &Gate) -> Result<(), AcquireError> {
    let _ = id;
    gate.pass().await
}

#[cache_invalidate("fenced:{id}", fence = "400ms", cache = cache)]
async fn write_briefly(cache: &Cache, id: u64, gate: &Gate) -> Result<(), AcquireError> {
    let _ = id;
    gate.pass().await
}

/// Runs it until it waits in its body.
async fn begin(mut write: Pin<&mut impl Future<Output = Result<(), AcquireError>>>, gate: &Gate) {
    tokio::select! {
        _ = write.as_mut() => panic!("it doesn't wait"),
        () = gate.begun.notified() => {}
    }
}

/// How many loads two reads cost: 1 or none if the first is stored.
async fn cost(cache: &Cache, loads: &Loads) -> u64 {
    let before = loads.count();
    read(cache, loads, 1).await;
    read(cache, loads, 1).await;
    loads.count() - before
}

pub async fn a_fenced_key_is_loaded_and_not_stored(cache: Cache) -> Checked {
    let (loads, gate) = (Loads::new(), Gate::new());
    assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (1, 0));
    let mut write = pin!(write(&cache, 1, &gate));
    begin(write.as_mut(), &gate).await;
    assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (2, 2));
    assert_eq!(read::cached(&cache, 1).await?, None);
    assert_eq!(cache.get::<u64>("fenced:1").await?, None);
    assert!(!cache.exists("fenced:1").await?);
    assert_eq!(cache.ttl("fenced:1").await?, Expiry::Missing);
    read::put_cache(&cache, 1, &7).await?;
    read::refresh_cache(&cache, &loads, 1).await;
    assert_eq!(read::cached(&cache, 1).await?, None, "neither is what is stored by hand");
    gate.go.add_permits(1);
    write.await.unwrap();
    assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (1, 0));
    Ok(())
}

pub async fn a_fence_stands_until_its_last_writer_is_done(cache: Cache) -> Checked {
    let (loads, first_gate, gate) = (Loads::new(), Gate::new(), Gate::new());
    let mut first = pin!(write(&cache, 1, &first_gate));
    let mut last = pin!(write(&cache, 1, &gate));
    begin(first.as_mut(), &first_gate).await;
    begin(last.as_mut(), &gate).await;
    first_gate.go.close(); // it fails
    first.await.unwrap_err();
    assert_eq!(cost(&cache, &loads).await, 2);
    {
        let mut dropped = Box::pin(write(&cache, 1, &gate));
        begin(dropped.as_mut(), &gate).await;
    }
    assert_eq!(cost(&cache, &loads).await, 2);
    gate.go.add_permits(1);
    last.await.unwrap();
    // The one that was dropped takes its own away in the background.
    while cost(&cache, &loads).await == 2 {
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(cost(&cache, &loads).await, 0);
    Ok(())
}

pub async fn a_fence_ends_with_its_own_time(cache: Cache) -> Checked {
    let (loads, of_killed, gate) = (Loads::new(), Gate::new(), Gate::new());
    let mut killed = Box::pin(write_briefly(&cache, 1, &of_killed));
    begin(killed.as_mut(), &of_killed).await;
    // Nothing of it runs any more.
    std::mem::forget(killed);
    let mut write = pin!(write(&cache, 1, &gate));
    begin(write.as_mut(), &gate).await;
    tokio::time::sleep(ms(500)).await;
    assert_eq!(cost(&cache, &loads).await, 2, "the longer one stands");
    gate.go.add_permits(1);
    write.await.unwrap();
    assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (1, 0));
    let mut killed = Box::pin(write_briefly(&cache, 1, &of_killed));
    begin(killed.as_mut(), &of_killed).await;
    std::mem::forget(killed);
    tokio::time::sleep(ms(500)).await;
    assert_eq!((cost(&cache, &loads).await, cost(&cache, &loads).await), (1, 0), "without anybody's help");
    Ok(())
}

pub async fn whatever_stands_there_a_fence_takes_its_place(cache: Cache) -> Checked {
    let (loads, gate) = (Loads::new(), Gate::new());
    for life in [Ttl::Never, Ttl::Default] {
        cache.set("fenced:1", "another program's", life).await?;
        let mut write = pin!(write(&cache, 1, &gate));
        begin(write.as_mut(), &gate).await;
        assert_eq!(cost(&cache, &loads).await, 2);
        // What is set by hand takes the place of the fence, and goes with it.
        cache.set("fenced:1", "another program's", secs(60)).await?;
        gate.go.add_permits(1);
        write.await.unwrap();
        assert!(!cache.exists("fenced:1").await?);
        // And so does the entry of who missed when the fence had been deleted.
        let mut again = pin!(self::write(&cache, 1, &gate));
        begin(again.as_mut(), &gate).await;
        cache.delete("fenced:1").await?;
        read(&cache, &loads, 1).await;
        gate.go.add_permits(1);
        again.await.unwrap();
        assert_eq!(read::cached(&cache, 1).await?, None);
    }
    Ok(())
}
