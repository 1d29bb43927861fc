//! The pool of counts: see [`Count`] for why they are `&'static`.

use std::sync::PoisonError;

use super::count::Count;
use crate::support::sync::{Mutex, Ordering};

#[cfg(not(all(test, loadshed_loom)))]
pub(crate) static POOL: Mutex<Vec<&'static Count>> = Mutex::new(Vec::new());

// Each execution of a model has its own pool.
#[cfg(all(test, loadshed_loom))]
loom::lazy_static! {
    pub(crate) static ref POOL: Mutex<Vec<&'static Count>> = Mutex::new(Vec::new());
}

impl Count {
    /// Returns a count from the pool with nothing in flight, or a new one.
    pub(crate) fn claim(limit: u32) -> &'static Self {
        let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let count = pooled.unwrap_or_else(|| Box::leak(Box::new(Self::new())));
        count.stripes.reset();
        count.peak.store(0, Ordering::Relaxed);
        // Before all that a request of the budget before may still change: see `acquire_again`.
        count.generation.fetch_add(1, Ordering::AcqRel);
        count.sharing.store(0, Ordering::Relaxed);
        count.layers.store(0, Ordering::Relaxed);
        count.stalls.renew();
        count.word.renew(limit);
        count.drain.renew();
        count.queue.renew();
        count
    }

    /// Notes that the budget's last handle is dropped: no request is admitted any more.
    pub(crate) fn abandon(&'static self) {
        // The stripes stay shut: only an admission opens them.
        self.reclaim();
        if self.word.abandon() {
            self.recycle();
        }
    }

    /// Returns the count to the pool. Only once it is abandoned and nothing is in flight.
    pub(crate) fn recycle(&'static self) {
        // Before it waits for a budget, which may never come: it holds no more than a new one.
        self.shares.give_back();
        self.stalls.renew();
        POOL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
    }
}
