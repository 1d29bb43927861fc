//! One request, the service that it is for, and nothing around them: no network, no runtime.

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

/// Tells the inner service's answer from a refusal.
pub(crate) trait Answer {
    fn is_served(&self) -> bool;
}

impl<B> Answer for Response<B> {
    fn is_served(&self) -> bool {
        self.status() == StatusCode::OK
    }
}

/// Whether it was served, not refused.
#[inline(never)]
pub(crate) fn serve<S>(service: &mut S) -> bool
where
    S: Service<Request<Body>, Response: Answer>,
{
    serve_one(service, Request::new(Body::new()))
}

#[inline(always)]
pub(crate) fn serve_one<S>(service: &mut S, request: Request<Body>) -> bool
where
    S: Service<Request<Body>, Response: Answer>,
{
    let mut cx = Context::from_waker(Waker::noop());
    // Like tower's `ready` and `oneshot`: asked, then called. A service that is not ready answers by its error.
    match service.poll_ready(&mut cx) {
        Poll::Ready(Ok(())) => {}
        _ => return false,
    }
    let mut future = pin!(service.call(black_box(request)));
    loop {
        // The inner service answers at once. A limiter that queues may keep the second of two threads waiting.
        if let Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
            return black_box(answer).is_ok_and(|answer| answer.is_served());
        }
        spin_loop();
    }
}

/// The service to which all is compared. `VARIANT` gives each variant a type of its own, as each application has:
/// otherwise they would share code, and one would be compiled at the expense of another.
#[derive(Clone)]
pub(crate) struct Bare<const VARIANT: usize>;

impl<const VARIANT: usize, B> Service<Request<B>> for Bare<VARIANT> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BareAnswer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(black_box(request));
        BareAnswer
    }
}

/// Makes its response when polled, as an `async fn` does.
pub(crate) struct BareAnswer;

impl Future for BareAnswer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(Body::new())))
    }
}
