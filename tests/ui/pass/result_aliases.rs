//! A `Result` is a `Result` under any name, and its error needs nothing: neither `Clone` nor `Display`.

#![deny(warnings)]

use cache_aside::{CacheError, cache, cache_invalidate};

pub struct Opaque(std::cell::Cell<u8>);

type Result<T, E = Opaque> = std::result::Result<T, E>;
type Answer = Result<Option<u64>>;
type Maybe<T> = Option<T>;

#[cache]
async fn aliased(id: u64) -> Result<u64> {
    if id == 0 { Err(Opaque(std::cell::Cell::new(1))) } else { Ok(id) }
}

#[cache]
async fn named(id: u64) -> Answer {
    Ok(Some(id))
}

#[cache]
async fn maybe(id: u64) -> Maybe<u64> {
    (id > 0).then_some(id)
}

#[cache]
async fn generic<T: serde::Serialize + serde::de::DeserializeOwned + Default>(id: u64) -> Result<T> {
    let _ = id;
    Ok(T::default())
}

#[cache_invalidate("user:{value}")]
async fn write(id: u64) -> Result<u64> {
    Ok(id)
}

macro_rules! returning {
    ($name:ident, $ty:ty) => {
        #[cache]
        async fn $name(id: u64) -> $ty {
            Ok(id)
        }
    };
}
returning!(made, Result<u64>);

#[tokio::main]
async fn main() -> std::result::Result<(), CacheError> {
    assert!(aliased(0).await.is_err_and(|error| error.0.get() == 1));
    assert!(aliased::cached(0).await?.is_none());
    assert!(aliased(1).await.is_ok());
    assert!(matches!(aliased::cached(1).await?, Some(Ok(1))));
    aliased::put_cache(0, &5).await?;
    assert!(matches!(aliased(0).await, Ok(5)));
    assert!(matches!(named(1).await, Ok(Some(1))));
    assert_eq!(maybe(0).await, None);
    assert_eq!(maybe::cached(0).await?, Some(None));
    assert!(matches!(generic::<u8>(1).await, Ok(0)));
    assert!(generic::clear_cache::<u8>(1).await?);
    assert!(matches!(write(1).await, Ok(1)));
    assert!(matches!(made(1).await, Ok(1)));
    Ok(())
}
