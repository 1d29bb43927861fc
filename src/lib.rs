//! Load shedding for [tower](https://docs.rs/tower): keeps a server within its capacity by refusing excess requests early,
//! cheaply, and with a retry hint.
//!
//! A [`LoadShed`] layer counts the requests in flight against a [`Budget`]. Once a request would take utilization past a
//! ratio such as 85 %, the layer answers `429 Too Many Requests` with a `Retry-After`. A gRPC call gets
//! `RESOURCE_EXHAUSTED` with a pushback and a `RetryInfo`. All other requests run. The capacity above the ratio stays free
//! for routes that are not shed.
//!
//! # Quick start
//!
//! A pool of 200 workers. Large mails may be refused, as their senders retry. Lists may not, as a person waits:
//!
//! ```
//! use axum::{Router, routing::{get, post}};
//! use loadshed::{Budget, LoadShed};
//!
//! # async fn receive() {}
//! # async fn list() {}
//! let pool = Budget::fixed(200).named("mail");
//! let app: Router = Router::new()
//!     .route("/mail/receive", post(receive).route_layer(LoadShed::ratio(0.85).budget(&pool)))
//!     .route("/mail/list", get(list))
//!     .layer(LoadShed::observe().budget(&pool)); // counts all requests, sheds none
//! ```
//!
//! `/mail/receive` is refused while 170 requests are in flight: 85 % of 200. A request that passes both layers is counted
//! once.
//!
//! Where the size of the pool is unknown, the limit is learned: `LoadShed::ratio(0.85)` alone. The controller learns from
//! the latency and the outcome of requests. [`LoadShed::measure`] and [`LoadShed::outcome`] change what they mean, where
//! the defaults do not fit.
//!
//! # Priorities
//!
//! One layer around the whole server can tell its routes and its callers apart:
//!
//! ```
//! use loadshed::{Criticality, LoadShed};
//!
//! let shed = LoadShed::ratio(0.85)
//!     .only(["POST /mail/receive", "/export/{*path}"]) // all other routes are counted, never shed
//!     .at("/export/{*path}", 0.50) // refused first
//!     .exempt(["/healthz", "/metrics"]) // neither counted nor shed
//!     .classify(|head| match head.headers().get("x-batch") {
//!         Some(_) => Criticality::Sheddable, // up to 0.85
//!         None => Criticality::Critical,     // up to 0.95
//!     });
//! ```
//!
//! [`LoadShed::except`] opts routes out. [`LoadShed::threshold`] decides by anything in the head of the request.
//! [`LoadShed::classify_by_header`] trusts a class that a caller claims in a header as far as it is told to. The order of
//! these rules, and the path that patterns are compared to, are documented [on `LoadShed`](LoadShed#which-requests).
//!
//! [`LoadShed::cost`] weighs requests: how many units of the budget a request takes. Within a class,
//! [`LoadShed::fair_by`] gives each tenant a fair share. [`LoadShed::key`] makes all services of a call chain refuse the
//! same callers, so that all calls of the other callers succeed.
//!
//! # A short wait
//!
//! A burst may be over sooner than a caller can retry. [`LoadShed::wait`] queues requests for some milliseconds, in a queue
//! that is bounded in length and time. It is off by default, and no remedy for sustained overload.
//!
//! # Uploads
//!
//! A handler that reads an upload waits for its client. [`LoadShed::watch_uploads`] tells that time from the server's, so
//! that slow clients do not look like an overload to a learned limit. [`LoadShed::min_upload_rate`] ends uploads that hold a
//! permit and send next to nothing, while requests are refused:
//!
//! ```
//! use std::time::Duration;
//! use loadshed::LoadShed;
//!
//! let shed = LoadShed::ratio(0.85)
//!     .watch_uploads(axum::body::Body::new) // in tonic: tonic::body::Body::new
//!     .min_upload_rate(240, Duration::from_secs(5)); // bytes a second, after a grace
//! ```
//!
//! # Where in the stack
//!
//! Put the layer outside of all layers that wait or cost something, so that a refusal is cheap. Put it inside of layers that
//! must see refusals, such as access logs and CORS. A request counts from `call` to the end of the response body. At 1,000
//! requests a second of 100 ms each, 100 requests are in flight (Little's law: L = λ × W). With a buffer before the handler
//! that adds 150 ms, 250 are. A layer outside the buffer counts the buffered requests, a layer inside does not.
//!
//! - axum: `.route_layer(…)` for one route, `.layer(…)` around the app. The same value may be used at many routes: one
//!   value is one budget. `Router::route_layer` keeps a 404 a 404.
//! - tonic: `Server::builder().layer(…)`.
//! - hyper: `LoadShed::ratio(0.85).layer(service)` within `TowerToHyperService`, once, outside of the accept loop. Each
//!   connection gets a clone.
//! - The request body has to be `Body + Send + 'static`: what is left of a refused upload is read in the background
//!   ([`RefusedUpload`]).
//! - Retries belong outside: a refused attempt is no longer counted while the retry layer waits for the next attempt.
//! - Layers of one budget count a request once. An inner layer finds the request in its extensions, also across a spawn or
//!   a `tower::Buffer`. A call with a request of its own, such as the sub-requests of a handler, counts on its own.
//! - What a handler spawns goes on uncounted when the request ends. A [`RequestPermit`] that goes along keeps it counted: see
//!   [work that outlives its caller](#work-that-outlives-its-caller).
//!
//! # Work that outlives its caller
//!
//! When a caller leaves, the handler's future is dropped, and its permit is released. Jobs of `spawn_blocking` and spawned tasks go
//! on: with callers that leave early, many more than the limit are at work. The layer's setting
//! [`share_permit`](LoadShed::share_permit) gives the handler a [`RequestPermit`], which it moves into the work. [Its
//! page](RequestPermit) has the code for `spawn_blocking`, `spawn`, streams and upgrades (WebSocket, extended CONNECT).
//!
//! # Callers in a browser
//!
//! A page sees of a refusal what CORS allows. So the CORS layer belongs outside. There it adds its headers to refusals
//! (without them, a page sees a network error), and it answers preflights when the server is full. It has to expose the
//! retry hint:
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
//!     // In axum, the layer added last is outermost.
//!     .layer(CorsLayer::new().allow_origin(Any).expose_headers([RETRY_AFTER]));
//! ```
//!
//! A refused gRPC-Web call has its status in headers. For such calls expose `grpc-status`, `grpc-message`,
//! `grpc-status-details-bin` and `grpc-retry-pushback-ms` as well.
//!
//! # Outside of tower
//!
//! [`Budget::try_acquire`] returns a [`Permit`] for work that no layer sees, such as the consumer of a queue.
//!
//! # Shutdown
//!
//! [`Budget::begin_drain`] has a budget serve on for a grace, in which load balancers notice that the server is not ready
//! ([`Budget::is_draining`]), and then refuse all new requests. [`Budget::emptied`] resolves once nothing is in flight:
//!
//! ```
//! # use std::time::Duration;
//! # async fn terminated() {}
//! # async fn shutdown(pool: loadshed::Budget) {
//! terminated().await;
//! pool.begin_drain(Duration::from_secs(5));
//! pool.emptied().await;
//! # }
//! ```
//!
//! # Outgoing calls
//!
//! The crate `loadshed-client` has a layer for calls to a server that refuses requests. It waits as long as the refusal says,
//! and limits retries.
//!
//! # What it costs
//!
//! | request | cost |
//! | --- | --- |
//! | admitted, fixed limit | two compare-and-swaps: on memory of the thread while the budget is far from full, on a shared word near the limit; no allocation, no lock, no clock |
//! | whose route or class is looked up: [not every one](LoadShed#requests-that-are-not-looked-at) | tens of nanoseconds more |
//! | measured, learned limit | two clock reads, and one entry in a list of the thread; once a window (10 ms with [`Adaptive`], 25 ms with [`LatencyTarget`]) one request runs the controller, and no other request waits for it |
//! | measured [to the end of its body](Measure::Body) | one allocation more |
//! | with an [upload that is watched](LoadShed::watch_uploads) | two allocations, or four if it is measured, a lock of its own at each poll of the body, and a clock read where the handler begins or ends to wait |
//! | refused | one clock read, at most 8 allocations |
//! | that finds the inner service not ready | one allocation |
//! | queued | some allocations, and a lock shared by queued requests and by the requests that end meanwhile |
//!
//! `cargo bench --bench admit` measures these beside a bare service and tower's own layers.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `axum`: a layer inside of nested routers also knows routes by the whole template (`MatchedPath` of axum 0.8), see
//!   [`LoadShed`](LoadShed#which-requests).
//! - `metrics`: metrics through the `metrics` facade, module `telemetry`. An admitted request pays nothing for them, or 1
//!   to 2 ns where a layer has a name or decides by the request.
//! - `serde`: [`Snapshot`], [`LimitChange`] and [`Learned`](control::Learned) can be serialised, [`RetryAfter`],
//!   [`RefusedUpload`], [`Adaptive`] and [`LatencyTarget`] can be deserialised, [`Threshold`] and [`Criticality`] both.
//! - `tracing`: an event when shedding starts, when it stops, and for each change of a limit, module `telemetry`.
//!
//! The default dependencies are the traits of `http` and tower, `bytes`, `crossbeam-utils`, `pin-project-lite`, `matchit` (the syntax of route
//! patterns), and of tokio the clock and the runtime, which reads what is left of refused uploads.
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
mod upload;

pub use self::{
    budget::{budget::Budget, permit::Permit, request_permit::RequestPermit},
    control::{adaptive::adaptive::Adaptive, latency_target::latency_target::LatencyTarget},
    middleware::{
        body::ResponseBody, future::ResponseFuture, handle::Handle, load_shed::load_shed::LoadShed,
        service::LoadShedService, stalled::ResponseStalled,
    },
    protocol::head::content_length,
    refused_upload::refused_upload::RefusedUpload,
    report::{LimitChange, Snapshot},
    retry_after::retry_after::RetryAfter,
    shed::{Reason, Shed},
    shedder::measure::Measure,
    support::invalid::InvalidSetting,
    threshold::{criticality::Criticality, threshold::Threshold},
    upload::watched_body::WatchedBody,
};

#[cfg(feature = "axum")]
pub use self::budget::extractor::MissingRequestPermit;

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The code of docs/opentelemetry.md, compiled and run.
#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../docs/opentelemetry.md")]
struct OpenTelemetry;

/// Code that must not compile, each beside a twin that does.
///
/// A permit is given back once, so it cannot be cloned:
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
/// A response body whose data is not `Bytes` cannot be replaced by the body of a refusal:
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
/// `retry_after` takes a `RetryAfter`, which cannot be zero, and not a `Duration`, which can:
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
