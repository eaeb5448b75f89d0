//! `when` sees the arguments, `unless` the result.

use cache_aside::cache;

#[cache(when = |id| id > 0)]
async fn when(id: u64) -> u64 {
    id
}

#[cache(unless = id > 0)]
async fn unless(id: u64) -> u64 {
    id
}

#[cache(when = id)]
async fn no_bool(id: u64) -> u64 {
    id
}

fn main() {}
