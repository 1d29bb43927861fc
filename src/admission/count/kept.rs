//! Opens the lanes, which may then cache permits, and reclaims the cached permits.
//!
//! Both are rare. One thread at a time opens the lanes, after a number of admissions. A request that does not fit beside the
//! cached permits reclaims them, and each thread that gets there meanwhile helps: no thread waits for another.

use super::{
    count::Count,
    lane::Lane,
    word::{KEEPING, Level, ceiling},
};
use crate::support::sync::Ordering;

impl Count {
    /// Opens the lanes, if the budget is far enough from full and no other thread opens or reclaims.
    #[cold]
    pub(crate) fn let_keep(&self) {
        let Some(_alone) = self.visitors.enter_to_open() else {
            return;
        };
        let mut seen = self.word.load(Ordering::Acquire);
        if seen & KEEPING != 0 || !self.may_open(Level::from(seen)) {
            return;
        }
        // No other thread writes to lanes that are shut: a thread that reclaims is a visitor, and finds nothing to reclaim.
        self.lanes.iter().for_each(Lane::reopen);
        self.patience.opened(self.admitted());
        while self.may_open(Level::from(seen)) {
            // Release: a thread that sees the lanes open sees them empty.
            match self.word.compare_exchange_weak(
                seen,
                seen | KEEPING,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return self.serve_queue(),
                Err(now) => seen = now,
            }
        }
        self.lanes.iter().for_each(|lane| {
            lane.shut();
        });
    }

    /// Admits waiters that joined the queue before the lanes were opened, and do not know of it, and tells watches. See
    /// [`Queue`](crate::admission::queue::queue::Queue): the opening has changed the word, as a release does.
    fn serve_queue(&self) {
        if !self.queue.gate_is_open() {
            self.call_in();
            self.serve_waiters();
        }
    }

    /// Returns whether at most half of the ceiling is taken, the ceiling has a unit for each lane, and the gate is open.
    fn may_open(&self, Level { limit, in_flight }: Level) -> bool {
        let ceiling = ceiling(limit);
        in_flight <= ceiling / 2
            && ceiling as usize >= self.lanes.len()
            && self.queue.gate_is_open()
    }

    /// Caches `units` in a `lane` that has cached none since the lanes were opened. Returns whether it may.
    #[cold]
    pub(crate) fn keep_first(&self, lane: &Lane, units: u32) -> bool {
        let _visit = self.visitors.enter();
        let seen = self.word.load(Ordering::Acquire);
        // As long as the lane is not shut, the limit cannot change.
        seen & KEEPING != 0 && lane.put_first(units, Level::from(seen).limit)
    }

    /// Reclaims all cached permits. Returns the word: the units taken are then the units in flight.
    #[cold]
    pub(crate) fn call_in(&self) -> u64 {
        let _visit = self.visitors.enter();
        let mut seen = self.word.load(Ordering::Acquire);
        while seen & KEEPING != 0 {
            let kept: u32 = self.lanes.iter().map(Lane::shut).sum();
            let next = (seen & !KEEPING) - u64::from(kept);
            // Acquire and Release: the permits pass from the lanes to the threads that take them from the word.
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    self.patience.called_in(self.admitted(), self.lanes.len());
                    return next;
                }
                Err(now) => seen = now,
            }
        }
        seen
    }

    /// Returns the units that are cached.
    pub(crate) fn kept(&self) -> u32 {
        self.lanes.iter().map(Lane::kept).sum()
    }
}
