use std::sync::{OnceLock, PoisonError};

use tokio::time::Instant;

use super::{
    cap::Cap,
    kept::{Patience, Visitors},
    lane::{Lane, Put, ceiling},
};
use crate::{
    admission::{claim::Claim, queue::queue::Queue, shares::shares::Shares},
    support::{
        per_thread::{Lanes, Writers},
        sync::{AtomicU32, AtomicU64, Mutex, Ordering, fence},
    },
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
///  63        62 … 32 31      30 … 0
///  abandoned limit   keeping taken
/// ```
///
/// # Why lanes
///
/// All threads fight for that one word, and wait for each other at every request. That is the price of a last place: who
/// gets it must be decided somewhere. While there are plenty, it need not be paid. So each thread has a [`Lane`]. Where
/// the word says `keeping`, a request that ends leaves its place in the lane of its thread and does not tell the word,
/// and the next one on that thread takes it from there. Then what the word says is *taken*: what is in flight, and what
/// is kept. It never becomes more than the [`ceiling`], nor than the peak.
///
/// - *Admitted* from a lane, a request finds room: with it, no more is in flight than is taken, which is less than
///   where it stops. Admitted by the word, it finds room even beside all that is kept.
/// - *Refused* is a request by the word alone, when nothing is kept. If there is no room beside what is kept, all is
///   called in first: the lanes are shut, one after the other, and what they keep stands from then on; then one
///   compare-and-swap takes it off the word. Until that, the word says too much and refuses nobody.
/// - The *peak* is exact: what is in flight can rise above it only where nothing is kept.
/// - The *limit* changes only where nothing is kept.
///
/// A budget near its limit is counted in the word alone, as is one too small to have places for all threads.
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
/// the thing that the budget protects is seen by the request that takes its place. That goes for a place in a lane, too,
/// and for one that is called in from there. The limit orders nothing else: it travels in the same word. Whatever makes
/// room in the word is an `Acquire` as well, and looks whether somebody waits for it: see [`Queue`].
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) word: Padded<AtomicU64>,
    pub(crate) lanes: Lanes<Lane>,
    pub(crate) visitors: Visitors,
    pub(crate) patience: Patience,
    peak: AtomicU32,
    /// Those who wait for room. Nobody does once the budget's last handle is gone, as each holds one.
    pub(crate) queue: Queue,
    /// Here, as it is found by the count, too, and needed for as long. Empty where nobody asks for fair shares.
    shares: OnceLock<Shares>,
}

/// Two lines of 64 bytes: x86 fetches them in pairs, and some ARM cores have lines of 128.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

const LIMIT_SHIFT: u32 = 32;
pub(crate) const KEEPING: u64 = 1 << 31;
const TAKEN: u64 = KEEPING - 1;
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
    pub(crate) fn has_room(self, held: u32, units: u32, cap: u32) -> bool {
        self.in_flight == held || self.fits(held, units, cap)
    }

    #[inline]
    fn fits(self, held: u32, units: u32, cap: u32) -> bool {
        // Where places are kept, what is in flight may be seen as less than it is, for a moment.
        let others = self.in_flight.saturating_sub(held);
        let all = u64::from(others) + u64::from(units);
        all <= u64::from(cap).min(TAKEN)
    }
}

impl From<u64> for Level {
    fn from(word: u64) -> Self {
        Self {
            limit: ((word & !ABANDONED) >> LIMIT_SHIFT) as u32,
            in_flight: (word & TAKEN) as u32,
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
                word: Padded(AtomicU64::new(0)),
                lanes: Lanes::new(),
                visitors: Visitors::default(),
                patience: Patience::default(),
                peak: AtomicU32::new(0),
                queue: Queue::default(),
                shares: OnceLock::new(),
            }))
        });
        if let Some(shares) = count.shares() {
            shares.forget();
        }
        count.lanes.iter().for_each(Lane::reset);
        count.patience.reset();
        count.peak.store(0, Ordering::Relaxed);
        let word = u64::from(limit) << LIMIT_SHIFT;
        // Relaxed: nobody else has it, and the handle that is about to be made is published by other means.
        count.word.store(word, Ordering::Relaxed);
        count.queue.renew();
        count
    }

    /// The budget's last handle is gone: nothing will be admitted any more.
    pub(crate) fn abandon(&'static self) {
        // For good: only admissions let places be kept.
        self.call_in();
        // AcqRel: of this and the release of the last permit, the later one must see all that was done before.
        let before = self.word.fetch_or(ABANDONED, Ordering::AcqRel);
        if before & TAKEN == 0 {
            self.recycle();
        }
    }

    /// Counts `units` more, if no more than the cap are then in flight, or none were. A refusal only reads, once nothing
    /// is kept.
    ///
    /// Returns the level then: never less than was in flight, and no more where the word says nothing is kept.
    ///
    /// # Errors
    ///
    /// The level that left no room.
    #[inline]
    pub(crate) fn acquire(&self, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let (lane, writers) = self.lanes.own();
        let level = match lane.take(units, &cap) {
            Some(limit) => Level {
                limit,
                in_flight: ceiling(limit),
            },
            None => self.acquire_from_word(units, cap)?,
        };
        lane.admitted.add(units, writers);
        Ok(level)
    }

    // Apart, as is what comes of it: most never come here.
    #[inline(never)]
    fn acquire_from_word(&self, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let level = Level::from(seen);
            let cap = cap.of(level.limit);
            if seen & KEEPING != 0 {
                if !self.has_spare(level, 0, units, cap) {
                    seen = self.call_in();
                    continue;
                }
            } else if !level.has_room(0, units, cap) {
                return Err(level);
            }
            // What is taken then fits into its bits: the sum never carries into the next.
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

    /// Whether there is room even beside what is kept, below the ceiling and the peak.
    fn has_spare(&self, level: Level, held: u32, units: u32, cap: u32) -> bool {
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

    /// Relaxed: it stands for itself. One that is read too early is too low, and only the more careful.
    #[inline]
    fn note_peak(&self, level: Level) {
        // Reads before it writes: in a steady state the peak stands.
        if level.in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(level.in_flight, Ordering::Relaxed);
        }
    }

    /// Decides upon a request that is counted already with `held` units, and needs `units`, which are no fewer: counts
    /// it with as many if no more than the cap are then in flight, or only its own, and takes it out otherwise.
    ///
    /// # Errors
    ///
    /// The level that left no room; the request is then no longer counted.
    pub(crate) fn keep(&self, held: u32, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let level = Level::from(seen);
            let cap = cap.of(level.limit);
            let has_room = if seen & KEEPING == 0 {
                level.has_room(held, units, cap)
            } else if self.has_spare(level, held, units, cap) {
                true
            } else {
                seen = self.call_in();
                continue;
            };
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
                Ok(_) if has_room => {
                    if seen & KEEPING == 0 {
                        self.note_peak(Level::from(next));
                    }
                    return Ok(Level::from(next));
                }
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
        // It may be another budget's by now: to look once more does no harm.
        self.made_room();
    }

    #[inline]
    pub(crate) fn made_room(&self) {
        if !self.queue.is_empty() {
            self.serve();
        }
    }

    /// Admits those who wait, for as long as there is room for the first of them.
    #[cold]
    fn serve(&self) {
        self.queue.serve(Instant::now(), |claim: Claim| {
            self.acquire(claim.units, |limit| claim.cap(limit, 1.0))
                .is_ok()
        });
    }

    /// Somebody has joined the line, or left it: there may be room for the first one.
    pub(crate) fn queue_has_changed(&self) {
        // Changes nothing, and comes before or after each release: see `Queue`. Lanes do not tell of what they keep; but
        // whoever finds no room calls that in, and lanes are not opened while somebody waits.
        self.word.fetch_add(0, Ordering::AcqRel);
        self.made_room();
    }

    #[inline]
    pub(crate) fn shares(&self) -> Option<&Shares> {
        self.shares.get()
    }

    /// From now on there are some.
    pub(crate) fn make_shares(&self) {
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
            if seen & KEEPING != 0 {
                seen = self.call_in();
                continue;
            }
            let word = seen & (ABANDONED | TAKEN) | bits;
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

    /// A reading of one moment; with the moves of that moment where places are kept. Whoever decides by it decides again
    /// in a compare-and-swap.
    pub(crate) fn level(&self) -> Level {
        // Acquire: what is read of the lanes is no older than the word.
        let mut seen = self.word.load(Ordering::Acquire);
        while seen & KEEPING != 0 {
            let kept = self.kept();
            let now = self.word.load(Ordering::Acquire);
            if now == seen {
                let Level { limit, in_flight } = Level::from(seen);
                // What ends on one thread and begins on another meanwhile may be seen as kept twice.
                let in_flight = in_flight.saturating_sub(kept);
                return Level { limit, in_flight };
            }
            seen = now;
        }
        Level::from(seen)
    }

    /// Without a look at the lanes, which other threads write to.
    pub(crate) fn limit(&self) -> u32 {
        Level::from(self.word.load(Ordering::Relaxed)).limit
    }

    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Ordering::Relaxed)
    }

    /// What this thread counts.
    #[inline]
    pub(crate) fn own(&self) -> (&Lane, Writers) {
        self.lanes.own()
    }

    /// How many this thread has admitted.
    #[inline]
    pub(crate) fn admitted_here(&self) -> usize {
        self.own().0.admitted.requests()
    }

    /// How many all threads have admitted.
    pub(crate) fn admitted(&self) -> usize {
        self.sum(|lane| lane.admitted.requests())
    }

    /// What all threads have counted.
    pub(crate) fn sum(&self, counted: impl Fn(&Lane) -> usize) -> usize {
        // One thread may have taken back what another counted.
        self.lanes.iter().map(counted).fold(0, usize::wrapping_add)
    }

    fn recycle(&'static self) {
        POOL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
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
