//! What a hit on a server asks of the allocator and of the server.

mod support;

use std::future::Future;

use allocation_counter::measure;
use cache_aside::{Cache, cache};
use redis::AsyncCommands;
use support::proxy::Proxy;
use support::secs;
use support::server::Server;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const CALLS: u64 = 64;

#[cache(ttl = 600, skip(cache), cache = cache)]
async fn number(cache: &Cache, id: u64) -> u64 {
    let _ = cache;
    id
}

/// One thread does all: its count is that of callers, lanes and connections together.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Of so many calls, by one task or by as many, after the same was done before.
fn allocations<C, F>(runtime: &Runtime, at_once: bool, call: &C) -> u64
where
    C: Fn(u64) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let run = || {
        let call = call.clone();
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            if at_once {
                (0..CALLS).for_each(|id| drop(tasks.spawn(call(id))));
            } else {
                tasks.spawn(async move {
                    for id in 0..CALLS {
                        call(id).await;
                    }
                });
            }
            tasks.join_all().await;
        });
    };
    (0..3).for_each(|_| run());
    measure(run).count_total
}

#[test]
fn a_hit_allocates_at_most_four_times_more_than_a_get_by_hand() {
    let (server, runtime) = (Server::redis().start(), runtime());
    let cache = Cache::builder().redis(server.url()).store_budget(secs(5)).build().unwrap();
    let connection = runtime.block_on(async {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        for id in 0..CALLS {
            number(&cache, id).await;
            let () = connection.set(format!("number:{id}"), id).await.unwrap();
        }
        connection
    });
    let by_hand = move |id: u64| {
        let mut connection = connection.clone();
        async move {
            let bytes: Vec<u8> = connection.get(format!("number:{id}")).await.unwrap();
            assert_eq!(serde_json::from_slice::<u64>(&bytes).unwrap(), id);
        }
    };
    let decorated = calls(&cache);
    let hot = move |_| calls(&cache)(7);
    let in_turn = [allocations(&runtime, false, &by_hand), allocations(&runtime, false, &decorated)];
    let at_once = [allocations(&runtime, true, &by_hand), allocations(&runtime, true, &decorated)];
    let hot = allocations(&runtime, true, &hot);
    println!("{CALLS} hits: in turn {in_turn:?}, at once {at_once:?}, of one key {hot}");
    assert!(in_turn[1] <= in_turn[0] + 4 * CALLS, "{in_turn:?}");
    assert!(at_once[1] <= at_once[0], "who shares a flush shares what it takes: {at_once:?}");
    assert!(hot < at_once[1], "one reply for all: {hot}, {at_once:?}");
}

/// The decorated calls.
fn calls(cache: &Cache) -> impl Fn(u64) -> Hit + Clone + Send + 'static {
    let cache = cache.clone();
    move |id| {
        let cache = cache.clone();
        Box::pin(async move { assert_eq!(number(&cache, id).await, id) })
    }
}

type Hit = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[test]
fn hits_are_one_get_each_however_many_are_sent_together() {
    let (server, runtime) = (Server::redis().start(), runtime());
    runtime.block_on(async {
        let proxy = Proxy::start(&server.url());
        let cache = Cache::builder().redis(proxy.url()).store_budget(secs(5)).build().unwrap();
        let call = calls(&cache);
        for id in 0..CALLS {
            call(id).await;
        }
        proxy.seen.reset();
        for id in 0..CALLS {
            call(id).await;
        }
        (0..CALLS).map(&call).collect::<JoinSet<()>>().join_all().await;
        assert_eq!(cache.stats().hits, 2 * CALLS);
        assert_eq!(proxy.seen.counts(), [("GET".to_owned(), 2 * CALLS)].into());
    });
}
