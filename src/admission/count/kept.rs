//! When lanes may keep places, and when they may not.
//!
//! Both ways are rare. Lanes are opened by one thread at a time, after so many admissions; the places are called in by
//! whoever finds no room without them, and everyone who comes by meanwhile helps: nobody waits for anybody.

use std::sync::atomic::AtomicUsize;

use super::{
    count::{Count, KEEPING, Level},
    lane::{Lane, ceiling},
};
use crate::support::sync::{AtomicU64, Ordering};

/// Who is at a step that reads the word, and then writes to a lane or to the word by what it has read. While there is one,
/// the lanes are not opened anew: the step cannot meet with a later opening and take it for the one that it has read of.
///
/// # Memory ordering
///
/// `AcqRel` throughout. Who opens the lanes has seen all that earlier visitors did, the calling in included; and who
/// visits after it has begun sees that, and never an older word.
#[derive(Debug, Default)]
pub(crate) struct Visitors(AtomicU64);

/// Beside any number of visitors: somebody opens the lanes. Visitors may come meanwhile, a second one of these may not.
const OPENING: u64 = 1 << 63;

#[must_use]
struct Visit<'a>(&'a Visitors, u64);

impl Visitors {
    fn enter(&self) -> Visit<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Visit(self, 1)
    }

    /// `None` if anybody is there.
    fn enter_to_open(&self) -> Option<Visit<'_>> {
        self.0
            .compare_exchange(0, OPENING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then_some(Visit(self, OPENING))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

/// How long to count in the word before the lanes are opened again, so that a budget that needs its last places all the
/// time does not pay for the calling in all the time.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Admissions on one thread, less one: a power of two less one.
    mask: AtomicUsize,
    /// How many had been admitted when the lanes were opened.
    opened_at: AtomicUsize,
}

/// An opening and a calling in touch each lane twice: a miss of the cache each, as dear as a contended admission. They
/// are to be a small share of what is saved.
const LEAST: usize = 64;
const MOST: usize = LEAST << 10;

impl Default for Patience {
    fn default() -> Self {
        Self {
            mask: AtomicUsize::new(LEAST - 1),
            opened_at: AtomicUsize::new(0),
        }
    }
}

impl Patience {
    /// Whether the `nth` admission on its thread may open the lanes.
    #[inline]
    pub(crate) fn ends(&self, nth: usize) -> bool {
        nth & self.mask.load(Ordering::Relaxed) == 0
    }

    fn opened(&self, admitted: usize) {
        self.opened_at.store(admitted, Ordering::Relaxed);
    }

    fn called_in(&self, admitted: usize, lanes: usize) {
        let served = admitted.wrapping_sub(self.opened_at.load(Ordering::Relaxed));
        let mask = if served < LEAST * lanes {
            (self.mask.load(Ordering::Relaxed) << 1 | 1).min(MOST - 1)
        } else {
            LEAST - 1
        };
        self.mask.store(mask, Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        self.mask.store(LEAST - 1, Ordering::Relaxed);
    }
}

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
