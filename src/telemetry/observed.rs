use std::sync::Weak;
#[cfg(feature = "metrics")]
use std::sync::{Arc, OnceLock};
use std::time::Duration;

#[cfg(feature = "metrics")]
use super::budget_metrics::BudgetMetrics;
#[cfg(feature = "tracing")]
use super::events;
#[cfg(any(feature = "metrics", feature = "tracing"))]
use super::registry;
#[cfg(feature = "metrics")]
use super::routes::RouteCounter;

use super::observable::Observable;
#[cfg(feature = "tracing")]
use crate::shed::Reason;
use crate::{
    admission::verdict::Verdict,
    control::controller::Sample,
    report::{LimitChange, Snapshot},
    support::clock::Now,
    threshold::criticality::Criticality,
};

/// The telemetry of a budget. It is empty without the features.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    id: registry::Id,
    #[cfg(feature = "metrics")]
    metrics: BudgetMetrics,
    #[cfg(feature = "tracing")]
    shedding: events::Shedding,
}

#[cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(
        unused_variables,
        clippy::unused_self,
        reason = "each feature reads a part"
    )
)]
impl Observed {
    /// Registers `budget` for publication, until [`retire`](Self::retire).
    pub(crate) fn begin(&self, budget: Weak<dyn Observable>) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        registry::add(self.id, budget);
    }

    /// Ends the publication of a budget whose last handle was dropped. Its counts stay.
    pub(crate) fn retire(&self, name: Option<&str>, last: &Snapshot) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        registry::retire(
            self.id,
            #[cfg(feature = "metrics")]
            &self.metrics,
            name,
            last,
        );
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn metrics(&self) -> &BudgetMetrics {
        &self.metrics
    }

    /// Logs that shedding has stopped, if it has.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pub(crate) fn check_shedding(&self, budget: &dyn Observable) {
        #[cfg(feature = "tracing")]
        self.shedding.passed(budget);
    }

    /// Notes an admission.
    #[inline]
    pub(crate) fn admitted(&self, budget: &dyn Observable) {
        #[cfg(feature = "tracing")]
        self.shedding.passed(budget);
    }

    /// Notes a refusal, or a refusal of a dry run.
    pub(crate) fn refused(&self, budget: &dyn Observable, verdict: Verdict, now: &Now) {
        #[cfg(feature = "metrics")]
        self.metrics.refused(verdict);
        // A drain has its own events. Its refusals are no overload.
        #[cfg(feature = "tracing")]
        if verdict != Verdict::Refused(Reason::Draining) {
            self.shedding.refused(budget, now);
        }
    }

    /// Notes that the budget begins to drain, or gets another grace.
    pub(crate) fn drain_begun(&self, budget: &dyn Observable, grace: Duration) {
        #[cfg(feature = "tracing")]
        events::drain_begun(budget, grace);
    }

    /// Notes that the budget drains no longer.
    pub(crate) fn drain_ended(&self, budget: &dyn Observable) {
        #[cfg(feature = "tracing")]
        events::drain_ended(budget);
    }

    /// Notes the retry hint of a refusal.
    pub(crate) fn hinted(&self, hint: Duration) {
        #[cfg(feature = "metrics")]
        self.metrics.hinted(hint);
    }

    /// Notes a change of the limit.
    pub(crate) fn changed(&self, budget: &dyn Observable, change: &LimitChange) {
        #[cfg(feature = "metrics")]
        self.metrics.changed(change.reason);
        #[cfg(feature = "tracing")]
        events::changed(budget, change);
    }

    /// Notes uploads that were ended because they arrived too slowly.
    pub(crate) fn slow_uploads(&self, count: usize) {
        #[cfg(feature = "metrics")]
        self.metrics.slow_uploads(count);
    }

    /// Notes an upload that its layer cannot watch.
    pub(crate) fn unwatched_upload(&self) {
        #[cfg(feature = "metrics")]
        self.metrics.unwatched_upload();
    }

    /// Notes the samples of a window.
    pub(crate) fn measured(&self, samples: &[Sample]) {
        #[cfg(feature = "metrics")]
        self.metrics.measured(samples);
    }
}

/// The telemetry of a layer: a counter for each of its routes that was used. It is empty without the feature `metrics`.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    #[cfg(feature = "metrics")]
    routes: OnceLock<Box<[OnceLock<Arc<RouteCounter>>]>>,
}

#[cfg_attr(
    not(feature = "metrics"),
    allow(
        unused_variables,
        clippy::unused_self,
        reason = "there is nothing to count"
    )
)]
impl Decisions {
    /// Begins a layer of so many routes, before its first request.
    pub(crate) fn begin(&self, routes: usize) {
        #[cfg(feature = "metrics")]
        self.routes
            .get_or_init(|| (0..routes).map(|_| OnceLock::new()).collect());
    }

    /// Returns whether decisions are counted.
    pub(crate) fn are_counted(&self) -> bool {
        #[cfg(feature = "metrics")]
        return self.routes.get().is_some();
        #[cfg(not(feature = "metrics"))]
        false
    }

    /// Counts a decision about a request of the route with this number. `find` returns the route's budget and label.
    #[inline]
    pub(crate) fn add<'a>(
        &self,
        nth: u16,
        class: Criticality,
        verdict: Verdict,
        find: impl FnOnce() -> (&'a Observed, &'a str),
    ) {
        #[cfg(feature = "metrics")]
        if let Some(route) = self.routes.get().and_then(|it| it.get(usize::from(nth))) {
            let counter = route.get_or_init(|| {
                let (budget, label) = find();
                budget.metrics.routes.counter(label)
            });
            counter.add(verdict, class);
        }
    }
}
