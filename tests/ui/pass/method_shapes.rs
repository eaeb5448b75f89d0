//! Methods of every shape: receivers, generic impls, static methods, trait impls.

#![deny(warnings)]

use cache_aside::{Cache, CacheError, cache};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone)]
struct Service {
    tenant: String,
    runs: u64,
    cache: Cache,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
}

impl Service {
    #[cache(ttl = 60, skip(self))]
    async fn by_reference(&self, id: u64) -> Option<User> {
        let _ = &self.tenant;
        Some(User { id })
    }

    #[cache(key = "order:{self.tenant}:{id}", cache = &self.cache)]
    pub async fn by_template(&self, id: u64) -> User {
        User { id }
    }

    #[cache(key_builder = |id| format!("{}:{id}", self.tenant))]
    async fn by_closure(&self, id: u64) -> User {
        User { id }
    }

    fn key(&self, id: &u64, name: &str) -> String {
        format!("{}:{id}:{name}", self.tenant)
    }

    #[cache(key_builder = Self::key, skip(other))]
    async fn by_path(&self, id: u64, name: &str, other: &std::cell::Cell<u8>) -> User {
        let _ = (name, other);
        User { id }
    }

    #[cache(skip(self))]
    async fn by_mutable_reference(&mut self, id: u64) -> u64 {
        self.runs += 1;
        id + self.runs
    }

    #[cache(key_builder = Self::key)]
    async fn by_mutable_path(&mut self, id: u64, name: String) -> u64 {
        self.runs += 1;
        drop(name);
        id
    }

    #[cache(key = "{self.tenant}:value:{id}")]
    async fn by_value(mut self, id: u64) -> u64 {
        self.runs += id;
        self.runs
    }

    #[cache(key = "{self.tenant}:arc:{id}")]
    async fn by_arc(self: Arc<Self>, id: u64) -> u64 {
        id + self.runs
    }

    #[cache(helpers = "method")]
    async fn a_static_one(id: u64) -> u64 {
        id
    }

    #[cache(skip(like))]
    async fn with_self_in_its_signature(like: &Self, id: u64) -> u64 {
        id + like.runs
    }

    #[cache(helpers = "none")]
    async fn without_helpers(id: u64) -> u64 {
        id
    }

    #[cache(ttl = std::time::Duration::from_secs(id), skip(self))]
    async fn with_generics<T: Serialize + Into<u64>, const N: u64>(&self, id: u64, other: T) -> u64 {
        id + other.into() + N
    }
}

struct Repo<T>(std::marker::PhantomData<T>);

impl<T: Default + Serialize + serde::de::DeserializeOwned> Repo<T> {
    #[cache(skip(self))]
    async fn find(&self, id: u64) -> Option<T> {
        let _ = id;
        Some(T::default())
    }

    #[cache(helpers = "method")]
    async fn make(id: u64) -> T {
        let _ = id;
        T::default()
    }
}

trait Find {
    type Key;
    fn find(&self, id: Self::Key) -> impl Future<Output = Result<User, String>> + Send;

    #[cache(skip(self), helpers = "none")]
    #[allow(async_fn_in_trait)]
    async fn by_default(&self, id: u64) -> u64 {
        id
    }
}

impl Find for Service {
    type Key = u64;
    #[cache(key = "find:{self.tenant}:{id}", helpers = "none")]
    async fn find(&self, id: Self::Key) -> Result<User, String> {
        Ok(User { id })
    }
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() -> Result<(), CacheError> {
    let cache = Cache::builder().memory(1 << 20).build()?;
    let mut service = Service { tenant: "t".to_owned(), runs: 0, cache };
    let user = User { id: 1 };
    assert_eq!(is_send(service.by_reference(1)).await, Some(user.clone()));
    assert_eq!(is_send(Service::by_reference_cached(1)).await?, Some(Some(user.clone())));
    assert_eq!(is_send(service.by_template(1)).await, user);
    assert_eq!(service.by_template_cache_key(1)?, "order:t:1");
    assert!(is_send(service.by_template_clear_cache(1)).await?);
    service.by_template_put_cache(1, &user).await?;
    let _ = service.by_template_cache_entry(1, &user)?;
    service.by_template_clear_cache_all().await?;
    assert_eq!(service.by_closure(1).await, user);
    assert_eq!(service.by_closure_cache_key(1)?, "t:1");
    assert_eq!(service.by_path(1, "n", &std::cell::Cell::new(1)).await, user);
    assert_eq!(service.by_path_cache_key(1, "n")?, "t:1:n");
    assert_eq!(is_send(service.by_mutable_reference(1)).await, 2);
    assert_eq!(service.by_mutable_reference(1).await, 2);
    assert_eq!(service.by_mutable_reference_refresh_cache(1).await, 3);
    assert_eq!(service.by_mutable_path(1, String::new()).await, 1);
    assert_eq!(service.by_mutable_path_cache_key(1, String::new())?, "t:1:");
    assert_eq!(is_send(service.clone().by_value(1)).await, 4);
    assert!(service.by_value_clear_cache(1).await?);
    assert_eq!(service.clone().by_value_refresh_cache(1).await, 4);
    assert_eq!(is_send(Arc::new(service.clone()).by_arc(1)).await, 4);
    assert!(service.by_arc_clear_cache(1).await?);
    assert_eq!(Service::a_static_one(1).await, 1);
    assert!(Service::a_static_one_clear_cache(1).await?);
    assert_eq!(Service::with_self_in_its_signature(&service, 1).await, 4);
    assert!(Service::with_self_in_its_signature_clear_cache(1).await?);
    assert_eq!(Service::without_helpers(1).await, 1);
    assert_eq!(service.with_generics::<_, 5>(1, 2_u32).await, 8);
    Service::with_generics_put_cache::<u32, 5>(1, 2, &9).await?;
    let _ = Service::with_generics_cache_entry::<u32, 5>(1, 2, &9)?;
    assert_eq!(service.with_generics::<_, 5>(1, 2_u32).await, 9);

    let repo = Repo::<u8>(std::marker::PhantomData);
    assert_eq!(is_send(repo.find(1)).await, Some(0));
    assert_eq!(Repo::<u8>::make(1).await, 0);
    assert!(Repo::<u8>::find_clear_cache(1).await?);
    assert!(!Repo::<u16>::find_clear_cache(1).await?);
    assert_eq!(Repo::<u8>::make_cache_stats().loads, 1);

    assert_eq!(Find::find(&service, 1).await, Ok(user));
    assert_eq!(service.by_default(1).await, 1);
    Ok(())
}
