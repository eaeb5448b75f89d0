//! A crate that gives the names of the prelude other meanings.

#![deny(warnings)]
#![allow(dead_code, unused_macros)]

use cache_aside::{cache, cache_invalidate, cache_put};

struct Option;
struct Result;
struct Box;
struct Vec;
struct String;
struct Some;
struct None;
struct Ok;
struct Err;
struct Call;
struct Duration;
trait Send {}
trait Sync {}
trait Sized {}
trait Clone {}
trait ToOwned {}
trait Fn {}
trait FnOnce {}
trait Drop {}
trait Into {}
trait From {}
trait Future {}
trait Serialize {}
mod core {}
mod std {}
mod serde {}

macro_rules! module_path {
    () => {
        compile_error!("not ours")
    };
}
macro_rules! vec {
    () => {
        compile_error!("not ours")
    };
}

#[derive(::serde::Serialize, ::core::clone::Clone)]
struct Id(u64);

#[cache(ttl = "10m", key_prefix = "user", skip(db), unless = |value| value.is_none(), when = *flag)]
async fn hashed(id: Id, db: &Vec, flag: &bool) -> ::std::option::Option<u64> {
    let Vec = db;
    ::std::option::Option::Some(id.0 + u64::from(*flag))
}

#[cache(key = "user:{id.0}")]
async fn templated(id: Id) -> ::std::result::Result<u64, String> {
    ::std::result::Result::Ok(id.0)
}

#[cache_invalidate("user:{id}:{value}")]
async fn writes(id: u64) -> u64 {
    id
}

#[cache(ttl = 60)]
async fn number(id: u64) -> u64 {
    id
}

#[cache_invalidate(number(id), number(*value + id), number::*)]
async fn writes_calls(id: u64) -> u64 {
    id
}

#[cache_put(number(id))]
#[cache_put(key = "user:{id}", ttl = 60)]
async fn writes_through(id: u64) -> ::std::result::Result<u64, ()> {
    ::std::result::Result::Ok(id)
}

#[cache(refresh_ahead = "20%", stale_if_error = "1h", timeout = 0, skip(text))]
async fn owned(id: &Id, text: &str) -> ::std::option::Option<u64> {
    ::std::option::Option::Some(id.0 + text.len() as u64)
}

struct Service;

impl Service {
    #[cache(skip(self))]
    async fn method(&self, id: u64) -> u64 {
        id
    }
}

fn main() {
    drop(hashed(Id(1), &Vec, &true));
    drop(hashed::clear_cache(Id(1), &true));
    drop(templated(Id(1)));
    drop(templated::cached(Id(1)));
    drop(owned(&Id(1), "a"));
    drop(writes(1));
    drop(Service.method(1));
}
