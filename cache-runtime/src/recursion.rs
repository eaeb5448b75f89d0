//! Which loads the running task is in the middle of.
//!
//! A function that calls itself with the same arguments would wait for itself. The loads that this
//! thread is polling right now, from the outermost to the innermost, are exactly those that the
//! running code is part of.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::record::Prefix;

/// What a load is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loading {
    /// The address of its flight.
    pub(crate) flight: Option<usize>,
    pub(crate) lease: Option<Prefix>,
}

thread_local! {
    static LOADING: RefCell<Vec<Loading>> = const { RefCell::new(Vec::new()) };
}

/// Whether the running code is part of the load of this flight.
pub(crate) fn is_loading(flight: usize) -> bool {
    LOADING.with_borrow(|all| all.iter().any(|loading| loading.flight == Some(flight)))
}

/// Whether the running code is part of the load that holds this lease.
pub(crate) fn is_holding(lease: &Prefix) -> bool {
    LOADING.with_borrow(|all| all.iter().any(|loading| loading.lease.as_ref() == Some(lease)))
}

/// What runs on this thread is part of this load, until the mark is dropped.
#[must_use]
pub(crate) fn enter(loading: Loading) -> Within {
    LOADING.with_borrow_mut(|all| all.push(loading));
    Within(PhantomData)
}

/// It belongs to its thread.
#[derive(Debug)]
pub(crate) struct Within(PhantomData<*const ()>);

impl Drop for Within {
    fn drop(&mut self) {
        LOADING.with_borrow_mut(Vec::pop);
    }
}
