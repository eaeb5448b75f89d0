//! What stands under a key, as far as one call is concerned.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::close::Keep;
use crate::codec::Codec;
use crate::error::CacheError;
use crate::flight::Subject;
use crate::key::Identity;
use crate::near::Ticket;
use crate::policy::{Ahead, SingleFlight};
use crate::record::{self, Claim, Found, Head, Prefix, Value};
use crate::shared::Core;
use crate::site::Site;
use crate::store::Aged;
use crate::tags::Tags;

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
    /// Those that the arguments name, if the function has tags.
    pub(crate) tags: Option<Arc<Tags>>,
}

impl Ask {
    /// What a flight for it loads.
    pub(crate) fn subject(&self) -> Subject {
        let Self { key, identity, version, .. } = self;
        let fingerprint = self.fingerprint ^ self.tags.as_ref().map_or(0, |tags| tags.digest());
        Subject { key: key.clone(), identity: *identity, fingerprint, version: *version }
    }

    /// How its values are encoded when they are stored.
    pub(crate) fn codec(&self) -> Codec {
        self.site.map(|site| site.codec).unwrap_or_default()
    }

    /// Whether its values have tags.
    pub(crate) fn is_tagged(&self) -> bool {
        self.site.is_some_and(|site| site.tags.is_some())
    }

    /// A hash of whose entry it is.
    pub(crate) fn hash(&self) -> u64 {
        u64::from_le_bytes(*self.identity.first_chunk().expect("8 of 16 bytes"))
    }

    /// Whether a newer version of the program stored this value.
    pub(crate) fn is_newer(&self, there: &Value) -> bool {
        there.head.identity == self.identity && there.head.version > self.version
    }

    /// The queue of writes that may know better than the function.
    pub(crate) fn queue(&self) -> Option<&'static str> {
        self.site?.pending
    }

    /// Whether how long a value has still to live matters to it.
    pub(crate) fn asks_age(&self) -> bool {
        self.site.is_some_and(Site::asks_age)
    }

    /// Whether a value past its time to live may answer it.
    pub(crate) fn takes_stale(&self) -> bool {
        self.site.is_some_and(|site| !site.grace.is_zero())
    }
}

/// A payload to decode.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) payload: Bytes,
    codec: Codec,
    is_none: bool,
    pub(crate) origin: Origin,
    pub(crate) age: Age,
    /// What was left of the key's life when it was looked at, if that was asked and it ends.
    pub(crate) left: Option<Duration>,
    seen: Option<Instant>,
    /// For how long it needs no second look, if that was asked and ends.
    pub(crate) rest: Option<Duration>,
    /// Whether it may be kept in this process, and for how long.
    pub(crate) keep: Option<Keep>,
    /// An invalidation of one of its tags ends it too.
    pub(crate) is_tagged: bool,
}

/// How a value stands to its time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Within it, as far as was asked.
    Fresh,
    /// Within it, but to be renewed, and nobody does yet.
    Due,
    /// Past it: kept for the case that the function fails.
    Stale,
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
    /// A write that is queued.
    Queue,
}

impl Origin {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store(_) => "store",
            Self::Plain => "plain JSON",
            Self::Flight => "another caller's load",
            Self::Queue => "a queued write",
        }
    }
}

/// What stands under the key.
#[derive(Debug)]
pub(crate) enum Sight {
    Hit(Hit),
    /// A value past its time to live, and who is at work on it.
    Stale(Hit, Claim),
    /// A value that is kept past its time to live, of which isn't known how old it is, or one with tags,
    /// of which isn't known what they are: ask.
    Undated,
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
    /// What compare-and-set knows it by; plain JSON and other callers' loads have nothing.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        match self.origin {
            Origin::Store(prefix) => Some(prefix),
            Origin::Plain | Origin::Flight | Origin::Queue => None,
        }
    }

    /// When the key expires, if that was asked and it does.
    pub(crate) fn end(&self) -> Option<Instant> {
        Some(self.seen? + self.left?)
    }

    /// The value, if it is one of this type. How it is encoded says whoever stored it.
    pub(crate) fn decode<V: DeserializeOwned>(&self) -> Result<V, CacheError> {
        self.codec.decode(&self.payload, self.is_none)
    }

    /// Nothing: this program doesn't know the codec.
    fn of_record(head: &Head, payload: Bytes, origin: Origin) -> Option<Self> {
        Some(Self::fresh(payload, Codec::of(head.codec)?, head.is_none(), origin))
    }

    fn of_plain(payload: Bytes, origin: Origin) -> Self {
        let is_none = payload == b"null"[..];
        Self::fresh(payload, Codec::Json, is_none, origin)
    }

    fn fresh(payload: Bytes, codec: Codec, is_none: bool, origin: Origin) -> Self {
        Self {
            payload,
            codec,
            is_none,
            origin,
            age: Age::Fresh,
            left: None,
            seen: None,
            rest: None,
            keep: None,
            is_tagged: false,
        }
    }

    /// What another caller's load published.
    pub(crate) fn from_flight(record: Bytes) -> Option<Self> {
        match record::read(record) {
            Found::Value(Value { head, payload, .. }) => Self::of_record(&head, payload, Origin::Flight),
            _ => None,
        }
    }

    /// What a queued write has stored, if that is a value of who asks; plain JSON is, if it decodes.
    pub(crate) fn from_queue(copy: Bytes, ask: &Ask) -> Option<Self> {
        match record::read(copy) {
            Found::Value(Value { head, payload, .. })
                if (head.identity, head.version, head.fingerprint)
                    == (ask.identity, ask.version, ask.fingerprint) =>
            {
                Self::of_record(&head, payload, Origin::Queue)
            }
            Found::Plain(payload) => Some(Self::of_plain(payload, Origin::Queue)),
            _ => None,
        }
    }
}

/// What is known of how long a value has still to live.
#[derive(Clone, Copy)]
enum Life {
    Unasked,
    Left(Option<Duration>),
}

impl Sight {
    /// What `bytes` are to `ask`.
    pub(crate) fn of(bytes: Option<Bytes>, ask: &Ask, core: &Core) -> Self {
        let Some(bytes) = bytes else { return Self::Absent };
        Self::read(bytes, Life::Unasked, false, ask, core)
    }

    /// What bytes with so much of their life left are to `ask`.
    pub(crate) fn of_aged(aged: Option<Aged>, ask: &Ask, core: &Core) -> Self {
        let Some((bytes, left)) = aged else { return Self::Absent };
        Self::read(bytes, Life::Left(left), false, ask, core)
    }

    /// What bytes are to `ask`, whatever became of their tags.
    pub(crate) fn of_judged(found: Option<Aged>, is_aged: bool, ask: &Ask, core: &Core) -> Self {
        let Some((bytes, left)) = found else { return Self::Absent };
        Self::read(bytes, if is_aged { Life::Left(left) } else { Life::Unasked }, true, ask, core)
    }

    fn read(bytes: Bytes, life: Life, is_judged: bool, ask: &Ask, core: &Core) -> Self {
        match record::read(bytes) {
            Found::Value(value) => {
                let has_tags = ask.is_tagged() || !value.tags.is_empty();
                match Self::of_value(value, life, ask, core.options.longest_claim()) {
                    Self::Hit(_) | Self::Stale(..) if has_tags && !is_judged => Self::Undated,
                    sight => sight,
                }
            }
            Found::Plain(_) if ask.is_tagged() && !is_judged => Self::Undated,
            Found::Lease(prefix) | Found::Put(prefix) if core.orphans.has(&prefix) => Self::Dead(prefix),
            Found::Lease(prefix) | Found::Put(prefix) => Self::Busy(prefix),
            Found::Torn(prefix) => Self::Dead(prefix),
            Found::Fence | Found::Newer => Self::HandsOff,
            Found::Plain(payload) => {
                let mut hit = Hit::of_plain(payload, Origin::Plain);
                if let Life::Left(left) = life {
                    hit.rest = left;
                }
                Self::Hit(hit)
            }
        }
    }

    fn of_value(value: Value, life: Life, ask: &Ask, longest_claim: Duration) -> Self {
        let (prefix, head) = (value.prefix, value.head);
        if head.identity != ask.identity {
            return Self::Stranger(prefix);
        }
        if head.version > ask.version {
            return Self::HandsOff;
        }
        if head.version < ask.version || head.fingerprint != ask.fingerprint {
            return Self::Dead(prefix);
        }
        let Some(codec) = Codec::of(head.codec) else { return Self::Dead(prefix) };
        let left = match life {
            Life::Unasked if ask.asks_age() || head.grace_ms > 0 => return Self::Undated,
            Life::Unasked => None,
            Life::Left(left) => left,
        };
        let rest = left.map(|left| (value.claim(left, longest_claim), left.saturating_sub(value.grace())));
        let mut hit = Hit::fresh(value.payload, codec, head.is_none(), Origin::Store(prefix));
        (hit.left, hit.seen) = (left, left.map(|_| Instant::now()));
        let Some((claim, fresh)) = rest else { return Self::Hit(hit) };
        if fresh.is_zero() && head.grace_ms > 0 {
            hit.age = Age::Stale;
            return Self::Stale(hit, claim);
        }
        let ahead = ask.site.and_then(|site| site.ahead);
        let window = ahead.map(|ahead: Ahead| ahead.window(Duration::from_millis(head.life_ms)));
        let rest = fresh.saturating_sub(window.unwrap_or_default());
        if claim == Claim::None && window.is_some() && rest.is_zero() {
            hit.age = Age::Due;
        }
        hit.rest = Some(rest);
        Self::Hit(hit)
    }

    /// What somebody else's load stands under.
    pub(crate) fn loader(&self) -> Option<Prefix> {
        match self {
            Self::Busy(prefix) => Some(*prefix),
            Self::Stale(hit, Claim::Held) => hit.prefix(),
            _ => None,
        }
    }

    /// With the leave to keep it in this process, if it is a value that is fresh, for `most` at most.
    pub(crate) fn keeping(mut self, ticket: Option<&Arc<Ticket>>, most: Option<Duration>) -> Self {
        if let (Self::Hit(hit), Some(ticket)) = (&mut self, ticket)
            && hit.age == Age::Fresh
        {
            let life = hit.rest.into_iter().chain(most).min();
            hit.keep = Some(Keep { ticket: Arc::clone(ticket), life });
        }
        self
    }
}
