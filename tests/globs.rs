//! The embedded store and the servers mean the same by a glob (SPEC 3.2): generated ones, compared.

mod support;

use cache_aside::{Cache, Ttl};
use support::server::Server;
use support::{embedded, secs};

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// Up to so many of these pieces.
    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..=self.below(most)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

const LETTERS: [&str; 9] = ["a", "b", "c", "-", "^", "]", "[", "\\", "é"];
const PARTS: [&str; 19] = [
    "a", "b", "c", "*", "?", "**", "[ab]", "[^a]", "[a-c]", "[c-a]", "[^", "[", "]", "\\", "\\*", "\\[", "-",
    "^", "é",
];

async fn compare(server: &Server) {
    let url = server.url();
    let remote = Cache::builder().redis(&url).store_budget(secs(10)).build().unwrap();
    let local = embedded();
    let mut random = Random(7);
    for round in 0..400 {
        let keys: Vec<String> = (0..60).map(|_| random.text(&LETTERS, 5)).collect();
        let pairs: Vec<(&str, u8)> = keys.iter().map(|key| (key.as_str(), 1)).collect();
        let glob = random.text(&PARTS, 6);
        for cache in [&local, &remote] {
            cache.set_many(&pairs, Ttl::Never).await.unwrap();
        }
        let removed =
            (local.delete_pattern(&glob).await.unwrap(), remote.delete_pattern(&glob).await.unwrap());
        assert_eq!(removed.0, removed.1, "round {round}: {glob:?} over {keys:?}");
        let left = (local.get_many::<u8>(&keys).await.unwrap(), remote.get_many::<u8>(&keys).await.unwrap());
        assert_eq!(left.0, left.1, "round {round}: {glob:?} over {keys:?}");
        local.delete_pattern("*").await.unwrap();
        remote.delete_pattern("*").await.unwrap();
    }
}

#[tokio::test]
async fn redis_and_the_embedded_store_agree() {
    compare(&Server::redis().start()).await;
}

#[tokio::test]
async fn valkey_and_the_embedded_store_agree() {
    compare(&Server::valkey().start()).await;
}
