//! What the store says of keys, told to who keeps their values.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Line, Near};
use crate::clock::Coarse;
use crate::store::{ALWAYS, Keeper};

/// The near cache, as the store knows it.
pub(crate) struct Ear {
    near: Arc<Near>,
    /// The connection that is being listened to.
    line: Mutex<Option<Line>>,
}

impl Ear {
    pub(crate) fn of(near: Arc<Near>) -> Self {
        Self { near, line: Mutex::new(None) }
    }

    fn switch(&self, line: Option<Line>) -> Option<Line> {
        std::mem::replace(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner), line)
    }
}

impl Keeper for Ear {
    fn forget(&self, key: &[u8]) {
        self.near.forget(key);
    }

    fn forget_all(&self) {
        self.near.forget_all();
    }

    fn forget_those(&self, those: &dyn Fn(&[u8]) -> bool) {
        self.near.forget_matching(those);
    }

    fn connected(&self, sent: u64) {
        if sent == ALWAYS {
            self.near.always_alive();
        } else {
            self.switch(Some(self.near.connected(Coarse::of_millis(sent))));
        }
    }

    fn alive(&self, sent: u64) {
        let line = *self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line {
            self.near.alive(line, Coarse::of_millis(sent));
        }
    }

    fn disconnected(&self) {
        match self.switch(None) {
            Some(line) => self.near.disconnected(line),
            None => self.near.silence(),
        }
    }

    fn without_tracking(&self) {
        self.near.without_tracking();
    }

    fn sweep(&self) {
        self.near.sweep();
    }
}
