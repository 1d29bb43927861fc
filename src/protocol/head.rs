//! The head of a request, for the closures that decide by it.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use http::{HeaderValue, Request, header::CONTENT_LENGTH};

/// The length of the body in bytes, as its sender announces it: for [`LoadShed::cost`](crate::LoadShed::cost).
///
/// 0 without a `Content-Length` that is a number. Bodies that are sent in pieces (`Transfer-Encoding: chunked`, gRPC) do
/// not say how long they are; where such uploads are many, take for them what your server reads at most. What is more
/// than `isize::MAX` is that, so that a little can be added.
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

/// Lends the request's own head to `look` for as long as that runs: nothing is copied, nothing allocated.
///
/// `None` if it panics.
pub(crate) fn lend<B, T>(
    request: &mut Request<B>,
    look: impl FnOnce(&Request<()>) -> T,
) -> Option<T> {
    let mut head = Request::new(());
    swap(request, &mut head);
    let seen = catch_unwind(AssertUnwindSafe(|| look(&head)));
    swap(request, &mut head);
    seen.ok()
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
    fn a_length_is_what_is_announced_as_a_number_and_never_too_large_to_add_to() {
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
