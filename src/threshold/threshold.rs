use std::fmt;

use super::ratio::Ratio;
use crate::support::invalid::{InvalidSetting, expect_valid};

/// What applies to one request: a ratio of the budget, or one of the two exceptions.
///
/// ```
/// use loadshed::Threshold;
///
/// let some = Threshold::ratio(0.7);   // admitted while at most 70 % of the budget is in flight, itself included
/// let always = Threshold::NEVER_SHED;      // counted, never shed
/// let unseen = Threshold::EXEMPT;     // neither counted, nor sampled, nor shed
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
// The bits of a `Kind`: one word, so that a live setting can be an atomic, and a claim is small.
pub struct Threshold(u64);

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A ratio, and `thirds` of what is left above it.
    Ratio {
        ratio: Ratio,
        thirds: u8,
    },
    Never,
    Exempt,
}

// A ratio takes 62 bits, and there are at most two thirds, so the two top bits are never both set.
const THIRDS_SHIFT: u32 = 62;

impl Threshold {
    /// Counted as in flight, and never shed.
    pub const NEVER_SHED: Self = Self(u64::MAX);

    /// Neither counted, nor sampled, nor shed: health checks, metrics.
    pub const EXEMPT: Self = Self(u64::MAX - 1);

    /// Admitted while the requests in flight, this one included, stay within `ratio × limit`, rounded down and at
    /// least 1. The product is exact in decimal: 0.29 of 100 is 29.
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
        Ratio::new(ratio).map(Self::from)
    }

    #[inline]
    pub(crate) fn is_exempt(self) -> bool {
        self == Self::EXEMPT
    }

    #[inline]
    pub(crate) fn is_never_shed(self) -> bool {
        self == Self::NEVER_SHED
    }

    /// A ratio, and `thirds` of what is left above it.
    pub(crate) fn above(ratio: Ratio, thirds: u8) -> Self {
        Self(u64::from(thirds) << THIRDS_SHIFT | ratio.to_bits())
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::NEVER_SHED => Kind::Never,
            Self::EXEMPT => Kind::Exempt,
            Self(bits) => Kind::Ratio {
                ratio: Ratio::from_bits(bits & !(u64::MAX << THIRDS_SHIFT)),
                thirds: (bits >> THIRDS_SHIFT) as u8,
            },
        }
    }

    /// How many may be in flight at most under `limit`.
    #[inline]
    pub(crate) fn cap(self, limit: u32) -> u32 {
        match self.kind() {
            Kind::Ratio { ratio, thirds: 0 } => ratio.of(limit).max(1),
            Kind::Ratio { ratio, thirds } => ratio.above(thirds, limit).max(1),
            Kind::Never | Kind::Exempt => u32::MAX,
        }
    }

    /// A limit of which the [`cap`](Self::cap) is the [`priority`](Self::priority).
    pub(crate) const HIGHEST_PRIORITY: u32 = Ratio::HIGHEST_PRIORITY;

    /// Thresholds in the order of what they allow, to nine digits.
    #[inline]
    pub(crate) fn priority(self) -> u32 {
        match self.kind() {
            Kind::Ratio { ratio, thirds: 0 } => ratio.priority(),
            Kind::Ratio { ratio, thirds } => ratio.priority_above(thirds),
            Kind::Never | Kind::Exempt => u32::MAX,
        }
    }

    /// One of this rank, which is at most the highest or that of [`NEVER_SHED`](Self::NEVER_SHED).
    pub(crate) fn of_priority(priority: u32) -> Self {
        match priority {
            u32::MAX => Self::NEVER_SHED,
            _ => Ratio::of_priority(priority).into(),
        }
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl From<Ratio> for Threshold {
    fn from(ratio: Ratio) -> Self {
        Self::above(ratio, 0)
    }
}

impl fmt::Debug for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Threshold").field(&self.kind()).finish()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio { ratio, thirds: 0 } => write!(f, "{ratio:?}"),
            Self::Ratio { ratio, thirds } => write!(f, "{ratio:?} + {thirds}/3 of the rest"),
            Self::Never => f.write_str("NEVER_SHED"),
            Self::Exempt => f.write_str("EXEMPT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threshold::{class_thresholds::LiveClassThresholds, criticality::Criticality};

    #[test]
    fn a_threshold_is_one_word_that_tells_what_it_was_made_of() {
        let told = |threshold| format!("{threshold:?}");
        assert_eq!(told(Threshold::NEVER_SHED), "Threshold(NEVER_SHED)");
        assert_eq!(told(Threshold::EXEMPT), "Threshold(EXEMPT)");
        for ratio in [1.0, 0.85, 1.0 / 3.0, 1e-20] {
            let threshold = Threshold::ratio(ratio);
            assert_eq!(told(threshold), format!("Threshold({ratio})"));
            let above = LiveClassThresholds::default().of(threshold, Criticality::Critical);
            assert_eq!(told(above), format!("Threshold({ratio} + 2/3 of the rest)"));
        }
    }

    #[test]
    fn a_rank_is_the_share_of_a_budget_of_that_size_however_it_is_found() {
        for ratio in [1.0, 0.85, 0.29, 1.0 / 3.0, 1e-12, f64::MIN_POSITIVE] {
            let threshold = Threshold::ratio(ratio);
            let share = threshold.cap(Ratio::HIGHEST_PRIORITY);
            assert_eq!(threshold.priority().max(1), share, "{ratio}");
            assert_eq!(Threshold::of_priority(share).priority(), share, "{ratio}");
        }
        assert_eq!(Threshold::ratio(1.0).priority(), Ratio::HIGHEST_PRIORITY);
        assert_eq!(Threshold::NEVER_SHED.priority(), u32::MAX);
        assert_eq!(Threshold::of_priority(u32::MAX), Threshold::NEVER_SHED);
    }

    #[test]
    fn at_least_one_is_admitted_however_small_the_ratio() {
        assert_eq!(Threshold::ratio(0.001).cap(1), 1);
        assert_eq!(Threshold::ratio(f64::MIN_POSITIVE).cap(u32::MAX), 1);
    }
}
