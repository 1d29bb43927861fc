//! The word of a [`Count`](super::count::count::Count): the limit, the units taken and two flags, in 64 bits.
//!
//! ```text
//!  63   62 … 32 31      30 … 0
//!  gate limit   caching taken
//! ```
//!
//! A limit of 0 is that of a count whose budget is gone.

use crate::support::sync::{AtomicU64, Ordering, note_shared_write};

/// Set while the gate is shut: a request has to be decided upon at the [gate](super::count::draining).
const GATE: u64 = 1 << 63;
const LIMIT_SHIFT: u32 = 32;
const LIMIT: u64 = (GATE - 1) & !((1 << LIMIT_SHIFT) - 1);
/// Set while the stripes may cache permits.
const CACHING: u64 = 1 << 31;
/// The units in flight, and the units cached by stripes.
pub(crate) const TAKEN: u64 = CACHING - 1;

/// One value of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value(u64);

impl Value {
    /// Returns the limit and the units taken. These are the units in flight, unless it [caches](Self::is_caching).
    #[inline]
    pub(crate) fn level(self) -> Level {
        Level {
            limit: ((self.0 & LIMIT) >> LIMIT_SHIFT) as u32,
            in_flight: (self.0 & TAKEN) as u32,
        }
    }

    #[inline]
    pub(crate) fn is_caching(self) -> bool {
        self.0 & CACHING != 0
    }

    #[inline]
    pub(crate) fn is_gated(self) -> bool {
        self.0 & GATE != 0
    }

    /// Returns whether the budget's last handle is dropped.
    pub(crate) fn is_abandoned(self) -> bool {
        self.0 & LIMIT == 0
    }

    /// Returns whether a release of `units`, before which the word had this value, leaves a count that is of no more use.
    pub(crate) fn is_last_of_abandoned(self, units: u32) -> bool {
        self.is_abandoned() && self.level().in_flight == units
    }

    /// Returns the value with `units` more, which fit.
    #[inline]
    pub(crate) fn with(self, units: u32) -> Self {
        Self(self.0 + u64::from(units))
    }

    #[inline]
    pub(crate) fn without(self, units: u32) -> Self {
        Self(self.0 - u64::from(units))
    }

    pub(crate) fn with_limit(self, limit: u32) -> Self {
        Self(self.0 & !LIMIT | u64::from(limit) << LIMIT_SHIFT)
    }

    pub(crate) fn caching(self) -> Self {
        Self(self.0 | CACHING)
    }

    pub(crate) fn not_caching(self) -> Self {
        Self(self.0 & !CACHING)
    }
}

/// The word. All its changes but the first are read-modify-writes.
#[derive(Debug, Default)]
pub(crate) struct Word(AtomicU64);

impl Word {
    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> Value {
        Value(self.0.load(order))
    }

    /// Replaces `seen` by `next`. May fail although the value is `seen`.
    ///
    /// # Errors
    ///
    /// The value, if it was not replaced. `seen` and this value are no older than the order of the load says.
    #[inline]
    pub(crate) fn replace(
        &self,
        seen: Value,
        next: Value,
        [success, load]: [Ordering; 2],
    ) -> Result<(), Value> {
        note_shared_write();
        self.0
            .compare_exchange_weak(seen.0, next.0, success, load)
            .map(drop)
            .map_err(Value)
    }

    /// Subtracts `units` that are no longer in flight. Returns the value before.
    ///
    /// `Release`: what was done under the permit is seen by the request that takes it over. `Acquire`: and so is a waiter by the
    /// release, which a shut gate tells of.
    #[inline]
    pub(crate) fn release(&self, units: u32) -> Value {
        note_shared_write();
        Value(self.0.fetch_sub(units.into(), Ordering::AcqRel))
    }

    /// Changes nothing, and comes before or after each release.
    pub(crate) fn touch(&self) {
        note_shared_write();
        self.0.fetch_add(0, Ordering::AcqRel);
    }

    /// Shuts or opens the gate, and comes before or after each release, also where the gate is so already.
    pub(crate) fn set_gate(&self, shut: bool) {
        note_shared_write();
        match shut {
            true => self.0.fetch_or(GATE, Ordering::AcqRel),
            false => self.0.fetch_and(!GATE, Ordering::AcqRel),
        };
    }

    /// Begins anew with nothing in flight. Only for a count that no budget has.
    pub(crate) fn renew(&self, limit: u32) {
        // Release: a request of the budget before that reads this word sees the new generation.
        self.0
            .store(Value(0).with_limit(limit).0, Ordering::Release);
    }

    /// Notes that the budget's last handle is dropped. Returns whether nothing is in flight.
    pub(crate) fn abandon(&self) -> bool {
        // AcqRel: whichever comes later, this or the release of the last permit, must see all that was done before.
        let before = Value(self.0.fetch_and(!(LIMIT | GATE), Ordering::AcqRel));
        before.level().in_flight == 0
    }
}

/// The limit and the units in flight, as the word gave them at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) limit: u32,
    /// While stripes cache permits: the units taken, which are no fewer than the units in flight.
    pub(crate) in_flight: u32,
}

impl Level {
    /// Returns whether a request that holds `held` units may hold `units`, under `cap`. A request that costs more than the
    /// whole budget is admitted when nothing else is in flight.
    #[inline]
    pub(crate) fn admits(self, held: u32, units: u32, cap: u32) -> bool {
        self.in_flight == held || self.fits(held, units, cap)
    }

    #[inline]
    pub(crate) fn fits(self, held: u32, units: u32, cap: u32) -> bool {
        // While stripes cache permits, a reading of `in_flight` may be too small for a moment.
        let others = self.in_flight.saturating_sub(held);
        let all = u64::from(others) + u64::from(units);
        all <= u64::from(cap).min(TAKEN)
    }
}
