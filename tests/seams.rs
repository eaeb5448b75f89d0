//! Where tags, typed targets, puts, transactions, fences and near values meet (I1-I4, I18).

mod support;

use std::pin::pin;

use cache_aside::{Cache, CacheManager, Ttl, cache, cache_invalidate, cache_put, deferred};
use support::db::Row as Db;
use support::proxy::Proxy;
use support::server::Server;
use support::{ms, secs};
use tokio::sync::Semaphore;
use tokio::time::timeout;

fn caches() -> ([Cache; 2], Server) {
    let server = Server::redis().start();
    let builder = Cache::builder().store_budget(secs(3)).namespace("shop");
    ([builder.clone().build().unwrap(), builder.redis(server.url()).build().unwrap()], server)
}

#[cache(ttl = 600, near = true, key = "asked:{id}", tags = ["by:{who}"], cache = cache)]
async fn asked(cache: &Cache, db: &Db, id: u64, who: &str) -> u64 {
    let _ = (id, who);
    db.read()
}

/// An argument that isn't part of the key: also what is kept in the process answers only those whose
/// tags it has, or an invalidation of theirs wouldn't reach it.
#[tokio::test]
async fn a_near_value_answers_those_whose_tags_it_has() {
    let (caches, _server) = caches();
    for cache in caches {
        let db = Db::default();
        db.write(7);
        while cache.stats().near_hits == 0 {
            assert_eq!(asked(&cache, &db, 1, "a").await, 7);
        }
        asked(&cache, &db, 1, "b").await;
        db.write(8);
        cache.invalidate_tags(&["by:b"]).await.unwrap();
        assert_eq!(asked(&cache, &db, 1, "b").await, 8);
    }
}

#[tokio::test]
async fn by_hand_a_value_whose_tag_was_collected_is_absent() {
    let (caches, _server) = caches();
    for cache in caches {
        let posts = CacheManager::new("posts", Ttl::Default).on(&cache);
        posts.set_with_tags("1", &1, &["user:1"]).await.unwrap();
        posts.set_with_tags("2", &2, &["user:2"]).await.unwrap();
        let ((), list) = deferred(async {
            cache.invalidate_tags(&["user:1"]).await.unwrap();
            assert_eq!(posts.get::<u64>("1").await.unwrap(), None);
            assert_eq!(posts.get::<u64>("2").await.unwrap(), Some(2));
            assert_eq!(cache.get_many::<u64>(&["posts:1", "posts:2"]).await.unwrap(), [None, Some(2)]);
            assert!(!cache.exists("posts:1").await.unwrap() && cache.exists("posts:2").await.unwrap());
        })
        .await;
        assert_eq!(posts.get::<u64>("1").await.unwrap(), Some(1));
        list.discard();
    }
}

#[tokio::test]
async fn what_the_outer_transaction_collected_is_absent_in_the_inner_one() {
    let (caches, _server) = caches();
    for cache in caches {
        cache.set("a", &1, Ttl::Default).await.unwrap();
        let ((), outer) = deferred(async {
            cache.delete("a").await.unwrap();
            let ((), inner) = deferred(async { assert!(!cache.exists("a").await.unwrap()) }).await;
            inner.discard();
        })
        .await;
        outer.apply().await;
    }
}

#[cache(ttl = 600, key = "row:{id}", cache = cache)]
async fn row(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.read()
}

#[cache_invalidate(row(cache, id), fence = 60)]
async fn write_fenced(cache: &Cache, db: &Db, id: u64, to: u64) {
    let _ = id;
    db.write(to);
}

/// Whether two calls are two loads.
async fn is_fenced(cache: &Cache, db: &Db) -> bool {
    let (cache, db) = (cache.clone(), db.clone());
    // In a task of its own, so that no transaction hides it.
    let both = async move {
        let before = db.reads();
        row(&cache, &db, 1).await;
        row(&cache, &db, 1).await;
        db.reads() - before == 2
    };
    tokio::spawn(both).await.unwrap()
}

/// The release of a savepoint isn't the commit: who is killed after that leaves nothing stale either.
#[tokio::test]
async fn a_fence_stands_until_the_outer_transaction_is_applied() {
    let (caches, _server) = caches();
    for cache in caches {
        let db = Db::default();
        let ((), outer) = deferred(async {
            let ((), inner) = deferred(write_fenced(&cache, &db, 1, 1)).await;
            inner.apply().await;
            assert!(is_fenced(&cache, &db).await);
        })
        .await;
        assert!(is_fenced(&cache, &db).await);
        outer.apply().await;
        assert!(!is_fenced(&cache, &db).await);
        let ((), outer) = deferred(async {
            deferred(write_fenced(&cache, &db, 1, 2)).await.1.discard();
            while is_fenced(&cache, &db).await {
                tokio::time::sleep(ms(5)).await;
            }
        })
        .await;
        outer.discard();
    }
}

#[cache_put(row(cache, id))]
async fn put_slowly(cache: &Cache, db: &Db, gate: &Semaphore, id: u64, to: u64) -> u64 {
    let _ = id;
    gate.acquire().await.unwrap().forget();
    db.write(to);
    to
}

#[tokio::test]
async fn a_put_that_began_outside_and_goes_on_inside_is_stored_for_nobody() {
    let (caches, _server) = caches();
    for cache in caches {
        let (db, gate) = (Db::default(), Semaphore::new(0));
        let mut put = pin!(put_slowly(&cache, &db, &gate, 1, 7));
        assert!(timeout(ms(20), put.as_mut()).await.is_err());
        gate.add_permits(1);
        let (returned, list) = deferred(put).await;
        assert_eq!(returned, 7);
        assert_eq!(row::cached(&cache, 1).await.unwrap(), None, "not committed yet");
        list.apply().await;
        assert_eq!(row(&cache, &db, 1).await, 7);
    }
}

/// A put that finds the fence of another writer leaves it where it is.
#[tokio::test]
async fn a_put_leaves_the_fence_of_another_writer() {
    let (caches, _server) = caches();
    for cache in caches {
        let (db, gate) = (Db::default(), Semaphore::new(1));
        let ((), list) = deferred(write_fenced(&cache, &db, 1, 1)).await;
        assert!(is_fenced(&cache, &db).await);
        put_slowly(&cache, &db, &gate, 1, 2).await;
        assert!(is_fenced(&cache, &db).await);
        list.apply().await;
        assert!(!is_fenced(&cache, &db).await);
    }
}

struct Tags {
    cache: Cache,
}

impl Tags {
    fn key(&self) -> &'static str {
        let _ = &self.cache;
        "x"
    }

    #[cache(ttl = 600, key = "tags:{id}", cache = &self.cache)]
    async fn get(&self, id: &str) -> u64 {
        id.len() as u64
    }
}

#[cache_invalidate(tags.get(tags.key()), tags = ["x"], cache = &tags.cache)]
async fn write_by_name(tags: &Tags) {
    let _ = tags;
}

#[tokio::test]
async fn an_argument_may_be_called_as_the_option_is() {
    let (caches, _server) = caches();
    for cache in caches {
        let tags = Tags { cache };
        tags.get("x").await;
        write_by_name(&tags).await;
        assert_eq!(tags.get_cached("x").await.unwrap(), None);
    }
}

#[cache(ttl = 600, key = "odd:{id}", tags = ["odd[1]:{id}"], cache = cache)]
async fn odd(cache: &Cache, db: &Db, id: u64) -> u64 {
    let _ = id;
    db.read()
}

#[cache_invalidate(tags = ["odd[1]:{id}"], cache = cache)]
async fn write_odd(cache: &Cache, id: u64) {
    let _ = (cache, id);
}

/// When the queue of what is kept is full, tags become a glob of what they are made from, which fits them
/// whatever stands in their text.
#[tokio::test]
async fn kept_tags_with_glob_characters_are_not_forgotten() {
    let server = Server::redis().start();
    let proxy = Proxy::start(&server.url());
    let cache = Cache::builder().redis(proxy.url()).retry_queue(3).build().unwrap();
    let other = Cache::builder().redis(server.url()).store_budget(secs(3)).build().unwrap();
    let db = Db::default();
    for id in 0..10 {
        assert_eq!(odd(&other, &db, id).await, 0);
    }
    db.write(1);
    cache.exists("connected").await.unwrap();
    proxy.refuse(true);
    proxy.cut().await;
    for id in 0..10 {
        write_odd(&cache, id).await;
    }
    assert!((1..=3).contains(&cache.pending_invalidations()));
    proxy.refuse(false);
    while cache.pending_invalidations() > 0 {
        cache.exists("connected").await.unwrap_or_default();
        tokio::time::sleep(ms(5)).await;
    }
    for id in 0..10 {
        assert_eq!(odd(&other, &db, id).await, 1, "{id}");
    }
}

/// What isn't ours is left alone, also by a put that can't be stored.
#[tokio::test]
async fn a_put_does_not_delete_another_program_s_data() {
    let ([_, cache], server) = caches();
    server.command(&["HSET", "shop:row:1", "field", "value"]);
    let db = Db::default();
    assert_eq!(put_slowly(&cache, &db, &Semaphore::new(1), 1, 7).await, 7);
    assert_eq!(server.command(&["HGET", "shop:row:1", "field"]), "value");
}
