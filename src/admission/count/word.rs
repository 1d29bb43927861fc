//! The word of a [`Count`](super::count::Count): the limit and the units taken, in 64 bits.
//!
//! ```text
//!  63        62 … 32 31      30 … 0
//!  abandoned limit   keeping taken
//! ```

pub(crate) const LIMIT_SHIFT: u32 = 32;
/// Set while lanes may cache permits.
pub(crate) const KEEPING: u64 = 1 << 31;
/// The units in flight and the units cached by lanes.
pub(crate) const TAKEN: u64 = KEEPING - 1;
/// Set once the budget's last handle is dropped.
pub(crate) const ABANDONED: u64 = 1 << 63;

/// The limit and the units in flight, as the word gave them at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) limit: u32,
    /// While lanes cache permits: the units taken, which are no fewer than the units in flight.
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
        // While lanes cache permits, a reading of `in_flight` may be too small for a moment.
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

/// Returns the most units that may be taken while lanes cache permits: units in flight and cached units together.
///
/// Half of the limit, as most ratios are above it. A request whose cap is below the ceiling never takes a cached permit.
#[inline]
pub(crate) fn ceiling(limit: u32) -> u32 {
    limit / 2
}
