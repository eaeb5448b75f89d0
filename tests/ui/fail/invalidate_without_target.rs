//! An invalidation says what it forgets.

use cache_aside::cache_invalidate;

#[cache_invalidate]
async fn bare(id: u64) -> u64 {
    id
}

#[cache_invalidate(on = "always")]
async fn only_options(id: u64) -> u64 {
    id
}

fn main() {}
