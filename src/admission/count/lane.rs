use std::sync::atomic::AtomicUsize;

use super::cap::Cap;
use crate::{
    admission::counter::Counter,
    support::sync::{AtomicU64, Ordering},
};

/// What one thread has of a [`Count`](super::count::Count) for itself, on a line of its own.
///
/// Its word says which places it keeps, and all that is needed to give one away: who takes it decides by this word
/// alone, in one compare-and-swap. So nothing that happens to the count between a look and the decision can make it
/// wrong: if the word is as it was, whatever it went through, the decision holds.
///
/// ```text
///  63   62 … 31 30 … 0
///  shut limit   kept, in units
/// ```
///
/// All zeros is a lane that may keep places and has never kept one.
#[derive(Debug)]
pub(crate) struct Lane {
    word: AtomicU64,
    /// What this thread has admitted, and what it has refused.
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter,
    /// Where its refusals begin in the sequence that the hints follow: threads that refuse at once tell different ones.
    pub(crate) sequence: AtomicUsize,
}

const SHUT: u64 = 1 << 63;
const LIMIT_SHIFT: u32 = 31;
const KEPT: u64 = (1 << LIMIT_SHIFT) - 1;

/// What became of units that were to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Kept,
    /// The first that this lane would keep.
    First,
    Shut,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(SHUT),
            admitted: Counter::default(),
            refused: Counter::default(),
            sequence: AtomicUsize::new(0),
        }
    }
}

impl Lane {
    /// Takes `units` of what is kept here, for one that stops at `cap`. Returns the limit, or `None` if that cannot be.
    ///
    /// Where it can, there is room: what is in flight and what is kept come to no more than the ceiling, and before this
    /// what it takes was not in flight.
    #[inline]
    pub(crate) fn take(&self, units: u32, cap: &impl Cap) -> Option<u32> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let limit = ((seen & !SHUT) >> LIMIT_SHIFT) as u32;
            let can = seen & SHUT == 0 && seen & KEPT >= u64::from(units);
            if !can || !cap.reaches_ceiling(limit) {
                return None;
            }
            let next = seen - u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Some(limit),
                Err(now) => seen = now,
            }
        }
    }

    /// Keeps `units` that are no longer in flight.
    #[inline]
    pub(crate) fn put(&self, units: u32) -> Put {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen & SHUT != 0 {
                return Put::Shut;
            }
            if seen == 0 {
                return Put::First;
            }
            // It fits: all that is kept, in all lanes, is less than the limit.
            let next = seen + u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Put::Kept,
                Err(now) => seen = now,
            }
        }
    }

    /// Keeps `units`, the first, under `limit`. Whether it may.
    pub(crate) fn put_first(&self, units: u32, limit: u32) -> bool {
        let word = u64::from(limit) << LIMIT_SHIFT | u64::from(units);
        let first = self
            .word
            .compare_exchange(0, word, Ordering::Release, Ordering::Relaxed);
        first.is_ok()
    }

    /// Nothing is put or taken here any more. Returns what is kept, which stands from now on.
    pub(crate) fn shut(&self) -> u32 {
        // Acquire: who calls the places in gives them away, with all that was done in them.
        (self.word.fetch_or(SHUT, Ordering::Acquire) & KEPT) as u32
    }

    /// May keep places from now on. Only of a lane that is shut, and that nobody else shuts now.
    pub(crate) fn reopen(&self) {
        self.word.store(0, Ordering::Relaxed);
    }

    /// Only before anybody knows the count.
    pub(crate) fn reset(&self) {
        self.word.store(SHUT, Ordering::Relaxed);
        self.admitted.reset();
        self.refused.reset();
        self.sequence.store(0, Ordering::Relaxed);
    }

    pub(crate) fn kept(&self) -> u32 {
        (self.word.load(Ordering::Acquire) & KEPT) as u32
    }
}
