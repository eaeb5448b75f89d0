//! `skip` beside a whole key does nothing.

use cache_aside::cache;

#[cache(key = "user:{id}", skip(db))]
async fn by_key(id: u64, db: u64) -> u64 {
    id + db
}

#[cache(key_builder = |id| format!("user:{id}"), skip(db))]
async fn by_builder(id: u64, db: u64) -> u64 {
    id + db
}

fn main() {}
