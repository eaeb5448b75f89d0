//! How often a thread asks for memory, and how much of it is in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// More bytes of this thread's, or fewer.
fn add(more: usize, fewer: usize) {
    BYTES.set(BYTES.get() + more as i64 - fewer as i64);
}

// SAFETY: the system's allocator does all of it; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        add(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(0, layout.size());
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        add(size, layout.size());
        unsafe { System.realloc(block, layout, size) }
    }
}

/// By this thread, while `run` runs.
pub fn of(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

/// What this thread asked for and has not given back. What others gave back for it isn't known.
pub fn bytes() -> i64 {
    BYTES.get()
}
