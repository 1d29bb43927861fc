//! The count: how much is in flight, against which limit.

use std::sync::{OnceLock, PoisonError};

use tokio::time::Instant;

use super::{Claim, shares::Shares};
use crate::{
    sync::{AtomicU64, Mutex, Ordering, fence},
    wait::Line,
};

/// One budget's limit and what is in flight under it, in units of cost, decided upon in one atomic step.
///
/// # Why one word
///
/// A request is admitted when the count including itself stays within a share of the limit. With the two in words
/// of their own, a request could read the old limit, sleep, and be admitted by it long after the limit was lowered
/// and never at a moment at which both figures allowed it. In one word, the compare-and-swap that counts the request
/// is the decision.
///
/// ```text
///  63        62 … 32     31 … 0
///  abandoned limit       in flight
/// ```
///
/// # Why `&'static`
///
/// A permit has to find its count for as long as it lives, and outlives the service that gave it. With an `Arc`, each
/// request would pay two more atomic operations, on a second line that all threads fight for; they cost as much as
/// the decision itself. But the count knows by itself who still needs it: the permits out hold all its units
/// in flight. So counts are kept in a pool that is never freed, are handed out by reference, and go back to it once
/// the budget's last handle is gone (`abandoned`) and the last permit is back (in flight is 0). The pool holds no more
/// than the most budgets that ever existed at one time.
///
/// # Memory ordering
///
/// Like a semaphore's: a permit's return is a `Release`, admission an `Acquire`, so that what one request did to
/// the thing that the budget protects is seen by the request that takes its place. The limit orders nothing else:
/// it travels in the same word. Whatever makes room is an `Acquire` as well, and looks whether somebody waits for it: see
/// [`Line`].
#[derive(Debug)]
// Two lines of 64 bytes: x86 fetches them in pairs, and some ARM cores have lines of 128.
#[repr(align(128))]
pub(crate) struct Count {
    word: AtomicU64,
    /// Those who wait for room. Nobody does once the budget's last handle is gone, as each holds one.
    pub(super) line: Line,
    /// Here, as it is found by the count, too, and needed for as long. Empty where nobody asks for fair shares.
    shares: OnceLock<Shares>,
}

const LIMIT_SHIFT: u32 = 32;
const IN_FLIGHT: u64 = u32::MAX as u64;
const ABANDONED: u64 = 1 << 63;

/// What the word said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) limit: u32,
    pub(crate) in_flight: u32,
}

impl Level {
    /// Whether a request that holds `held` units may hold `units`, under `cap`. One that is dearer than all the budget is
    /// served when it is alone.
    #[inline]
    pub(super) fn has_room(self, held: u32, units: u32, cap: u32) -> bool {
        let others = self.in_flight - held;
        let all = u64::from(others) + u64::from(units);
        all <= u64::from(cap) || others == 0
    }
}

impl From<u64> for Level {
    fn from(word: u64) -> Self {
        Self {
            limit: ((word & !ABANDONED) >> LIMIT_SHIFT) as u32,
            in_flight: (word & IN_FLIGHT) as u32,
        }
    }
}

#[cfg(not(all(test, loadshed_loom)))]
static POOL: Mutex<Vec<&'static Count>> = Mutex::new(Vec::new());

// One for each execution of a model.
#[cfg(all(test, loadshed_loom))]
loom::lazy_static! {
    static ref POOL: Mutex<Vec<&'static Count>> = Mutex::new(Vec::new());
}

impl Count {
    /// A count with nothing in flight, from the pool.
    pub(crate) fn claim(limit: u32) -> &'static Self {
        let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let count = pooled.unwrap_or_else(|| {
            Box::leak(Box::new(Self {
                word: AtomicU64::new(0),
                line: Line::default(),
                shares: OnceLock::new(),
            }))
        });
        if let Some(shares) = count.shares() {
            shares.forget();
        }
        let word = u64::from(limit) << LIMIT_SHIFT;
        // Relaxed: nobody else has it, and the handle that is about to be made is published by other means.
        count.word.store(word, Ordering::Relaxed);
        count.line.renew();
        count
    }

    /// The budget's last handle is gone: nothing will be admitted any more.
    pub(crate) fn abandon(&'static self) {
        // AcqRel: of this and the release of the last permit, the later one must see all that was done before.
        let before = self.word.fetch_or(ABANDONED, Ordering::AcqRel);
        if before & IN_FLIGHT == 0 {
            self.recycle();
        }
    }

    /// Counts `units` more, if at most `cap(limit)` are then in flight, or none were. A refusal only reads.
    ///
    /// # Errors
    ///
    /// The level that left no room.
    #[inline]
    pub(crate) fn acquire(&self, units: u32, cap: impl Fn(u32) -> u32) -> Result<Level, Level> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let level = Level::from(seen);
            if !level.has_room(0, units, cap(level.limit)) {
                return Err(level);
            }
            // What is in flight then fits into 32 bits: the sum never carries into the limit.
            let next = seen + u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Ok(Level::from(next)),
                Err(now) => seen = now,
            }
        }
    }

    /// Decides upon a request that is counted already with `held` units, and needs `units`, which are no fewer: counts
    /// it with as many if at most `cap(limit)` are then in flight, or only its own, and takes it out otherwise.
    ///
    /// # Errors
    ///
    /// The level that left no room; the request is then no longer counted.
    pub(crate) fn keep(
        &self,
        held: u32,
        units: u32,
        cap: impl Fn(u32) -> u32,
    ) -> Result<Level, Level> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let level = Level::from(seen);
            let has_room = level.has_room(held, units, cap(level.limit));
            if has_room && units == held {
                // As `acquire` does: room may have been made by a request that has just ended.
                fence(Ordering::Acquire);
                return Ok(level);
            }
            // Refusal and withdrawal are one step. With two, a pair of requests at one too many could each see the
            // other and both be refused, where one of them had room. Release: as any return of a permit.
            let without = seen - u64::from(held);
            let next = without + if has_room { u64::from(units) } else { 0 };
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if has_room => return Ok(Level::from(next)),
                Ok(_) => {
                    self.made_room();
                    return Err(level);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Gives `units` back.
    #[inline]
    pub(crate) fn release(&'static self, units: u32) {
        let units = u64::from(units);
        let before = self.word.fetch_sub(units, Ordering::AcqRel);
        if before & (ABANDONED | IN_FLIGHT) == ABANDONED | units {
            self.recycle();
        }
        // It may be another budget's by now: to look once more does no harm.
        self.made_room();
    }

    #[inline]
    fn made_room(&self) {
        if !self.line.is_empty() {
            self.serve();
        }
    }

    /// Admits those who wait, for as long as there is room for the first of them.
    #[cold]
    fn serve(&self) {
        self.line.serve(Instant::now(), |claim: Claim| {
            let admitted = self.acquire(claim.units, |limit| claim.cap(limit, 1.0));
            admitted.ok().map(|level| level.in_flight)
        });
    }

    /// Somebody has joined the line, or left it: there may be room for the first one.
    pub(super) fn line_has_changed(&self) {
        // Changes nothing, and comes before or after each release: see `Line`.
        self.word.fetch_add(0, Ordering::AcqRel);
        self.made_room();
    }

    #[inline]
    pub(super) fn shares(&self) -> Option<&Shares> {
        self.shares.get()
    }

    /// From now on there are some.
    pub(super) fn make_shares(&self) {
        self.shares.get_or_init(Shares::new);
    }

    pub(crate) fn set_limit(&self, limit: u32) -> Level {
        self.set_limit_if(|_| true, limit)
    }

    /// Sets the limit, unless it is no longer `from`.
    pub(crate) fn move_limit(&self, from: u32, to: u32) -> Level {
        self.set_limit_if(|limit| limit == from, to)
    }

    /// Returns the level before.
    fn set_limit_if(&self, holds: impl Fn(u32) -> bool, limit: u32) -> Level {
        let bits = u64::from(limit) << LIMIT_SHIFT;
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if !holds(Level::from(seen).limit) {
                return Level::from(seen);
            }
            let word = seen & (ABANDONED | IN_FLIGHT) | bits;
            match self
                .word
                .compare_exchange_weak(seen, word, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(before) => {
                    self.made_room();
                    return Level::from(before);
                }
                Err(now) => seen = now,
            }
        }
    }

    pub(crate) fn level(&self) -> Level {
        // Relaxed: a reading of one moment. Whoever decides by it decides again in a compare-and-swap.
        Level::from(self.word.load(Ordering::Relaxed))
    }

    fn recycle(&'static self) {
        POOL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
    }
}

#[cfg(all(test, loadshed_loom))]
#[path = "count_model.rs"]
mod model;

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn limit_and_count_fill_their_bits_without_touching_each_other() {
        let count = Count::claim(u32::MAX >> 1);
        assert_eq!(count.level().limit, u32::MAX >> 1);
        count.word.fetch_add(IN_FLIGHT - 1, Ordering::Relaxed);
        assert!(count.acquire(1, |_| u32::MAX).is_ok());
        let full = count.acquire(1, |_| u32::MAX).unwrap_err();
        assert_eq!((full.limit, full.in_flight), (u32::MAX >> 1, u32::MAX));
        count.set_limit(1);
        let lowered = count.level();
        assert_eq!((lowered.limit, lowered.in_flight), (1, u32::MAX));
    }

    #[test]
    fn the_pool_holds_no_more_counts_than_there_were_at_one_time() {
        // Other tests use the pool at the same time, a handful of counts each.
        for _ in 0..10_000 {
            let count = Count::claim(1);
            assert!(count.acquire(1, |_| 1).is_ok());
            count.abandon();
            count.release(1);
        }
        let pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner).len();
        assert!(pooled < 1_000, "{pooled} counts for one at a time");
    }
}
