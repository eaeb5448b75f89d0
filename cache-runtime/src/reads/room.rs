//! How many keys a flush has room for: as many as come back in good time.

use std::time::Duration;

/// The most keys of one flush. Who comes after that reads by itself, where the client has its own bound.
pub(super) const MOST: usize = 512;

/// As long as it isn't known how long one takes.
const FIRST: usize = 64;

/// That many already share most of what a flush costs.
const LEAST: usize = 16;

/// The replies of a flush come all together, so with large values on a slow line all of them would be late.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room(usize);

impl Room {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) fn keys(self) -> usize {
        self.0
    }

    /// A flush of so many keys took so long; a caller waits for `most`.
    pub(super) fn learn(&mut self, keys: usize, took: Duration, most: Duration) {
        if took > most / 2 {
            self.0 = (keys.min(self.0) / 2).max(LEAST);
        } else if keys >= self.0 {
            // Who finds no room sends a request of its own, and it may be those that a flush waits for. If it isn't,
            // the next one takes little longer.
            let more = if took < most / 4 { self.0 } else { LEAST };
            self.0 = (self.0 + more).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_a_flush_takes() {
        let most = Duration::from_millis(100);
        let mut room = Room::new();
        let mut after = |keys, millis| {
            room.learn(keys, Duration::from_millis(millis), most);
            room.keys()
        };
        assert_eq!([after(64, 1), after(128, 1), after(256, 1), after(512, 1)], [128, 256, 512, 512]);
        assert_eq!(after(512, 40), 512, "in time, but not in good time");
        assert_eq!([after(512, 60), after(256, 100), after(128, 1)], [256, 128, 256]);
        assert_eq!(after(100, 1), 256, "says nothing of larger ones");
        assert_eq!([after(100, 60), after(50, 60), after(25, 60), after(16, 60)], [50, 25, LEAST, LEAST]);
        assert_eq!([after(16, 1), after(32, 40), after(48, 60)], [2 * LEAST, 3 * LEAST, 24]);
    }
}
