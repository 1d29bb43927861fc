//! What it costs to wait, and to be given the place of the one before.

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
    request::{Answer, Body},
    row::{Row, alone},
};

/// What one of two requests at once waits for is the place of the other. Each thread has a budget of its own, or it would be
/// chance who waits for whom.
pub(crate) fn rows() -> [Row; 2] {
    [
        two::<0>("loadshed, wait, two requests, a place for each", 2),
        two::<1>("loadshed, wait, two requests, of which one waits", 1),
    ]
}

fn two<const VARIANT: usize>(name: &'static str, places: usize) -> Row {
    alone(name, move || {
        let shed = LoadShed::ratio(1.0).budget(Budget::fixed(places));
        let mut service = shed
            .wait(1, Duration::from_millis(50))
            .layer(Later::<VARIANT>);
        // Who waits has a timer.
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("the system has a clock");
        move || {
            let _within = runtime.enter();
            serve_two(&mut service)
        }
    })
}

/// Whether both were served.
fn serve_two<S>(service: &mut S) -> bool
where
    S: Service<Request<Body>, Response: Answer>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = || {
        let ready = service.poll_ready(&mut cx);
        assert!(ready.is_ready(), "a full budget refuses, and is ready");
        service.call(Request::new(Body::new()))
    };
    let (mut first, mut second) = (pin!(call()), pin!(call()));
    let mut poll = |future: Pin<&mut S::Future>| match future.poll(&mut cx) {
        Poll::Ready(answer) => Some(answer.is_ok_and(|answer| answer.is_served())),
        Poll::Pending => None,
    };
    // An answer so soon is a refusal.
    if poll(first.as_mut()).is_some() || poll(second.as_mut()).is_some() {
        return false;
    }
    // With its response goes its place.
    if poll(first.as_mut()) != Some(true) {
        return false;
    }
    loop {
        if let Some(served) = poll(second.as_mut()) {
            return served;
        }
    }
}
