//! What stands under a key, as far as one call is concerned.

use bytes::Bytes;

use crate::flight::Subject;
use crate::key::Identity;
use crate::policy::SingleFlight;
use crate::record::{self, Found, Prefix, Value};
use crate::shared::Core;
use crate::site::Site;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// With the namespace.
    pub(crate) key: String,
    /// Whose entry it is.
    pub(crate) identity: Identity,
    /// The type of the value.
    pub(crate) fingerprint: u64,
    pub(crate) version: u32,
    pub(crate) flight: SingleFlight,
    pub(crate) site: Option<&'static Site>,
}

impl Ask {
    /// What a flight for it loads.
    pub(crate) fn subject(&self) -> Subject {
        let Self { key, identity, fingerprint, version, .. } = self;
        Subject { key: key.clone(), identity: *identity, fingerprint: *fingerprint, version: *version }
    }
}

/// A payload to decode.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) payload: Bytes,
    pub(crate) is_none: bool,
    pub(crate) origin: Origin,
}

/// Where a payload comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A record in the store.
    Store(Prefix),
    /// Plain JSON in the store.
    Plain,
    /// Another caller's load.
    Flight,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Plain => "plain JSON",
            Self::Flight => "another caller's load",
        }
    }
}

/// What stands under the key.
#[derive(Debug)]
pub(crate) enum Sight {
    Hit(Hit),
    Absent,
    /// A value that may be replaced.
    Dead(Prefix),
    /// The entry of another function or of other arguments: two of them make the same key, or the
    /// reply was to another question.
    Stranger(Prefix),
    /// Somebody loads, or puts.
    Busy(Prefix),
    /// Something that isn't to be touched: fenced, newer than this program, or foreign.
    HandsOff,
    /// The store doesn't answer.
    Dark,
}

impl Hit {
    /// What another caller's load published.
    pub(crate) fn from_flight(record: Bytes) -> Option<Self> {
        match record::read(record) {
            Found::Value(Value { head, payload, .. }) => {
                Some(Self { payload, is_none: head.flags & record::FLAG_NONE != 0, origin: Origin::Flight })
            }
            _ => None,
        }
    }
}

impl Sight {
    /// What `bytes` are to `ask`.
    pub(crate) fn of(bytes: Option<Bytes>, ask: &Ask, core: &Core) -> Self {
        let Some(bytes) = bytes else { return Self::Absent };
        match record::read(bytes) {
            Found::Value(value) => Self::of_value(value, ask),
            Found::Lease(prefix) if core.orphans.has(&prefix) => Self::Dead(prefix),
            Found::Lease(prefix) | Found::Put(prefix) => Self::Busy(prefix),
            Found::Torn(prefix) => Self::Dead(prefix),
            Found::Fence | Found::Newer => Self::HandsOff,
            Found::Plain(payload) => {
                let is_none = payload == b"null"[..];
                Self::Hit(Hit { payload, is_none, origin: Origin::Plain })
            }
        }
    }

    fn of_value(value: Value, ask: &Ask) -> Self {
        let Value { prefix, head, payload } = value;
        if head.identity != ask.identity {
            return Self::Stranger(prefix);
        }
        if head.version > ask.version {
            return Self::HandsOff;
        }
        if head.version < ask.version || head.fingerprint != ask.fingerprint {
            return Self::Dead(prefix);
        }
        Self::Hit(Hit {
            payload,
            is_none: head.flags & record::FLAG_NONE != 0,
            origin: Origin::Store(prefix),
        })
    }
}
