//! Lints that a strict crate turns on find nothing in expansions.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    unused,
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    rust_2018_idioms,
    future_incompatible,
    nonstandard_style,
    let_underscore_drop,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_pub,
    unused_extern_crates,
    unused_import_braces,
    unused_lifetimes,
    unused_macro_rules,
    unused_qualifications,
    unused_results,
    variant_size_differences,
    redundant_lifetimes,
    explicit_outlives_requirements,
    unit_bindings,
    tail_expr_drop_order,
    if_let_rescope,
    impl_trait_redundant_captures,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
#![allow(tail_expr_drop_order, if_let_rescope)]

pub mod api {
    //! A public interface.

    use cache_aside::{Cache, cache, cache_invalidate, cache_put};
    use serde::{Deserialize, Serialize};
    use std::time::Duration;

    /// Somebody.
    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub struct User {
        /// Who.
        pub id: u64,
        /// How.
        pub name: String,
    }

    /// Reads.
    #[cache(ttl = 60, key_prefix = "user", skip(db))]
    pub async fn get_user(id: u64, name: String, db: &str) -> Option<User> {
        drop(name);
        (!db.is_empty()).then_some(User { id, name: String::new() })
    }

    /// One line.
    #[cache]
    pub async fn one_line(id: u64) -> u64 {
        id
    }

    /// Reads by a template.
    #[cache(ttl = Duration::from_secs(id), key = "user:{user.id}:{_hidden}", unless = |value| value.id == 0)]
    pub async fn templated(id: u64, user: User, _hidden: u8) -> User {
        let _ = id;
        user
    }

    /// Reads by a built key.
    #[cache(key_builder = |id, name| format!("{id}:{name}"), when = id > 0)]
    #[deprecated = "old"]
    #[must_use]
    pub async fn built(id: u64, name: &str) -> Vec<User> {
        let _ = name;
        vec![User { id, name: String::new() }]
    }

    /// Generic.
    #[cache(skip(found))]
    pub async fn generic<'a, T, F>(mut id: T, found: &'a F) -> u64
    where
        T: Serialize + Into<u64> + Copy + Send + Sync + std::ops::AddAssign,
        F: Fn(u64) -> u64 + Sync + ?Sized + 'a,
    {
        id += id;
        found(id.into())
    }

    /// Answers early.
    #[cache(refresh_ahead = "20%", stale_if_error = "1h", timeout = 0, skip(found), when = *on)]
    pub async fn early<T, F, const N: usize>(mut id: T, name: &str, on: &bool, found: &F, _hidden: u8) -> u64
    where
        T: Serialize + Into<u64> + Copy + Send + Sync + std::ops::AddAssign + 'static,
        F: Fn(u64) -> u64 + Clone + Send + Sync + 'static,
    {
        use std::convert::identity;
        id += id;
        found(identity(id).into()) + name.len() as u64
    }

    /// One line, early.
    #[cache(refresh_ahead = 60)]
    pub async fn early_line(id: u64) -> u64 {
        id
    }

    /// Writes.
    #[cache_invalidate("user:{id}:{value.id}", "x:{_hidden}", on = "always")]
    pub async fn write(id: u64, _hidden: u8) -> Result<User, std::fmt::Error> {
        Ok(User { id, name: String::new() })
    }

    /// Writes one line.
    #[cache_invalidate("user:{_hidden}:{value}")]
    pub async fn write_line(_hidden: u8) -> u64 {
        1
    }

    /// Writes what calls read.
    #[cache_invalidate(one_line(id), one_line(value.id), templated(value.clone(), _hidden), one_line::*)]
    pub async fn write_calls(id: u64, _hidden: u8) -> Result<User, std::fmt::Error> {
        Ok(User { id, name: String::new() })
    }

    /// Writes through.
    #[cache_put(templated(id, User { id, name: String::new() }, _hidden))]
    pub async fn write_through(id: u64, _hidden: u8) -> Result<User, std::fmt::Error> {
        Ok(User { id, name: String::new() })
    }

    /// Writes through, in JSON.
    #[cache_put(key = "user:{id}:{_hidden}", ttl = |value| Duration::from_secs(value.id))]
    pub async fn write_plain(id: u64, _hidden: u8) -> Result<User, std::fmt::Error> {
        Ok(User { id, name: String::new() })
    }

    /// Works.
    #[derive(Debug, Clone)]
    pub struct Service {
        /// Where.
        pub cache: Cache,
    }

    impl Service {
        /// Reads.
        #[cache(key = "s:{id}", cache = &self.cache)]
        pub async fn get(&self, id: u64) -> Option<User> {
            Some(User { id, name: String::new() })
        }

        /// Reads.
        #[cache(skip(self))]
        pub async fn a_lot(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: String) -> Option<u8> {
            drop(f);
            a.checked_add(b + c + d + e)
        }

        /// Answers early.
        #[cache(refresh_ahead = "20%", skip(self))]
        #[must_use]
        pub async fn early(&self, id: u64, _a: u8, _b: u8, _c: u8, _d: u8, user: &User) -> Option<u64> {
            use std::convert::identity;
            let _ = &self.cache;
            Some(identity(id) + user.id)
        }

        #[cache(refresh_ahead = 60, key = "early:{id}")]
        async fn early_private(self, id: u64) -> Result<u64, std::fmt::Error> {
            Ok(2)
        }

        #[cache(skip(self))]
        async fn private(&self, (id, _unused): (u64, u64)) -> u64 {
            id
        }

        /// Uses it.
        pub async fn calls(&self) -> u64 {
            self.clone().early_private(1).await.unwrap_or(0) + self.private((1, 2)).await
        }
    }
}

fn main() {}
