//! A caller that doesn't wait any longer needs something to be answered with.

use cache_aside::cache;

#[cache(ttl = 60, timeout = "2s")]
async fn nothing_to_answer_with(id: u64) -> u64 {
    id
}

fn main() {}
