//! `clear_cache_all` and `get_user::*` of functions with tags: one command, whatever else the server holds.

mod support;

use cache_aside::{Cache, cache, cache_invalidate, deferred};
use support::proxy::Proxy;
use support::server::{Kind, Server};
use support::{Loads, embedded, ms, secs};

fn over(url: &str) -> Cache {
    Cache::builder().redis(url).store_budget(secs(10)).build().unwrap()
}

#[cache(ttl = 600, key = "row:{id}", tags = ["user:{id}"], cache = cache)]
async fn row(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

/// With the keys of the one above, and its tags.
#[cache(ttl = 600, key = "row:{id}:too", tags = ["user:{id}"], cache = cache)]
async fn other_row(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

#[cache(ttl = 600, key_builder = |id| format!("built/{id}"), tags = ["user:{id}"], cache = cache)]
async fn built(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

#[cache(ttl = 600, key = "{id}:of_any", tags = ["row:{value}"], near = true, cache = cache)]
async fn near(cache: &Cache, loads: &Loads, id: u64) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

#[cache(ttl = 600, skip(cache, loads), tags = ["any"], cache = cache)]
async fn of<T: Into<u64> + serde::Serialize>(cache: &Cache, loads: &Loads, id: T) -> u64 {
    let _ = id;
    loads.load(ms(0)).await
}

#[cache_invalidate(row::*(cache), built::*(cache), tags = ["mine"], cache = own)]
async fn write(own: &Cache, cache: &Cache) {
    let _ = (own, cache);
}

/// Reads all, and says how many loads that cost: of each two rows.
async fn costs(cache: &Cache, loads: &[Loads; 4]) -> [u64; 4] {
    let before = [0, 1, 2, 3].map(|of: usize| loads[of].count());
    for id in [1, 2] {
        row(cache, &loads[0], id).await;
        other_row(cache, &loads[1], id).await;
        built(cache, &loads[2], id).await;
        near(cache, &loads[3], id).await;
    }
    [0, 1, 2, 3].map(|of| loads[of].count() - before[of])
}

#[tokio::test]
async fn all_of_a_function_goes_and_nothing_of_another() {
    let servers = [Kind::Redis, Kind::Valkey].map(|kind| Server::of(kind).start());
    let remote = servers.iter().map(|server| (over(&server.url()), over(&server.url())));
    let local = embedded();
    for (cache, other) in remote.chain([(local.clone(), local)]) {
        let loads = [(); 4].map(|()| Loads::new());
        assert_eq!(costs(&cache, &loads).await, [2, 2, 2, 2]);
        assert_eq!(costs(&other, &loads).await, [0; 4]);
        row::clear_cache_all(&cache).await.unwrap();
        assert_eq!(row::cached(&other, 1).await.unwrap(), None);
        assert_eq!(costs(&other, &loads).await, [2, 0, 0, 0]);
        built::clear_cache_all(&other).await.unwrap();
        assert_eq!(costs(&cache, &loads).await, [0, 0, 2, 0]);
        near::clear_cache_all(&cache).await.unwrap();
        assert_eq!(costs(&cache, &loads).await, [0, 0, 0, 2]);
        // The other one hears of it.
        assert_eq!(costs(&other, &loads).await, [0; 4]);
        near::clear_cache_all(&cache).await.unwrap();
        while costs(&other, &loads).await != [0, 0, 0, 2] {
            tokio::time::sleep(ms(5)).await;
        }
        // Targets go in the caches of their functions, tags in the writer's.
        write(&embedded(), &cache).await;
        assert_eq!(costs(&cache, &loads).await, [2, 0, 2, 0]);
        // All instances of a generic function.
        let of_all = async || of(&cache, &loads[0], 1_u8).await + of(&cache, &loads[0], 1_u16).await;
        let before = of_all().await;
        assert_eq!(of_all().await, before);
        of::clear_cache_all(&cache).await.unwrap();
        assert!(of_all().await > before + 2);
    }
}

#[tokio::test]
async fn it_is_one_command() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::of(kind).start();
        let proxy = Proxy::start(&server.url());
        let (cache, loads) = (over(&proxy.url()), Loads::new());
        for id in 0..20 {
            row(&cache, &loads, id).await;
            built(&cache, &loads, id).await;
        }
        server.command(&["DEBUG", "POPULATE", "10000", "other"]);
        let all = || {
            let requests = proxy.seen.requests();
            proxy.seen.reset();
            requests
        };
        let is_of_function = |key: &String| key.len() == "@fn:".len() + 16 && key.starts_with("@fn:");
        all();
        row::clear_cache_all(&cache).await.unwrap();
        let [request] = all().try_into().unwrap();
        let [name, epoch, row_key] = <[String; 3]>::try_from(request).unwrap();
        assert_eq!((&*name, &*epoch), ("UNLINK", "@tags"));
        assert!(is_of_function(&row_key), "{row_key}");
        write(&cache, &cache).await;
        let [request] = all().try_into().unwrap();
        assert!(request.contains(&"@tag:mine".to_owned()) && request.contains(&row_key), "{request:?}");
        assert_eq!((request.len(), request.iter().filter(|key| is_of_function(key)).count()), (5, 2));
        assert_eq!(loads.count(), 40);
        row(&cache, &loads, 1).await;
        assert_eq!(loads.count(), 41);
    }
}

#[tokio::test]
async fn inside_a_transaction_it_waits() {
    let server = Server::redis().start();
    for cache in [embedded(), over(&server.url())] {
        let loads = [(); 4].map(|()| Loads::new());
        costs(&cache, &loads).await;
        let clear = async || {
            built::clear_cache_all(&cache).await.unwrap();
            write(&cache, &cache).await;
        };
        let ((), invalidations) = deferred(clear()).await;
        assert_eq!(costs(&cache, &loads).await, [0; 4]);
        invalidations.discard();
        assert_eq!(costs(&cache, &loads).await, [0; 4]);
        deferred(clear()).await.1.apply().await;
        assert_eq!(costs(&cache, &loads).await, [2, 0, 2, 0]);
    }
}

#[tokio::test]
async fn what_the_server_could_not_take_is_kept() {
    let server = Server::redis().start();
    let cache = Cache::builder().redis(server.url()).store_budget(secs(2)).build().unwrap();
    let loads = [(); 4].map(|()| Loads::new());
    costs(&cache, &loads).await;
    server.freeze();
    built::clear_cache_all(&cache).await.unwrap_err();
    write(&cache, &cache).await;
    assert_eq!(cache.pending_invalidations(), 3);
    server.thaw();
    while cache.pending_invalidations() > 0 {
        tokio::time::sleep(ms(5)).await;
    }
    while costs(&cache, &loads).await[1] > 0 {
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(costs(&cache, &loads).await, [0; 4]);
    assert!(loads[0].count() > 2 && loads[2].count() > 2);
}

/// What an older program stored when the function had other tags has not this one.
#[tokio::test]
async fn an_entry_without_the_tag_of_its_function_is_dead() {
    let server = Server::redis().start();
    let (cache, loads) = (over(&server.url()), Loads::new());
    assert_eq!([row(&cache, &loads, 1).await, row(&cache, &loads, 1).await], [1, 1]);
    // Another function's tag stands where its own should: the same record but for that.
    let script = "local all = redis.call('GET', KEYS[1])
        local at = string.find(all, '\\0', 84, true)
        while string.sub(all, at - 2, at - 1) ~= string.char(17, 0) do at = string.find(all, '\\0', at + 1, true) end
        redis.call('SETRANGE', KEYS[1], at, '0123456789abcdef')
        local key = redis.call('KEYS', '@fn:*')[1]
        redis.call('SET', '@fn:0123456789abcdef', redis.call('GET', key))";
    server.command(&["EVAL", script, "1", "row:1"]);
    assert_eq!(row::cached(&cache, 1).await.unwrap(), None);
    assert_eq!([row(&cache, &loads, 1).await, row(&cache, &loads, 1).await], [2, 2]);
}
