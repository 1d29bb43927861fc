//! A [tower](https://docs.rs/tower) layer for outgoing calls that does what a server under load asks for, such as one with
//! [`loadshed`].
//!
//! A refusal is only as good as what the caller does next. One that comes back at once, or three times, or not at all
//! though a second's wait would do, makes the overload worse or the refusal useless.
//!
//! # Quick start
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use loadshed_client::Backpressure;
//! use tower::ServiceBuilder;
//!
//! let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
//! let client = ServiceBuilder::new().layer(Backpressure::new()).service(http);
//! ```
//!
//! A tonic channel's bodies are not `Clone`, so it is told how to make another:
//!
//! ```
//! use loadshed_client::Backpressure;
//! use tonic::transport::Channel;
//! use tonic_health::pb::health_client::HealthClient;
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let channel = Channel::from_static("http://[::1]:50051").connect_lazy();
//! let channel = ServiceBuilder::new()
//!     .layer(Backpressure::new().replay(tonic::body::Body::new))
//!     .service(channel);
//! let health = HealthClient::new(channel);
//! # }
//! ```
//!
//! reqwest's client takes requests of a type of its own: `.replay(reqwest::Body::wrap)`, and between the layer and the
//! client `.map_request(…)` with `reqwest::Request::try_from` and `.map_response(http::Response::<reqwest::Body>::from)`.
//!
//! # What it does
//!
//! - **Waits as told, and tries again.** `Retry-After` (seconds or a date), `retry-after-ms`, and gRPC's
//!   `grpc-retry-pushback-ms`. Not longer than the caller's [patience](Backpressure::patience) and deadline: then the
//!   refusal is returned at once.
//! - **Retries only what a server says it has refused.** (A gateway may say 503 of a call that its back end has begun: retry
//!   non-idempotent ones only where nothing but a budget gives that answer.)
//!
//!   | answer | with a hint | without |
//!   |---|---|---|
//!   | 429 | retried | retried, after a [back-off](Backpressure::backoff) |
//!   | 503 | retried | retried after a back-off if the method is idempotent (RFC 9110, 9.2.2) |
//!   | RESOURCE_EXHAUSTED or UNAVAILABLE, before the first message | retried; not if it is negative or no number (gRFC A6) | not |
//!   | all others, and errors of the connection | not | not |
//!
//!   A date counts from the answer's own `Date`, and is no hint without one; a hint of 0 is a back-off.
//! - **Keeps a budget of retries**: [a tenth](Backpressure::retry_budget) of the calls; the first ten are lent.
//! - **Refuses by itself** what the server would most likely refuse: once it accepts less than
//!   [one in two](Backpressure::throttle), over two minutes. Such a call gets an answer in the server's stead, 429 or
//!   RESOURCE_EXHAUSTED, with [`NotSent`] in the extensions. So the caller deals with a refusal in one place, whoever
//!   refuses, and the error type stays the inner service's own. Retries are not throttled.
//! - **Passes on** the [`Deadline`] and the [`Criticality`] in a request's extensions. Each try says
//!   what is left of the deadline then, and none is sent once it has passed. A `grpc-timeout` that is there already is
//!   a deadline for all tries together.
//!
//! Each part can be switched off: `.retries(0)` or [`once`](Backpressure::once), `.retry_budget(1.0)`,
//! [`without_throttle`](Backpressure::without_throttle); and what is not in the extensions is not passed on.
//!
//! # Where in the stack
//!
//! Outside of connection pools and load balancers, so that a retry may go to another server; inside of a timeout for the
//! call as a whole, outside of one for each try. The response of a refused try is dropped unread. A call costs a clone of
//! its head and of its body, and no lock is shared by calls.
//!
//! Time is tokio's, so tests may pause it. Waiting needs the runtime's timer (`Builder::enable_time`); without it a call that is to
//! wait panics.
//!
//! # Minimum supported Rust version
//!
//! 1.85, as for `loadshed`.

mod attempt;
mod backoff;
mod body;
mod call;
mod deadline;
mod grpc;
mod layer;
mod not_sent;
mod policy;
mod random;
mod refusal;
mod repeat;
mod replay;
mod retry_budget;
mod service;
mod settings;
mod throttle;
mod window;

pub use self::{
    body::ResponseBody,
    deadline::Deadline,
    layer::Backpressure,
    not_sent::NotSent,
    repeat::{Cloned, Once, Repeat, Replayed},
    replay::Replay,
    service::BackpressureService,
};
pub use loadshed::{Criticality, InvalidSetting};

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
