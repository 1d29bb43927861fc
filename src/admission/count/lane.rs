use std::sync::atomic::AtomicUsize;

use super::cap::Cap;
use crate::{
    admission::counter::Counter,
    support::sync::{AtomicU64, Ordering},
};

/// One thread's part of a [`Count`](super::count::Count), in cache lines of its own: cached permits, and counters.
///
/// Its word holds the cached units and all that a decision needs. A request takes units by this word alone, in one
/// compare-and-swap. So no change of the count between the load and the compare-and-swap can make the decision wrong: if the
/// word is as it was, even after changes, the decision holds.
///
/// ```text
///  63   62 … 31 30 … 0
///  shut limit   kept, in units
/// ```
///
/// All zeros is a lane that may cache permits and has cached none since it was opened.
#[derive(Debug)]
pub(crate) struct Lane {
    word: AtomicU64,
    /// The requests that this thread has admitted, and those that it has refused.
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter,
    /// Of the requests admitted, those that an inner layer has refused.
    pub(crate) withdrawn: Counter,
    /// The position of its first refusal in the sequence of retry hints, by which threads give different hints.
    pub(crate) sequence: AtomicUsize,
}

const SHUT: u64 = 1 << 63;
const LIMIT_SHIFT: u32 = 31;
const KEPT: u64 = (1 << LIMIT_SHIFT) - 1;

/// The result of caching units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Kept,
    /// Not cached: these would be the first units that this lane caches.
    First,
    Shut,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(SHUT),
            admitted: Counter::default(),
            refused: Counter::default(),
            withdrawn: Counter::default(),
            sequence: AtomicUsize::new(0),
        }
    }
}

impl Lane {
    /// Takes `units` that are cached here, for a request with `cap`. Returns the limit, or `None` if it may not.
    ///
    /// Where it may, the units fit: units in flight and cached units together are at most the ceiling, which the cap reaches, and
    /// these units were cached.
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

    /// Caches `units` that are no longer in flight.
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
            // The sum fits into its bits: the cached units of all lanes are less than the limit.
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

    /// Caches the first `units`, under `limit`. Returns whether the lane was open and empty.
    pub(crate) fn put_first(&self, units: u32, limit: u32) -> bool {
        let word = u64::from(limit) << LIMIT_SHIFT | u64::from(units);
        let first = self
            .word
            .compare_exchange(0, word, Ordering::Release, Ordering::Relaxed);
        first.is_ok()
    }

    /// Shuts the lane. Returns its cached units, which do not change from now on.
    pub(crate) fn shut(&self) -> u32 {
        // Acquire: the thread that reclaims the permits passes them on, with all that was done under them.
        (self.word.fetch_or(SHUT, Ordering::Acquire) & KEPT) as u32
    }

    /// Opens the lane. Only for a lane that is shut and that no other thread shuts now.
    pub(crate) fn reopen(&self) {
        self.word.store(0, Ordering::Relaxed);
    }

    /// Empties and shuts the lane. Only before the count is handed out.
    pub(crate) fn reset(&self) {
        self.word.store(SHUT, Ordering::Relaxed);
        self.admitted.reset();
        self.refused.reset();
        self.withdrawn.reset();
        self.sequence.store(0, Ordering::Relaxed);
    }

    pub(crate) fn kept(&self) -> u32 {
        (self.word.load(Ordering::Acquire) & KEPT) as u32
    }
}
