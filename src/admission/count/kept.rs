//! When lanes may keep places, and when they may not.
//!
//! Both ways are rare. Lanes are opened by one thread at a time, after so many admissions; the places are called in by
//! whoever finds no room without them, and everyone who comes by meanwhile helps: nobody waits for anybody.

use super::{
    count::Count,
    lane::Lane,
    word::{KEEPING, Level, ceiling},
};
use crate::support::sync::Ordering;

impl Count {
    /// Opens the lanes, if it is worth it and nobody is in the way.
    #[cold]
    pub(crate) fn let_keep(&self) {
        let Some(_alone) = self.visitors.enter_to_open() else {
            return;
        };
        let mut seen = self.word.load(Ordering::Acquire);
        if seen & KEEPING != 0 || !self.is_calm(Level::from(seen)) {
            return;
        }
        // Nobody else writes to lanes that are shut: those who call in are visitors, and come to find nothing to call in.
        self.lanes.iter().for_each(Lane::reopen);
        self.patience.opened(self.admitted());
        while self.is_calm(Level::from(seen)) {
            // Release: whoever finds the lanes open finds them empty.
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

    /// Who has joined the line before the lanes were opened does not know that they are; who joins after it does. See
    /// [`Queue`](crate::admission::queue::queue::Queue): the opening has changed the word, as a release does.
    fn serve_queue(&self) {
        if !self.queue.is_empty() {
            self.call_in();
            self.made_room();
        }
    }

    /// Half as much is taken as may be while places are kept, and there is something to keep for each thread.
    fn is_calm(&self, Level { limit, in_flight }: Level) -> bool {
        let ceiling = ceiling(limit);
        in_flight <= ceiling / 2 && ceiling as usize >= self.lanes.len() && self.queue.is_empty()
    }

    /// Keeps `units` in a `lane` that has kept none since the lanes were opened. Whether it may.
    #[cold]
    pub(crate) fn keep_first(&self, lane: &Lane, units: u32) -> bool {
        let _visit = self.visitors.enter();
        let seen = self.word.load(Ordering::Acquire);
        // As long as the lane is not shut, the limit cannot change.
        seen & KEEPING != 0 && lane.put_first(units, Level::from(seen).limit)
    }

    /// Calls all places in that are kept. Returns the word, which then says what is in flight, and no more.
    #[cold]
    pub(crate) fn call_in(&self) -> u64 {
        let _visit = self.visitors.enter();
        let mut seen = self.word.load(Ordering::Acquire);
        while seen & KEEPING != 0 {
            let kept: u32 = self.lanes.iter().map(Lane::shut).sum();
            let next = (seen & !KEEPING) - u64::from(kept);
            // Acquire and Release: the places go on from the lanes to whoever takes them from the word.
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

    /// How much of what is taken is kept.
    pub(crate) fn kept(&self) -> u32 {
        self.lanes.iter().map(Lane::kept).sum()
    }
}
