//! Which flights the running task is in the middle of leading.
//!
//! A function that calls itself with the same arguments would wait for itself. The loads that this
//! thread is polling right now, from the outermost to the innermost, are exactly those that the
//! running code is part of.

use std::cell::RefCell;

thread_local! {
    static LOADING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Whether the running code is part of the load of this flight.
pub(crate) fn is_loading(flight: usize) -> bool {
    LOADING.with_borrow(|loading| loading.contains(&flight))
}

/// Runs `poll` as part of this flight's load.
pub(crate) fn within<R>(flight: usize, poll: impl FnOnce() -> R) -> R {
    struct Pop;
    impl Drop for Pop {
        fn drop(&mut self) {
            LOADING.with_borrow_mut(Vec::pop);
        }
    }
    LOADING.with_borrow_mut(|loading| loading.push(flight));
    let _pop = Pop;
    poll()
}
