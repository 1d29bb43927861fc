use std::fmt;

use super::threshold::Threshold;

/// A [`Threshold`] to the nearest 60,000th, in two bytes: it moves with the permit of each request. Ratios of up to four decimals are
/// found again, and the thirds between such ratios and 1 that classes have by default.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoundedThreshold(u16);

/// The steps from 0 to the whole budget: less than `u16::MAX`, which stands for [`Threshold::NEVER_SHED`].
const STEPS: f64 = 60_000.0;

impl RoundedThreshold {
    pub(crate) fn to_bits(self) -> u16 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl From<Threshold> for RoundedThreshold {
    #[inline]
    fn from(threshold: Threshold) -> Self {
        // The conversion saturates.
        Self((f64::from_bits(threshold.to_bits()) * STEPS + 0.5) as u16)
    }
}

impl From<RoundedThreshold> for Threshold {
    fn from(rounded: RoundedThreshold) -> Self {
        match rounded.0 {
            u16::MAX => Self::NEVER_SHED,
            steps => Self::from_bits((f64::from(steps) / STEPS).to_bits()),
        }
    }
}

impl fmt::Debug for RoundedThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Threshold::from(*self).fmt(f)
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn p04_a_ratio_of_up_to_four_decimals_is_found_again() {
        let ratios = (1..=10_000).map(|n| Threshold::ratio(f64::from(n) / 1e4));
        for threshold in ratios.chain([Threshold::NEVER_SHED]) {
            let rounded = RoundedThreshold::from(threshold);
            assert_eq!(Threshold::from(rounded), threshold);
        }
    }

    /// The default classes divide what is left above a ratio in three.
    #[test]
    fn p04_a_third_between_a_ratio_and_1_has_the_same_cap_as_before() {
        for ratio in (1..100).map(|n| f64::from(n) / 100.0) {
            for third in 1..3 {
                let threshold = Threshold::ratio(ratio + f64::from(third) / 3.0 * (1.0 - ratio));
                let found = Threshold::from(RoundedThreshold::from(threshold));
                for limit in 1..=1_000 {
                    let caps = (found.cap(limit), threshold.cap(limit));
                    assert_eq!(caps.0, caps.1, "{threshold:?} of {limit}");
                }
            }
        }
    }

    #[test]
    fn p04_a_ratio_of_more_decimals_is_rounded() {
        for (ratio, rounded) in [
            (0.12344, 7_406.0 / 60_000.0),
            (0.999_999, 1.0),
            (0.000_001, 0.0),
        ] {
            let found = Threshold::from(RoundedThreshold::from(Threshold::ratio(ratio)));
            assert_eq!(f64::from_bits(found.to_bits()), rounded);
        }
    }
}
