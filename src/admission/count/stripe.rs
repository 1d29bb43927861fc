use std::sync::atomic::AtomicUsize;

use super::cap::Cap;
use crate::{
    admission::counter::Counter,
    support::sync::{AtomicU32, AtomicU64, Ordering, note_shared_write},
};

/// One thread's part of a [`Count`](super::count::Count), in cache lines of its own: cached permits, and counters.
///
/// Its word holds the cached units and all that a decision needs. A request takes units by this word alone, in one
/// compare-and-swap. So no change of the count between the load and the compare-and-swap can make the decision wrong: if the
/// word is as it was, even after changes, the decision holds.
///
/// ```text
///  63   62     61 … 31 30 … 0
///  shut filled limit   cached, in units
/// ```
///
/// A stripe is *shut*; then *filled*, which no thread but the one that opens it may change; then *open*, with neither flag.
#[derive(Debug)]
pub(crate) struct Stripe {
    word: AtomicU64,
    /// The fewest units that were cached since it was filled, or fewer.
    least: AtomicU32,
    /// The requests that this thread has admitted, and those that it has refused.
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter,
    /// Of the requests admitted, those that an inner layer has refused.
    pub(crate) withdrawn: Counter,
    /// The position of its first refusal in the sequence of retry hints, by which threads give different hints.
    pub(crate) sequence: AtomicUsize,
}

const SHUT: u64 = 1 << 63;
const FILLED: u64 = 1 << 62;
const LIMIT_SHIFT: u32 = 31;
const CACHED: u64 = (1 << LIMIT_SHIFT) - 1;

/// Returns the limit under which an open stripe was opened, or `None` if it is not open.
#[inline]
fn open(word: u64) -> Option<u32> {
    (word < FILLED).then_some((word >> LIMIT_SHIFT) as u32)
}

impl Default for Stripe {
    fn default() -> Self {
        Self {
            word: AtomicU64::new(SHUT),
            least: AtomicU32::new(0),
            admitted: Counter::default(),
            refused: Counter::default(),
            withdrawn: Counter::default(),
            sequence: AtomicUsize::new(0),
        }
    }
}

impl Stripe {
    /// Takes `units` that are cached here, for a request with `cap`. Returns the limit, or `None` if it may not.
    ///
    /// Where it may, the units fit: units in flight and cached units together are at most the ceiling, which the cap reaches, and
    /// these units were cached.
    #[inline]
    pub(crate) fn take(&self, units: u32, cap: &impl Cap) -> Option<u32> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let limit = open(seen)?;
            let left = (seen & CACHED).checked_sub(units.into())?;
            if !cap.reaches_ceiling(limit) {
                return None;
            }
            self.note_least(left as u32);
            let next = seen - u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(limit),
                Err(now) => seen = now,
            }
        }
    }

    /// Before the units are taken: at no moment more are in flight than a reader would find. So the change of the word releases it.
    #[inline]
    fn note_least(&self, left: u32) {
        if left < self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(left, Ordering::Relaxed);
        }
    }

    /// Caches `units` that are no longer in flight. Returns whether the stripe is open.
    #[inline]
    pub(crate) fn put(&self, units: u32) -> bool {
        let mut seen = self.word.load(Ordering::Relaxed);
        while open(seen).is_some() {
            // The sum fits into its bits: the cached units of all stripes are at most the ceiling.
            let next = seen + u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Fills a shut stripe with `units`. Only for the thread that opens the stripes.
    pub(crate) fn fill(&self, limit: u32, units: u32) {
        note_shared_write();
        self.least.store(units, Ordering::Relaxed);
        let word = FILLED | u64::from(limit) << LIMIT_SHIFT | u64::from(units);
        self.word.store(word, Ordering::Relaxed);
    }

    /// Opens a filled stripe, unless it was shut meanwhile. Only for the thread that has filled it.
    pub(crate) fn open(&self) {
        note_shared_write();
        let filled = self.word.load(Ordering::Relaxed) & !SHUT;
        // Release: the permits pass from the word of the count to the threads that take them from here.
        let _ = self.word.compare_exchange(
            filled,
            filled & !FILLED,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Shuts the stripe. Returns its cached units, which do not change from now on, and the fewest that it had.
    pub(crate) fn shut(&self) -> [u32; 2] {
        // Acquire: the thread that reclaims the permits passes them on, with all that was done under them.
        let mut word = self.word.load(Ordering::Acquire);
        if word & SHUT == 0 {
            note_shared_write();
            word = self.word.fetch_or(SHUT, Ordering::Acquire);
        }
        self.cached(word)
    }

    fn cached(&self, word: u64) -> [u32; 2] {
        let cached = (word & CACHED) as u32;
        [cached, self.least.load(Ordering::Relaxed).min(cached)]
    }

    /// Returns the cached units, and the fewest that there were since the stripe was filled.
    pub(crate) fn read(&self) -> [u32; 2] {
        self.cached(self.word.load(Ordering::Acquire))
    }

    /// Empties and shuts a stripe that was filled in vain, or that another budget gets.
    pub(crate) fn empty(&self) {
        self.word.store(SHUT, Ordering::Relaxed);
        self.least.store(0, Ordering::Relaxed);
    }

    /// Empties and shuts the stripe, and resets its counters. Only before the count is handed out.
    pub(crate) fn reset(&self) {
        self.empty();
        self.admitted.reset();
        self.refused.reset();
        self.withdrawn.reset();
        self.sequence.store(0, Ordering::Relaxed);
    }
}
