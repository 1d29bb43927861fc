//! Metrics through the `metrics` facade (feature `metrics`), and log events through `tracing` (feature `tracing`).
//!
//! # Publishing metrics
//!
//! Requests publish nothing. A budget keeps its counts in any case, and [`publish`] copies them to the recorder. So an admitted
//! request pays nothing for metrics, and the metrics are as recent as the last call. Call [`publish`] where the metrics are read:
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
//! For a recorder that pushes, or an exporter that has its own listener, publish at an interval:
//! `tokio::spawn(publish_every(Duration::from_secs(5)))`. Publishing from the request path would add a clock read to every
//! request, and an idle server would go on showing the metrics of its last request.
//!
//! Each call asks the recorder for its instruments anew. So the recorder may be installed before the budgets are created or
//! after, and may be replaced.
//!
//! # Stable names
//!
//! The names, labels, messages, fields, reasons and states of this section are stable: a change of them is a breaking change of the crate.
//! A test compares this section with the code.
//!
//! ## Metrics
//!
//! `units` are units of [cost](crate::LoadShed::cost): they are requests where each request costs 1.
//!
//! | metric | kind | unit | labels | value |
//! | --- | --- | --- | --- | --- |
//! | `loadshed_limit` | gauge | units | `budget` | limit of the units in flight |
//! | `loadshed_in_flight` | gauge | units | `budget` | units in flight |
//! | `loadshed_marked` | gauge | units | `budget` | units in flight that a dry run would have refused |
//! | `loadshed_peak_in_flight` | gauge | units | `budget` | the most units that ever were in flight at once: exact above half of the highest limit so far, an upper bound below |
//! | `loadshed_utilization_ratio` | gauge | 1 | `budget` | units in flight ÷ limit, without the marked ones |
//! | `loadshed_waiting` | gauge | requests | `budget` | requests that are queued now |
//! | `loadshed_stalled_responses` | gauge | responses | `budget` | responses that are [stalled](crate::LoadShed::stall_timeout) now: not in flight, but in memory |
//! | `loadshed_refused_uploads` | gauge | uploads | | refused uploads that are being read, in the whole process |
//! | `loadshed_admitted_total` | counter | requests | `budget` | requests admitted |
//! | `loadshed_refused_total` | counter | requests | `budget`, `reason` | requests refused |
//! | `loadshed_would_refuse_total` | counter | requests | `budget`, `reason` | requests that a dry run would have refused |
//! | `loadshed_exempt_total` | counter | requests | `budget` | requests neither counted nor shed |
//! | `loadshed_waited_total` | counter | requests | `budget` | requests that were queued |
//! | `loadshed_stalled_total` | counter | responses | `budget` | responses that stalled, and lost their permit |
//! | `loadshed_hint_seconds_total` | counter | seconds | `budget` | sum of the retry hints given to refused callers |
//! | `loadshed_slow_uploads_total` | counter | requests | `budget` | uploads ended because they arrived [too slowly](crate::LoadShed::min_upload_rate) |
//! | `loadshed_unwatched_uploads_total` | counter | requests | `budget` | requests with a body of a type that is not [watched](crate::LoadShed::watch_uploads) |
//! | `loadshed_limit_changes_total` | counter | changes | `budget`, `reason` | changes of the limit |
//! | `loadshed_latency_seconds` | histogram | seconds | `budget`, `outcome` | latency of measured requests of a learned budget |
//! | `loadshed_route_admitted_total` | counter | requests | `budget`, `route`, `class` | requests that a layer admitted |
//! | `loadshed_route_refused_total` | counter | requests | `budget`, `route`, `class`, `reason` | requests that a layer refused |
//! | `loadshed_route_would_refuse_total` | counter | requests | `budget`, `route`, `class`, `reason` | requests that a dry run would have refused |
//! | `loadshed_route_exempt_total` | counter | requests | `budget`, `route` | requests neither counted nor shed |
//!
//! ## Label values
//!
//! `budget` and `route` have the names that the application gives; the other labels have these values. The values of `reason`
//! are below.
//!
//! | label | values |
//! | --- | --- |
//! | `class` | `SHEDDABLE`, `SHEDDABLE_PLUS`, `CRITICAL`, `CRITICAL_PLUS` |
//! | `outcome` | `success`, `overload`, `cancelled`, `ignored` |
//!
//! ## Reasons of refusals
//!
//! The label `reason` of the counters of refusals:
//!
//! | reason | meaning |
//! | --- | --- |
//! | `utilization` | the request would have exceeded its ratio of the limit |
//! | `share` | there was free capacity, but the tenant has exceeded its [fair share](crate::LoadShed::fair_by) |
//! | `draining` | the budget [drains](crate::Budget::begin_drain), and its grace has passed |
//!
//! ## Reasons of limit changes
//!
//! The label `reason` of `loadshed_limit_changes_total`, the field `reason` of a [`LimitChange`](crate::LimitChange), and the
//! log fields `reason` and `limit_change`. Another [`Controller`](crate::control::Controller) has its own reasons.
//!
//! | reason | controller | meaning |
//! | --- | --- | --- |
//! | `set` | any | set by [`Budget::set_limit`](crate::Budget::set_limit) |
//! | `unlimited` | `Adaptive` | nothing reports an overload |
//! | `no responses` | `Adaptive` | callers cancel, and hardly any request succeeded since the start: a few requests are admitted |
//! | `burst guard` | `Adaptive` | the queue is as long as callers tolerate: a burst, or the begin of an overload |
//! | `probing` | `Adaptive` | the limit is lowered to measure the service time without a queue |
//! | `probing from below` | `Adaptive` | the limit is full of requests that do not end: one more is admitted, to see whether it passes them |
//! | `probe complete` | `Adaptive` | the probe has found the service time: the limit is the knee and its margin |
//! | `tracking` | `Adaptive` | the queue is longer or shorter than the margin |
//! | `recovering` | `Adaptive` | far below the best throughput, at low latency: the limit rises by a quarter |
//! | `recovered` | `Adaptive` | no refusal for some seconds: unlimited again |
//! | `latency above target` | `LatencyTarget` | the percentile is above the target |
//! | `latency about to exceed target` | `LatencyTarget` | the percentile will exceed 2.5 × the target |
//! | `headroom` | `LatencyTarget` | the percentile is well below the target, and requests are refused |
//! | `no responses` | `LatencyTarget` | more requests are cancelled after the target than succeed |
//! | `requests older than target` | `LatencyTarget` | too many of the requests in flight are older than the target |
//!
//! ## States
//!
//! The field `state` of [`Learned`](crate::control::Learned), which has their meanings, and the log field `state`. Another
//! [`Controller`](crate::control::Controller) has its own states.
//!
//! | state | controller |
//! | --- | --- |
//! | `set` | any |
//! | `learning` | `Adaptive` |
//! | `no responses` | `Adaptive` |
//! | `unlimited` | `Adaptive` |
//! | `burst guard` | `Adaptive` |
//! | `probing` | `Adaptive` |
//! | `tracking` | `Adaptive` |
//!
//! ## Log events
//!
//! The target is `loadshed`. Fields without a value are left out.
//!
//! | message | level | fields |
//! | --- | --- | --- |
//! | `shedding has started` | WARN | `budget`, `limit`, `in_flight`, `refused`, `would_refuse`, `limit_change`, `limit_changed_seconds_ago`, `state`, `service_time_seconds`, `knee`, `held`, `expected_held`, `advice` |
//! | `shedding has stopped` | INFO | `budget`, `seconds`, `refused`, `would_refuse`, `limit`, `in_flight`, `limit_change`, `limit_changed_seconds_ago`, `state`, `service_time_seconds`, `knee`, `held`, `expected_held` |
//! | `draining has begun` | INFO | `budget`, `grace_seconds`, `in_flight`, `waiting` |
//! | `draining has ended` | INFO | `budget`, `in_flight` |
//! | `the limit has changed` | DEBUG | `budget`, `from`, `to`, `reason`, `elapsed_seconds`, `in_flight`, `responded`, `completed`, `refused`, `successes`, `latency_seconds`, `state`, `service_time_seconds`, `knee`, `held`, `expected_held` |
//!
//! `refused` and `would_refuse` count since the last event of the same budget that shedding has stopped. `limit_change` is the
//! reason of the latest change of a learned limit, or `no change`. The texts of `advice` may change.
//! The fields from `state` to `expected_held` are those of [`Learned`](crate::control::Learned): of the latest window, or of the
//! window of the change. They are absent for a fixed budget, for a controller that shows nothing, and for a change by hand.
//!
//! ## Serialised fields
//!
//! With the feature `serde`:
//!
//! | type | fields |
//! | --- | --- |
//! | `Snapshot` | `limit`, `in_flight`, `marked`, `peak_in_flight`, `admitted`, `refused`, `would_refuse`, `exempt`, `waiting`, `waited`, `stalled`, `stalled_responses`, `is_set_by_hand`, `learned` |
//! | `LimitChange` | `seconds_ago`, `from`, `to`, `reason`, `elapsed_seconds`, `in_flight`, `responded`, `completed`, `refused`, `successes`, `latency_seconds`, `learned` |
//! | `Learned` | `state`, `service_time_seconds`, `knee`, `held`, `expected_held` |
//!
//! The fields of the settings that can be deserialised are stable, too. They are on the pages of
//! [`RetryAfter`](crate::RetryAfter), [`RefusedUpload`](crate::RefusedUpload), [`Adaptive`](crate::Adaptive) and
//! [`LatencyTarget`](crate::LatencyTarget). So are the forms of [`Threshold`](crate::Threshold) and
//! [`Criticality`](crate::Criticality), on their pages.
//!
//! # Details of the metrics
//!
//! - **Budgets.** The label `budget` is the name of the budget. Budgets of the same name are summed. A budget without a name is
//!   `budget-1`, or the next number that no other living budget has, from its first publication after its first request on.
//!   When a budget is dropped, its counts stay in the series. Past 1,000 names, further budgets are summed as `other`. Past 32
//!   reasons of limit changes, further reasons are counted as `other`.
//! - **Routes.** The label `route` is a pattern of the layer's own table as it is written there (`POST /mail/receive`,
//!   `/export/{*path}`), never the path of a request. A request that matches no pattern has the [name](crate::LoadShed::named)
//!   of the layer, or `other`. Past 200 routes of a budget, further routes are summed as `other`.
//! - **Layers without routes.** A layer that has no name and decides alike for all requests has no `route` metrics, and costs
//!   nothing for them. Each other layer pays 1 to 2 ns a request (`cargo bench --bench admit`). The route of axum
//!   (`MatchedPath`) is no label by itself: give the layer at a route the name of the route, or use the table of a layer around
//!   all routes, or, with the feature `axum`, of a layer in a nested router.
//! - **Several layers.** The `route` metrics count the decisions of each layer. A request that passes two layers with routes or
//!   names is in the metrics of both. A request that the inner layer refuses was admitted by the outer layer. The metrics of
//!   the budget count it once.
//! - **Counters never decrease.** [`Snapshot::admitted`](crate::Snapshot::admitted) decreases by 1 where an inner layer refuses a
//!   request that an outer layer has counted. The counter stays, until the next admission.
//! - **Retry hints** are a sum, so that the mean over any time can be computed:
//!   `sum by (budget) (rate(loadshed_hint_seconds_total[1m])) / sum by (budget) (rate(loadshed_refused_total[1m]))`. One sample
//!   per refusal would fill the recorder's memory in a flood. A dry run gives no hints.
//! - **Latencies** are the samples of a learned budget: all requests at low load, a part of them at high load. So their number is
//!   not the number of requests. A fixed budget reads no clock and has no latencies. They are kept in buckets, exact to 3 %,
//!   from 1 µs to 18 minutes. `cancelled` latencies are the time until the cancellation. Each latency is handed over once: if no
//!   recorder is installed at that time, it is lost. Configure buckets in the exporter, as many exporters make summaries without.
//! - **A dry run** writes the same metrics, with `would_refuse` in place of `refused`.
//!
//! # Details of the log events
//!
//! - Shedding starts with the first refusal, and has stopped 10 s after the last refusal. There is no timer: the next request or
//!   the next [`publish`] finds that it has stopped. So a flood of refusals, in any pattern, writes at most two lines in 10 s
//!   and budget.
//! - Refusals of a [drain](crate::Budget::begin_drain) are no shedding. Draining has begun with each call of `begin_drain`, and has
//!   ended with `end_drain`: a server that stops does not log the end.
//! - A limit changes at most once a window of the controller, 10 ms for `Adaptive`.
//! - The field `budget` is the name of the budget, its number if it was published without a name, or `unnamed`.
//! - An admitted request pays for the read of one flag. While shedding lasts, each request reads the clock, about 80 ns.

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
#[cfg(all(test, feature = "metrics", feature = "serde", feature = "tracing"))]
mod tests;
#[cfg(feature = "metrics")]
pub(crate) mod write;

#[cfg(any(feature = "metrics", feature = "tracing"))]
pub use self::publication::{publish, publish_every};
