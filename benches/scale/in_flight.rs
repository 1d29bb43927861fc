//! Requests that stay in flight until others have arrived.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Waker},
};

use http::Request;
use tower::Service;

use crate::request::Body;

/// Requests in flight, each in a box, as a server keeps them in tasks. When a request arrives, a random other one is
/// completed: the memory of a request that has waited for long is cold.
pub(crate) struct InFlight<S: Service<Request<Body>>> {
    service: S,
    futures: Vec<Pin<Box<S::Future>>>,
    random: u64,
}

impl<S: Service<Request<Body>>> InFlight<S> {
    pub(crate) fn new(service: S, length: usize) -> Self {
        let mut in_flight = Self {
            service,
            futures: Vec::with_capacity(length + 1),
            random: 0,
        };
        (0..length).for_each(|_| in_flight.push());
        in_flight
    }

    /// Completes a random request by its second poll, and admits a new one; returns whether the completed request was served.
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
        assert!(ready.is_ready(), "the budget has a free permit");
        let mut future = Box::pin(self.service.call(Request::new(Body::new())));
        let waits = future.as_mut().poll(&mut cx()).is_pending();
        assert!(waits, "refused");
        self.futures.push(future);
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
