/// Returns the `nth` number of a sequence that fills 64 bits evenly, wherever it is cut: multiples of the golden ratio (Weyl's
/// sequence).
///
/// Callers that take turns in a regular pattern do not stay in step with it, and it needs no source of randomness.
#[inline]
pub(crate) fn spread(nth: u64) -> u64 {
    // The fraction of the golden ratio, in units of 2⁻⁶⁴.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    nth.wrapping_mul(GOLDEN)
}

/// Returns the `nth` number of a second sequence of this kind, for a choice beside the first: multiples of the inverse of the
/// plastic number.
pub(crate) fn spread_apart(nth: u64) -> u64 {
    const PLASTIC: u64 = 0xc13f_a9a9_02a6_328f;
    nth.wrapping_mul(PLASTIC)
}

/// Returns the `part` of a number, in units of 2⁻⁶⁴.
pub(crate) fn share(of: u64, part: u64) -> u64 {
    ((u128::from(of) * u128::from(part)) >> 64) as u64
}
