//! Tags: the labels that entries are invalidated by.
//!
//! Each tag has a key of its own with a *version*, sixteen random bytes. An entry holds its tags and the
//! versions that they had when its load began; it is valid while they still have them. To invalidate a
//! tag is to delete its key, whatever number of entries it has: whoever misses a version draws a new one,
//! so none ever comes back. A tag that isn't there makes its entries invalid, so an eviction can only
//! invalidate.
//!
//! What a function returned can name tags that nobody could capture before the load. For those there is
//! the *epoch*, one key for all: every invalidation deletes it before the tags, or with them. It is
//! captured before the load; then the tags of the result are captured, and after them the epoch is read
//! again. If it is the same, none of these tags was invalidated since the load began.
//!
//! A writer may put a *fence* where a version stands (`store/fence.rs`): no version can be captured then, so
//! what needs one isn't stored. If the writer is killed, nobody deletes the epoch when the fence ends, and a
//! load that began behind it could name the tag after its end. So whoever fences a tag fences the *gate*
//! first, one key for all: a load whose result names tags captures it as it does the epoch, and stores
//! nothing if it can't.
//!
//! A function with tags has one more of its own, which all of its entries have: `clear_cache_all`.
//!
//! The protocol is searched through in `tests/model/tags.rs`. In a cluster, where keys have their own
//! nodes, what is said here to come after something else must wait for its reply.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::CacheError;
use crate::record::{self, Prefix, Version};
use crate::recovery::Target;
use crate::shared::Core;
use crate::store;
use crate::store::joint::{OnTag, Seen};

/// How long a version lives that nobody has used yet: longer than any load.
const FIRST_LIFE: Duration = Duration::from_secs(3600);
/// How many a value may have; a record could count more, and nobody should.
const MOST: usize = 1000;
/// What the text of a function's own tag begins with: in values it is escaped, and templates may not begin
/// with it.
pub(crate) const OF_FUNCTION: char = '\0';
/// How much longer than its entries a tag lives, at least.
const MARGIN: Duration = Duration::from_secs(60);

/// The tags that one call's arguments name, and whether its result names more.
#[derive(Debug, Clone)]
pub(crate) struct Tags {
    texts: Vec<String>,
    /// Of the same tags, in the same order.
    pub(crate) keys: Vec<String>,
    /// And the gate.
    epoch: Option<[String; 2]>,
}

impl Tags {
    pub(crate) fn new(core: &Core, mut texts: Vec<String>, of_result: bool) -> Result<Self, CacheError> {
        texts.sort_unstable();
        texts.dedup();
        if texts.len() > MOST {
            return Err(CacheError::Serialize(format!("a value has at most {MOST} tags").into()));
        }
        let keys = texts.iter().map(|text| core.tag_key(text)).collect::<Result<_, _>>()?;
        Ok(Self { texts, keys, epoch: of_result.then(|| [core.tag_epoch(), core.tag_gate()]) })
    }

    /// These and those of a result that is there already, which need no epoch.
    pub(crate) fn with(&self, core: &Core, named: Vec<String>) -> Result<Self, CacheError> {
        Self::new(core, self.texts.iter().cloned().chain(named).collect(), false)
    }

    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(crate) fn position(&self, text: &str) -> Option<usize> {
        self.texts.iter().position(|known| known == text)
    }

    /// Whether a value has all of them.
    pub(crate) fn are_in(&self, tags: &record::Tags) -> bool {
        self.texts.iter().all(|text| tags.iter().any(|(known, _)| known == text))
    }

    /// What tells calls with other tags apart: an argument that isn't part of the key may be part of a tag.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.texts.hash(&mut hasher);
        hasher.finish()
    }

    /// What captures them, and the epoch if the result names tags, too.
    pub(crate) fn creations(&self) -> Vec<OnTag> {
        self.keys.iter().chain(self.epoch.iter().flatten()).map(|key| create(key.clone())).collect()
    }

    /// What was captured; nothing if a version is missing, so that there is nothing to go by.
    pub(crate) fn captured(&self, seen: Vec<Option<Seen>>) -> Option<Captured> {
        let mut seen = seen.into_iter().flatten();
        let tags = self.texts.iter().zip(&self.keys);
        let tags: Vec<_> =
            tags.zip(&mut seen).map(|((text, key), seen)| Capture::new(text, key, seen)).collect();
        let epoch = self.epoch.iter().flatten().zip(&mut seen);
        let epoch: Vec<_> = epoch.map(|(key, seen)| Capture::new("", key, seen)).collect();
        let is_whole = tags.len() == self.texts.len() && epoch.len() == self.epoch.iter().flatten().count();
        is_whole.then(|| Captured { tags, epoch: epoch.into_iter().next() })
    }
}

/// A version is drawn for each time that it is sent.
fn create(key: String) -> OnTag {
    OnTag::Create { key, version: fastrand::u128(..).to_le_bytes(), life: FIRST_LIFE }
}

/// What the tags of a value were before it was loaded.
#[derive(Debug)]
pub(crate) struct Captured {
    tags: Vec<Capture>,
    epoch: Option<Capture>,
}

#[derive(Debug)]
struct Capture {
    text: String,
    key: String,
    version: Version,
    /// When it ends, if it does.
    end: Option<Instant>,
}

impl Capture {
    fn new(text: &str, key: &str, seen: Seen) -> Self {
        let end = seen.left.and_then(|left| Instant::now().checked_add(left));
        Self { text: text.to_owned(), key: key.to_owned(), version: seen.version, end }
    }

    /// What lets it outlive an entry that is stored for `life` now. That it rarely has to be done, and is
    /// then done for a while ahead, is because it counts as a change of the key to those who keep values in
    /// their process.
    fn keep(&self, life: Option<Duration>) -> Option<OnTag> {
        let left = self.end?.saturating_duration_since(Instant::now());
        let needed = life.map(|life| life.saturating_add(MARGIN));
        if needed.is_some_and(|needed| left >= needed) {
            return None;
        }
        let life = needed.map(|needed| needed.saturating_mul(2));
        Some(OnTag::Keep { key: self.key.clone(), life })
    }
}

impl Captured {
    /// The tags among these that aren't captured yet, as texts and keys.
    pub(crate) fn unknown(&self, core: &Core, texts: Vec<String>) -> Result<Tags, CacheError> {
        let is_new = |text: &String| self.tags.iter().all(|tag| tag.text != *text);
        Tags::new(core, texts.into_iter().filter(is_new).collect(), false)
    }

    /// What captures tags of the result, and then asks for the epoch.
    pub(crate) fn naming(&self, named: &Tags) -> Vec<OnTag> {
        let epoch = self.epoch.iter().map(|epoch| OnTag::Read { key: epoch.key.clone() });
        named.creations().into_iter().chain(epoch).collect()
    }

    /// Adds tags of the result. False if one may have been invalidated since the load began.
    pub(crate) fn add(&mut self, named: &Tags, mut seen: Vec<Option<Seen>>) -> bool {
        let epoch = seen.pop().flatten();
        let is_same =
            |epoch: Seen| self.epoch.as_ref().is_some_and(|captured| captured.version == epoch.version);
        let (true, Some(named)) = (epoch.is_some_and(is_same), named.captured(seen)) else { return false };
        self.tags.extend(named.tags);
        true
    }

    /// What goes with the fill: all are read once more, and live for as long as the entry will.
    pub(crate) fn beside_fill(&self, life: Option<Duration>) -> Vec<OnTag> {
        let reads = self.tags.iter().map(|tag| OnTag::Read { key: tag.key.clone() });
        reads.chain(self.keep(life)).collect()
    }

    /// What lets them outlive an entry that is stored for `life` now.
    pub(crate) fn keep(&self, life: Option<Duration>) -> impl Iterator<Item = OnTag> {
        self.tags.iter().filter_map(move |tag| tag.keep(life))
    }

    /// Whether that found them as they were.
    pub(crate) fn agrees(&self, seen: &[Option<Seen>]) -> bool {
        let seen = seen.iter().map(|seen| seen.map(|seen| seen.version));
        seen.eq(self.tags.iter().map(|tag| Some(tag.version)))
    }

    /// As they stand in a record.
    pub(crate) fn versions(&self) -> impl ExactSizeIterator<Item = (&str, Version)> {
        self.tags.iter().map(|tag| (tag.text.as_str(), tag.version))
    }
}

impl Core {
    /// Where the version of a tag stands.
    pub(crate) fn tag_key(&self, text: &str) -> Result<String, CacheError> {
        self.full(key_of(text))
    }

    /// Where that stands which every invalidation of a tag deletes first.
    pub(crate) fn tag_epoch(&self) -> String {
        self.of_all_tags("@tags")
    }

    /// Where a fence stands while one stands in any tag.
    pub(crate) fn tag_gate(&self) -> String {
        self.of_all_tags("@tags:gate")
    }

    fn of_all_tags(&self, name: &str) -> String {
        match &self.options.namespace {
            Some(namespace) => format!("{namespace}:{name}"),
            None => name.to_owned(),
        }
    }

    /// What is to be carried out to invalidate a tag, in this order, each with a glob that covers it and all
    /// that are made like it; `token`: what it was fenced by. `cover` is a glob that all tags fit that are
    /// made like it. Nothing for a tag that is so long that no value has it.
    pub(crate) fn tag_targets(
        &self,
        text: &str,
        cover: &str,
        token: Option<Prefix>,
    ) -> Vec<(Target, Option<String>)> {
        let Ok(key) = self.tag_key(text) else { return Vec::new() };
        let (epoch, gate) = ((Target::Epoch(self.tag_epoch()), None), self.tag_gate());
        let cover = Some(self.full_glob(&key_of(cover)));
        let Some(token) = token else { return vec![epoch, (Target::Key(key), cover)] };
        let open = (Target::Fenced(gate.clone(), token), Some(store::escape_literal(&gate)));
        vec![epoch, (Target::Fenced(key, token), cover), open]
    }
}

/// Where the version of a tag stands in a namespace; those of functions stand apart.
fn key_of(text: &str) -> String {
    match text.strip_prefix(OF_FUNCTION) {
        Some(place) => format!("@fn:{place}"),
        None => format!("@tag:{text}"),
    }
}
