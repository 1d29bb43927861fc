use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use crate::support::per_thread::Writers;

/// A number of requests and their cost.
///
/// # Memory ordering
///
/// `Relaxed`: each number stands for itself and orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    requests: AtomicUsize,
    /// The units of cost beyond one per request.
    surcharge: AtomicUsize,
}

impl Counter {
    /// Counts a request. Returns the number of requests.
    #[inline]
    pub(crate) fn add(&self, units: u32, writers: Writers) -> usize {
        if units > 1 {
            writers.add(&self.surcharge, units as usize - 1);
        }
        writers.add(&self.requests, 1)
    }

    /// Adds to the cost of a request that is counted already.
    pub(crate) fn charge(&self, surcharge: u32, writers: Writers) {
        writers.add(&self.surcharge, surcharge as usize);
    }

    pub(crate) fn reset(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.surcharge.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the units of cost beyond one per request.
    pub(crate) fn surcharge(&self) -> usize {
        self.surcharge.load(Ordering::Relaxed)
    }
}

/// A [`Counter`] that all threads write to.
#[derive(Debug, Default)]
pub(crate) struct SharedCounter(CachePadded<Counter>);

impl SharedCounter {
    pub(crate) fn add(&self, units: u32) {
        self.0.add(units, Writers::Many);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.requests()
    }

    /// Returns the cost of the requests.
    pub(crate) fn units(&self) -> usize {
        self.get().wrapping_add(self.0.surcharge())
    }
}
