//! A borrowed argument that can't be copied is named, with what to write.

use cache_aside::cache;

struct Pool(u64);

#[cache(refresh_ahead = "20%", skip(db))]
async fn argument(id: u64, name: &str, db: &Pool) -> u64 {
    id + db.0 + name.len() as u64
}

#[cache(stale_if_error = "1h", timeout = 1, skip(db))]
async fn generic<T: Into<u64> + Sync + 'static>(id: u64, db: &T) -> u64 {
    let _ = db;
    id
}

impl Pool {
    #[cache(refresh_ahead = "20%", skip(self))]
    async fn receiver(&self, id: u64) -> u64 {
        id + self.0
    }
}

fn main() {}
