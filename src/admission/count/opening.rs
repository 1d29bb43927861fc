//! When a thread may open the stripes of a [`Count`](super::count::Count).

use std::sync::atomic::AtomicUsize;

use crate::support::sync::{AtomicU64, Ordering, note_shared_write};

/// The threads at a step that reads the word, and then writes to a stripe or to the word by what the word said.
///
/// While there is a visitor, no thread opens the stripes: the step cannot mistake a later opening for the opening that it has
/// read.
///
/// # Memory ordering
///
/// `AcqRel` throughout. A thread that opens the stripes sees all that earlier visitors did, a reclaim included. A visitor
/// that enters after the opening sees the opening, and never an older word.
#[derive(Debug, Default)]
pub(crate) struct Visitors(AtomicU64);

/// Set beside any number of visitors while a thread opens the stripes. Visitors may enter meanwhile; a second opener may not.
const OPENING: u64 = 1 << 63;

#[must_use]
pub(crate) struct Visit<'a>(&'a Visitors, u64);

impl Visitors {
    pub(crate) fn enter(&self) -> Visit<'_> {
        note_shared_write();
        self.0.fetch_add(1, Ordering::AcqRel);
        Visit(self, 1)
    }

    /// Enters to open the stripes. Returns `None` if there is a visitor.
    pub(crate) fn enter_to_open(&self) -> Option<Visit<'_>> {
        note_shared_write();
        // The visit is made where it begins only: its drop ends it.
        self.0
            .compare_exchange(0, OPENING, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| Visit(self, OPENING))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        note_shared_write();
        self.0.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

/// The number of admissions that are counted in the word before the stripes are opened again.
///
/// A budget that keeps running near its limit would otherwise pay for a reclaim again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// Admissions on one thread, less one: a power of two less one.
    mask: AtomicUsize,
    /// The number of requests admitted when the stripes were opened.
    opened_at: AtomicUsize,
}

/// An opening and a reclaim touch each stripe twice. Each touch is a cache miss, which costs as much as a contended
/// admission. With 64 admissions between, these misses are a small share of what the stripes save.
const LEAST: usize = 64;
const MOST: usize = LEAST << 10;

impl Default for Backoff {
    fn default() -> Self {
        Self {
            mask: AtomicUsize::new(LEAST - 1),
            opened_at: AtomicUsize::new(0),
        }
    }
}

impl Backoff {
    /// Returns whether the `nth` admission on its thread may open the stripes.
    #[inline]
    pub(crate) fn ends(&self, nth: usize) -> bool {
        nth & self.mask.load(Ordering::Relaxed) == 0
    }

    /// Notes that the stripes are opened, after `admitted` admissions in all.
    pub(crate) fn opened(&self, admitted: usize) {
        self.opened_at.store(admitted, Ordering::Relaxed);
    }

    /// Notes a reclaim, after `admitted` admissions in all. Doubles the number of admissions to wait for, or sets it back to
    /// the least where the opening has served enough of them.
    pub(crate) fn reclaimed(&self, admitted: usize, stripes: usize) {
        let served = admitted.wrapping_sub(self.opened_at.load(Ordering::Relaxed));
        let mask = if served < LEAST * stripes {
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
        assert!(visitors.enter_to_open().is_none(), "it was admitted");
        drop(opening);
        let visit = visitors.enter();
        assert!(visitors.enter_to_open().is_none());
        drop(visit);
        assert!(visitors.enter_to_open().is_some());
    }
}
