/// The `nth` of a sequence that fills 64 bits evenly, however long it goes on and wherever it is cut: multiples of the
/// golden ratio (Weyl's sequence). No two regular callers keep step with it, and no random source is needed.
#[inline]
pub(crate) fn spread(nth: u64) -> u64 {
    // The golden ratio's fraction, in units of 2⁻⁶⁴.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    nth.wrapping_mul(GOLDEN)
}

/// Another such sequence, for a second choice beside the first: multiples of the plastic number's inverse.
pub(crate) fn spread_apart(nth: u64) -> u64 {
    const PLASTIC: u64 = 0xc13f_a9a9_02a6_328f;
    nth.wrapping_mul(PLASTIC)
}
