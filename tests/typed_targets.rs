//! The entry of a call is forgotten by naming the call (SPEC 2.4; I1, I3).

mod support;

use std::time::Duration;

use cache_aside::{Cache, cache, cache_invalidate};
use support::{embedded, ms};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> String {
    format!("user {id}")
}

#[cache(ttl = 60)]
async fn get_by_name(name: &str, org: String) -> usize {
    name.len() + org.len()
}

mod posts {
    use cache_aside::cache;

    #[cache(ttl = 60, key = "posts:{author}:{page}")]
    pub(crate) async fn posts_by(author: u64, page: u32) -> u64 {
        author + u64::from(page)
    }
}

const SEVEN: u64 = 7;

struct Service {
    cache: Cache,
    tenant: String,
}

impl Service {
    #[cache(ttl = 60, skip(self))]
    async fn get(&self, id: u64) -> u64 {
        id
    }

    #[cache(ttl = 60, key = "order:{self.tenant}:{id}", cache = &self.cache)]
    async fn order(&self, id: u64) -> u64 {
        id
    }

    #[cache(ttl = 60, helpers = "method")]
    async fn number(id: u64) -> u64 {
        id
    }

    #[cache_invalidate(self.get(id), self.order(id), Self::number(id))]
    async fn change(&self, id: u64) {
        let _ = &self.tenant;
        let _ = id;
    }

    #[cache_invalidate(Self::get(id), Service::order(self, id))]
    async fn change_in_words(&self, id: u64) {
        let _ = (&self.tenant, id);
    }

    #[cache_invalidate(self.get(id), self.order(id))]
    async fn change_mutably(&mut self, id: u64) {
        self.tenant.push_str(&id.to_string());
    }

    #[cache_invalidate(self.get(*value), self.order(*value))]
    async fn create(&self) -> u64 {
        u64::from(!self.tenant.is_empty())
    }

    #[cache_invalidate(self.get::*, self.order::*, Service::number::*)]
    async fn forget(&self) {
        let _ = &self.tenant;
    }
}

#[tokio::test]
async fn a_call_names_its_entry_and_no_other() {
    #[cache_invalidate(get_user(id), posts::posts_by(id, 1))]
    async fn write(id: u64) -> Result<(), String> {
        let _ = id;
        Ok(())
    }
    Cache::scope(embedded(), async {
        for id in [1, 2] {
            get_user(id).await;
            posts::posts_by(id, 1).await;
            posts::posts_by(id, 2).await;
        }
        write(1).await.unwrap();
        assert_eq!(get_user::cached(1).await.unwrap(), None);
        assert!(get_user::cached(2).await.unwrap().is_some());
        assert_eq!(posts::posts_by::cached(1, 1).await.unwrap(), None);
        assert!(posts::posts_by::cached(1, 2).await.unwrap().is_some());
        assert!(posts::posts_by::cached(2, 1).await.unwrap().is_some());
        assert_eq!(cache_aside::global().unwrap().stats().invalidations, 2);
    })
    .await;
}

#[tokio::test]
async fn the_key_is_made_before_the_body_takes_the_arguments() {
    #[cache_invalidate(get_by_name(&name, org.clone()))]
    async fn rename(name: String, org: String) -> usize {
        let mut both = name;
        both.push_str(&org);
        drop(org);
        both.len()
    }
    Cache::scope(embedded(), async {
        get_by_name("ada", "acme".to_owned()).await;
        assert_eq!(rename("ada".to_owned(), "acme".to_owned()).await, 7);
        assert_eq!(get_by_name::cached("ada", "acme".to_owned()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn targets_of_the_result_and_texts_stand_together() {
    struct Saved {
        id: u64,
        name: String,
    }
    // What the body takes is copied first.
    #[cache_invalidate(
        get_user(value.id),
        "text:{org}",
        get_by_name(&value.name, org),
        get_by_name(value.name.as_str(), format!("{org}!")),
        self::posts::posts_by(1, u32::from(value.id == self::SEVEN)),
        "text:{value.id}"
    )]
    async fn save(org: String) -> Result<Saved, String> {
        if org.is_empty() { Err(org) } else { Ok(Saved { id: 7, name: "ada".to_owned() }) }
    }
    Cache::scope(embedded(), async {
        let cache = cache_aside::global().unwrap();
        let fill = || async {
            get_user(7).await;
            get_by_name("ada", "acme".to_owned()).await;
            get_by_name("ada", "acme!".to_owned()).await;
            posts::posts_by(1, 1).await;
            for text in ["text:acme", "text:7", "text:"] {
                cache.set(text, &1, cache_aside::Ttl::Default).await.unwrap();
            }
        };
        let left = || async {
            [
                get_user::cached(7).await.unwrap().is_some(),
                get_by_name::cached("ada", "acme".to_owned()).await.unwrap().is_some(),
                get_by_name::cached("ada", "acme!".to_owned()).await.unwrap().is_some(),
                posts::posts_by::cached(1, 1).await.unwrap().is_some(),
                cache.exists("text:acme").await.unwrap(),
                cache.exists("text:7").await.unwrap(),
            ]
        };
        fill().await;
        assert!(save(String::new()).await.is_err());
        assert_eq!(left().await, [true; 6], "an `Err` leaves the cache alone");
        let saved = save("acme".to_owned()).await.unwrap();
        assert_eq!((saved.id, saved.name.as_str()), (7, "ada"));
        assert_eq!(left().await, [false; 6]);
    })
    .await;
}

#[tokio::test]
async fn methods_are_named_as_they_are_called_and_use_their_own_cache() {
    let mut service = Service { cache: embedded(), tenant: "t".to_owned() };
    Cache::scope(embedded(), async {
        let fill = async |service: &Service| {
            for id in [1, 2] {
                service.get(id).await;
                service.order(id).await;
                Service::number(id).await;
            }
        };
        let left = async |service: &Service| {
            let mut left = Vec::new();
            for id in [1, 2] {
                left.push(Service::get_cached(id).await.unwrap().is_some());
                left.push(service.order_cached(id).await.unwrap().is_some());
                left.push(Service::number_cached(id).await.unwrap().is_some());
            }
            left
        };
        fill(&service).await;
        service.change(1).await;
        assert_eq!(left(&service).await, [false, false, false, true, true, true]);
        fill(&service).await;
        service.change_in_words(2).await;
        assert_eq!(left(&service).await, [true, true, true, false, false, true]);
        fill(&service).await;
        assert_eq!(service.create().await, 1);
        assert_eq!(left(&service).await, [false, false, true, true, true, true]);
        fill(&service).await;
        service.forget().await;
        assert_eq!(left(&service).await, [false; 6]);
        fill(&service).await;
        service.change_mutably(1).await;
        service.tenant = "t".to_owned();
        assert_eq!(left(&service).await, [false, false, true, true, true, true]);
    })
    .await;
}

#[tokio::test]
async fn all_entries_of_a_function_go() {
    #[cache_invalidate(get_user::*, posts::posts_by::*, on = "always")]
    async fn import() -> Result<(), String> {
        Err("half of it".to_owned())
    }
    Cache::scope(embedded(), async {
        for id in 0..3 {
            get_user(id).await;
            posts::posts_by(id, 1).await;
            get_by_name("ada", id.to_string()).await;
        }
        import().await.unwrap_err();
        for id in 0..3 {
            assert_eq!(get_user::cached(id).await.unwrap(), None);
            assert_eq!(posts::posts_by::cached(id, 1).await.unwrap(), None);
            assert!(get_by_name::cached("ada", id.to_string()).await.unwrap().is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn the_cache_of_a_target_may_be_an_argument_of_it() {
    #[cache(ttl = 60, cache = cache, skip(cache))]
    async fn row(cache: &Cache, id: u64) -> u64 {
        id
    }
    #[cache_invalidate(row(cache, id))]
    async fn write(cache: &Cache, id: u64) {
        let _ = (cache, id);
    }
    #[cache_invalidate(row::*(cache))]
    async fn write_all(cache: &Cache) {
        let _ = cache;
    }
    let (one, other) = (embedded(), embedded());
    for cache in [&one, &other] {
        row(cache, 1).await;
        row(cache, 2).await;
    }
    write(&one, 1).await;
    assert_eq!(row::cached(&one, 1).await.unwrap(), None);
    assert_eq!(row::cached(&one, 2).await.unwrap(), Some(2));
    write_all(&one).await;
    assert_eq!(row::cached(&one, 2).await.unwrap(), None);
    assert_eq!(row::cached(&other, 1).await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn generic_functions_and_generic_types_are_targets() {
    struct Repo<T>(std::marker::PhantomData<T>);
    impl<T: Default + serde::Serialize + serde::de::DeserializeOwned> Repo<T> {
        #[cache(ttl = 60, helpers = "method")]
        async fn find(id: u64) -> T {
            let _ = id;
            T::default()
        }
        #[cache_invalidate(Self::find(id))]
        async fn save(id: u64) {
            let _ = id;
        }
    }
    #[cache(ttl = 60)]
    async fn of<T: serde::Serialize>(id: T) -> u64 {
        drop(id);
        1
    }
    #[cache_invalidate(of(id), of::<u8>(3), Repo::<u16>::find(u64::from(id)), <Repo<u16>>::find(9))]
    async fn write(id: u32) {
        let _ = id;
    }
    Cache::scope(embedded(), async {
        of(1_u32).await;
        of(3_u8).await;
        of(1_u8).await;
        Repo::<u8>::find(1).await;
        Repo::<u16>::find(1).await;
        write(1).await;
        assert_eq!(of::cached(1_u32).await.unwrap(), None);
        assert_eq!(of::cached(3_u8).await.unwrap(), None);
        assert_eq!(of::cached(1_u8).await.unwrap(), Some(1));
        assert_eq!(Repo::<u16>::find_cached(1).await.unwrap(), None);
        assert_eq!(Repo::<u8>::find_cached(1).await.unwrap(), Some(0));
        Repo::<u8>::save(1).await;
        assert_eq!(Repo::<u8>::find_cached(1).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_writer_s_targets_are_forgotten_in_its_scope() {
    #[cache_invalidate(get_user(id))]
    async fn write(id: u64) -> u64 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        id
    }
    Cache::scope(embedded(), async {
        get_user(1).await;
        tokio::time::timeout(ms(10), write(1)).await.unwrap_err();
        assert_eq!(get_user::cached(1).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_the_write_is_not_stored() {
    #[cache(ttl = 60)]
    async fn slow(id: u64) -> u64 {
        tokio::time::sleep(ms(100)).await;
        id
    }
    #[cache_invalidate(slow(id))]
    async fn write(id: u64) {
        tokio::time::sleep(ms(50 * id)).await;
    }
    Cache::scope(embedded(), async {
        tokio::join!(slow(1), write(1));
        assert_eq!(slow::cached(1).await.unwrap(), None);
        assert_eq!(slow::cache_stats().fills_refused, 1);
    })
    .await;
}
