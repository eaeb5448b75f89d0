//! Fences: what stands under a key while writers are at work on what it is about.
//!
//! ```text
//! magic 2 | format 1 | kind 1 | for each writer: token 16 | early 13
//! ```
//!
//! The key ends with the last fence; `early` says how many milliseconds before that this one ends, in
//! decimal digits. So a writer who was killed holds up the others for no longer than for its own time,
//! whoever fences meanwhile, and no clock is compared with another's. With one token only, a second
//! writer's would take the place of the first one's, and then nobody would stand for the first.
//!
//! `redis/script.rs` has the same in Lua.

use std::time::Duration;

use bytes::Bytes;

use crate::record::Prefix;

/// How many bytes say that it is a fence.
pub(super) const HEAD: usize = 4;
const TOKEN: usize = 16;
const DIGITS: usize = 13;
/// The longest time that the digits hold.
const LONGEST: u64 = 9_999_999_999_999;

/// What a fence's time is on the wire.
pub(super) fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).clamp(1, LONGEST)
}

/// What stands there after `token` was put up for `life`, or taken away, and for how long; nothing: the
/// key goes, whatever is there. `there` is what stands there now, and for how much longer.
pub(super) fn change(
    there: Option<(&[u8], Option<Duration>)>,
    token: &Prefix,
    life: Option<Duration>,
) -> Option<(Bytes, Duration)> {
    let mut fences: Vec<(&[u8], u64)> = Vec::new();
    if let Some((bytes, Some(left))) = there
        && let Some(all) = bytes.strip_prefix(&token[..HEAD])
    {
        let others = all.chunks_exact(TOKEN + DIGITS).map(|one| one.split_at(TOKEN));
        let left = millis(left);
        fences.extend(others.filter(|(other, _)| *other != &token[HEAD..]).filter_map(|(other, early)| {
            let early: u64 = str::from_utf8(early).ok()?.parse().ok()?;
            left.checked_sub(early).filter(|left| *left > 0).map(|left| (other, left))
        }));
    }
    fences.extend(life.map(|life| (&token[HEAD..], millis(life))));
    let longest = fences.iter().map(|(_, left)| *left).max()?;
    let mut bytes = token[..HEAD].to_vec();
    for (token, left) in fences {
        bytes.extend_from_slice(token);
        bytes.extend_from_slice(format!("{:0DIGITS$}", longest - left).as_bytes());
    }
    Some((bytes.into(), Duration::from_millis(longest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Found, Kind, fresh, read};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_token_has_its_own_end() {
        let (a, b, c) = (fresh(Kind::Fence), fresh(Kind::Fence), fresh(Kind::Fence));
        let (one, life) = change(None, &a, Some(100 * MS)).unwrap();
        assert_eq!(life, 100 * MS);
        assert_eq!(read(one.clone()), Found::Fence);
        // A longer one, 40 ms later, and a shorter one.
        let (two, life) = change(Some((&one, Some(60 * MS))), &b, Some(500 * MS)).unwrap();
        assert_eq!(life, 500 * MS);
        let (three, life) = change(Some((&two, Some(500 * MS))), &c, Some(MS)).unwrap();
        assert_eq!((life, three.len()), (500 * MS, 4 + 3 * 29));
        // The longest one goes; the first one has what was left of its own time.
        let (rest, life) = change(Some((&three, Some(480 * MS))), &b, None).unwrap();
        assert_eq!((life, rest.len()), (40 * MS, 4 + 29));
        assert_eq!(change(Some((&rest, Some(40 * MS))), &a, None), None);
        // One whose writer was killed is over, although the key isn't.
        let (later, _) = change(Some((&two, Some(440 * MS))), &c, Some(MS)).unwrap();
        assert_eq!(later.len(), 4 + 2 * 29);
        // The same one twice is one.
        let (again, _) = change(Some((&one, Some(60 * MS))), &a, Some(100 * MS)).unwrap();
        assert_eq!(again.len(), one.len());
    }

    #[test]
    fn what_is_no_fence_goes() {
        let token = fresh(Kind::Fence);
        let lease = crate::record::token(fresh(Kind::Lease));
        for there in [None, Some((&b"{}"[..], None)), Some((&lease[..], Some(MS))), Some((&b""[..], None))] {
            assert_eq!(change(there, &token, None), None);
            assert_eq!(change(there, &token, Some(MS)).unwrap().0.len(), 4 + 29);
        }
        let cut = change(None, &fresh(Kind::Fence), Some(100 * MS)).unwrap().0.slice(..20);
        assert_eq!(change(Some((&cut, Some(MS))), &token, None), None);
    }
}
