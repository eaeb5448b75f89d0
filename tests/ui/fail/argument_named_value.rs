//! In a pattern `value` is what the function returned; an argument of that name makes it two.

use cache_aside::cache_invalidate;

#[cache_invalidate("user:{value}")]
async fn set_user(value: u64) -> u64 {
    value
}

fn main() {}
