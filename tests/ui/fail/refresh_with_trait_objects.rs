//! Nobody knows how to copy what is behind a `&dyn`.

use cache_aside::cache;

trait Find: Send + Sync {
    fn find(&self, id: u64) -> u64;
}

#[cache(refresh_ahead = "20%", skip(db))]
async fn plain(id: u64, db: &dyn Find) -> u64 {
    db.find(id)
}

#[cache(refresh_ahead = "20%", skip(db))]
async fn with_parentheses(id: u64, db: &(dyn Find + 'static)) -> u64 {
    db.find(id)
}

fn main() {}
