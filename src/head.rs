//! The head of a request, for the closures that decide by it.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use http::Request;

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
