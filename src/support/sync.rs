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
