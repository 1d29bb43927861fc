#[cfg(feature = "metrics")]
use super::budget_metrics::BudgetMetrics;

use crate::report::{LimitChange, Snapshot};

/// What telemetry reads of a budget.
///
/// The registry holds budgets through this trait, weakly: telemetry stands below the budget and keeps none alive.
#[cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(dead_code, reason = "each feature reads some")
)]
pub(crate) trait Observable: Send + Sync {
    fn name(&self) -> Option<&str>;

    fn snapshot(&self) -> Snapshot;

    fn last_change(&self) -> Option<LimitChange>;

    /// Returns whether a controller moves the limit.
    fn learns(&self) -> bool;

    #[cfg(feature = "metrics")]
    fn metrics(&self) -> &BudgetMetrics;

    /// Logs that shedding has stopped, once it has.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn check_shedding(&self);
}
