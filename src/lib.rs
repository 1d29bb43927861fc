//! Load shedding for [tower](https://docs.rs/tower): a server keeps inside its capacity by refusing what it cannot
//! carry, early, cheaply, and with a hint when to come back.
//!
//! A [`LoadShed`] layer counts the requests in flight against a [`Budget`]. Once a request would take the budget past
//! a ratio such as 85 %, it is answered `429 Too Many Requests` with a `Retry-After`; a gRPC call gets
//! `RESOURCE_EXHAUSTED` with a pushback and a `RetryInfo`. All others run, and what is left above the ratio stays free for
//! the routes that are not shed.
//!
//! # Quick start
//!
//! A pool of 200 workers. Large mails may be refused, as their senders retry; lists may not, as a person waits:
//!
//! ```
//! use axum::{Router, routing::{get, post}};
//! use loadshedder::measure::Measure, shed::{Budget, LoadShed};
//!
//! # async fn receive() {}
//! # async fn list() {}
//! let pool = Budget::fixed(200).named("mail");
//! let app: Router = Router::new()
//!     .route("/mail/receive", post(receive).route_layer(LoadShed::ratio(0.85).budget(&pool)))
//!     .route("/mail/list", get(list))
//!     .layer(LoadShed::observe().budget(&pool)); // counts all, sheds none
//! ```
//!
//! Up to 170 requests run before `/mail/receive` is refused: 85 % of 200. A request that passes both layers takes one
//! place.
//!
//! Where nobody knows the size of the pool, the budget is learned: `LoadShed::ratio(0.85)` alone. It learns from how long
//! requests take and how they end; [`LoadShed::measure`] and [`LoadShed::outcome`] say what that means, where the defaults
//! do not fit.
//!
//! # Which requests go first
//!
//! One layer around the whole server can tell its routes apart, and its callers:
//!
//! ```
//! use loadshed::{Criticality, LoadShed};
//!
//! let shed = LoadShed::ratio(0.85)
//!     .only(["POST /mail/receive", "/export/{*path}"]) // what is not named is counted, never shed
//!     .at("/export/{*path}", 0.50) // this one goes first
//!     .exempt(["/healthz", "/metrics"]) // neither counted nor shed
//!     .classify(|head| match head.headers().get("x-batch") {
//!         Some(_) => Criticality::Sheddable, // up to 0.85
//!         None => Criticality::Critical,     // up to 0.95
//!     });
//! ```
//!
//! [`LoadShed::except`] opts out, [`LoadShed::threshold`] decides by anything in the head. A class that callers
//! claim in a header is believed as far as [`LoadShed::classify_by_header`] is told to. What goes before what, and which path
//! is compared, is told [there](LoadShed#which-requests).
//!
//! Not all requests weigh the same: [`LoadShed::cost`] says how many units of the budget one takes. And within a class, who
//! calls can matter: with [`LoadShed::fair_by`] no tenant takes the part of another, and with [`LoadShed::key`] the same
//! callers are refused all along a chain of services, so that the others get through.
//!
//! # A short wait
//!
//! A burst may be over sooner than its callers could come back. [`LoadShed::wait`] has what finds no room wait for some
//! milliseconds, in a line that is bounded in number and time. It is off by default, and no remedy for too much load.
//!
//! # Where in the stack
//!
//! Outside of all that waits or costs, so that a refusal is cheap; inside of what must see refusals, such as access
//! logs and CORS. What is counted is the time from `call` to the end of the response body: of 1,000 requests a second
//! that take 100 ms each, 100 are in flight (Little's law: L = λ × W); with a buffer in front of the handler that adds
//! 150 ms, 250 are. A budget around the buffer counts those who wait too, a budget inside does not see them.
//!
//! - axum: `.route_layer(…)` for one route, `.layer(…)` around the app. The same value may be used in many places: one
//!   value is one budget. `Router::route_layer` keeps a 404 a 404.
//! - tonic: `Server::builder().layer(…)`.
//! - hyper: `LoadShed::ratio(0.85).layer(service)` within `TowerToHyperService`, once, outside of the accept loop; each
//!   connection gets a clone.
//! - The request body has to be `Body + Send + 'static`: what is left of a refused upload is read in the background
//!   ([`RefusedUpload`]).
//! - Retries belong outside: a refused attempt has left the count while it waits for the next.
//! - What runs within one poll of a request is that request: a handler that joins ten calls of a service under the same
//!   budget takes one place, and a call that it begins and then spawns is not counted. Spawn first, then call.
//! - A `Buffer` or a spawn between two layers of one budget makes them count twice, as the inner one no longer runs within
//!   the outer one.
//!
//! # Callers in a browser
//!
//! A page sees of a refusal what CORS lets it see. So that layer belongs outside, where it adds its headers to refusals too
//! (else a page sees an error of the network), and answers preflights even when the server is full. It has to expose the
//! hint:
//!
//! ```
//! use axum::{Router, http::header::RETRY_AFTER, routing::get};
//! use loadshed::LoadShed;
//! use tower_http::cors::{Any, CorsLayer};
//!
//! # async fn index() {}
//! let app: Router = Router::new()
//!     .route("/", get(index))
//!     .layer(LoadShed::ratio(0.85))
//!     // In axum, what is added last is outermost.
//!     .layer(CorsLayer::new().allow_origin(Any).expose_headers([RETRY_AFTER]));
//! ```
//!
//! A refused gRPC-Web call has its status in headers, so for those expose `grpc-status`, `grpc-message`,
//! `grpc-status-details-bin` and `grpc-retry-pushback-ms` as well.
//!
//! # Outside of tower
//!
//! For a queue's consumer or an upgraded connection, [`Budget::try_acquire`] gives a [`Permit`].
//!
//! # Outgoing calls
//!
//! The crate `loadshed-client` has a layer for calls to a server that refuses requests. It waits as long as the refusal says,
//! and limits retries.
//!
//! # What it costs
//!
//! An admitted request costs two compare-and-swaps and some moves: on memory of its thread's own while the budget is far from full,
//! on one word that all share near its limit; tens of nanoseconds more where its route or
//! its class is asked for; no allocation and, with a fixed budget,
//! no lock and no clock. A learned one reads the clock twice for the requests that it measures, once for each that it
//! refuses, and puts each measured one into a list of its thread's. A hundred times a second, one of those that come or go
//! runs the control law; no other one waits for it. One that is [measured to the end of its body](Measure::Body) keeps what it
//! needs for that in one allocation. `cargo bench --bench admit` measures it beside a bare service and tower's own layers.
//! A request that finds the inner service not ready is kept in one allocation until it is. One that waits for room needs a few
//! more, and a lock that those share who wait and, while they do, those who make room.
//!
//! # Features
//!
//! - `axum`: a layer inside of nested routers knows their routes by the whole template (`MatchedPath` of axum 0.8), too, as told
//!   [there](LoadShed#which-requests).
//! - `metrics`: figures through the `metrics` facade, module `telemetry`. An admitted request pays nothing
//!   for it, or 1 to 2 ns where a layer has a name or decides by the request.
//! - `serde`: [`Snapshot`] and [`LimitChange`] can be serialised.
//! - `tracing`: an event when shedding starts and when it stops, and one for each change of a limit, module `telemetry`.
//!
//! None is on by default. The default dependencies are http's and tower's traits, `bytes`, `crossbeam-utils`, `pin-project-lite`, `matchit`, of
//! which routes have their syntax, and of tokio
//! the clock and, to read what is left of a refused upload, the runtime.
//!
//! # Minimum supported Rust version
//!
//! 1.85, as tokio's. Raising it is a minor release.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod control;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub mod telemetry;

mod admission;
mod budget;
mod middleware;
mod protocol;
mod refused_upload;
mod report;
mod retry_after;
mod shed;
mod shedder;
mod support;
#[cfg(not(any(feature = "metrics", feature = "tracing")))]
mod telemetry;
mod threshold;

pub use self::{
    budget::{budget::Budget, permit::Permit},
    control::{adaptive::adaptive::Adaptive, latency_target::latency_target::LatencyTarget},
    middleware::{
        body::ResponseBody, future::ResponseFuture, handle::Handle, load_shed::load_shed::LoadShed,
        service::LoadShedService,
    },
    protocol::head::content_length,
    refused_upload::refused_upload::RefusedUpload,
    report::{LimitChange, Snapshot},
    retry_after::retry_after::RetryAfter,
    shed::{Reason, Shed},
    shedder::measure::Measure,
    support::invalid::InvalidSetting,
    threshold::{criticality::Criticality, threshold::Threshold},
};

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The code of docs/opentelemetry.md, compiled and run.
#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../docs/opentelemetry.md")]
struct OpenTelemetry;

/// What must not compile, each beside its twin that does.
///
/// A permit is one place, so it cannot be cloned:
///
/// ```
/// # use loadshed::{Budget, Threshold};
/// let permit = Budget::fixed(1).try_acquire(Threshold::NEVER_SHED).unwrap();
/// let moved = permit;
/// ```
///
/// ```compile_fail,E0599
/// # use loadshed::{Budget, Threshold};
/// let permit = Budget::fixed(1).try_acquire(Threshold::NEVER_SHED).unwrap();
/// let moved = permit.clone();
/// ```
///
/// A response body that is not made of `Bytes` cannot be exchanged for a refusal's:
///
/// ```
/// # use std::convert::Infallible;
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use loadshed::LoadShed;
/// # use tower::{Layer, Service};
/// let inner = tower::service_fn(async |_: Request<Full<Bytes>>| {
///     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("text"))))
/// });
/// LoadShed::ratio(0.85).layer(inner).call(Request::new(Full::default()));
/// ```
///
/// ```compile_fail
/// # use std::{convert::Infallible, io::Cursor};
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use loadshed::LoadShed;
/// # use tower::{Layer, Service};
/// let inner = tower::service_fn(async |_: Request<Full<Bytes>>| {
///     Ok::<_, Infallible>(Response::new(Full::new(Cursor::new("text"))))
/// });
/// LoadShed::ratio(0.85).layer(inner).call(Request::new(Full::default()));
/// ```
///
/// `retry_after` takes a hint, which cannot be zero, and not a bare duration, which can:
///
/// ```
/// # use std::time::Duration;
/// # use loadshed::{LoadShed, RetryAfter};
/// let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::fixed(Duration::from_secs(5)));
/// ```
///
/// ```compile_fail,E0308
/// # use std::time::Duration;
/// # use loadshed::{LoadShed, RetryAfter};
/// let shed = LoadShed::ratio(0.85).retry_after(Duration::from_secs(5));
/// ```
#[cfg(doctest)]
struct Misuse;
