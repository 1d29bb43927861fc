//! When a thread may open the lanes of a [`Count`](super::count::Count).

use std::sync::atomic::AtomicUsize;

use crate::support::sync::{AtomicU64, Ordering};

/// The threads at a step that reads the word, and then writes to a lane or to the word by what the word said.
///
/// While there is a visitor, no thread opens the lanes: the step cannot mistake a later opening for the opening that it has
/// read.
///
/// # Memory ordering
///
/// `AcqRel` throughout. A thread that opens the lanes sees all that earlier visitors did, a reclaim included. A visitor
/// that enters after the opening sees the opening, and never an older word.
#[derive(Debug, Default)]
pub(crate) struct Visitors(AtomicU64);

/// Set beside any number of visitors while a thread opens the lanes. Visitors may enter meanwhile; a second opener may not.
const OPENING: u64 = 1 << 63;

#[must_use]
pub(crate) struct Visit<'a>(&'a Visitors, u64);

impl Visitors {
    pub(crate) fn enter(&self) -> Visit<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        Visit(self, 1)
    }

    /// Enters to open the lanes. Returns `None` if there is a visitor.
    pub(crate) fn enter_to_open(&self) -> Option<Visit<'_>> {
        // The visit is made where it begins only: its drop ends it.
        self.0
            .compare_exchange(0, OPENING, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| Visit(self, OPENING))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

/// The number of admissions that are counted in the word before the lanes are opened again.
///
/// A budget that keeps running near its limit would otherwise pay for a reclaim again and again.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Admissions on one thread, less one: a power of two less one.
    mask: AtomicUsize,
    /// The number of requests admitted when the lanes were opened.
    opened_at: AtomicUsize,
}

/// An opening and a reclaim touch each lane twice. Each touch is a cache miss, which costs as much as a contended
/// admission. With 64 admissions between, these misses are a small share of what the lanes save.
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
    /// Returns whether the `nth` admission on its thread may open the lanes.
    #[inline]
    pub(crate) fn ends(&self, nth: usize) -> bool {
        nth & self.mask.load(Ordering::Relaxed) == 0
    }

    /// Notes that the lanes are opened, after `admitted` admissions in all.
    pub(crate) fn opened(&self, admitted: usize) {
        self.opened_at.store(admitted, Ordering::Relaxed);
    }

    /// Notes a reclaim, after `admitted` admissions in all. Doubles the number of admissions to wait for, or sets it back to
    /// the least where the opening has served enough of them.
    pub(crate) fn called_in(&self, admitted: usize, lanes: usize) {
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

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn p02_a_thread_that_may_not_open_ends_the_visit_of_no_other_thread() {
        let visitors = Visitors::default();
        let opening = visitors.enter_to_open();
        assert!(opening.is_some());
        assert!(visitors.enter_to_open().is_none());
        assert!(visitors.enter_to_open().is_none(), "it was let in");
        drop(opening);
        let visit = visitors.enter();
        assert!(visitors.enter_to_open().is_none());
        drop(visit);
        assert!(visitors.enter_to_open().is_some());
    }
}
