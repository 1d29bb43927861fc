//! Patterns of responses: the head that all refusals of a kind share.
//!
//! A refusal clones its pattern and overwrites the hint, which needs neither a hash nor a table that grows. Patterns are created
//! before the first refusal: otherwise concurrent refusals would wait while one of them creates it.

use std::mem;

use http::{HeaderMap, HeaderName, HeaderValue, Response, response::Parts};

/// The value of a header that each refusal overwrites. It is static: clones of a value that owns its bytes would write to a count
/// that all threads share.
pub(super) const BLANK: HeaderValue = HeaderValue::from_static("");

/// Creates a pattern. The headers to [`overwrite`] come first.
pub(super) fn head<const N: usize>(headers: [(HeaderName, HeaderValue); N]) -> Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    // One by one, which leaves space for a few more headers, also in clones.
    for (name, value) in headers {
        head.headers.insert(name, value);
    }
    head
}

/// Replaces values of headers of a pattern.
// Compares names: a lookup would hash them.
#[inline]
pub(super) fn overwrite<const N: usize>(
    headers: &mut HeaderMap,
    mut values: [(&HeaderName, HeaderValue); N],
) {
    let mut left = N;
    for (name, in_pattern) in headers {
        if let Some((_, value)) = values.iter_mut().find(|(other, _)| *other == name) {
            mem::swap(in_pattern, value);
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }
}
