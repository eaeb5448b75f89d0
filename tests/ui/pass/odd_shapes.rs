//! Rarer shapes: conditional functions, captures, receivers of odd types, early-bound lifetimes.

#![deny(warnings)]
use async_trait::async_trait;
use cache_aside::{cache, cache_invalidate};
use serde::{Serialize, de::DeserializeOwned};
use std::pin::Pin;

#[cache(ttl = 5)]
#[cfg(any())]
async fn never(id: Missing) -> u64 {
    id
}

#[cache(ttl = 5)]
async fn ref_pattern(ref x: String, #[allow(unused)] y: u64) -> usize {
    x.len()
}

#[cache]
async fn even(n: u64) -> bool {
    if n == 0 { true } else { Box::pin(odd(n - 1)).await }
}
#[cache]
async fn odd(n: u64) -> bool {
    if n == 0 { false } else { Box::pin(even(n - 1)).await }
}

#[cache]
async fn const_bool<const B: bool, const C: char>(id: u64) -> bool {
    id > 0 && B && C == 'x'
}

#[cache(ttl = |value| std::time::Duration::from_secs(id + value.len() as u64), unless = |_v| id == 9)]
async fn captures(id: u64) -> String {
    id.to_string()
}

trait Tr<'a> {}
impl<'a> Tr<'a> for u64 {}
#[cache]
async fn early<'a, T: Tr<'a> + Serialize + 'a>(x: &'a T) -> u64
where
    u64: Tr<'a>,
{
    let _ = x;
    1
}

#[cache]
async fn unsized_arg<T: Serialize + ?Sized>(x: &T) -> u64 {
    let _ = x;
    1
}

struct S<'a>(&'a str);
impl<'a> S<'a> {
    #[cache(skip(self))]
    async fn f(&self, id: u64) -> u64 {
        id + self.0.len() as u64
    }
    #[cache(key = "a:{self.0}")]
    async fn boxed(self: Box<Self>) -> u64 {
        1
    }
    #[cache(key = "p:{self.0}")]
    async fn pinned(self: Pin<&mut Self>) -> u64 {
        1
    }
    #[cache(key = "r:{self.0}")]
    async fn typed(self: &Self, id: &'a str) -> u64 {
        id.len() as u64
    }
}
#[derive(serde::Serialize, serde::Deserialize)]
struct User {
    id: u64,
    name: Option<String>,
    r#type: (u64, (u64, u64)),
}
impl User {
    #[cache]
    async fn load(id: u64) -> Option<Self> {
        Some(User { id, name: None, r#type: (1, (2, 3)) })
    }
    #[cache(key = "x:{self.type.1.0}:{self.id}")]
    async fn nested(&self) -> u64 {
        self.id + self.name.is_some() as u64
    }
}

#[async_trait]
trait Repo: Sync {
    async fn g<T: Serialize + Send + Sync + 'static>(&self, id: T) -> u64;
    #[cache(skip(self))]
    async fn default_body(&self, id: u64) -> Result<u64, String> {
        if id == 0 {
            return Err("x".into());
        }
        Ok(id)
    }
}
struct R;
#[async_trait]
impl Repo for R {
    #[cache(skip(self))]
    async fn g<T: Serialize + Send + Sync + 'static>(&self, id: T) -> u64 {
        drop(id);
        1
    }
}
struct G<T>(T);
impl<T> G<T>
where
    T: Serialize + DeserializeOwned + Clone,
{
    #[cache(key = "g:{id}")]
    async fn get(&self, id: u64) -> Vec<T> {
        let _ = id;
        vec![self.0.clone()]
    }
    #[cache_invalidate("g:{id}")]
    async fn set(&self, id: u64) -> Option<T>
    where
        T: Clone,
    {
        let _ = id;
        None
    }
}

#[cache_invalidate("a:{value.id}:{value.type.1.1}:{x}")]
async fn inv(x: u64) -> Result<User, std::rc::Rc<u8>> {
    Ok(User { id: x, name: None, r#type: (1, (2, 3)) })
}

fn is_send<T: Send>(t: T) -> T {
    t
}

#[tokio::main]
async fn main() {
    assert_eq!(ref_pattern("ab".into(), 1).await, 2);
    let _ = ref_pattern::refresh_cache("ab".into(), 1).await;
    assert!(is_send(even(4)).await);
    assert!(const_bool::<true, 'x'>(1).await);
    assert!(const_bool::clear_cache::<true, 'x'>(1).await.unwrap());
    assert_eq!(captures(1).await, "1");
    captures::put_cache(1, &"2".to_owned()).await.unwrap();
    assert_eq!(captures(1).await, "2");
    assert_eq!(early(&1u64).await, 1);
    assert_eq!(early::refresh_cache(&1u64).await, 1);
    assert_eq!(unsized_arg("a").await, 1);
    let mut s = S("ab");
    assert_eq!(s.f(1).await, 3);
    assert_eq!(s.typed("x").await, 1);
    assert_eq!(Pin::new(&mut s).pinned().await, 1);
    assert_eq!(Pin::new(&mut s).pinned_refresh_cache().await, 1);
    assert_eq!(Box::new(s).boxed().await, 1);
    let u = User::load(1).await.unwrap();
    assert_eq!(u.nested_cache_key().unwrap(), "x:2:1");
    assert_eq!(u.nested().await, 1);
    assert_eq!(is_send(R.g(1)).await, 1);
    assert!(is_send(R.default_body(0)).await.is_err());
    let g = G(1u8);
    assert_eq!(g.get(1).await, vec![1]);
    assert!(g.set(1).await.is_none());
    assert!(inv(1).await.is_ok());
}
