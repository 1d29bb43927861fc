//! Requests that stay in flight until others have come.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use tower::Service;

use crate::request::Body;

/// Answers a request when it is polled again.
#[derive(Clone)]
pub(crate) struct Later<const VARIANT: usize>;

impl<const VARIANT: usize> Service<Request<Body>> for Later<VARIANT> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = LaterAnswer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> LaterAnswer {
        LaterAnswer { polled: false }
    }
}

#[derive(Debug)]
pub(crate) struct LaterAnswer {
    polled: bool,
}

impl Future for LaterAnswer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.polled, true) {
            false => Poll::Pending,
            true => Poll::Ready(Ok(Response::new(Body::new()))),
        }
    }
}

/// Each in a box, as a server keeps them in tasks. The oldest is answered when the next one comes.
pub(crate) struct Line<S: Service<Request<Body>>> {
    service: S,
    futures: VecDeque<Pin<Box<S::Future>>>,
}

impl<S: Service<Request<Body>>> Line<S> {
    pub(crate) fn new(service: S, length: usize) -> Self {
        let futures = VecDeque::with_capacity(length + 1);
        let mut line = Self { service, futures };
        (0..length).for_each(|_| line.push());
        line
    }

    /// Whether the oldest was answered, which it is when polled again.
    pub(crate) fn next(&mut self) -> bool {
        self.push();
        let oldest = self.futures.pop_front();
        let mut oldest = oldest.expect("one was pushed");
        oldest.as_mut().poll(&mut cx()).is_ready()
    }

    pub(crate) fn push(&mut self) {
        let ready = self.service.poll_ready(&mut cx());
        assert!(ready.is_ready(), "there is room");
        let mut future = Box::pin(self.service.call(Request::new(Body::new())));
        let waits = future.as_mut().poll(&mut cx()).is_pending();
        assert!(waits, "refused");
        self.futures.push_back(future);
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
