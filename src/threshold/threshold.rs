use std::fmt;

use crate::support::invalid::{InvalidSetting, expect_valid};

/// The part of a budget up to which a request is admitted, or one of two exceptions.
///
/// ```
/// use loadshed::Threshold;
///
/// let ratio = Threshold::ratio(0.7);      // admitted while at most 70 % of the budget is in flight, this request included
/// let never_shed = Threshold::NEVER_SHED; // counted, never shed
/// let exempt = Threshold::EXEMPT;         // neither counted, nor sampled, nor shed
/// ```
///
/// With the feature `serde`, a threshold is read and written as a number, or as the text `"NEVER_SHED"` or `"EXEMPT"`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
// The bits of an `f64`: one word, so that a live setting can be an atomic, and a claim is small.
pub struct Threshold(u64);

/// Makes up for the rounding of `f64`, which is at most 2.5 ε: 1.5 for a ratio between two others, 0.5 for each of the two
/// products below. So the product of a ratio and a limit is never less than a whole number that it is in decimal.
///
/// It exceeds the exact one by at most 6.5 ε of it. With ratios of up to five decimals, that reaches no whole number that the
/// exact product does not reach, whatever the limit.
const SLACK: f64 = 1.0 + 4.0 * f64::EPSILON;

impl Threshold {
    /// Counted as in flight, and never shed. Only a [drain](crate::Budget::begin_drain) refuses it, after its grace.
    // Infinity: any number may be in flight.
    pub const NEVER_SHED: Self = Self(f64::INFINITY.to_bits());

    /// Neither counted, nor sampled, nor shed: health checks, metrics.
    // The largest number, of which every product is more than any count.
    pub const EXEMPT: Self = Self(f64::MAX.to_bits());

    /// The whole budget.
    pub(crate) const WHOLE: Self = Self(1.0_f64.to_bits());

    /// Admits a request while the requests in flight, this one included, stay within `ratio × limit`, rounded down and at
    /// least 1.
    ///
    /// The ratio counts as the decimal that was written: 0.29 of 100 is 29, and `1.0 / 3.0` of 300 is 100. Ratios of up to
    /// five decimals are exact under every limit. With more decimals, one request more is admitted where the product is less
    /// than 0.000 000 000 000 2 % below a whole number.
    ///
    /// # Panics
    ///
    /// If `ratio` is not greater than 0 and at most 1. [`try_ratio`](Self::try_ratio) returns an error instead.
    #[track_caller]
    pub fn ratio(ratio: f64) -> Self {
        expect_valid(Self::try_ratio(ratio))
    }

    /// [`ratio`](Self::ratio) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1.
    pub fn try_ratio(ratio: f64) -> Result<Self, InvalidSetting> {
        if ratio > 0.0 && ratio <= 1.0 {
            return Ok(Self(ratio.to_bits()));
        }
        let allowed = "greater than 0 and at most 1";
        Err(InvalidSetting::new("ratio", ratio, allowed))
    }

    #[inline]
    pub(crate) fn is_exempt(self) -> bool {
        self == Self::EXEMPT
    }

    #[inline]
    pub(crate) fn is_never_shed(self) -> bool {
        self == Self::NEVER_SHED
    }

    /// Returns the ratio, or `None` for an exception.
    #[inline]
    pub(crate) fn as_ratio(self) -> Option<f64> {
        Some(self.value()).filter(|ratio| *ratio <= 1.0)
    }

    /// Returns the threshold with `thirds` of what is left above `ratio` added to it.
    #[inline]
    pub(crate) fn above(ratio: f64, thirds: f64) -> Self {
        Self((ratio + (1.0 - ratio) * thirds / 3.0).to_bits())
    }

    /// Whether this threshold is above the `other` one by more than rounding can explain.
    pub(crate) fn is_above(self, other: Self) -> bool {
        self.value() > other.value() * SLACK
    }

    /// Returns how many units may be in flight at most under `limit`, which is at least 1.
    // A product of an exception, and of infinity, is more than the largest `u32`, which `as` then makes of it.
    #[inline]
    pub(crate) fn cap(self, limit: u32) -> u32 {
        ((self.value() * SLACK * f64::from(limit)) as u32).max(1)
    }

    /// The limit whose [`cap`](Self::cap) is the [`priority`](Self::priority). A power of ten: a ratio of up to nine digits is
    /// found again [by its priority](Self::of_priority).
    pub(crate) const HIGHEST_PRIORITY: u32 = 1_000_000_000;

    /// Returns the threshold of the two that stops first.
    pub(crate) fn lower(self, other: Self) -> Self {
        if self.priority() < other.priority() {
            self
        } else {
            other
        }
    }

    /// Returns a number that orders thresholds by what they allow, to nine digits.
    #[inline]
    pub(crate) fn priority(self) -> u32 {
        const HIGHEST: f64 = SLACK * Threshold::HIGHEST_PRIORITY as f64;
        (self.value() * HIGHEST) as u32
    }

    /// Returns whether at least half of any limit may be in flight.
    // A comparison in place of two multiplications, which cost as much as the compare-and-swap. Half of the limit and a ratio of at
    // least one half give at least that: both are rounded down.
    #[inline]
    pub(crate) fn reaches_half(self) -> bool {
        self.priority() >= Self::HIGHEST_PRIORITY / 2
    }

    /// Returns a threshold of this priority, which is at most the highest or that of [`NEVER_SHED`](Self::NEVER_SHED).
    pub(crate) fn of_priority(priority: u32) -> Self {
        match priority {
            u32::MAX => Self::NEVER_SHED,
            _ => Self((f64::from(priority) / f64::from(Self::HIGHEST_PRIORITY)).to_bits()),
        }
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Writes the ratio as a number, `NEVER_SHED` or `EXEMPT`.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER_SHED => f.pad("NEVER_SHED"),
            Self::EXEMPT => f.pad("EXEMPT"),
            _ => self.value().fmt(f),
        }
    }
}

impl fmt::Debug for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threshold({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_written_as_its_ratio_or_by_its_name() {
        assert_eq!(Threshold::NEVER_SHED.to_string(), "NEVER_SHED");
        assert_eq!(Threshold::EXEMPT.to_string(), "EXEMPT");
        for ratio in [1.0, 0.85, 1.0 / 3.0, 1e-20] {
            let threshold = Threshold::ratio(ratio);
            assert_eq!(threshold.to_string(), ratio.to_string());
            assert_eq!(format!("{threshold:?}"), format!("Threshold({ratio})"));
        }
        assert_eq!(
            format!("{:.1} {:>7}", Threshold::ratio(0.25), Threshold::EXEMPT),
            "0.2  EXEMPT"
        );
    }

    #[test]
    fn p01_a_ratio_counts_as_the_decimal_that_was_written() {
        let cap = |ratio, limit| Threshold::ratio(ratio).cap(limit);
        assert_eq!((0.29_f64 * 100.0).floor(), 28.0);
        assert_eq!(cap(0.29, 100), 29);
        assert_eq!(cap(0.57, 100), 57);
        assert_eq!(cap(0.85, 200), 170);
        assert_eq!(cap(0.85, 199), 169);
        assert_eq!(cap(1.0, u32::MAX), u32::MAX);
        assert_eq!(cap(5.0 / 6.0, 600), 500);
        assert_eq!(cap(1.0 / 3.0, 300), 100);
        assert_eq!(cap(0.999_999_999_999_9, 10), 9);
        assert_eq!(cap(1e-9, u32::MAX), 4);
    }

    #[test]
    fn p01_at_least_one_request_is_admitted_however_small_the_ratio() {
        assert_eq!(Threshold::ratio(0.001).cap(1), 1);
        assert_eq!(Threshold::ratio(f64::MIN_POSITIVE).cap(u32::MAX), 1);
    }

    #[test]
    fn p09_an_exception_allows_any_number_in_flight() {
        for exception in [Threshold::NEVER_SHED, Threshold::EXEMPT] {
            for limit in [1, 200, u32::MAX] {
                assert_eq!(exception.cap(limit), u32::MAX);
            }
            assert_eq!(exception.priority(), u32::MAX);
            assert_eq!(exception.as_ratio(), None);
        }
    }

    #[test]
    fn a_ratio_out_of_range_is_an_error_that_names_it() {
        for bad in [f64::NAN, 0.0, -0.1, 1.5, f64::INFINITY, 1.0 + f64::EPSILON] {
            let text = Threshold::try_ratio(bad).unwrap_err().to_string();
            let expected = format!("invalid ratio {bad}: must be greater than 0 and at most 1");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_priority_is_the_cap_of_the_highest_one_as_limit() {
        for ratio in [1.0, 0.85, 0.29, 1.0 / 3.0, 1e-12, f64::MIN_POSITIVE] {
            let threshold = Threshold::ratio(ratio);
            let cap = threshold.cap(Threshold::HIGHEST_PRIORITY);
            assert_eq!(threshold.priority().max(1), cap, "{ratio}");
            assert_eq!(Threshold::of_priority(cap).priority(), cap, "{ratio}");
        }
        assert_eq!(
            Threshold::ratio(1.0).priority(),
            Threshold::HIGHEST_PRIORITY
        );
        assert_eq!(Threshold::of_priority(u32::MAX), Threshold::NEVER_SHED);
    }
}
