//! Requests that stay in flight until others have come.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Waker},
};

use http::Request;
use tower::Service;

use crate::request::Body;

/// Each in a box, as a server keeps them in tasks. When one more comes, any of them is answered: the memory of one that has
/// waited for long is cold.
pub(crate) struct Line<S: Service<Request<Body>>> {
    service: S,
    futures: Vec<Pin<Box<S::Future>>>,
    random: u64,
}

impl<S: Service<Request<Body>>> Line<S> {
    pub(crate) fn new(service: S, length: usize) -> Self {
        let mut line = Self {
            service,
            futures: Vec::with_capacity(length + 1),
            random: 0,
        };
        (0..length).for_each(|_| line.push());
        line
    }

    /// Whether one was answered, which it is when polled again.
    pub(crate) fn next(&mut self) -> bool {
        self.push();
        // Knuth's constants.
        let random = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = random.wrapping_add(1_442_695_040_888_963_407);
        let any = (self.random >> 33) as usize % self.futures.len();
        let mut future = self.futures.swap_remove(any);
        future.as_mut().poll(&mut cx()).is_ready()
    }

    pub(crate) fn push(&mut self) {
        let ready = self.service.poll_ready(&mut cx());
        assert!(ready.is_ready(), "there is room");
        let mut future = Box::pin(self.service.call(Request::new(Body::new())));
        let waits = future.as_mut().poll(&mut cx()).is_pending();
        assert!(waits, "refused");
        self.futures.push(future);
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
