//! A typo in an option gets a suggestion, and what is near nothing gets the list.

use cache_aside::cache;

#[cache(kye = "user:{id}")]
async fn typo(id: u64) -> u64 {
    id
}

#[cache(color = "red")]
async fn unknown(id: u64) -> u64 {
    id
}

fn main() {}
