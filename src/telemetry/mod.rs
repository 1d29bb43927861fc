//! What whoever is on call sees: figures through the `metrics` facade, and events through `tracing`.
//!
//! # Figures
//!
//! A request does not publish anything: budgets count for themselves, as they do without the feature, and
//! [`publish`] hands those counts over. So an admitted request pays nothing for it, and every figure is as fresh as the
//! last call. Call it where the figures are read:
//!
//! ```
//! # #[cfg(feature = "metrics")] {
//! use metrics_exporter_prometheus::PrometheusHandle;
//!
//! async fn scrape(prometheus: PrometheusHandle) -> String {
//!     loadshed::telemetry::publish();
//!     prometheus.render()
//! }
//! # }
//! ```
//!
//! and where a recorder sends them by itself, or an exporter listens by itself, on a beat: `tokio::spawn(publish_every(…))`.
//! A beat that the requests keep would cost each of them a clock, and an idle server would go on showing the figures of
//! its last request.
//!
//! Nothing is kept of the recorder from one call to the next: it may be installed before the budgets are made or after.
//!
//! | name | kind | labels | what |
//! | --- | --- | --- | --- |
//! | `loadshed_limit` | gauge | `budget` | how many requests it carries at once |
//! | `loadshed_in_flight` | gauge | `budget` | how many are in flight |
//! | `loadshed_peak_in_flight` | gauge | `budget` | the most that ever were |
//! | `loadshed_utilization_ratio` | gauge | `budget` | in flight ÷ limit |
//! | `loadshed_admitted_total` | counter | `budget` | requests admitted |
//! | `loadshed_refused_total` | counter | `budget`, `reason` | requests refused |
//! | `loadshed_would_refuse_total` | counter | `budget`, `reason` | those that a dry run would have refused |
//! | `loadshed_exempt_total` | counter | `budget` | requests neither counted nor shed |
//! | `loadshed_waiting` | gauge | `budget` | how many wait for room |
//! | `loadshed_waited_total` | counter | `budget` | requests that have waited for room |
//! | `loadshed_hint_seconds_total` | counter | `budget` | sum of the hints given |
//! | `loadshed_limit_changes_total` | counter | `budget`, `reason` | changes of the limit |
//! | `loadshed_latency_seconds` | histogram | `budget`, `outcome` | latency of measured requests |
//! | `loadshed_route_admitted_total` | counter | `budget`, `route`, `class` | requests that a layer has admitted |
//! | `loadshed_route_refused_total` | counter | `budget`, `route`, `class`, `reason` | those that it has refused |
//! | `loadshed_route_would_refuse_total` | counter | `budget`, `route`, `class`, `reason` | those that a dry run would have |
//! | `loadshed_route_exempt_total` | counter | `budget`, `route` | those neither counted nor shed |
//! | `loadshed_refused_uploads` | gauge | | refused uploads that are being read, in the whole process |
//!
//! - **Budgets** go by their name; those of one name are summed. One without a name is `budget-1`, or the next
//!   number that no other living budget has, from its first publication after its first request
//!   on. What a budget counted stays in its series
//!   when it is dropped. Past 1,000 names, the others are summed under `other`; past 32 reasons for changes, likewise.
//! - **Routes** are the patterns of a layer's own table, as it has them (`POST /mail/receive`, `/export/{*path}`), and
//!   never a path that somebody has asked for. What none of them fits goes by the [name](crate::LoadShed::named) of the
//!   layer, or as `other`. A layer that has no name and decides the same for all requests tells none from another: it has the
//!   budget's figures alone, and pays nothing for these; the others pay 1 to 2 ns a request (`cargo bench --bench admit`). axum's own route
//!   (`MatchedPath`) is no label by itself: name the layer at a route as the route, or have a table in the one
//!   around all, or, with the feature `axum`, in those of nested routers. Past 200 routes a budget, the others are summed as `other`.
//! - **Each layer for itself**: `route` figures are what a layer has decided. A request that passes two layers with
//!   routes or names is in the figures of both, and one that the inner one refuses was admitted by the outer one. In
//!   the budget's figures it is one request.
//! - **Counters never go down**, while [`Snapshot::admitted`](crate::Snapshot::admitted) does by one where an inner layer
//!   refuses what an outer one has counted: the counter then waits for the next admission.
//! - **The hint** is a sum, so that any two readers may ask for the mean over any time:
//!   `rate(loadshed_hint_seconds_total[1m]) / rate(loadshed_refused_total[1m])` (the latter summed by `budget`). One sample
//!   per refusal would fill a recorder's memory in a flood. A dry run gives no hints, hence no sum.
//! - **Latencies** are those that a learned budget measures anyway: all at low load, one in some at high load, so
//!   their number is not that of the requests. A fixed budget reads no clock, and has none. They are kept in buckets,
//!   exact to 3 %, from 1 µs to 18 minutes. `outcome` is `success`, `overload`, `cancelled` (then it is how long that
//!   took, and the answer would have taken longer) or `ignored`. Each is handed over once: before there is a recorder,
//!   into the void. An exporter needs to be told buckets for them, or it makes summaries.
//! - **A dry run** writes the same figures, with `would_refuse` in the place of `refused`.
//!
//! # Events
//!
//! With the feature `tracing`, target `loadshed`:
//!
//! - WARN when shedding starts, at the first refusal, and INFO when it has stopped, which is so once 10 seconds have
//!   passed without one. There is no timer: the next request or [`publish`] finds out. So a flood of refusals, however
//!   it comes and goes, writes at most two lines in 10 seconds and budget.
//! - DEBUG for each change of a limit, with what the law saw. A law decides at most once a window (10 ms by default).
//!
//! Each tells of its budget by name, or by the number that it is published under.
//!
//! An admitted request pays for reading one flag; while shedding lasts, for a clock, some 80 ns, as each refused one does.

#[cfg(feature = "metrics")]
pub(crate) mod budget_metrics;
#[cfg(feature = "tracing")]
pub(crate) mod events;
#[cfg(feature = "metrics")]
pub(crate) mod histogram;
#[cfg(feature = "metrics")]
pub(crate) mod label;
pub(crate) mod observable;
pub(crate) mod observed;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) mod publication;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) mod registry;
#[cfg(feature = "metrics")]
pub(crate) mod routes;
#[cfg(feature = "metrics")]
pub(crate) mod series;
#[cfg(feature = "metrics")]
pub(crate) mod write;

#[cfg(any(feature = "metrics", feature = "tracing"))]
pub use self::publication::{publish, publish_every};
