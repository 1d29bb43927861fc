use crate::threshold::threshold::Threshold;

/// Returns the most units that may be taken while stripes cache permits: units in flight and cached units together.
///
/// Half of the limit, as most ratios are above it. A request whose cap is below the ceiling never takes a cached permit.
#[inline]
pub(crate) fn ceiling(limit: u32) -> u32 {
    limit / 2
}

/// The most units that may be in flight under a limit, the request's own included.
pub(crate) trait Cap {
    fn of(&self, limit: u32) -> u32;

    /// Returns whether the cap is at least the [`ceiling`] of the limit. A wrong `true` would admit too many requests; a wrong
    /// `false` only costs time.
    #[inline]
    fn reaches_ceiling(&self, limit: u32) -> bool {
        self.of(limit) >= ceiling(limit)
    }
}

impl<F: Fn(u32) -> u32> Cap for F {
    #[inline]
    fn of(&self, limit: u32) -> u32 {
        self(limit)
    }
}

impl Cap for Threshold {
    #[inline]
    fn of(&self, limit: u32) -> u32 {
        self.cap(limit)
    }

    #[inline]
    fn reaches_ceiling(&self, _: u32) -> bool {
        self.reaches_half()
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn p02_a_threshold_that_claims_to_reach_the_ceiling_reaches_it(
            ratio in prop_oneof![0.001..=1.0, 0.49..=0.51, (1..100_u32).prop_map(|n| 0.5 + f64::from(n) / 1e12)],
            limit in prop_oneof![1..100_u32, 1..=u32::MAX >> 1],
        ) {
            let threshold = Threshold::ratio(ratio);
            let reaches = threshold.reaches_ceiling(limit);
            prop_assert_eq!(reaches, ratio >= 0.5);
            prop_assert!(!reaches || threshold.of(limit) >= ceiling(limit));
        }
    }
}
