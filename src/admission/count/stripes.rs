//! The stripes of a [`Count`](super::count::Count): how they are opened, and how their cached permits are reclaimed.
//!
//! Both are rare. One thread at a time opens the stripes, after a number of admissions. A request for which no stripe has units
//! reclaims the cached permits, and each thread that gets there meanwhile helps: no thread waits for another.

use super::{
    cap::{Cap, ceiling},
    opening::{Backoff, Visitors},
    stripe::Stripe,
};
use crate::{
    admission::word::{Level, Value, Word},
    support::{
        per_thread::{PerThread, Writers},
        sync::{AtomicU32, Ordering, note_shared_write},
    },
};

#[derive(Debug)]
pub(crate) struct Stripes {
    each: PerThread<Stripe>,
    /// The stripes that are opened: the first ones, at least one.
    used: AtomicU32,
    visitors: Visitors,
    backoff: Backoff,
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self::of(PerThread::new())
    }

    pub(crate) fn of(each: PerThread<Stripe>) -> Self {
        Self {
            each,
            used: AtomicU32::new(1),
            visitors: Visitors::default(),
            backoff: Backoff::default(),
        }
    }

    /// Returns this thread's stripe.
    #[inline]
    pub(crate) fn own(&self) -> (&Stripe, Writers) {
        self.each.own()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stripe> {
        self.each.iter()
    }

    #[cfg(all(test, not(loadshed_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }

    /// Shuts and empties the stripes, for another budget.
    pub(crate) fn reset(&self) {
        self.iter().for_each(Stripe::reset);
        self.backoff.reset();
    }

    /// Takes `units` for a request with `cap` from any stripe. Returns the limit.
    pub(crate) fn take(&self, units: u32, cap: &impl Cap) -> Option<u32> {
        note_shared_write();
        self.used_from_own()
            .find_map(|stripe| stripe.take(units, cap))
    }

    /// Caches `units` that are no longer in flight, where this thread's own stripe is not open. Returns whether another is.
    pub(crate) fn put_elsewhere(&self, units: u32) -> bool {
        note_shared_write();
        self.used_from_own()
            .next()
            .is_some_and(|stripe| stripe.put(units))
    }

    /// Returns the stripes that are opened, from this thread's stripe on.
    fn used_from_own(&self) -> impl Iterator<Item = &Stripe> {
        let used = self.used.load(Ordering::Relaxed) as usize;
        let first = self.each.own_index() % used;
        let stripes = self.each.iter();
        let (head, tail) = (stripes.clone().take(first), stripes.take(used).skip(first));
        tail.chain(head)
    }

    /// Opens the stripes, if the budget is far enough from full and no other thread opens or reclaims. `admitted` counts the
    /// requests admitted by the budget.
    #[cold]
    pub(crate) fn open(&self, word: &Word, admitted: impl Fn() -> usize) {
        let Some(_alone) = self.visitors.enter_to_open() else {
            return;
        };
        let mut seen = word.load(Ordering::Acquire);
        let Level { limit, in_flight } = seen.level();
        let ceiling = ceiling(limit);
        if seen.is_caching() || seen.is_gated() || in_flight > ceiling / 2 || ceiling == 0 {
            return;
        }
        let free = ceiling - in_flight;
        // No other thread writes to stripes that are not open: a thread that reclaims is a visitor, and finds nothing to reclaim.
        let filled = self.fill(limit, free);
        loop {
            let now = seen.level();
            let fits = now.limit == limit && now.in_flight + free <= ceiling;
            if seen.is_gated() || !fits {
                return self.iter().for_each(Stripe::empty);
            }
            // Acquire and Release: the permits pass from the word to the threads that take them from the stripes, which are filled
            // for a thread that sees them caching.
            let orders = [Ordering::AcqRel, Ordering::Acquire];
            match word.replace(seen, seen.with(free).caching(), orders) {
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        self.backoff.opened(admitted());
        self.iter().take(filled).for_each(Stripe::open);
    }

    /// Fills as many stripes as there are units for. Returns their number.
    fn fill(&self, limit: u32, free: u32) -> usize {
        let used = (self.each.len() as u32).min(free);
        self.used.store(used, Ordering::Relaxed);
        for (stripe, nth) in self.each.iter().zip(0..) {
            if nth < used {
                stripe.fill(limit, free / used + u32::from(nth < free % used));
            } else {
                stripe.empty();
            }
        }
        used as usize
    }

    /// Reclaims all cached permits. Returns the word: the units taken are then the units in flight. `reclaimed` is told the most
    /// units that were in flight since the stripes were opened, or more.
    #[cold]
    pub(crate) fn reclaim(
        &self,
        word: &Word,
        admitted: impl Fn() -> usize,
        reclaimed: impl Fn(u32),
    ) -> Value {
        let _visit = self.visitors.enter();
        let mut seen = word.load(Ordering::Acquire);
        while seen.is_caching() {
            let [cached, least] = sum(self.iter().map(Stripe::shut));
            let next = seen.not_caching().without(cached);
            // First: no reader finds the permits reclaimed and the peak as before. While permits are cached, all units together are
            // at most the ceiling.
            reclaimed(ceiling(seen.level().limit) - least);
            // Acquire and Release: the permits pass from the stripes to the threads that take them from the word.
            match word.replace(seen, next, [Ordering::AcqRel, Ordering::Acquire]) {
                Ok(()) => {
                    self.backoff.reclaimed(admitted(), self.each.len());
                    return next;
                }
                Err(now) => seen = now,
            }
        }
        seen
    }

    /// Returns the units that are cached, and the fewest that were since the stripes were filled, or fewer.
    pub(crate) fn cached(&self) -> [u32; 2] {
        sum(self.iter().map(Stripe::read))
    }

    /// Returns whether the `nth` admission on its thread may open the stripes.
    #[inline]
    pub(crate) fn may_open_after(&self, nth: usize) -> bool {
        self.backoff.ends(nth)
    }
}

fn sum(stripes: impl Iterator<Item = [u32; 2]>) -> [u32; 2] {
    stripes.fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
}
