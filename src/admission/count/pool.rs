//! The pool of counts: see [`Count`] for why they are `&'static`.

use std::sync::PoisonError;

use super::{
    count::Count,
    lane::Lane,
    word::{ABANDONED, LIMIT_SHIFT, TAKEN},
};
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
        if let Some(shares) = count.shares() {
            shares.forget();
        }
        count.lanes.iter().for_each(Lane::reset);
        count.patience.reset();
        count.peak.store(0, Ordering::Relaxed);
        // Before all that a request of the budget before may still change: see `acquire_again`.
        count.generation.fetch_add(1, Ordering::AcqRel);
        count.sharing.store(0, Ordering::Relaxed);
        count.layers.store(0, Ordering::Relaxed);
        count.stalls.renew();
        let word = u64::from(limit) << LIMIT_SHIFT;
        // Release: a request of the budget before that reads this word sees the new generation. The handle that is about to be
        // made is published by other means.
        count.word.store(word, Ordering::Release);
        count.drain.renew();
        count.queue.renew();
        count
    }

    /// Notes that the budget's last handle is dropped: no request is admitted any more.
    pub(crate) fn abandon(&'static self) {
        // The lanes stay shut: only an admission opens them.
        self.call_in();
        // AcqRel: whichever comes later, this or the release of the last permit, must see all that was done before.
        let before = self.word.fetch_or(ABANDONED, Ordering::AcqRel);
        if before & TAKEN == 0 {
            self.recycle();
        }
    }

    /// Returns the count to the pool. Only once it is abandoned and nothing is in flight.
    pub(crate) fn recycle(&'static self) {
        POOL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
    }
}
