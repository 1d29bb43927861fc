//! The limiters, each in its best case: one limit for the whole server.
//!
//! A limiter that is applied with `Router::layer` is made anew for each connection and route. Here each is made once,
//! around the handler, and axum clones the service, which all of these take for the same limit. Their settings are
//! their defaults, unless the row says otherwise.

use std::{convert::Infallible, future::ready};

use axum::{
    Router,
    error_handling::HandleError,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use loadshed::{Budget, LoadShed};
use tower::{
    Layer, Service, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShed as TowerLoadShed,
};

use crate::server::Handler;

/// A row of the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) app: fn(Handler) -> Router,
}

/// The rows of a smoke run: one that refuses nothing, a peer, and ours.
pub(crate) const QUICK: [&str; 3] = ["no shedding", "tower, limit 16", "loadshed, fixed 16"];

pub(crate) const ALL: &[Variant] = &[
    variant("no shedding", app),
    variant("tower, limit 8", |handler| tower(handler, 8)),
    variant("tower, limit 16", |handler| tower(handler, 16)),
    variant("tower, limit 64", |handler| tower(handler, 64)),
    variant("tower, limit 256", |handler| tower(handler, 256)),
    variant("loadshed, no settings", |handler| {
        ours(handler, 1.0, Budget::adaptive())
    }),
    variant("loadshed, ratio 0.85", |handler| {
        ours(handler, 0.85, Budget::adaptive())
    }),
    variant("loadshed, fixed 16", |handler| {
        ours(handler, 1.0, Budget::fixed(16))
    }),
];

const fn variant(name: &'static str, app: fn(Handler) -> Router) -> Variant {
    Variant { name, app }
}

fn ours(handler: Handler, ratio: f64, budget: Budget) -> Router {
    app(LoadShed::ratio(ratio).budget(budget).layer(handler))
}

fn tower(handler: Handler, limit: usize) -> Router {
    refusing(GlobalConcurrencyLimitLayer::new(limit).layer(handler))
}

/// A limiter that makes callers wait, with tower's `LoadShed` around it, which refuses them instead.
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
