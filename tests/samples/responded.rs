//! Which units in flight count as responded: a controller does not take them for work that waits.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use loadshed::{Budget, LoadShed, Threshold};
use tokio::{task::yield_now, time::advance};
use tower::{BoxError, Layer, Service, service_fn};

use crate::support::{FnController, all};

pub(crate) type Seen = Arc<Mutex<(usize, usize)>>;

/// Returns a budget that shows the units in flight, and how many of them have responded, when its latest window was closed.
pub(crate) fn shown() -> (Budget, Seen) {
    let seen = Seen::default();
    let shown = Arc::clone(&seen);
    let controller = FnController::new(1..=1_000, 20, move |window| {
        *shown.lock().unwrap() = (window.in_flight, window.responded);
        window.limit
    });
    (Budget::new(controller.always()), seen)
}

/// Closes the window, and returns what it shows.
pub(crate) fn figures(budget: &Budget, seen: &Seen) -> (usize, usize) {
    // The sample of a permit closes it, once the permit is released.
    drop(budget.try_acquire(Threshold::NEVER_SHED));
    *seen.lock().unwrap()
}

fn request() -> Request<Full<Bytes>> {
    Request::new(Full::default())
}

/// Responds at once to all but `/work`, with an endless body.
fn handler() -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send {
    service_fn(async |request: Request<Full<Bytes>>| {
        if request.uri().path() == "/work" {
            std::future::pending::<()>().await;
        }
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[7; 1_000])));
        let frames = stream::iter(std::iter::repeat_with(frame));
        Ok(Response::new(StreamBody::new(frames)))
    })
}

#[tokio::test(start_paused = true)]
async fn p14_a_response_that_has_stalled_counts_as_responded_no_longer() {
    let (budget, seen) = shown();
    let shed = LoadShed::ratio(1.0)
        .budget(&budget)
        .stall_timeout(Duration::from_secs(10));
    let mut service = shed.layer(handler());
    let working = [(); 10].map(|()| budget.try_acquire(all()).unwrap());
    let mut bodies = Vec::new();
    for _ in 0..10 {
        let mut body = service.call(request()).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        bodies.push(body);
    }
    assert_eq!(figures(&budget, &seen), (20, 10));
    for _ in 0..20 {
        advance(Duration::from_secs(1)).await;
        drop(budget.try_acquire(Threshold::ratio(0.3)));
    }
    assert_eq!(figures(&budget, &seen), (10, 0));

    // Half of the readers go on.
    for body in &mut bodies[..5] {
        assert!(body.frame().await.unwrap().is_ok());
    }
    assert_eq!(figures(&budget, &seen), (15, 5));
    drop((bodies, working));
    assert_eq!(figures(&budget, &seen), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p14_requests_that_a_dry_run_would_refuse_do_not_count_as_responded() {
    let (budget, seen) = shown();
    let dry_run = LoadShed::ratio(0.25).budget(&budget).dry_run(true);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let mut service = shed.layer(dry_run.layer(handler()));
    let mut working = Vec::new();
    for _ in 0..5 {
        let request = Request::get("/work").body(Full::default()).unwrap();
        working.push(tokio::spawn(service.call(request)));
        yield_now().await;
    }
    let mut bodies = Vec::new();
    for _ in 0..10 {
        bodies.push(service.call(request()).await.unwrap().into_body());
    }
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.marked), (15, 10));
    assert_eq!(figures(&budget, &seen), (5, 0));
    working.iter().for_each(|working| working.abort());
    drop(bodies);
    yield_now().await;
    assert_eq!(figures(&budget, &seen), (0, 0));
}
