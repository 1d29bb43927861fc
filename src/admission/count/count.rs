//! One budget's count: its admissions and its releases.

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::{
    cap::{Cap, ceiling},
    stripe::Stripe,
    stripes::Stripes,
};
use crate::{
    admission::{
        claim::Claim,
        drain::Drain,
        queue::queue::{Entrant, Queue, Ticket, WaitOutcome},
        shares::{pool::Claimed, shares::Shares},
        stalls::Stalls,
        word::{Level, Value, Word},
    },
    support::{
        per_thread::Writers,
        sync::{AtomicU32, Mutex, Ordering, fence},
    },
};

/// One budget's limit and the units in flight under it, decided upon in one atomic step.
///
/// # Why one word
///
/// A request is admitted when the count including itself stays within a share of the limit. Limit and count are in one
/// word ([`word`](crate::admission::word)), and the compare-and-swap that counts the request is the decision. With two words, a request
/// could read the old limit, sleep, and be admitted by that limit long after it was lowered. No moment would have allowed it.
/// A flag in the same word, the gate, has requests decided upon elsewhere: while others wait in the queue, or the budget drains.
///
/// # Why stripes
///
/// All threads contend for that word at every request. While a budget is nearly full, this cannot be avoided: one word must
/// decide which request gets the last permit. While there is much free capacity, it can. So each thread has a [`Stripe`]. When
/// they are opened, all units that are free below the [`ceiling`] are cached in them as permits, evenly, and the word says that
/// it is *caching* and that all these units are *taken*. From then on a request takes its units from the stripe of its thread, or
/// from another where that is empty, and a request that ends leaves its units in the stripe of the thread on which it ends. The
/// word does not change: units in flight and cached units together are as many as when the stripes were opened.
///
/// - A request *admitted* from a stripe fits: the units taken, its own included, are at most the ceiling, and the ceiling is at
///   most its cap.
/// - A request is *refused* by the word alone, when nothing is cached. If no stripe has its units, or its cap is below the ceiling,
///   the cached permits are reclaimed first. The stripes are shut one after the other, and a shut stripe does not change. Then
///   one compare-and-swap subtracts the cached units from the word. Until then the word says too much and refuses no request.
///   So permits pass from a stripe to a request in one step, and never to another stripe or to the word by way of a thread: in
///   between they would be neither in flight nor cached, and a request would be refused for them.
/// - A request whose cap is below the ceiling, or that costs more than one stripe holds, reclaims all permits. A budget that meets
///   many such requests is counted in the word alone, as [`Backoff`](super::opening::Backoff) opens the stripes ever less.
/// - The *peak* is exact above the ceiling, as the word alone counts there. Below it is an upper bound: each stripe knows the
///   fewest units that it had, and these were not in flight.
/// - The *limit* changes only while nothing is cached.
///
/// A budget near its limit is counted in the word alone.
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
    pub(crate) word: CachePadded<Word>,
    pub(crate) stripes: Stripes,
    pub(crate) peak: AtomicU32,
    /// Empty once the budget's last handle is dropped, as each waiter holds a handle.
    pub(crate) queue: Queue,
    pub(crate) drain: Drain,
    /// Empty unless a layer asks for fair shares. Here, as a permit finds it by the count.
    pub(crate) shares: Claimed,
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

/// Why a request is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Its units do not fit beside those of this level.
    Full(Level),
    /// It has to be decided upon at the [gate](super::draining).
    Gated,
}

/// Whether a request may pass a gate that is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It is decided upon at the gate.
    Passes,
    Stops,
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
        Self::with(Stripes::new())
    }

    pub(crate) fn with(stripes: Stripes) -> Self {
        Self {
            word: CachePadded::default(),
            stripes,
            peak: AtomicU32::new(0),
            queue: Queue::default(),
            drain: Drain::default(),
            shares: Claimed::default(),
            sharing: AtomicU32::new(0),
            layers: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            marks: Mutex::new(0),
            marked: AtomicU32::new(0),
            stalls: Stalls::new(),
        }
    }

    /// Counts `units` more, if the units in flight are then within the cap, or if nothing was in flight. Passes the gate. A
    /// refusal only reads, once nothing is cached.
    ///
    /// Returns the level with the request. Its `in_flight` is exact while nothing is cached, and otherwise no less than the
    /// units in flight.
    ///
    /// # Errors
    ///
    /// If the units do not fit: the level without the request.
    pub(crate) fn acquire(&self, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let (stripe, writers) = self.stripes.own();
        let level = match stripe.take(units, &cap) {
            Some(limit) => cached_level(limit),
            None => match self.acquire_from_word(units, cap, Gate::Passes) {
                Ok(level) => level,
                Err(Denied::Full(level)) => return Err(level),
                Err(Denied::Gated) => unreachable!("it passes the gate"),
            },
        };
        stripe.admitted.add(units, writers);
        Ok(level)
    }

    /// [`acquire`](Self::acquire), which returns how many requests this thread has admitted, and may stop at the gate.
    ///
    /// # Errors
    ///
    /// If the units do not fit, or the request stops at the gate.
    #[inline]
    pub(crate) fn admit(&self, units: u32, cap: impl Cap, gate: Gate) -> Result<usize, Denied> {
        let (stripe, writers) = self.stripes.own();
        if stripe.take(units, &cap).is_none() {
            self.acquire_from_word(units, cap, gate)?;
        }
        Ok(stripe.admitted.add(units, writers))
    }

    // A function of its own, as is what follows from it: most requests never get here.
    #[inline(never)]
    fn acquire_from_word(&self, units: u32, cap: impl Cap, gate: Gate) -> Result<Level, Denied> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen.is_gated() && gate == Gate::Stops {
                return Err(Denied::Gated);
            }
            if seen.is_caching() {
                if let Some(limit) = self.stripes.take(units, &cap) {
                    return Ok(cached_level(limit));
                }
                seen = self.reclaim();
                continue;
            }
            let level = seen.level();
            if !level.admits(0, units, cap.of(level.limit)) {
                return Err(Denied::Full(level));
            }
            // The sum never carries into the next bits: `admits` keeps the units taken within theirs.
            let next = seen.with(units);
            match self
                .word
                .replace(seen, next, [Ordering::Acquire, Ordering::Relaxed])
            {
                Ok(()) => {
                    self.note_peak(next.level().in_flight);
                    if self.stripes.may_open_after(self.admitted_here()) {
                        self.open();
                    }
                    return Ok(next.level());
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Opens the stripes, if the budget is far enough from full.
    #[cold]
    pub(crate) fn open(&self) {
        self.stripes.open(&self.word, || self.admitted());
    }

    /// Reclaims all cached permits. Returns the word: the units taken are then the units in flight.
    #[cold]
    pub(crate) fn reclaim(&self) -> Value {
        self.stripes
            .reclaim(&self.word, || self.admitted(), |most| self.note_peak(most))
    }

    /// Raises the peak.
    ///
    /// Relaxed: the peak orders nothing.
    #[inline]
    pub(crate) fn note_peak(&self, in_flight: u32) {
        // Reads before it writes: in a steady state the peak does not change.
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
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
            if seen.is_caching() {
                let more = units - held;
                let limit = seen.level().limit;
                // All units taken are at most the ceiling. As `acquire` does: a request that has just ended may have freed the
                // capacity.
                if more == 0 && cap.reaches_ceiling(limit) {
                    fence(Ordering::Acquire);
                    return Ok(cached_level(limit));
                }
                if more > 0
                    && let Some(limit) = self.stripes.take(more, &cap)
                {
                    return Ok(cached_level(limit));
                }
                seen = self.reclaim();
                continue;
            }
            let level = seen.level();
            let fits = level.admits(held, units, cap.of(level.limit));
            if fits && units == held {
                fence(Ordering::Acquire);
                return Ok(level);
            }
            // Refusal and withdrawal are one step. With two steps, two requests of which one fits could each see the other,
            // and both be refused. Release: as any release of a permit.
            let without = seen.without(held);
            let next = if fits { without.with(units) } else { without };
            match self
                .word
                .replace(seen, next, [Ordering::AcqRel, Ordering::Relaxed])
            {
                Ok(()) if fits => {
                    self.note_peak(next.level().in_flight);
                    return Ok(next.level());
                }
                Ok(()) => return Err(level),
                Err(now) => seen = now,
            }
        }
    }

    /// Releases `units`.
    #[inline]
    pub(crate) fn release(&'static self, units: u32) {
        let (stripe, _) = self.stripes.own();
        if !stripe.put(units) {
            self.release_to_word(units);
        }
    }

    #[inline(never)]
    fn release_to_word(&'static self, units: u32) {
        let is_caching = self.word.load(Ordering::Relaxed).is_caching();
        if is_caching && self.stripes.put_elsewhere(units) {
            return;
        }
        self.released(self.word.release(units), units);
    }

    /// Follows a release of `units` from the word, which had the value `before`.
    pub(crate) fn released(&'static self, before: Value, units: u32) {
        if before.is_last_of_abandoned(units) {
            self.recycle();
        }
        if before.is_gated() {
            // The count may be another budget's by now. To look once more does no harm.
            self.serve_now();
        }
    }

    /// Admits waiters and tells watches, after a change of the word that freed capacity.
    #[inline]
    pub(crate) fn serve_waiters(&self) {
        // No older than that change.
        if self.word.load(Ordering::Acquire).is_gated() {
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
    ///
    /// A release to a stripe serves no waiter. But a waiter that does not fit reclaims the permits, and stripes are not opened
    /// while the gate is shut.
    pub(crate) fn serve(&self, now: Instant) {
        self.at_gate(|| {
            if !self.drain.refuses() {
                self.queue.serve(now, &self.word, |claim: Claim| {
                    self.acquire(claim.units, |limit| claim.cap(limit, 1.0))
                        .is_ok()
                });
            }
        });
    }

    /// Adds a request to the queue, if that is not full: see [`Queue::join`]. It has to be [served](Self::serve), as it may fit.
    pub(crate) fn join(&self, entrant: Entrant, now: Instant) -> Option<Ticket> {
        self.queue.join(entrant, now, &self.word)
    }

    /// Takes a request out of the queue: see [`Queue::leave`]. Without it, another waiter may be the first, and fit.
    pub(crate) fn leave(&self, ticket: &Ticket, now: Instant) -> Option<WaitOutcome> {
        let outcome = self.queue.leave(ticket, now, &self.word);
        if outcome.is_none() {
            self.serve(now);
        }
        outcome
    }

    /// Returns the shares of the tenants, if a layer asked for fair shares.
    #[inline]
    pub(crate) fn shares(&self) -> Option<&Shares> {
        self.shares.get()
    }

    /// Returns this thread's stripe.
    #[inline]
    pub(crate) fn own(&self) -> (&Stripe, Writers) {
        self.stripes.own()
    }

    /// Returns the number of requests that this thread has admitted.
    #[inline]
    pub(crate) fn admitted_here(&self) -> usize {
        self.own().0.admitted.requests()
    }

    /// Returns the number of requests that all threads have admitted, and no inner layer has refused.
    pub(crate) fn admitted(&self) -> usize {
        self.sum(|stripe| {
            let withdrawn = stripe.withdrawn.requests();
            stripe.admitted.requests().wrapping_sub(withdrawn)
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
            if seen.is_abandoned() || self.generation() != generation {
                return Again::Gone;
            }
            if seen.is_caching() {
                seen = self.reclaim();
                continue;
            }
            let level = seen.level();
            if !level.admits(0, units, cap.of(level.limit)) {
                return Again::Full;
            }
            let next = seen.with(units);
            match self
                .word
                .replace(seen, next, [Ordering::AcqRel, Ordering::Acquire])
            {
                Ok(()) if self.generation() == generation => {
                    self.note_peak(next.level().in_flight);
                    return Again::Counted;
                }
                // The count was handed out meanwhile: the units are released to that budget.
                Ok(()) => {
                    self.release(units);
                    return Again::Gone;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Returns the sum of a counter over all stripes.
    pub(crate) fn sum(&self, counted: impl Fn(&Stripe) -> usize) -> usize {
        // Wrapping: one thread may have subtracted what another counted.
        self.stripes
            .iter()
            .map(counted)
            .fold(0, usize::wrapping_add)
    }
}

/// Returns the level of a request that was admitted from a stripe: at most the ceiling is in flight.
fn cached_level(limit: u32) -> Level {
    Level {
        limit,
        in_flight: ceiling(limit),
    }
}

#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;
#[cfg(all(test, loadshed_loom))]
pub(crate) mod stripes_model;

#[cfg(all(test, not(loadshed_loom)))]
pub(crate) mod shared_writes;
#[cfg(all(test, not(loadshed_loom)))]
pub(crate) mod stress;

#[cfg(all(test, not(loadshed_loom)))]
pub(crate) mod tests;
