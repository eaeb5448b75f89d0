//! The arguments of a target are those of its `clear_cache`.

use cache_aside::{cache, cache_invalidate};

#[cache(ttl = 60)]
async fn get_user(id: u64) -> u64 {
    id
}

struct Service;

impl Service {
    #[cache(ttl = 60, skip(self))]
    async fn get(&self, id: u64) -> u64 {
        id
    }

    #[cache_invalidate(self.get(name))]
    async fn another_type(&self, name: String) {
        drop(name);
    }
}

#[cache_invalidate(get_user(name))]
async fn another_type(name: String) {
    drop(name);
}

#[cache_invalidate(get_user(id, id))]
async fn one_too_many(id: u64) {
    let _ = id;
}

#[cache_invalidate(get_user(), Service::get(id))]
async fn one_too_few(id: u64) {
    let _ = id;
}

#[cache_invalidate(get_user(ip))]
async fn no_such_argument(id: u64) {
    let _ = id;
}

#[cache_invalidate(get_user(value))]
async fn a_reference() -> u64 {
    1
}

fn main() {}
