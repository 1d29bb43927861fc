//! One budget's count: its admissions and its releases.

use std::sync::OnceLock;

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::{
    cap::Cap,
    lane::{Lane, Put},
    opening::{Patience, Visitors},
    word::{ABANDONED, KEEPING, Level, TAKEN, ceiling},
};
use crate::{
    admission::{
        claim::Claim, drain::Drain, queue::queue::Queue, shares::shares::Shares, stalls::Stalls,
    },
    support::{
        per_thread::{PerThread, Writers},
        sync::{AtomicU32, AtomicU64, Mutex, Ordering, fence},
    },
};

/// One budget's limit and the units in flight under it, decided upon in one atomic step.
///
/// # Why one word
///
/// A request is admitted when the count including itself stays within a share of the limit. Limit and count are in one
/// word ([`word`](super::word)), and the compare-and-swap that counts the request is the decision. With two words, a request
/// could read the old limit, sleep, and be admitted by that limit long after it was lowered. No moment would have allowed it.
///
/// # Why lanes
///
/// All threads contend for that word at every request. While a budget is nearly full, this cannot be avoided: one word must
/// decide which request gets the last permit. While there is much free capacity, it can. So each thread has a [`Lane`]. While
/// the word says `keeping`, a request that ends leaves its units in the lane of its thread, as a cached permit, and the next
/// request on that thread takes them from there. The word is not touched. It then says how many units are *taken*: in flight
/// or cached. Units taken never exceed the [`ceiling`], nor the peak.
///
/// - A request *admitted* from a lane fits: the units taken, its own included, are at most the ceiling, and the ceiling is at
///   most its cap. A request admitted by the word fits even beside all cached permits.
/// - A request is *refused* by the word alone, when nothing is cached. If a request does not fit beside the cached permits, they
///   are reclaimed first. The lanes are shut one after the other, and a shut lane does not change. Then one
///   compare-and-swap subtracts the cached units from the word. Until then the word says too much and refuses no request.
/// - The *peak* is exact: the units in flight rise above it only while nothing is cached.
/// - The *limit* changes only while nothing is cached.
///
/// A budget near its limit is counted in the word alone, as is a budget too small to have a permit for each thread.
///
/// # Why `&'static`
///
/// A permit must find its count for as long as it lives, and it outlives the service that admitted its request. With an `Arc`,
/// each request would pay two more atomic operations on a second contended cache line, as much as the decision itself. But
/// the count knows whether it is still needed: the permits hold all its units in flight. So counts are handed out by
/// reference, from a pool that is never freed. A count returns to the pool once the budget's last handle is dropped
/// (`abandoned`) and the last permit is released (no unit in flight). The pool holds no more counts than there ever were at
/// one time.
///
/// # Memory ordering
///
/// As a semaphore's: a release of a permit is a `Release`, an admission an `Acquire`. So what one request did to the resource
/// that the budget protects is seen by the request that takes over its permit. That holds for cached permits and for reclaimed
/// permits, too. The limit orders nothing else: it is in the same word. A change that frees capacity in the word is an
/// `Acquire` as well, and looks for waiters: see [`Queue`].
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) word: CachePadded<AtomicU64>,
    pub(crate) lanes: PerThread<Lane>,
    pub(crate) visitors: Visitors,
    pub(crate) patience: Patience,
    pub(crate) peak: AtomicU32,
    /// Empty once the budget's last handle is dropped, as each waiter holds a handle.
    pub(crate) queue: Queue,
    pub(crate) drain: Drain,
    /// Empty unless a layer asks for fair shares. Here, as it lives as long as the count and is found by it.
    shares: OnceLock<Shares>,
    /// Whether permits are shared: see [`sharing`](super::sharing).
    pub(crate) sharing: AtomicU32,
    /// The layers of the budget, those that are gone included.
    pub(crate) layers: AtomicU32,
    /// Counts the budgets that have had it.
    pub(crate) generation: AtomicU32,
    /// The units in flight that a dry run would have refused. They are in the word.
    pub(crate) marks: Mutex<u32>,
    /// The same number, to be read without the lock.
    pub(crate) marked: AtomicU32,
    pub(crate) stalls: Stalls,
}

/// What came of [`Count::acquire_again`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Counted,
    /// The units do not fit.
    Full,
    /// The budget was dropped, with all its layers: nothing is counted any more.
    Gone,
}

impl Count {
    /// A count that no budget has yet: see [`claim`](Self::claim).
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0).into(),
            lanes: PerThread::new(),
            visitors: Visitors::default(),
            patience: Patience::default(),
            peak: AtomicU32::new(0),
            queue: Queue::default(),
            drain: Drain::default(),
            shares: OnceLock::new(),
            sharing: AtomicU32::new(0),
            layers: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            marks: Mutex::new(0),
            marked: AtomicU32::new(0),
            stalls: Stalls::new(),
        }
    }

    /// Counts `units` more, if the units in flight are then within the cap, or if nothing was in flight. A refusal only
    /// reads, once nothing is cached.
    ///
    /// Returns the level with the request. Its `in_flight` is exact while nothing is cached, and otherwise no less than the
    /// units in flight.
    ///
    /// # Errors
    ///
    /// If the units do not fit: the level without the request.
    #[inline]
    pub(crate) fn acquire(&self, units: u32, cap: impl Cap) -> Result<Level, Level> {
        self.admit(units, cap).map(|(level, _)| level)
    }

    /// [`acquire`](Self::acquire), which also returns how many requests this thread has admitted.
    ///
    /// # Errors
    ///
    /// If the units do not fit: the level without the request.
    #[inline]
    pub(crate) fn admit(&self, units: u32, cap: impl Cap) -> Result<(Level, usize), Level> {
        let (lane, writers) = self.lanes.own();
        let level = match lane.take(units, &cap) {
            Some(limit) => Level {
                limit,
                in_flight: ceiling(limit),
            },
            None => self.acquire_from_word(units, cap)?,
        };
        let nth = lane.admitted.add(units, writers);
        Ok((level, nth))
    }

    // A function of its own, as is what follows from it: most requests never get here.
    #[inline(never)]
    fn acquire_from_word(&self, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let level = Level::from(seen);
            let cap = cap.of(level.limit);
            if seen & KEEPING != 0 {
                if !self.fits_beside_cached(level, 0, units, cap) {
                    seen = self.call_in();
                    continue;
                }
            } else if !level.admits(0, units, cap) {
                return Err(level);
            }
            // The sum never carries into the next bits: `fits` keeps the units taken within theirs.
            let next = seen + u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    if seen & KEEPING == 0 {
                        self.admitted_exactly(Level::from(next));
                    }
                    return Ok(Level::from(next));
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Returns whether the units fit even beside all cached permits, below the ceiling and the peak.
    fn fits_beside_cached(&self, level: Level, held: u32, units: u32, cap: u32) -> bool {
        let peak = self.peak.load(Ordering::Relaxed);
        level.fits(held, units, cap.min(ceiling(level.limit)).min(peak))
    }

    #[inline]
    fn admitted_exactly(&self, level: Level) {
        self.note_peak(level);
        if self.patience.ends(self.admitted_here()) {
            self.let_keep();
        }
    }

    /// Raises the peak to the level.
    ///
    /// Relaxed: the peak orders nothing. An old reading is too low, with which `fits_beside_cached` refuses more than it must.
    #[inline]
    pub(crate) fn note_peak(&self, level: Level) {
        // Reads before it writes: in a steady state the peak does not change.
        if level.in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(level.in_flight, Ordering::Relaxed);
        }
    }

    /// Decides upon a request that is counted already with `held` units, and needs `units`, which are no fewer.
    ///
    /// Counts the request with `units` if the units in flight are then within the cap, or all its own.
    ///
    /// # Errors
    ///
    /// If the units do not fit: the level before. The request is then no longer counted, and the caller has to [serve the
    /// waiters](Self::serve_waiters), which may run any code: so once it holds no lock.
    pub(crate) fn keep(&self, held: u32, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let level = Level::from(seen);
            let cap = cap.of(level.limit);
            let fits = if seen & KEEPING == 0 {
                level.admits(held, units, cap)
            } else if self.fits_beside_cached(level, held, units, cap) {
                true
            } else {
                seen = self.call_in();
                continue;
            };
            if fits && units == held {
                // As `acquire` does: a request that has just ended may have freed the capacity.
                fence(Ordering::Acquire);
                return Ok(level);
            }
            // Refusal and withdrawal are one step. With two steps, two requests of which one fits could each see the other,
            // and both be refused. Release: as any release of a permit.
            let without = seen - u64::from(held);
            let next = without + if fits { u64::from(units) } else { 0 };
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if fits => {
                    if seen & KEEPING == 0 {
                        self.note_peak(Level::from(next));
                    }
                    return Ok(Level::from(next));
                }
                Ok(_) => return Err(level),
                Err(now) => seen = now,
            }
        }
    }

    /// Releases `units`.
    #[inline]
    pub(crate) fn release(&'static self, units: u32) {
        let (lane, _) = self.lanes.own();
        let put = lane.put(units);
        if put != Put::Kept {
            self.release_to_word(lane, put, units);
        }
    }

    #[inline(never)]
    fn release_to_word(&'static self, lane: &Lane, put: Put, units: u32) {
        if put == Put::First && self.keep_first(lane, units) {
            return;
        }
        let units = u64::from(units);
        let before = self.word.fetch_sub(units, Ordering::AcqRel);
        if before & (ABANDONED | TAKEN) == ABANDONED | units {
            self.recycle();
        }
        // The count may be another budget's by now. To look once more does no harm.
        self.serve_waiters();
    }

    /// Admits waiters and tells watches, after a change that freed capacity.
    #[inline]
    pub(crate) fn serve_waiters(&self) {
        if !self.queue.gate_is_open() {
            self.serve_now();
        }
    }

    // The clock is read only here: a release while the gate is open does without.
    #[cold]
    fn serve_now(&self) {
        self.serve(Instant::now());
    }

    /// Admits waiters for as long as the first of them fits, and tells watches. After the grace of a drain, no waiter is admitted:
    /// their own timers refuse them.
    fn serve(&self, now: Instant) {
        self.at_gate(|| {
            if !self.drain.refuses() {
                self.queue.serve(now, |claim: Claim| {
                    self.acquire(claim.units, |limit| claim.cap(limit, 1.0))
                        .is_ok()
                });
            }
        });
    }

    /// Admits waiters, after a request has joined the queue or left it: the first waiter may fit.
    pub(crate) fn queue_has_changed(&self, now: Instant) {
        // A permit that a lane caches changes no word; but a request that does not fit reclaims it, and lanes are not opened while
        // there is a waiter.
        self.touch();
        self.serve(now);
    }

    /// Changes nothing, and comes before or after each release: see [`Queue`].
    pub(crate) fn touch(&self) {
        self.word.fetch_add(0, Ordering::AcqRel);
    }

    /// Returns the shares of the tenants, if a layer asked for fair shares.
    #[inline]
    pub(crate) fn shares(&self) -> Option<&Shares> {
        self.shares.get()
    }

    /// Makes the shares, if there are none.
    pub(crate) fn make_shares(&self) {
        self.shares.get_or_init(Shares::new);
    }

    /// Returns this thread's lane.
    #[inline]
    pub(crate) fn own(&self) -> (&Lane, Writers) {
        self.lanes.own()
    }

    /// Returns the number of requests that this thread has admitted.
    #[inline]
    pub(crate) fn admitted_here(&self) -> usize {
        self.own().0.admitted.requests()
    }

    /// Returns the number of requests that all threads have admitted, and no inner layer has refused.
    pub(crate) fn admitted(&self) -> usize {
        self.sum(|lane| {
            let withdrawn = lane.withdrawn.requests();
            lane.admitted.requests().wrapping_sub(withdrawn)
        })
    }

    /// Returns which budget has the count, counted from the first.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Counts `units` of a request that held them before.
    #[cold]
    pub(crate) fn acquire_again(
        &'static self,
        generation: u32,
        units: u32,
        cap: impl Cap,
    ) -> Again {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            if seen & ABANDONED != 0 || self.generation() != generation {
                return Again::Gone;
            }
            if seen & KEEPING != 0 {
                seen = self.call_in();
                continue;
            }
            let level = Level::from(seen);
            if !level.admits(0, units, cap.of(level.limit)) {
                return Again::Full;
            }
            let next = seen + u64::from(units);
            match self
                .word
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) if self.generation() == generation => {
                    self.note_peak(Level::from(next));
                    return Again::Counted;
                }
                // The count was handed out meanwhile: the units are released to that budget.
                Ok(_) => {
                    self.release(units);
                    return Again::Gone;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Returns the sum of a counter over all lanes.
    pub(crate) fn sum(&self, counted: impl Fn(&Lane) -> usize) -> usize {
        // Wrapping: one thread may have subtracted what another counted.
        self.lanes.iter().map(counted).fold(0, usize::wrapping_add)
    }
}

#[cfg(all(test, loadshed_loom))]
pub(crate) mod kept_model;
#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;

#[cfg(all(test, not(loadshed_loom)))]
pub(crate) mod stress;

#[cfg(all(test, not(loadshed_loom)))]
pub(crate) mod tests;
