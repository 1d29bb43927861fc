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
//!     loadshed::observe::publish();
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
//! | `loadshed_drains` | gauge | | refused uploads that are being read, in the whole process |
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

#[cfg(feature = "tracing")]
pub(crate) mod events;
#[cfg(feature = "metrics")]
pub(crate) mod histogram;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) mod registry;
#[cfg(feature = "metrics")]
pub(crate) mod routes;

#[cfg(feature = "metrics")]
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::{
    budget::budget::{Budget, WeakBudget},
    control::controller::Sample,
    protocol::classification::decide::Decided,
    report::{LimitChange, Snapshot},
    shed::Reason,
    support::clock::Now,
};

/// A label's text.
#[cfg(feature = "metrics")]
type Text = Arc<str>;

/// The label of what there are too many labels for.
#[cfg(feature = "metrics")]
const OTHER: &str = "other";

/// Hands the figures of all budgets over to the recorder of the `metrics` facade, and notes where shedding has stopped.
///
/// It costs some microseconds a budget, and no request waits for it. Calls at one time are as good as one.
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub fn publish() {
    registry::publish();
}

/// [`publish`] now and every `period`, for ever: a task for recorders that nobody asks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// tokio::spawn(loadshed::observe::publish_every(Duration::from_secs(5)));
/// # }
/// ```
///
/// # Panics
///
/// If `period` is zero, or where the runtime has no timer.
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub async fn publish_every(period: Duration) {
    let mut beat = tokio::time::interval(period);
    loop {
        beat.tick().await;
        publish();
    }
}

/// What a budget keeps to be seen by. Empty without the features.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    id: registry::Id,
    #[cfg(feature = "metrics")]
    figures: metrics::Figures,
    #[cfg(feature = "tracing")]
    shedding: events::Shedding,
}

#[cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(
        unused_variables,
        clippy::unused_self,
        reason = "each feature sees some"
    )
)]
impl Observed {
    /// From now on `budget` is published, until [`retire`](Self::retire).
    pub(crate) fn begin(&self, budget: WeakBudget) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        registry::add(self.id, budget);
    }

    /// The last of the budget's handles is gone.
    pub(crate) fn retire(&self, name: Option<&str>, last: &Snapshot) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        registry::retire(self, name, last);
    }

    /// Under which the budget has been published.
    #[cfg(feature = "tracing")]
    fn label(&self) -> Option<&str> {
        #[cfg(feature = "metrics")]
        return self.figures.label();
        #[cfg(not(feature = "metrics"))]
        None
    }

    #[inline]
    pub(crate) fn admitted(&self, budget: &Budget) {
        #[cfg(feature = "tracing")]
        self.shedding.passed(budget);
    }

    /// A request was refused, or would have been in a dry run.
    pub(crate) fn refused(&self, budget: &Budget, decision: Decision, now: &Now) {
        #[cfg(feature = "metrics")]
        self.figures.refused(decision);
        #[cfg(feature = "tracing")]
        self.shedding.refused(budget, now);
    }

    /// A refused caller is told to wait for `hint`.
    pub(crate) fn hinted(&self, hint: Duration) {
        #[cfg(feature = "metrics")]
        self.figures.hinted(hint);
    }

    pub(crate) fn changed(&self, budget: &Budget, change: &LimitChange) {
        #[cfg(feature = "metrics")]
        self.figures.changed(change.reason);
        #[cfg(feature = "tracing")]
        events::changed(budget, change);
    }

    /// A law was shown `samples`.
    pub(crate) fn measured(&self, samples: &[Sample]) {
        #[cfg(feature = "metrics")]
        self.figures.measured(samples);
    }
}

/// What a layer decides upon a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Admitted,
    Exempt,
    Refused(Reason),
    WouldRefuse(Reason),
}

#[cfg(feature = "metrics")]
impl Decision {
    /// How many there are.
    const COUNT: usize = 2 + 2 * Reason::ALL.len();

    #[inline]
    fn index(self) -> usize {
        match self {
            Self::Admitted => 0,
            Self::Exempt => 1,
            Self::Refused(reason) => 2 + reason as usize,
            Self::WouldRefuse(reason) => 2 + Reason::ALL.len() + reason as usize,
        }
    }
}

/// What a layer keeps to be seen by: its routes, in the order of its table. Empty without the feature `metrics`.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    #[cfg(feature = "metrics")]
    routes: OnceLock<Box<[Arc<routes::Route>]>>,
}

#[cfg_attr(
    not(feature = "metrics"),
    allow(unused_variables, clippy::unused_self, reason = "then nobody looks")
)]
impl Decisions {
    /// The layer is about to be used.
    pub(crate) fn begin<'a>(&self, budget: &Budget, labels: impl Iterator<Item = &'a str>) {
        #[cfg(feature = "metrics")]
        self.routes.get_or_init(|| {
            let routes = &budget.observed().figures.routes;
            labels.map(|label| routes.get(label)).collect()
        });
    }

    /// One request was decided upon. A layer that tells none from another does not count them.
    #[inline]
    pub(crate) fn add(&self, decided: &Decided, decision: Decision) {
        #[cfg(feature = "metrics")]
        if let Some(nth) = decided.route {
            let route = self
                .routes
                .get()
                .and_then(|routes| routes.get(nth as usize));
            if let Some(route) = route {
                route.add(decision, decided.class);
            }
        }
    }
}
