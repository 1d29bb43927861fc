use crate::threshold::Threshold;

/// How much may be in flight at most, in units, what is asked for included.
pub(crate) trait Cap {
    fn of(&self, limit: u32) -> u32;

    /// Whether that is half of the limit, or more. It may say no where it is just that.
    #[inline]
    fn is_half(&self, limit: u32) -> bool {
        self.of(limit) >= limit / 2
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

    // A comparison in the place of two multiplications, which are as dear as the compare-and-swap. What is at least half
    // of one number is at least half of each, both rounded down.
    #[inline]
    fn is_half(&self, _: u32) -> bool {
        self.rank() >= Self::HIGHEST_RANK / 2
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_said_to_be_half_is(
            ratio in prop_oneof![0.001..=1.0, 0.49..=0.51, (1..100_u32).prop_map(|n| 0.5 + f64::from(n) / 1e12)],
            limit in prop_oneof![1..100_u32, 1..=u32::MAX >> 1],
        ) {
            let threshold = Threshold::ratio(ratio);
            prop_assert_eq!(threshold.is_half(limit), ratio >= 0.5);
            prop_assert!(ratio < 0.5 || threshold.of(limit) >= limit / 2);
        }
    }
}
