//! Rules as plain data: how long, who waits, what is kept.

use std::time::Duration;

use crate::key::{self, KeyFault, Piece};

/// How long a value written through [`Cache`](crate::Cache) lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// As long as the settings say (`REDIS_CACHE_TTL`, 300 seconds unless set).
    #[default]
    Default,
    /// Until it is deleted or evicted.
    Never,
    /// For this time, rounded up to whole milliseconds. Zero: not stored.
    After(Duration),
}

impl From<Duration> for Ttl {
    fn from(life: Duration) -> Self {
        Self::After(life)
    }
}

/// Who waits for one load of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleFlight {
    /// Callers of all processes.
    Fleet,
    /// Callers of this process.
    Process,
    /// Nobody: each caller loads.
    Off,
}

/// What is added to a time to live, at random, so that entries written together don't expire together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Nothing.
    None,
    /// Between nothing and this.
    UpTo(Duration),
    /// Between nothing and this share of the time to live, in per cent.
    Percent(u8),
}

impl Jitter {
    /// The time to live with its random addition, in whole milliseconds.
    pub(crate) fn spread(self, ttl: Duration) -> Duration {
        let most = match self {
            Self::None => Duration::ZERO,
            Self::UpTo(most) => most,
            Self::Percent(percent) => ttl.saturating_mul(u32::from(percent)) / 100,
        };
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        whole_millis(ttl.saturating_add(Duration::from_millis(fastrand::u64(0..=millis))))
    }
}

/// When a value is renewed before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// With less than this left.
    UpTo(Duration),
    /// With less than this share of its life left, in per cent.
    Percent(u8),
}

impl Ahead {
    /// With how little left a value of this life is due: half of it at most, or it would be due at once.
    pub(crate) fn window(self, life: Duration) -> Duration {
        match self {
            Self::UpTo(left) => left.min(life / 2),
            Self::Percent(percent) => life.saturating_mul(u32::from(percent)) / 100,
        }
    }
}

/// Rounded up to whole milliseconds, the unit of every store, and kept below what Redis takes.
pub(crate) fn whole_millis(life: Duration) -> Duration {
    const LONGEST: u128 = 1000 * 60 * 60 * 24 * 365 * 1000; // a thousand years
    let millis = life.as_nanos().div_ceil(1_000_000).min(LONGEST);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// How long something is stored, when all is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Not at all.
    Over,
    /// For this time; none: until it is deleted.
    For(Option<Duration>),
}

impl Ttl {
    /// The life that this means where `default` is the default.
    pub(crate) fn life(self, default: Duration, jitter: Jitter) -> Life {
        match self {
            Self::Never => Life::For(None),
            Self::After(Duration::ZERO) => Life::Over,
            Self::After(ttl) => Life::For(Some(jitter.spread(ttl))),
            Self::Default => Life::For(Some(jitter.spread(default))),
        }
    }
}

/// What becomes of one loaded value; generated code makes it after the load.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    ttl: Ttl,
    none_ttl: Option<Ttl>,
    refused: bool,
    // Boxed: most functions have none.
    tags: Option<Box<Named>>,
}

/// The tags that a result names.
#[derive(Debug, Clone)]
pub(crate) struct Named(Result<Vec<String>, KeyFault>);

impl Named {
    pub(crate) fn new(texts: Vec<String>) -> Self {
        Self(Ok(texts))
    }

    pub(crate) fn texts(named: Option<Box<Self>>) -> Result<Vec<String>, KeyFault> {
        named.map_or_else(|| Ok(Vec::new()), |named| named.0)
    }
}

impl Fate {
    /// Stored for the default time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stored for this time; zero: not stored.
    #[must_use]
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = ttl.into();
        self
    }

    /// Stored for this time if it is a `None`.
    #[must_use]
    pub fn none_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.none_ttl = Some(ttl.into());
        self
    }

    /// Not stored if so.
    #[must_use]
    pub fn unless(mut self, refused: bool) -> Self {
        self.refused |= refused;
        self
    }

    /// With a tag that the result names.
    #[must_use]
    pub fn tag(mut self, pieces: &[Piece<'_>]) -> Self {
        let Named(tags) = &mut **self.tags.get_or_insert_with(|| Box::new(Named(Ok(Vec::new()))));
        match (key::tag(pieces), tags) {
            (Ok(tag), Ok(tags)) => tags.push(tag),
            (Ok(_), Err(_)) => {}
            (Err(fault), tags) => *tags = Err(fault),
        }
        self
    }

    /// The tags that the result names.
    pub(crate) fn take_tags(&mut self) -> Option<Box<Named>> {
        self.tags.take()
    }

    /// The life of the entry.
    pub(crate) fn life(&self, is_none: bool, keep_none: bool, jitter: Jitter, default: Duration) -> Life {
        if self.refused || (is_none && !keep_none) {
            return Life::Over;
        }
        self.none_ttl.filter(|_| is_none).unwrap_or(self.ttl).life(default, jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_adds_and_stays_below_its_bound() {
        let ttl = Duration::from_secs(100);
        let mut seen_more = false;
        for _ in 0..200 {
            let spread = Jitter::Percent(10).spread(ttl);
            assert!((ttl..=ttl + Duration::from_secs(10)).contains(&spread));
            seen_more |= spread > ttl;
        }
        assert!(seen_more);
        assert_eq!(Jitter::None.spread(ttl), ttl);
    }

    #[test]
    fn a_share_is_one_of_the_life() {
        let minute = Duration::from_secs(60);
        assert_eq!(Ahead::Percent(20).window(minute), Duration::from_secs(12));
        assert_eq!(Ahead::UpTo(Duration::from_secs(5)).window(minute), Duration::from_secs(5));
        assert_eq!(Ahead::UpTo(minute).window(minute), minute / 2);
    }

    #[test]
    fn a_life_is_never_rounded_down_to_nothing() {
        assert_eq!(whole_millis(Duration::from_nanos(1)), Duration::from_millis(1));
        assert_eq!(Jitter::None.spread(Duration::MAX), whole_millis(Duration::MAX));
    }

    #[test]
    fn none_has_its_own_life() {
        let fate = Fate::new().ttl(Duration::from_secs(9)).none_ttl(Duration::from_secs(2));
        let life = |fate: &Fate, none, keep| fate.life(none, keep, Jitter::None, Duration::from_secs(300));
        let seconds = |seconds| Life::For(Some(Duration::from_secs(seconds)));
        assert_eq!(life(&fate, true, true), seconds(2));
        assert_eq!(life(&fate, false, true), seconds(9));
        assert_eq!(life(&fate, true, false), Life::Over);
        assert_eq!(life(&fate.unless(true), false, true), Life::Over);
        assert_eq!(life(&Fate::new().ttl(Duration::ZERO), false, true), Life::Over);
        assert_eq!(life(&Fate::new(), false, true), seconds(300));
        assert_eq!(life(&Fate::new().ttl(Ttl::Never), false, true), Life::For(None));
    }
}
