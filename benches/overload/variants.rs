//! The limiters, each in its best case: one limit for the whole server.
//!
//! A limiter that is applied with `Router::layer` is made anew for each connection and route. Here each is made once,
//! around the handler, and axum clones the service, which all of these take for the same limit. Their settings are
//! their defaults, unless the row says otherwise.

use std::{convert::Infallible, error::Error, future::ready, sync::Arc, time::Duration};

use axum::{
    Router,
    error_handling::HandleError,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use little_loadshedder::{LoadShed as LittleLoadShed, LoadShedResponse};
use loadshed::{Budget, LatencyTarget, LoadShed};
use tokio::sync::Semaphore;
use tower::{
    Layer, Service, ServiceExt, limit::GlobalConcurrencyLimitLayer,
    load_shed::LoadShed as TowerLoadShed,
};
use tower_acc::{Algorithm, ConcurrencyLimit};
use tower_resilience_adaptive::{self as resilience, AdaptiveService, ConcurrencyAlgorithm};

use crate::server::Handler;

/// A row of the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) app: fn(Handler) -> Router,
    /// Whether it represents the variants of its kind where there is no time for all.
    pub(crate) representative: bool,
}

/// Half of the deadline: the best latency target of the limiters that need one.
const SLOW: Duration = Duration::from_millis(50);

/// The rows of a smoke run: no shedding, a peer for each kind of refusal, and this crate.
pub(crate) const QUICK: [&str; 4] = [
    "no shedding",
    "tower, limit 16",
    "little-loadshedder, 50 ms",
    NO_SETTINGS,
];

pub(crate) const NO_SETTINGS: &str = "loadshed, no settings";

pub(crate) const ALL: &[Variant] = &[
    main("no shedding", app),
    variant("tower, limit 8", |handler| tower(handler, 8)),
    main("tower, limit 16", |handler| tower(handler, 16)),
    variant("tower, limit 64", |handler| tower(handler, 64)),
    main("tower, limit 256", |handler| tower(handler, 256)),
    main("axum `from_fn` + `Semaphore`, limit 16", |handler| {
        by_hand(handler, 16)
    }),
    main("little-loadshedder, 50 ms", little),
    main("tower-acc Vegas", |handler| {
        acc(handler, tower_acc::Vegas::default())
    }),
    main("tower-acc Gradient2", |handler| {
        acc(handler, tower_acc::Gradient2::default())
    }),
    variant("tower-acc Gradient2, tolerance 1", |handler| {
        let gradient = tower_acc::Gradient2::builder().rtt_tolerance(1.0);
        acc(handler, gradient.build())
    }),
    variant("tower-acc AIMD", |handler| {
        acc(handler, tower_acc::Aimd::default())
    }),
    variant("tower-acc AIMD, 50 ms", |handler| {
        acc(handler, tower_acc::Aimd::builder().timeout(SLOW).build())
    }),
    variant("tower-resilience AIMD", |handler| {
        adaptive(handler, resilience::Aimd::builder().build())
    }),
    main("tower-resilience AIMD, 50 ms", |handler| {
        let aimd = resilience::Aimd::builder().latency_threshold(SLOW);
        adaptive(handler, aimd.build())
    }),
    main("tower-resilience Vegas", |handler| {
        adaptive(handler, resilience::Vegas::builder().build())
    }),
    variant("tower-resilience Gradient2", |handler| {
        adaptive(handler, resilience::Gradient2::builder().build())
    }),
    variant("tower-resilience Gradient2, tolerance 1", |handler| {
        let gradient = resilience::Gradient2::builder().rtt_tolerance(1.0);
        adaptive(handler, gradient.build())
    }),
    main(NO_SETTINGS, |handler| {
        ours(handler, 1.0, Budget::adaptive())
    }),
    variant("loadshed, ratio 0.85", |handler| {
        ours(handler, 0.85, Budget::adaptive())
    }),
    main("loadshed, latency target 50 ms", |handler| {
        ours(handler, 1.0, Budget::new(LatencyTarget::new(SLOW)))
    }),
    main("loadshed, fixed 16", |handler| {
        ours(handler, 1.0, Budget::fixed(16))
    }),
];

const fn variant(name: &'static str, app: fn(Handler) -> Router) -> Variant {
    let representative = false;
    Variant {
        name,
        app,
        representative,
    }
}

const fn main(name: &'static str, app: fn(Handler) -> Router) -> Variant {
    let representative = true;
    Variant {
        name,
        app,
        representative,
    }
}

fn ours(handler: Handler, ratio: f64, budget: Budget) -> Router {
    app(LoadShed::ratio(ratio).budget(budget).layer(handler))
}

fn tower(handler: Handler, limit: usize) -> Router {
    refusing(GlobalConcurrencyLimitLayer::new(limit).layer(handler))
}

/// The usual hand-written middleware: holds a permit for as long as the handler runs.
fn by_hand(handler: Handler, limit: usize) -> Router {
    let permits = Arc::new(Semaphore::new(limit));
    let middleware = from_fn(move |request: Request, next: Next| {
        let permits = Arc::clone(&permits);
        async move {
            let Ok(_permit) = permits.try_acquire() else {
                return busy();
            };
            next.run(request).await
        }
    });
    app(middleware.layer(handler))
}

fn acc(handler: Handler, algorithm: impl Algorithm + Send + Sync + 'static) -> Router {
    refusing(ConcurrencyLimit::new(handler, algorithm))
}

fn adaptive<A, E>(handler: Handler, algorithm: Result<A, E>) -> Router
where
    A: ConcurrencyAlgorithm + 'static,
    E: Error,
{
    let algorithm = algorithm.expect("the settings are valid");
    refusing(AdaptiveService::new(handler, Arc::new(algorithm)))
}

/// A new latency has a weight of 0.25 in the moving average, as in the crate's documentation. With 0.01, as in its example,
/// the steady loads have the same results, and it recovers later from the step.
fn little(handler: Handler) -> Router {
    let shed = LittleLoadShed::new(handler, 0.25, SLOW);
    app(shed.map_response(|response| match response {
        LoadShedResponse::Inner(response) => response,
        LoadShedResponse::Overload => busy(),
    }))
}

/// Wraps a limiter that makes requests wait in tower's `LoadShed`, which refuses them instead.
fn refusing<S>(limiter: S) -> Router
where
    S: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
    S::Error: Into<tower::BoxError>,
    S::Future: Send,
{
    let shed = TowerLoadShed::new(limiter);
    app(HandleError::new(shed, |_| ready(busy())))
}

fn app<S>(service: S) -> Router
where
    S: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    Router::new().route_service("/", service)
}

fn busy() -> Response {
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
