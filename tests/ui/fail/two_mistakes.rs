//! Two mistakes are two errors in one compile.

use cache_aside::cache;

#[cache(tll = 300, skip(bd))]
async fn get_user(id: u64, db: u64) -> u64 {
    id + db
}

fn main() {}
