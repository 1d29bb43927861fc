use super::threshold::Threshold;

/// A [`Threshold`] to six decimals, in half of the space: it moves with the permit of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundedThreshold(f32);

impl From<Threshold> for RoundedThreshold {
    #[inline]
    fn from(threshold: Threshold) -> Self {
        Self(f64::from_bits(threshold.to_bits()) as f32)
    }
}

impl From<RoundedThreshold> for Threshold {
    fn from(rounded: RoundedThreshold) -> Self {
        /// An `f32` is exact to seven digits.
        const DECIMALS: f64 = 1e6;
        let ratio = (f64::from(rounded.0) * DECIMALS).round() / DECIMALS;
        Self::from_bits(ratio.to_bits())
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn p04_a_ratio_of_up_to_six_decimals_is_found_again() {
        let ratios = (1..=1_000_000).step_by(7).map(|millionths| {
            let ratio = f64::from(millionths) / 1e6;
            Threshold::ratio(ratio)
        });
        for threshold in ratios.chain([Threshold::NEVER_SHED]) {
            let rounded = RoundedThreshold::from(threshold);
            assert_eq!(Threshold::from(rounded), threshold);
        }
    }
}
