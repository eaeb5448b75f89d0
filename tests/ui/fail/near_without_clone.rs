use cache_aside::cache;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Row {
    id: u64,
}

#[cache(near = true)]
async fn row(id: u64) -> Row {
    Row { id }
}

#[cache(near = false)]
async fn not_near(id: u64) -> u64 {
    id
}

#[cache(near = "0s")]
async fn for_nothing(id: u64) -> u64 {
    id
}

fn main() {}
