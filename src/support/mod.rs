//! Helpers for all layers: errors of settings, the clock, atomics, spread sequences, values per thread.

pub(crate) mod clock;
pub(crate) mod invalid;
pub(crate) mod numbers;
pub(crate) mod per_thread;
#[cfg(feature = "serde")]
pub(crate) mod seconds;
pub(crate) mod sharded_arc;
pub(crate) mod spread;
pub(crate) mod sync;
