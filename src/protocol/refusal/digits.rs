use std::io::Write;

use http::HeaderValue;

/// A header of digits: without an allocation below 1,000, as nearly all hints in seconds are, and in one above.
pub(crate) fn number(n: u64) -> HeaderValue {
    match usize::try_from(n) {
        Ok(n @ 0..1_000) => {
            let zeros = usize::from(n < 100) + usize::from(n < 10);
            HeaderValue::from_static(&TRIPLES[3 * n + zeros..3 * n + 3])
        }
        _ => {
            let mut text = [0; 20];
            let mut rest = &mut text[..];
            let left = write!(rest, "{n}").map(|()| rest.len()).unwrap_or(0);
            HeaderValue::from_bytes(&text[..20 - left]).unwrap_or_else(|_| HeaderValue::from(n))
        }
    }
}

/// 000001002 … 999.
const TRIPLES: &str = match std::str::from_utf8(&DIGITS) {
    Ok(triples) => triples,
    Err(_) => unreachable!(),
};

static DIGITS: [u8; 3_000] = {
    let mut digits = [b'0'; 3_000];
    let mut n = 0;
    while n < 1_000 {
        digits[3 * n] += (n / 100) as u8;
        digits[3 * n + 1] += (n / 10 % 10) as u8;
        digits[3 * n + 2] += (n % 10) as u8;
        n += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_digits_is_those_digits() {
        for n in (0..=1_001).chain([4_294_967_295, u64::MAX]) {
            assert_eq!(number(n), HeaderValue::from(n));
        }
    }
}
