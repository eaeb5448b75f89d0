//! What is asked of an entry and of tags in one flush.
//!
//! On one server the commands of a flush arrive in their order, and others may come between them. In a cluster only
//! this is so: what is read of tags is read after all versions that are to be made have been.

use std::time::Duration;

use bytes::Bytes;

use super::Aged;
use crate::error::StoreError;
use crate::record::{self, Found, Prefix, Version};

/// What is read: an entry and the versions of tags.
#[derive(Debug)]
pub(crate) struct Sighted {
    pub(crate) entry: Option<Aged>,
    /// In the order of the keys; nothing: it isn't there.
    pub(crate) versions: Vec<Option<Version>>,
    /// Whether the keeper hears when one of them changes.
    pub(crate) may_keep: bool,
}

/// How it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// With what is left of the entry's life, asked for before the entry.
    pub(crate) aged: bool,
    /// For the keeper, whose tickets were made before.
    pub(crate) tracked: bool,
}

/// What is done to an entry: as the operations of these names.
#[derive(Debug, Clone)]
pub(crate) enum OnEntry {
    Acquire { lease: Bytes, life: Duration },
    Swap { seen: Prefix, value: Bytes, life: Option<Duration> },
    Stamp { seen: Prefix, head: Bytes, most: Option<Duration> },
}

/// What is done to the version under the key of a tag.
#[derive(Debug, Clone)]
pub(crate) enum OnTag {
    /// Makes it if there is none. A version must be drawn anew for each time that it is sent: one that
    /// arrives a second time, after an invalidation, would make true again what was captured before.
    Create {
        key: String,
        version: Version,
        life: Duration,
    },
    Read {
        key: String,
    },
    /// Gives it at least this life. A fence has its own.
    Keep {
        key: String,
        life: Option<Duration>,
    },
}

impl OnTag {
    /// Where the version is.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Create { key, .. } | Self::Read { key } | Self::Keep { key, .. } => key,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) entry: Option<Result<Done, StoreError>>,
    /// One for each that was created or read, in their order; nothing: it isn't there, or nobody knows.
    pub(crate) versions: Vec<Option<Seen>>,
    /// Whether one isn't there because a fence is.
    pub(crate) is_fenced: bool,
}

/// What became of the entry.
#[derive(Debug)]
pub(crate) enum Done {
    /// What was there instead of the lease.
    Found(Option<Bytes>),
    Did(bool),
}

/// A version, and how long it has still to live, if that was asked and it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) left: Option<Duration>,
}

/// What isn't a version is none.
pub(super) fn version_of(bytes: &[u8]) -> Option<Version> {
    bytes.try_into().ok()
}

/// Whether a fence stands where a version should.
pub(super) fn is_fence(bytes: &Bytes) -> bool {
    record::read(bytes.clone()) == Found::Fence
}
