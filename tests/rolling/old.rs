//! What the old program caches. The new one has functions of the same names in a module of the same
//! name, so both have the same keys.

use cache_aside::{cache, cache_invalidate};
use serde::{Deserialize, Serialize};

use crate::world::World;

pub(crate) const NAME: &str = "old";

/// In whole units.
#[cache(ttl = 600, key = "total:{id}", version = 1, cache = &world.cache)]
pub(crate) async fn total(world: &World, id: u64) -> u64 {
    world.row(id).await
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Account {
    row: u64,
}

#[cache(ttl = 600, key_prefix = "accounts", skip(world), version = 1, cache = &world.cache)]
pub(crate) async fn account(world: &World, id: u64) -> Account {
    Account { row: world.row(id).await }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Grown {
    row: u64,
}

#[cache(ttl = 600, key = "grown:{id}", cache = &world.cache)]
pub(crate) async fn grown(world: &World, id: u64) -> Grown {
    Grown { row: world.row(id).await }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Lenient {
    row: u64,
}

#[cache(ttl = 600, key = "lenient:{id}", cache = &world.cache)]
pub(crate) async fn lenient(world: &World, id: u64) -> Lenient {
    Lenient { row: world.row(id).await }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Before {
    row: u64,
}

#[cache(ttl = 600, key = "renamed:{id}", cache = &world.cache)]
pub(crate) async fn renamed(world: &World, id: u64) -> Before {
    Before { row: world.row(id).await }
}

/// As JSON.
#[cache(ttl = 600, key = "switched:{id}", cache = &world.cache)]
pub(crate) async fn switched(world: &World, id: u64) -> u64 {
    world.row(id).await + 48
}

/// Writes the row, and forgets one entry by its key.
#[cache_invalidate("total:{id}", cache = &world.cache)]
pub(crate) async fn write(world: &World, id: u64) -> u64 {
    world.write(id).await
}

/// Writes the row, and forgets by globs.
#[cache_invalidate("total:*", "accounts:*", "grown:*", "lenient:*", "renamed:*", "switched:*", cache = &world.cache)]
pub(crate) async fn write_all(world: &World, id: u64) -> u64 {
    world.write(id).await
}

/// The row behind each of these values.
impl World {
    pub(crate) async fn total(&self, id: u64) -> u64 {
        total(self, id).await
    }

    pub(crate) async fn account(&self, id: u64) -> u64 {
        account(self, id).await.row
    }

    pub(crate) async fn grown(&self, id: u64) -> u64 {
        grown(self, id).await.row
    }

    pub(crate) async fn lenient(&self, id: u64) -> u64 {
        lenient(self, id).await.row
    }

    pub(crate) async fn renamed(&self, id: u64) -> u64 {
        renamed(self, id).await.row
    }

    pub(crate) async fn switched(&self, id: u64) -> u64 {
        switched(self, id).await.checked_sub(48).expect("what was stored")
    }

    /// Stores this row by hand.
    pub(crate) async fn put(&self, id: u64, row: u64) {
        total::put_cache(self, id, &row).await.unwrap();
        account::put_cache(self, id, &Account { row }).await.unwrap();
    }
}
