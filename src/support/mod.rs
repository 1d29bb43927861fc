//! Helpers for all layers: errors of settings, the clock, atomics, spread sequences, values per thread.

pub(crate) mod clock;
pub(crate) mod invalid;
pub(crate) mod per_thread;
pub(crate) mod spread;
pub(crate) mod sync;
