//! A call that doesn't read: `refresh_cache` marks the function, whose next call finds the mark.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;

use crate::site::{At, Site};

thread_local! {
    /// The function whose next call in this poll is a refresh.
    static REFRESH: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `run`, a call of the function that stands here, as a refresh: it doesn't read, it loads and stores.
pub async fn refresh<F: Future>(at: At, run: F) -> F::Output {
    let site = std::ptr::from_ref(at.site).addr();
    let mut run = pin!(run);
    let mut first = true;
    // A decorated function reaches `call` in its first poll, before it waits for anything.
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            REFRESH.set(Some(site));
            let _mark = Mark;
            run.as_mut().poll(cx)
        } else {
            run.as_mut().poll(cx)
        }
    })
    .await
}

/// Takes the mark away, also when the poll panics.
struct Mark;

impl Drop for Mark {
    fn drop(&mut self) {
        REFRESH.set(None);
    }
}

/// Whether the next call of the function in this poll is a refresh.
pub(crate) fn is_refresh(site: &'static Site) -> bool {
    REFRESH.get() == Some(std::ptr::from_ref(site).addr())
}

pub(crate) fn take_refresh(site: &'static Site) -> bool {
    let asked = is_refresh(site);
    if asked {
        REFRESH.set(None);
    }
    asked
}
