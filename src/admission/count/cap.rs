use super::word::ceiling;
use crate::threshold::threshold::Threshold;

/// How much may be in flight at most, in units, what is asked for included.
pub(crate) trait Cap {
    fn of(&self, limit: u32) -> u32;

    /// Whether that is as much as there is while places are kept, or more. To say yes where it is not is to admit too many;
    /// to say no costs time.
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

    // A comparison in the place of two multiplications, which are as dear as the compare-and-swap. The ceiling is half, and
    // what is at least half of one number is at least half of each, both rounded down.
    #[inline]
    fn reaches_ceiling(&self, _: u32) -> bool {
        self.priority() >= Self::HIGHEST_PRIORITY / 2
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn p02_what_is_said_to_reach_the_ceiling_does(
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
