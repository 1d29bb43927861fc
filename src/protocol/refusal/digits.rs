use http::HeaderValue;

/// Returns a header value of digits. It allocates nothing below 100, as most hints in seconds are, and once above.
///
/// `HeaderValue::from` allocates twice: for 20 digits, and to share them.
pub(super) fn number(mut n: u64) -> HeaderValue {
    if n < 100 {
        let end = n as usize * 2 + 2;
        let digits = if n < 10 { 1 } else { 2 };
        return HeaderValue::from_static(&PAIRS[end - digits..end]);
    }
    let mut text = [0; MOST_DIGITS];
    let mut start = MOST_DIGITS;
    while n > 0 {
        start -= 1;
        text[start] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    HeaderValue::from_bytes(&text[start..]).expect("digits are visible ASCII")
}

/// Of the largest `u64`.
const MOST_DIGITS: usize = 20;

/// The numbers below 100, each of two digits.
const PAIRS: &str = "\
    00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748\
    49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697\
    9899";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_digits_has_the_digits_of_its_number() {
        for n in (0..=1_001).chain([4_294_967_295, u64::MAX]) {
            assert_eq!(number(n), HeaderValue::from(n));
        }
    }

    #[test]
    fn a_header_of_two_digits_allocates_nothing_and_a_longer_one_once() {
        for (n, allocations) in [(0, 0), (60, 0), (99, 0), (100, 1), (u64::MAX, 1)] {
            let measured = allocation_counter::measure(|| drop(number(n)));
            assert_eq!(measured.count_total, allocations, "{n}");
        }
        let measured = allocation_counter::measure(|| drop(HeaderValue::from(60_u64)));
        assert_eq!(measured.count_total, 2, "once it is 0, it serves");
    }
}
