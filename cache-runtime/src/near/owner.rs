//! Whose an entry is, and how it is found.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use crate::site::Instance;

/// Names one entry, and no other one that ever was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) id: u64,
    /// Of its owner.
    pub(super) hash: u64,
}

/// Whose an entry is: an instance of a function and its arguments, to the byte.
pub(super) struct Owner {
    instance: Instance,
    args: Args,
}

impl Owner {
    pub(super) fn new(instance: Instance, args: &[u8]) -> Self {
        Self { instance, args: Args::new(args) }
    }

    #[inline]
    pub(super) fn is(&self, instance: Instance, args: &[u8]) -> bool {
        self.instance == instance && self.args.is(args)
    }

    #[inline]
    pub(super) fn hash(state: &impl BuildHasher, instance: Instance, args: &[u8]) -> u64 {
        let mut hasher = state.build_hasher();
        std::hash::Hash::hash(&instance, &mut hasher);
        hasher.write(args);
        hasher.finish()
    }

    pub(super) fn hashed(&self, state: &impl BuildHasher) -> u64 {
        Self::hash(state, self.instance, self.args.as_slice())
    }
}

/// Bytes of arguments. Most are few, and are compared without following a pointer.
enum Args {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const SHORT: usize = 22;

impl Args {
    fn new(args: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..args.len()), u8::try_from(args.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(args);
                Self::Short { len, bytes }
            }
            _ => Self::Long(args.into()),
        }
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    #[inline]
    fn is(&self, other: &[u8]) -> bool {
        match self {
            Self::Short { .. } => is_same(self.as_slice(), other),
            Self::Long(bytes) => **bytes == *other,
        }
    }
}

/// `==` of few bytes, without the call that it is for slices.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let (ones, one_rest) = one.as_chunks::<4>();
    let (others, other_rest) = other.as_chunks::<4>();
    one.len() == other.len()
        && ones.iter().zip(others).all(|(one, other)| one == other)
        && one_rest.iter().zip(other_rest).all(|(one, other)| one == other)
}

/// What is hashed in a shard are hashes, made once: they are kept as they are.
pub(super) struct Kept;

pub(super) struct Hashed(u64);

impl BuildHasher for Kept {
    type Hasher = Hashed;

    #[inline]
    fn build_hasher(&self) -> Hashed {
        Hashed(0)
    }
}

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed here");
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// foldhash, seeded from the system's randomness. Who finds colliding arguments all the same makes them
/// push each other out, and gets no wrong value.
pub(super) fn seeded() -> SeedableRandomState {
    static SHARED: OnceLock<SharedSeed> = OnceLock::new();
    let random = || std::hash::RandomState::new().hash_one(0);
    SeedableRandomState::with_seed(random(), SHARED.get_or_init(|| SharedSeed::from_u64(random())))
}
