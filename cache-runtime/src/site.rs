//! One decorated function: what its attribute says, and where it stands.

use std::any::{type_name, type_name_of_val};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tracing::error;

use crate::codec::Codec;
use crate::events::Counters;
use crate::place;
use crate::policy::{Ahead, Jitter, SingleFlight};

/// How the keys of a function are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[prefix:]name:{hash of the arguments}`.
    Hashed(Option<&'static str>),
    /// From a template; this is the glob that its keys fit.
    Template(&'static str),
    /// By a function of the user.
    Built,
}

/// What stays the same for all calls of one decorated function.
///
/// It names no user type, so that it can be a `static` in generic functions and impls.
#[derive(Debug)]
pub struct Site {
    pub(crate) name: &'static str,
    pub(crate) module: &'static str,
    pub(crate) shape: Shape,
    pub(crate) version: u32,
    pub(crate) codec: Codec,
    pub(crate) flight: SingleFlight,
    pub(crate) jitter: Jitter,
    pub(crate) keep_none: bool,
    pub(crate) ahead: Option<Ahead>,
    /// For how long a value is kept past its time to live.
    pub(crate) grace: Duration,
    /// How long a caller who could be answered with a stale value waits for a load.
    pub(crate) timeout: Option<Duration>,
    /// Whether values are kept in this process, too, and for how long at most.
    pub(crate) near: Option<Nearby>,
    /// Whether values have tags, and where those come from.
    pub(crate) tags: Option<Labels>,
    /// The queue of writes that is asked before it runs.
    pub(crate) pending: Option<&'static str>,
    pub(crate) counters: Counters,
    /// The place of the first caller, which for most functions is that of all.
    place: OnceLock<(&'static str, Place)>,
    /// The type of the first value, and its fingerprint.
    value: OnceLock<(&'static str, u64)>,
    warned: AtomicBool,
}

impl Site {
    /// A function named `name` in `module`, whose keys have this shape.
    pub const fn new(name: &'static str, module: &'static str, shape: Shape) -> Self {
        Self {
            name,
            module,
            shape,
            version: 0,
            codec: Codec::Json,
            flight: SingleFlight::Fleet,
            jitter: Jitter::None,
            keep_none: true,
            ahead: None,
            grace: Duration::ZERO,
            timeout: None,
            near: None,
            tags: None,
            pending: None,
            counters: Counters::new(),
            place: OnceLock::new(),
            value: OnceLock::new(),
            warned: AtomicBool::new(false),
        }
    }

    /// The version of the value's meaning.
    #[must_use]
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// How values are encoded.
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Who waits for one load.
    #[must_use]
    pub const fn flight(mut self, flight: SingleFlight) -> Self {
        self.flight = flight;
        self
    }

    /// What is added to the time to live.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Whether a `None` is stored.
    #[must_use]
    pub const fn keep_none(mut self, keep: bool) -> Self {
        self.keep_none = keep;
        self
    }

    /// When a value is renewed before its end.
    #[must_use]
    pub const fn refresh_ahead(mut self, ahead: Ahead) -> Self {
        self.ahead = Some(ahead);
        self
    }

    /// For how long a value is kept past its time to live, to answer with when the function fails.
    #[must_use]
    pub const fn stale_if_error(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a caller who could be answered with a stale value waits for a load.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether decoded values are kept in this process, too, and for how long at most.
    #[must_use]
    pub const fn near(mut self, most: Option<Duration>) -> Self {
        self.near = Some(Nearby { most });
        self
    }

    /// What the tags of values are made from.
    #[must_use]
    pub const fn tags(mut self, labels: Labels) -> Self {
        self.tags = Some(labels);
        self
    }

    /// The queue of writes that is asked before it runs.
    #[must_use]
    pub const fn pending(mut self, queue: &'static str) -> Self {
        self.pending = Some(queue);
        self
    }

    /// Whether reads ask how much of a value's life is left.
    pub(crate) fn asks_age(&self) -> bool {
        self.ahead.is_some() || !self.grace.is_zero() || self.near.is_some()
    }

    /// The fingerprint of the type of its values. Only generic functions have more than one, and those share a lock.
    pub(crate) fn fingerprint(&self, name: &'static str) -> u64 {
        let (first, known) = *self.value.get_or_init(|| (name, fingerprint_of(name)));
        if std::ptr::eq(first, name) { known } else { fingerprint_of(name) }
    }

    /// True the first time: for what is said once per function.
    pub(crate) fn first_warning(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// The glob that all keys of this function fit, without the namespace.
    pub(crate) fn glob(&self) -> String {
        match self.shape {
            Shape::Hashed(prefix) => format!("{}*", hashed_stem(prefix, self.name)),
            Shape::Template(glob) => glob.to_owned(),
            Shape::Built => "*".to_owned(),
        }
    }
}

/// The digits of the hashes behind it.
const HASHES: usize = 32;

/// What stands before the hashes, with room for them.
pub(crate) fn hashed_stem(prefix: Option<&str>, name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    let mut stem = String::with_capacity(prefix.map_or(0, str::len) + name.len() + 2 + HASHES);
    for part in prefix.into_iter().chain([name]) {
        stem.push_str(part);
        stem.push(':');
    }
    stem
}

/// Values are kept in this process, too, for so long at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nearby {
    pub(crate) most: Option<Duration>,
}

/// What tags are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// The arguments, so they are known before the load.
    Arguments,
    /// The result, too.
    Result,
}

/// A site, and the compiler's name of the instance that is being called.
#[derive(Debug, Clone, Copy)]
pub struct At {
    pub(crate) site: &'static Site,
    mark: &'static str,
    beside: bool,
}

impl At {
    /// `mark` is a closure made in a function of the type that is named like the decorated function.
    pub fn beside<M>(site: &'static Site, mark: &M) -> Self {
        Self { site, mark: type_name_of_val(mark), beside: true }
    }

    /// `mark` is a closure made in the decorated function, or in a hidden function beside it.
    pub fn inside<M>(site: &'static Site, mark: &M) -> Self {
        Self { site, mark: type_name_of_val(mark), beside: false }
    }

    /// Which instance of which function is being called.
    #[inline]
    pub(crate) fn instance(&self) -> Instance {
        Instance { site: self.site, mark: self.mark }
    }

    /// The digest of the function's full path.
    pub(crate) fn place(self) -> Place {
        let (mark, place) = self.site.place.get_or_init(|| {
            let place = self.digest();
            self.register(place);
            (self.mark, place)
        });
        if std::ptr::eq(*mark, self.mark) { *place } else { memo(&PLACES, self.mark, |_| self.digest()) }
    }

    /// Notes the function, and says so if another one can't be told from it: the compiler has one
    /// name for two functions in two blocks of one body.
    fn register(self, place: Place) {
        let mut sites = lock(&SITES);
        if sites.iter().any(|(other, of)| *of == place && !std::ptr::eq(*other, self.site)) {
            error!(
                target: "cache_aside",
                function = self.site.name,
                module = self.site.module,
                "two functions of this name stand in one place and share entries: rename one, or give one a `key_prefix`"
            );
        }
        sites.push((self.site, place));
    }

    fn digest(self) -> Place {
        let whole = place::normalise(self.mark);
        let parent = place::parent(&whole);
        let path = if self.beside { parent.to_owned() } else { format!("{parent}::{}", self.site.name) };
        Place(*blake3::hash(path.as_bytes()).as_bytes())
    }
}

/// One instance of a decorated function, told from others by two addresses, without a hash or a lock.
///
/// A generic function has one site for all its instances. The compiler may keep several copies of one
/// name, so an instance may be taken for two; two are never taken for one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance {
    site: &'static Site,
    mark: &'static str,
}

impl PartialEq for Instance {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.site, other.site) && std::ptr::eq(self.mark, other.mark)
    }
}

impl Eq for Instance {}

impl Hash for Instance {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(std::ptr::from_ref(self.site).addr());
        state.write_usize(self.mark.as_ptr().addr());
    }
}

/// The digest of a function's full path: crate, modules, enclosing functions, impl type, trait, name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) [u8; 32]);

/// Every function that was called in this process.
static SITES: Mutex<Vec<(&'static Site, Place)>> = Mutex::new(Vec::new());

/// The functions that this process has called so far.
pub(crate) fn called_so_far() -> Vec<&'static Site> {
    lock(&SITES).iter().map(|(site, _)| *site).collect()
}

type Memo<T> = OnceLock<RwLock<HashMap<&'static str, T>>>;
static PLACES: Memo<Place> = OnceLock::new();
static TYPES: Memo<[u8; 16]> = OnceLock::new();

/// 128 bits that stand for a type, from its normalised name.
pub(crate) fn type_digest(name: &'static str) -> [u8; 16] {
    memo(&TYPES, name, |name| {
        let hash = blake3::hash(place::normalise(name).as_bytes());
        *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
    })
}

/// The fingerprint of a value's type in a record's header.
pub(crate) fn fingerprint<V: ?Sized>() -> u64 {
    fingerprint_of(type_name::<V>())
}

/// The same, by what the compiler calls the type.
pub(crate) fn fingerprint_of(name: &'static str) -> u64 {
    let digest = type_digest(name);
    u64::from_le_bytes(*digest.first_chunk().expect("a digest has 16 bytes"))
}

/// As many entries as the program has instances; types are made by the compiler, never at run time.
fn memo<T: Copy>(memo: &Memo<T>, name: &'static str, make: impl FnOnce(&'static str) -> T) -> T {
    let memo = memo.get_or_init(RwLock::default);
    if let Some(known) = memo.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return *known;
    }
    let value = make(name);
    memo.write().unwrap_or_else(PoisonError::into_inner).insert(name, value);
    value
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
