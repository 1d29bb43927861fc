use std::{fmt, io::Write};

use crate::support::invalid::InvalidSetting;

/// A ratio in (0, 1], kept as the decimal that the user wrote: `digits × 10^-places`.
///
/// The decimal of an `f64` is the shortest one that reads back as the same `f64`, which is what the source code said
/// and what `{}` prints. So 0.29 of 100 is 29, where `(0.29 * 100.0).floor()` is 28.
///
/// Both fit 62 bits: 17 digits are less than 2⁵⁷, and the places take 5.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ratio {
    digits: u64,
    places: u32,
}

/// Ratios of up to 12 decimal places, all that a person writes, are brought to 12 places: then
/// `3 × limit × digits < 2³⁴ × 2⁴⁰`, and the division below is one by a constant.
const USUAL_PLACES: u32 = 12;
const USUAL_SCALE: u64 = 10_u64.pow(USUAL_PLACES);

const RANK_SHIFT: u32 = 8;

const PLACES_BITS: u32 = 5;
/// With as many places or more, 17 digits of any 32-bit limit come to less than one.
const MAX_PLACES: u32 = (1 << PLACES_BITS) - 1;

impl Ratio {
    pub(crate) const ONE: Self = Self {
        digits: USUAL_SCALE,
        places: USUAL_PLACES,
    };

    /// 10¹² ÷ 2⁸: with it, the rank of a usual ratio is a shift, and it fits 32 bits.
    pub(crate) const HIGHEST_PRIORITY: u32 = (USUAL_SCALE >> RANK_SHIFT) as u32;

    pub(crate) fn new(ratio: f64) -> Result<Self, InvalidSetting> {
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(InvalidSetting::new(
                "ratio",
                ratio,
                "greater than 0 and at most 1",
            ));
        }
        Ok(Self::usual(ratio).unwrap_or_else(|| Self::long(ratio)))
    }

    /// The decimal of at most 12 places that reads back as `ratio`, if there is one. There is at most one, as two
    /// decimals of up to 15 digits never share an `f64`.
    fn usual(ratio: f64) -> Option<Self> {
        let scale = USUAL_SCALE as f64;
        let digits = (ratio * scale).round();
        (digits / scale == ratio).then_some(Self {
            digits: digits as u64,
            places: USUAL_PLACES,
        })
    }

    /// The shortest decimal of a computed ratio, such as 5.0 / 6.0.
    fn long(ratio: f64) -> Self {
        let mut text = [0; 32];
        let mut rest = &mut text[..];
        // "8.333333333333334e-1": at most 17 digits, a point and an exponent of at most five characters.
        let written = write!(rest, "{ratio:e}").map(|()| 32 - rest.len());
        let text = &text[..written.unwrap_or(0)];

        let exponent = text.iter().position(|&c| c == b'e').unwrap_or(text.len());
        let decimal = |text: &[u8]| {
            let digits = text.iter().filter(|c| c.is_ascii_digit());
            digits.fold(0_u64, |n, c| n * 10 + u64::from(c - b'0'))
        };
        // The exponent of a ratio below 1 is negative; one digit stands before the point.
        let fraction = text[..exponent].len().saturating_sub(2) as u64;
        Self {
            digits: decimal(&text[..exponent]),
            places: (fraction + decimal(&text[exponent..])).min(u64::from(MAX_PLACES)) as u32,
        }
    }

    /// `floor(ratio × limit)`, exactly.
    #[inline]
    pub(crate) fn of(self, limit: u32) -> u32 {
        self.times(u64::from(limit)) as u32
    }

    /// `floor(ratio × HIGHEST_PRIORITY)`.
    #[inline]
    pub(crate) fn priority(self) -> u32 {
        if self.places == USUAL_PLACES {
            return (self.digits >> RANK_SHIFT) as u32;
        }
        self.priority_above(0)
    }

    pub(crate) fn of_priority(priority: u32) -> Self {
        Self {
            digits: u64::from(priority) << RANK_SHIFT,
            places: USUAL_PLACES,
        }
    }

    #[cold]
    pub(crate) fn priority_above(self, thirds: u8) -> u32 {
        self.above(thirds, Self::HIGHEST_PRIORITY)
    }

    /// `floor((ratio + thirds/3 × (1 − ratio)) × limit)`, exactly.
    ///
    /// That is a third of `(3 − thirds) × ratio × limit + thirds × limit`, of which only the first may have a fraction;
    /// and a whole number divides the same with it and without.
    #[inline]
    pub(crate) fn above(self, thirds: u8, limit: u32) -> u32 {
        let (thirds, limit) = (u64::from(thirds), u64::from(limit));
        ((self.times((3 - thirds) * limit) + thirds * limit) / 3) as u32
    }

    /// `floor(ratio × n)`, exactly, for n up to 3 × 2³².
    #[inline]
    fn times(self, n: u64) -> u64 {
        let product = u128::from(n) * u128::from(self.digits);
        if self.places == USUAL_PLACES {
            // 10¹² = 2¹² × 5¹²: shifted, the product fits 64 bits, and the compiler turns the rest into a multiply.
            const FIVES: u64 = 5_u64.pow(USUAL_PLACES);
            return (product >> USUAL_PLACES) as u64 / FIVES;
        }
        self.divide_long(product)
    }

    /// Apart: a division of 128 bits is long code, which nobody who writes 0.85 comes by.
    #[cold]
    fn divide_long(self, product: u128) -> u64 {
        (product / 10_u128.pow(self.places)) as u64
    }

    /// `3 × (ratio + thirds/3 × (1 − ratio))` in units of the last place that there is, to compare two of them.
    pub(crate) fn height(self, thirds: u8) -> u128 {
        let one = 10_u128.pow(MAX_PLACES);
        let ratio = u128::from(self.digits) * 10_u128.pow(MAX_PLACES - self.places);
        (3 - u128::from(thirds)) * ratio + u128::from(thirds) * one
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.digits << PLACES_BITS | u64::from(self.places)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            digits: bits >> PLACES_BITS,
            places: (bits & u64::from(MAX_PLACES)) as u32,
        }
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format!("{}e-{}", self.digits, self.places).parse::<f64>() {
            Ok(ratio) => write!(f, "{ratio}"),
            Err(_) => write!(f, "{}e-{}", self.digits, self.places),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(ratio: f64, limit: u32) -> u32 {
        Ratio::new(ratio).unwrap().of(limit)
    }

    /// `floor(ratio × limit)` by long division over the digits that `{}` prints.
    fn by_hand(ratio: f64, limit: u32) -> u32 {
        let text = format!("{ratio}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        if whole == "1" {
            return limit;
        }
        // From the last digit to the first: what each leaves over is carried to the one before it.
        let mut carry = 0_u64;
        for digit in fraction.bytes().rev() {
            carry = (carry + u64::from(digit - b'0') * u64::from(limit)) / 10;
        }
        carry as u32
    }

    #[test]
    fn p01_the_product_is_exact_in_decimal() {
        assert_eq!((0.29_f64 * 100.0).floor(), 28.0);
        assert_eq!(of(0.29, 100), 29);
        assert_eq!(of(0.57, 100), 57);
        assert_eq!(of(0.85, 200), 170);
        assert_eq!(of(0.85, 199), 169);
        assert_eq!(of(1.0, u32::MAX), u32::MAX);
        assert_eq!(of(5.0 / 6.0, 600), 500);
        assert_eq!(of(1.0 - f64::EPSILON, 100), 99);
        assert_eq!(of(0.999_999_999_999_9, 10), 9);
        assert_eq!(of(1e-9, u32::MAX), 4);
        assert_eq!(of(1e-300, u32::MAX), 0);
    }

    #[test]
    fn a_ratio_outside_of_0_to_1_is_refused_with_what_was_given() {
        for bad in [f64::NAN, 0.0, -0.1, 1.5, f64::INFINITY, 1.0 + f64::EPSILON] {
            let text = Ratio::new(bad).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("invalid ratio {bad}: must be greater than 0")),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn p01_any_ratio_of_any_limit_is_what_long_division_gives(
            ratio in prop_oneof![
                (1_u64..=1_000_000_000_000).prop_map(|p| p as f64 / 1e12),
                (1_u32..=1000, 1_u32..=1000).prop_map(|(a, b)| f64::from(a.min(b)) / f64::from(a.max(b))),
                (1_u64..=0x3ff0_0000_0000_0000).prop_map(f64::from_bits),
                0.0_f64..1.0,
            ].prop_filter("more than 0", |ratio| *ratio > 0.0),
            limit in prop_oneof![1_u32..=1000, any::<u32>()],
        ) {
            prop_assert_eq!(of(ratio, limit), by_hand(ratio, limit), "{} of {}", ratio, limit);
            let ratio = Ratio::new(ratio).unwrap();
            prop_assert_eq!(Ratio::from_bits(ratio.to_bits()), ratio);
        }
    }
}
