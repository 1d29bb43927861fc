//! By when an answer is of use.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::grpc::{GRPC_TIMEOUT, parse_timeout};

/// By when the answer is of use. Put into a request's extensions, it is passed on.
///
/// ```
/// use std::time::Duration;
/// use http::Request;
/// use loadshed_client::Deadline;
///
/// let mut request = Request::new("text");
/// request.extensions_mut().insert(Deadline::after(Duration::from_secs(2)));
/// ```
///
/// A server that handles a request under a deadline puts the same one into the calls it makes for it. Nothing is
/// cancelled by it: tower's `Timeout` and tonic's channel do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// At this moment. Of a [`std::time::Instant`]: `Deadline::at(instant.into())`.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// As long from now. What is more than 100 years ahead is so near to no deadline that it is cut to that.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
        Self(Instant::now() + timeout.min(100 * YEAR))
    }

    /// What is left: zero once it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The one in `grpc-timeout`, counted from now. Where it cannot be read, there is none.
    pub(super) fn of_grpc(headers: &HeaderMap) -> Option<Self> {
        let timeout = parse_timeout(headers.get(GRPC_TIMEOUT)?)?;
        Some(Self::after(timeout))
    }
}

/// gRPC over HTTP/2, "Requests": at most 8 digits, not all of them 0, and a unit.
pub(super) fn to_grpc(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [
        (left.as_nanos().max(1), "n"),
        (left.as_micros(), "u"),
        (left.as_millis(), "m"),
        (u128::from(left.as_secs()), "S"),
    ];
    // Rounded down: the server never has more time than the caller. More than three years is three years.
    let (number, unit) = units
        .into_iter()
        .find(|(number, _)| *number <= MOST)
        .unwrap_or((MOST, "S"));
    ascii(format!("{number}{unit}"))
}

/// Rounded down, and never 0, which could be taken for no deadline.
pub(super) fn to_milliseconds(left: Duration) -> HeaderValue {
    ascii(left.as_millis().max(1).to_string())
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and letters make a header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grpc_timeouts_are_at_most_eight_digits_and_a_unit() {
        for (nanoseconds, expected) in [
            (0, "1n"),
            (1, "1n"),
            (99_999_999, "99999999n"),
            (100_000_000, "100000u"),
            (1_999_999_999, "1999999u"),
            (100_000_000_000, "100000m"),
            (100_000_000_000_000, "100000S"),
            (u64::MAX, "99999999S"),
        ] {
            assert_eq!(to_grpc(Duration::from_nanos(nanoseconds)), expected);
        }
    }

    #[test]
    fn milliseconds_are_never_0() {
        assert_eq!(to_milliseconds(Duration::from_micros(1)), "1");
        assert_eq!(to_milliseconds(Duration::from_micros(2_999)), "2");
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_again_and_is_never_more(nanoseconds in 1_u64..=u64::MAX) {
            let left = Duration::from_nanos(nanoseconds);
            let header = to_grpc(left);
            prop_assert!(header.len() <= 9);
            let read = parse_timeout(&header).unwrap();
            prop_assert!(read <= left);
            let longest = Duration::from_secs(99_999_999);
            prop_assert!(read.as_secs_f64() >= left.min(longest).as_secs_f64() * 0.99999);
        }
    }
}
