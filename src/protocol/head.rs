//! The head of a request, for closures that decide by the head.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use http::{HeaderValue, Request, header::CONTENT_LENGTH};

/// Returns the length of the body in bytes that `Content-Length` announces: for [`LoadShed::cost`](crate::LoadShed::cost).
///
/// The length is 0 without a `Content-Length` that is a number. Bodies that are sent in pieces (`Transfer-Encoding: chunked`,
/// gRPC) announce no length; where many uploads are of this kind, use the largest body that your server reads. A length above
/// `isize::MAX` counts as `isize::MAX`, so that a sum with a small number does not overflow.
///
/// ```
/// use http::Request;
/// use loadshed::content_length;
///
/// let upload = Request::post("/mail").header("content-length", "40000000").body(()).unwrap();
/// assert_eq!(content_length(&upload), 40_000_000);
/// ```
#[must_use]
pub fn content_length(head: &Request<()>) -> usize {
    const MOST: usize = isize::MAX as usize;
    let announced = head.headers().get(CONTENT_LENGTH);
    let digits = announced.map_or(&b""[..], HeaderValue::as_bytes);
    let length = digits.iter().try_fold(0_usize, |length, digit| {
        let digit = char::from(*digit).to_digit(10)? as usize;
        Some(length.saturating_mul(10).saturating_add(digit).min(MOST))
    });
    length.unwrap_or(0)
}

/// Calls `look` with the request's own head, which is moved out of the request meanwhile. Nothing is copied or allocated.
///
/// Returns `None` if `look` panics.
pub(crate) fn lend<B, T>(
    request: &mut Request<B>,
    look: impl FnOnce(&Request<()>) -> T,
) -> Option<T> {
    let mut head = Request::new(());
    swap(request, &mut head);
    let seen = show(&head, look);
    swap(request, &mut head);
    seen
}

/// Calls `look` with a head. Returns `None` if it panics.
pub(crate) fn show<T>(head: &Request<()>, look: impl FnOnce(&Request<()>) -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| look(head))).ok()
}

fn swap<A, B>(one: &mut Request<A>, other: &mut Request<B>) {
    mem::swap(one.method_mut(), other.method_mut());
    mem::swap(one.uri_mut(), other.uri_mut());
    mem::swap(one.version_mut(), other.version_mut());
    mem::swap(one.headers_mut(), other.headers_mut());
    mem::swap(one.extensions_mut(), other.extensions_mut());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_the_announced_number_and_at_most_isize_max() {
        for (announced, length) in [
            ("0", 0),
            ("007", 7),
            ("40000000", 40_000_000),
            ("99999999999999999999999999", isize::MAX as usize),
            ("", 0),
            ("-1", 0),
            ("1, 1", 0),
            ("4e7", 0),
        ] {
            let head = Request::post("/").header(CONTENT_LENGTH, announced);
            assert_eq!(
                content_length(&head.body(()).unwrap()),
                length,
                "{announced:?}"
            );
        }
        assert_eq!(content_length(&Request::new(())), 0);
    }
}
