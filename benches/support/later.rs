//! A service whose requests are in flight for a while.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::Service;

use crate::request::Body;

/// Responds when the future is polled for the second time.
#[derive(Clone)]
pub(crate) struct Later<const VARIANT: usize>;

impl<const VARIANT: usize> Service<Request<Body>> for Later<VARIANT> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = LaterFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> LaterFuture {
        LaterFuture { polled: false }
    }
}

#[derive(Debug)]
pub(crate) struct LaterFuture {
    polled: bool,
}

impl Future for LaterFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.polled, true) {
            false => Poll::Pending,
            true => Poll::Ready(Ok(Response::new(Body::new()))),
        }
    }
}
