//! Alternatives to this crate, each with one limit for all callers and with its defaults.
//!
//! A limiter that makes requests wait is wrapped in tower's `LoadShed`, which refuses them by an error instead. To turn the
//! error into a response costs extra; one row shows it.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Future, Pending, pending},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{
    extract::Request as AxumRequest,
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use little_loadshedder::{LoadShed as Little, LoadShedResponse};
use tokio::sync::Semaphore;
use tower::{
    BoxError, Layer, Service, ServiceExt,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    load_shed::LoadShed as TowerLoadShed,
    util::MapResultLayer,
};
use tower_acc as acc;
use tower_resilience_adaptive::{self as resilience, AdaptiveService};

use crate::{
    request::{Bare, Body, Served},
    row::{Row, admit, refuse},
};

impl<R> Served for LoadShedResponse<R> {
    fn is_served(&self) -> bool {
        matches!(self, Self::Inner(_))
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let global = |limit| GlobalConcurrencyLimitLayer::new(limit);
    let acc_vegas = || acc::ConcurrencyLimit::new(Bare::<43>, acc::Vegas::default());
    let acc_aimd = || acc::ConcurrencyLimit::new(Bare::<44>, acc::Aimd::default());
    let acc_gradient = || acc::ConcurrencyLimit::new(Bare::<45>, acc::Gradient2::default());
    let aimd = || resilient(Bare::<46>, resilience::Aimd::builder().build());
    let vegas = || resilient(Bare::<47>, resilience::Vegas::builder().build());
    let gradient = || resilient(Bare::<48>, resilience::Gradient2::builder().build());
    vec![
        admit(
            "tower `ConcurrencyLimit` + `LoadShed`",
            shed(ConcurrencyLimit::new(Bare::<40>, 200)),
        ),
        admit(
            "tower `GlobalConcurrencyLimit` + `LoadShed`",
            shed(global(200).layer(Bare::<41>)),
        ),
        admit("tower-acc Vegas", shed(acc_vegas())),
        admit("tower-acc AIMD", shed(acc_aimd())),
        admit("tower-acc Gradient2", shed(acc_gradient())),
        admit("tower-resilience AIMD", shed(aimd())),
        admit("tower-resilience Vegas", shed(vegas())),
        admit("tower-resilience Gradient2", shed(gradient())),
        admit("little-loadshedder, 50 ms", little::<49>()),
        admit(
            "axum `from_fn` that does nothing",
            by_hand(Bare::<50>, None),
        ),
        admit(
            "axum `from_fn` + `Semaphore`",
            by_hand(Bare::<51>, Some(Arc::new(Semaphore::new(200)))),
        ),
        refuse(
            "tower `ConcurrencyLimit` + `LoadShed`, an error",
            shed(full(ConcurrencyLimit::new(Bare::<60>, 1))),
        ),
        refuse(
            "tower `GlobalConcurrencyLimit` + `LoadShed`, made a 429",
            MapResultLayer::new(made_a_429).layer(shed(full(global(1).layer(Bare::<61>)))),
        ),
        refuse("tower-acc Vegas, an error", shed(full(acc_vegas()))),
        refuse("tower-acc AIMD, an error", shed(full(acc_aimd()))),
        refuse("tower-acc Gradient2, an error", shed(full(acc_gradient()))),
        refuse("tower-resilience AIMD, an error", shed(full(aimd()))),
        refuse("tower-resilience Vegas, an error", shed(full(vegas()))),
        refuse(
            "tower-resilience Gradient2, an error",
            shed(full(gradient())),
        ),
        refuse("little-loadshedder", full_little()),
        refuse(
            "axum `from_fn` + `Semaphore`, 429",
            by_hand(Bare::<62>, Some(Arc::new(Semaphore::new(0)))),
        ),
    ]
}

fn shed<S>(limiter: S) -> TowerLoadShed<S> {
    TowerLoadShed::new(limiter)
}

/// Takes all permits, for as long as the process runs.
fn full<S>(limiter: S) -> S
where
    S: Service<Request<Body>> + Clone + 'static,
{
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut holder = limiter.clone();
        let Poll::Ready(_) = holder.poll_ready(&mut cx) else {
            return limiter;
        };
        Box::leak(Box::new(holder));
    }
}

fn resilient<S, A, E>(inner: S, algorithm: Result<A, E>) -> AdaptiveService<S, A>
where
    A: resilience::ConcurrencyAlgorithm,
    E: Debug,
{
    AdaptiveService::new(inner, Arc::new(algorithm.expect("the settings are valid")))
}

/// A new latency has a weight of 0.25 in the moving average, as in the crate's documentation.
fn little<const VARIANT: usize>() -> Little<Bare<VARIANT>> {
    Little::new(Bare, 0.25, Duration::from_millis(50))
}

/// One request is in service and one waits: the initial limit.
fn full_little() -> Little<Hang> {
    let mut little = Little::new(Hang, 0.25, Duration::from_millis(50));
    for _ in 0..2 {
        let mut held = Box::pin(little.call(Request::new(Body::new())));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            held.as_mut().poll(&mut cx).is_pending(),
            "the limiter is not full yet"
        );
        Box::leak(Box::new(held));
    }
    little
}

/// A service that never responds.
#[derive(Clone)]
struct Hang;

impl Service<Request<Body>> for Hang {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pending<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        pending()
    }
}

/// The usual hand-written middleware. It gives its permit back as soon as the response head is ready.
fn by_hand<const VARIANT: usize>(
    inner: Bare<VARIANT>,
    permits: Option<Arc<Semaphore>>,
) -> impl Service<Request<Body>, Response: Served, Future: Send> + Clone + Send + Sync + 'static {
    let middleware = from_fn(move |request: AxumRequest, next: Next| {
        let permits = permits.clone();
        async move {
            let _permit = match permits.map(Semaphore::try_acquire_owned) {
                Some(Err(_)) => return too_many().into_response(),
                permit => permit,
            };
            next.run(request).await
        }
    });
    let request = |request: Request<Body>| request.map(|_| axum::body::Body::empty());
    middleware.layer(inner).map_request(request)
}

fn made_a_429(result: Result<Response<Body>, BoxError>) -> Result<Response<Body>, BoxError> {
    Ok(result.unwrap_or_else(|_| too_many()))
}

fn too_many() -> Response<Body> {
    let mut response = Response::new(Body::new());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let seconds = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}
