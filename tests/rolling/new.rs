//! What the new program caches: `old.rs` after some changes.

use cache_aside::{cache, cache_invalidate};
use serde::{Deserialize, Serialize};

use crate::world::World;

pub(crate) const NAME: &str = "new";

/// In hundredths, which the same type can't tell.
#[cache(ttl = 600, key = "total:{id}", version = 2, cache = &world.cache)]
pub(crate) async fn total(world: &World, id: u64) -> u64 {
    world.row(id).await * 100
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Account {
    hundredths: u64,
}

#[cache(ttl = 600, key_prefix = "accounts", skip(world), version = 2, cache = &world.cache)]
pub(crate) async fn account(world: &World, id: u64) -> Account {
    Account { hundredths: world.row(id).await * 100 }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Grown {
    row: u64,
    note: String,
}

#[cache(ttl = 600, key = "grown:{id}", cache = &world.cache)]
pub(crate) async fn grown(world: &World, id: u64) -> Grown {
    Grown { row: world.row(id).await, note: "new".into() }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Lenient {
    row: u64,
    #[serde(default)]
    note: Option<String>,
}

#[cache(ttl = 600, key = "lenient:{id}", cache = &world.cache)]
pub(crate) async fn lenient(world: &World, id: u64) -> Lenient {
    Lenient { row: world.row(id).await, note: Some("new".into()) }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct After {
    row: u64,
}

#[cache(ttl = 600, key = "renamed:{id}", cache = &world.cache)]
pub(crate) async fn renamed(world: &World, id: u64) -> After {
    After { row: world.row(id).await }
}

/// As MessagePack: to who took that for JSON, the byte of 49 would be a 1.
#[cache(ttl = 600, key = "switched:{id}", codec = "msgpack", cache = &world.cache)]
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
        let hundredths = total(self, id).await;
        assert!(hundredths.is_multiple_of(100), "{hundredths} is what the old program stored");
        hundredths / 100
    }

    pub(crate) async fn account(&self, id: u64) -> u64 {
        account(self, id).await.hundredths / 100
    }

    pub(crate) async fn grown(&self, id: u64) -> u64 {
        let Grown { row, note } = grown(self, id).await;
        assert_eq!(note, "new");
        row
    }

    pub(crate) async fn lenient(&self, id: u64) -> u64 {
        let Lenient { row, note } = lenient(self, id).await;
        assert!(note.is_none_or(|note| note == "new"));
        row
    }

    pub(crate) async fn renamed(&self, id: u64) -> u64 {
        renamed(self, id).await.row
    }

    pub(crate) async fn switched(&self, id: u64) -> u64 {
        switched(self, id).await.checked_sub(48).expect("what was stored")
    }

    /// Stores this row by hand.
    pub(crate) async fn put(&self, id: u64, row: u64) {
        total::put_cache(self, id, &(row * 100)).await.unwrap();
        account::put_cache(self, id, &Account { hundredths: row * 100 }).await.unwrap();
    }
}
