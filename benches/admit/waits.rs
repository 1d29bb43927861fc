//! The cost of a queued request that takes over the permit of the request before.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Request;
use loadshed::{Budget, LoadShed};
use tokio::runtime::Builder;
use tower::{Layer, Service};

use crate::{
    later::Later,
    request::{Body, Served},
    row::{Row, alone},
};

/// Of two concurrent requests, the second waits for the permit of the first. Each thread has its own budget: with a shared
/// one, requests of different threads would wait for each other at random.
pub(crate) fn rows() -> [Row; 2] {
    [
        two::<0>("loadshed, wait, two requests, two permits", 2),
        two::<1>("loadshed, wait, two requests, one of them queued", 1),
    ]
}

fn two<const VARIANT: usize>(name: &'static str, permits: usize) -> Row {
    alone(name, move || {
        let shed = LoadShed::ratio(1.0).budget(Budget::fixed(permits));
        let mut service = shed
            .wait(1, Duration::from_millis(50))
            .layer(Later::<VARIANT>);
        // A queued request needs a timer.
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("the system has a clock");
        move || {
            let _within = runtime.enter();
            serve_two(&mut service)
        }
    })
}

/// Returns whether both requests were served.
fn serve_two<S>(service: &mut S) -> bool
where
    S: Service<Request<Body>, Response: Served>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = || {
        let ready = service.poll_ready(&mut cx);
        assert!(
            ready.is_ready(),
            "the layer is ready although its budget is full"
        );
        service.call(Request::new(Body::new()))
    };
    let (mut first, mut second) = (pin!(call()), pin!(call()));
    let mut poll = |future: Pin<&mut S::Future>| match future.poll(&mut cx) {
        Poll::Ready(result) => Some(result.is_ok_and(|response| response.is_served())),
        Poll::Pending => None,
    };
    // A response to the first poll is a refusal.
    if poll(first.as_mut()).is_some() || poll(second.as_mut()).is_some() {
        return false;
    }
    // The first response is dropped, and its permit with it.
    if poll(first.as_mut()) != Some(true) {
        return false;
    }
    loop {
        if let Some(served) = poll(second.as_mut()) {
            return served;
        }
    }
}
