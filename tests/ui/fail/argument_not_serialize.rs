//! An argument that can't be part of the key is named, with what to write.

use cache_aside::cache;

struct Pool;

#[cache(ttl = 60)]
async fn get_user(id: u64, db: &Pool) -> u64 {
    let Pool = db;
    id
}

#[cache]
async fn generic<T: Into<u64>>(id: T) -> u64 {
    id.into()
}

#[cache]
async fn patterns((id, pool): (u64, Pool)) -> u64 {
    let Pool = pool;
    id
}

fn main() {}
