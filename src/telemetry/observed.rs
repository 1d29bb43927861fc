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
use super::routes::Route;

use super::observable::Observable;
use crate::{
    admission::verdict::Verdict,
    control::controller::Sample,
    report::{LimitChange, Snapshot},
    support::clock::Now,
    threshold::criticality::Criticality,
};

/// What a budget keeps to be seen by. Empty without the features.
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
        reason = "each feature sees some"
    )
)]
impl Observed {
    /// From now on `budget` is published, until [`retire`](Self::retire).
    pub(crate) fn begin(&self, budget: Weak<dyn Observable>) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        registry::add(self.id, budget);
    }

    /// The last of the budget's handles is gone.
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

    /// Logs that shedding has stopped, once it has.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pub(crate) fn check_shedding(&self, budget: &dyn Observable) {
        #[cfg(feature = "tracing")]
        self.shedding.passed(budget);
    }

    #[inline]
    pub(crate) fn admitted(&self, budget: &dyn Observable) {
        #[cfg(feature = "tracing")]
        self.shedding.passed(budget);
    }

    /// A request was refused, or would have been in a dry run.
    pub(crate) fn refused(&self, budget: &dyn Observable, verdict: Verdict, now: &Now) {
        #[cfg(feature = "metrics")]
        self.metrics.refused(verdict);
        #[cfg(feature = "tracing")]
        self.shedding.refused(budget, now);
    }

    /// A refused caller is told to wait for `hint`.
    pub(crate) fn hinted(&self, hint: Duration) {
        #[cfg(feature = "metrics")]
        self.metrics.hinted(hint);
    }

    pub(crate) fn changed(&self, budget: &dyn Observable, change: &LimitChange) {
        #[cfg(feature = "metrics")]
        self.metrics.changed(change.reason);
        #[cfg(feature = "tracing")]
        events::changed(budget, change);
    }

    /// A law was shown `samples`.
    pub(crate) fn measured(&self, samples: &[Sample]) {
        #[cfg(feature = "metrics")]
        self.metrics.measured(samples);
    }
}

/// What a layer keeps to be seen by: its routes, in the order of its table. Empty without the feature `metrics`.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    #[cfg(feature = "metrics")]
    routes: OnceLock<Box<[Arc<Route>]>>,
}

#[cfg_attr(
    not(feature = "metrics"),
    allow(unused_variables, clippy::unused_self, reason = "then nobody looks")
)]
impl Decisions {
    /// The layer is about to be used.
    pub(crate) fn begin<'a>(&self, budget: &Observed, labels: impl Iterator<Item = &'a str>) {
        #[cfg(feature = "metrics")]
        self.routes.get_or_init(|| {
            let routes = &budget.metrics.routes;
            labels.map(|label| routes.get(label)).collect()
        });
    }

    /// One request was decided upon. A layer that tells none from another does not count them.
    #[inline]
    pub(crate) fn add(&self, route: Option<u16>, class: Criticality, verdict: Verdict) {
        #[cfg(feature = "metrics")]
        if let Some(nth) = route {
            let route = self
                .routes
                .get()
                .and_then(|routes| routes.get(nth as usize));
            if let Some(route) = route {
                route.add(verdict, class);
            }
        }
    }
}
