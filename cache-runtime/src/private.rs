//! The one door for generated code: re-exports only, and no promise to anybody else.

pub use serde::Serialize;

pub use crate::away::call_owned;
pub use crate::call::{Call, call, call_stale};
pub use crate::close::{Apart, Look, NearValue, Nearby, UnfitNear, apart, assert_near};
pub use crate::codec::Codec;
pub use crate::error::CacheError;
pub use crate::events::Stats;
pub use crate::helpers::{cache_key, cached, clear, clear_all, put, stats};
pub use crate::invalidate::{On, Plan, invalidate};
pub use crate::key::{Key, KeyMaker, Piece, render};
pub use crate::lent::{Carry, Lent, Portable, UnfitCarry, UnfitLent, assert_portable};
pub use crate::policy::{Ahead, Fate, Jitter, SingleFlight};
pub use crate::put::{End, Puts, Stored, Writes, put_plain, put_through, stored, writer};
pub use crate::refresh::refresh;
pub use crate::site::{At, Labels, Shape, Site};
pub use crate::unfit::{Arg, Fit, UnfitArg, UnfitReturn};
pub use crate::value::{Cacheable, Kind, PlainReturn, Probe, Stores, assert_cacheable};
pub use crate::words::{ask, build, type_name, type_name_of};
pub use crate::write_behind::{CacheEntry, cache_entry};
