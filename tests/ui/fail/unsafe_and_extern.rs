//! Functions with a contract or a convention of their own are not wrapped.

use cache_aside::{cache, cache_invalidate};

#[cache]
async unsafe fn get_user(id: u64) -> u64 {
    id
}

#[cache_invalidate("user:*")]
extern "C" fn set_user(id: u64) -> u64 {
    id
}

fn main() {}
