//! Synchronisation primitives of the count, the queue and the shares, which loom replaces by its own.
//!
//! loom is a dev-dependency, so only the crate's own unit tests run under it (`--cfg loadshed_loom`).

#[cfg(all(test, loadshed_loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(all(test, loadshed_loom)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// Counts a write to what other threads write as well, in the tests that bound the number of such writes.
#[inline]
pub(crate) fn note_shared_write() {
    #[cfg(all(test, not(loadshed_loom)))]
    SHARED_WRITES.with(|writes| writes.set(writes.get() + 1));
}

#[cfg(all(test, not(loadshed_loom)))]
thread_local! {
    pub(crate) static SHARED_WRITES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
