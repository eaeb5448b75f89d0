//! Free functions of every shape: arguments, generics, lifetimes, scopes.

#![deny(warnings)]

use cache_aside::cache;
use serde::Serialize;

struct Db;

#[cache(ttl = 60, skip(db))]
async fn with_references(name: &str, ids: &[u64], flag: &bool, db: &Db) -> usize {
    let Db = db;
    name.len() + ids.len() + usize::from(*flag)
}

#[cache]
async fn with_patterns((a, b): (u64, u64), [c, _]: [u64; 2], mut d: u64, _: u64) -> u64 {
    d += a + b + c;
    d
}

#[cache(skip(b))]
async fn with_half_a_pattern((a, b): (u64, Db)) -> u64 {
    let Db = b;
    a
}

#[cache(skip(text, more))]
async fn with_impl_trait(id: u64, text: impl AsRef<str> + Send, more: &(impl Sync + ?Sized)) -> usize {
    let _ = more;
    text.as_ref().len() + usize::try_from(id).unwrap_or(0)
}

#[cache]
async fn with_kept_impl_trait(id: impl Serialize + Copy + Into<u64>) -> u64 {
    id.into()
}

#[cache(skip(db))]
async fn with_generics<T, E, const N: usize>(id: T, ids: [u8; 3], db: E) -> Vec<T>
where
    T: Serialize + serde::de::DeserializeOwned + Clone + From<u8>,
    E: Fn(T) -> T,
{
    let _ = ids;
    vec![db(id); N]
}

#[cache(skip(db))]
async fn with_lifetimes<'a, 'b: 'a>(id: &'a str, db: &'b Db) -> String {
    let Db = db;
    id.to_owned()
}

#[cache]
async fn with_a_raw_name(r#type: u64) -> u64 {
    r#type
}

#[cache]
async fn r#match(id: u64) -> u64 {
    id
}

#[cache(key = "type:{type}")]
async fn with_a_raw_place(r#type: u64) -> u64 {
    r#type
}

#[cache]
async fn no_arguments() -> u64 {
    1
}

#[cache]
async fn recursion(n: u64) -> u64 {
    if n < 2 { n } else { Box::pin(recursion(n - 1)).await + Box::pin(recursion(n - 2)).await }
}

#[cache]
async fn seventeen(
    a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8,
    j: u8, k: u8, l: u8, m: u8, n: u8, o: u8, p: u8, q: u8,
) -> u64 {
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q].map(u64::from).iter().sum()
}

#[cache]
async fn with_an_inner_attribute(id: u64) -> u64 {
    #![allow(unused_variables)]
    1
}

#[cache]
async fn never_returns(id: u64) -> u64 {
    let _ = id;
    panic!("the body gives no value")
}

#[cache]
async fn early_return(id: u64) -> Result<Option<u64>, String> {
    if id == 0 {
        return Ok(None);
    }
    let id = id.checked_mul(2).ok_or("too great")?;
    Ok(Some(id))
}

#[cache]
async fn names_of_ours(call: u64, kind: u64, make: u64, value: u64, ttl: u64, argument: Vec<u64>) -> u64 {
    call + kind + make + value + ttl + argument.iter().sum::<u64>()
}

#[cache(key = "cow:{text}")]
async fn borrowed_cow(text: &str) -> std::borrow::Cow<'_, str> {
    text.into()
}

#[cache]
async fn unused_arguments(_id: u64, _name: String) -> u64 {
    1
}

mod inner {
    use cache_aside::cache;

    #[cache]
    pub(crate) async fn in_a_module(id: u64) -> u64 {
        id
    }

    #[cache]
    pub(in crate::inner) async fn restricted(id: u64) -> u64 {
        id
    }

    pub(crate) async fn call() -> u64 {
        restricted(1).await
    }
}

macro_rules! lookup {
    ($name:ident, $id:ident: $ty:ty, $ttl:expr, $key:literal, $body:block) => {
        #[cache(ttl = $ttl, key = $key)]
        async fn $name($id: $ty) -> u64 $body
    };
}

lookup!(made_by_a_macro, id: u64, 60, "made:{id}", { id });

fn is_send<T: Send>(future: T) -> T {
    future
}

#[tokio::main]
async fn main() -> Result<(), cache_aside::CacheError> {
    #[cache]
    async fn in_a_body(id: u64) -> u64 {
        id
    }

    let ids = [1, 2];
    assert_eq!(is_send(with_references("ab", &ids, &true, &Db)).await, 5);
    assert!(is_send(with_references::clear_cache("ab", &ids, &true)).await?);
    assert_eq!(is_send(with_patterns((1, 2), [3, 0], 4, 5)).await, 10);
    assert_eq!(with_patterns::refresh_cache((1, 2), [3, 0], 4, 5).await, 10);
    assert!(with_patterns::clear_cache((1, 2), [3, 0], 4).await?);
    assert_eq!(with_half_a_pattern((1, Db)).await, 1);
    assert_eq!(is_send(with_impl_trait(1, "ab", &ids)).await, 3);
    assert!(with_impl_trait::clear_cache(1).await?);
    assert_eq!(with_impl_trait::refresh_cache(1, "ab", "text").await, 3);
    assert_eq!(with_kept_impl_trait(7_u32).await, 7);
    assert!(with_kept_impl_trait::clear_cache(7_u32).await?);
    assert_eq!(with_generics::<u64, _, 2>(7, [0; 3], |id| id).await, [7, 7]);
    assert!(with_generics::clear_cache::<u64, 2>(7, [0; 3]).await?);
    assert_eq!(is_send(with_lifetimes("a", &Db)).await, "a");
    assert_eq!(with_a_raw_name(1).await + r#match(1).await + with_a_raw_place(1).await, 3);
    assert!(r#match::clear_cache(1).await?);
    assert_eq!(no_arguments().await, 1);
    assert!(no_arguments::clear_cache().await?);
    assert_eq!(is_send(recursion(10)).await, 55);
    assert_eq!(recursion::cached(10).await?, Some(55));
    assert_eq!(seventeen(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1).await, 17);
    assert_eq!(with_an_inner_attribute(1).await, 1);
    drop(never_returns(1));
    assert_eq!(early_return(0).await, Ok(None));
    assert_eq!(early_return(2).await, Ok(Some(4)));
    assert_eq!(early_return::cached(2).await?, Some(Ok(Some(4))));
    early_return::put_cache(3, &Some(9)).await?;
    assert_eq!(early_return(3).await, Ok(Some(9)));
    assert_eq!(names_of_ours(1, 2, 3, 4, 5, vec![6]).await, 21);
    names_of_ours::put_cache(1, 2, 3, 4, 5, vec![6], &1).await?;
    assert_eq!(borrowed_cow("a").await, "a");
    assert_eq!(borrowed_cow::cached("a").await?.as_deref(), Some("a"));
    assert_eq!(unused_arguments(1, String::new()).await, 1);
    assert_eq!(inner::in_a_module(1).await + inner::call().await, 2);
    assert!(inner::in_a_module::clear_cache(1).await?);
    assert_eq!(made_by_a_macro(1).await, 1);
    assert_eq!(made_by_a_macro::cache_key(1)?, "made:1");
    assert_eq!(in_a_body(1).await, 1);
    assert!(in_a_body::cache_stats().loads == 1);
    in_a_body::clear_cache_all().await?;
    Ok(())
}
