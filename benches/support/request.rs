//! One request and its service, without a network or a runtime.

use std::{
    convert::Infallible,
    future::Future,
    hint::{black_box, spin_loop},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use tower::Service;

pub(crate) type Body = Empty<Bytes>;

/// Distinguishes the inner service's response from a refusal.
pub(crate) trait Served {
    fn is_served(&self) -> bool;
}

impl<B> Served for Response<B> {
    fn is_served(&self) -> bool {
        // A gRPC refusal has this status too, and headers, which the inner service does not send.
        self.status() == StatusCode::OK && self.headers().is_empty()
    }
}

/// Calls the service once; returns whether the request was served, not refused.
#[inline(never)]
pub(crate) fn serve<S>(service: &mut S) -> bool
where
    S: Service<Request<Body>, Response: Served>,
{
    serve_one(service, Request::new(Body::new()))
}

#[inline(always)]
pub(crate) fn serve_one<S>(service: &mut S, request: Request<Body>) -> bool
where
    S: Service<Request<Body>, Response: Served>,
{
    let mut cx = Context::from_waker(Waker::noop());
    // Like tower's `ready` and `oneshot`: polled for readiness, then called. A service that is not ready fails.
    match service.poll_ready(&mut cx) {
        Poll::Ready(Ok(())) => {}
        _ => return false,
    }
    let mut future = pin!(service.call(black_box(request)));
    loop {
        // The inner service responds at once. A limiter with a queue can delay the second of two threads.
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return black_box(result).is_ok_and(|response| response.is_served());
        }
        spin_loop();
    }
}

/// The service to which all rows are compared. `VARIANT` gives each row a type of its own, as each application has:
/// otherwise rows would share code, and the compiler would optimise one row at the expense of another.
#[derive(Clone)]
pub(crate) struct Bare<const VARIANT: usize>;

impl<const VARIANT: usize, B> Service<Request<B>> for Bare<VARIANT> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BareFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(black_box(request));
        BareFuture
    }
}

/// Makes its response when polled, as an `async fn` does.
pub(crate) struct BareFuture;

impl Future for BareFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(Body::new())))
    }
}
