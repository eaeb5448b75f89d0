//! Forgetting tags, and taking their fences away.

use std::collections::BTreeSet;

use tracing::{debug, warn};

use super::{Target, is_noted};
use crate::cache::Cache;
use crate::error::CacheError;
use crate::recovery::Target as Full;
use crate::shared::Core;
use crate::store;

impl Core {
    /// Forgets whatever has one of these tags, in one command, however much that is.
    pub(crate) async fn invalidate_tags(&self, texts: &[impl AsRef<str>]) -> Result<(), CacheError> {
        let tags = texts.iter().map(|text| self.tag_key(text.as_ref())).collect::<Result<Vec<_>, _>>()?;
        // The epoch first: see `tags.rs`.
        let keys: Vec<String> = [self.tag_epoch()].into_iter().chain(tags).collect();
        self.timed(self.store.remove_many(&keys)).await?;
        if keys.len() > 1 {
            debug!(target: "cache_aside", tags = ?&keys[1..], "invalidated");
        }
        Ok(())
    }

    /// Whether a transaction has noted these tags.
    pub(crate) fn are_deferred(&self, cache: &Cache, texts: &[impl AsRef<str>]) -> bool {
        texts
            .iter()
            .map(AsRef::as_ref)
            .all(|text| is_noted(cache, self.tag_targets(text, &store::escape_literal(text), None)))
    }

    /// Keeps the invalidation of a tag. `cover` is a glob that all tags fit that are made like it.
    pub(crate) fn keep_tag(&self, text: &str, cover: &str) {
        self.keep_all(self.tag_targets(text, cover, None));
    }

    pub(super) fn keep_all(&self, targets: Vec<(Full, Option<String>)>) {
        for (target, cover) in targets {
            self.keep(target, cover);
        }
    }

    /// Forgets these tags, or keeps them.
    pub(super) async fn forget_tags(&self, tags: &[Target]) {
        for tag in tags {
            self.books(tag.site).count(|book| &book.invalidations);
        }
        if let Err(error) = self.end_tags(tags).await {
            let texts: Vec<&str> = tags.iter().map(|tag| &*tag.text).collect();
            warn!(target: "cache_aside", tags = ?texts, %error, "an invalidation is kept until the store can take it");
            for tag in tags {
                self.keep_target(tag);
            }
        }
    }

    /// Those without a fence and the epoch at once, then the fences, the gate last.
    async fn end_tags(&self, tags: &[Target]) -> Result<(), CacheError> {
        let tags = tags.iter().filter(|tag| self.tag_key(&tag.text).is_ok());
        let (fenced, open): (Vec<_>, Vec<_>) = tags.partition(|tag| tag.is_fenced());
        let open: Vec<&str> = open.iter().map(|tag| &*tag.text).collect();
        self.invalidate_tags(&open).await?;
        let mut gates = BTreeSet::new();
        for tag in fenced {
            if let (Ok(key), Some(token)) = (self.tag_key(&tag.text), tag.token) {
                self.unfence(&key, token).await?;
                gates.insert(token);
            }
        }
        for token in gates {
            self.unfence(&self.tag_gate(), token).await?;
        }
        Ok(())
    }
}
