//! The keys of a queue.

/// The most shards that a queue can have.
pub(super) const MOST_SHARDS: usize = 64;

pub(super) struct Keys {
    pub(super) base: String,
    pub(super) meta: String,
    pub(super) pending: String,
    pub(super) own: String,
    pub(super) workers: String,
    pub(super) dead: String,
    pub(super) streams: Vec<String>,
}

impl Keys {
    pub(super) fn new(base: &str) -> Self {
        let key = |what: &str| format!("{base}:{what}");
        Self {
            base: base.to_owned(),
            meta: key("meta"),
            pending: key("pending"),
            own: key("own"),
            workers: key("workers"),
            dead: key("dead"),
            streams: (0..MOST_SHARDS).map(|shard| format!("{base}:s{shard}")).collect(),
        }
    }

    pub(super) fn stream(&self, shard: u32) -> &str {
        self.streams.get(shard as usize).expect("a shard that there is")
    }

    /// These, and so many streams.
    pub(super) fn and_streams<'a>(&'a self, keys: &[&'a str], shards: u32) -> Vec<&'a str> {
        keys.iter().copied().chain(self.streams(shards)).collect()
    }

    pub(super) fn streams(&self, shards: u32) -> impl Iterator<Item = &str> {
        self.streams.iter().take(shards as usize).map(String::as_str)
    }
}
