#[cfg(feature = "metrics")]
use super::budget_metrics::BudgetMetrics;

use crate::report::{LimitChange, Snapshot};

/// The view of a budget that telemetry has.
///
/// The registry holds weak references to budgets through this trait: telemetry is a layer below the budget and keeps no budget
/// alive.
#[cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(dead_code, reason = "each feature reads a part")
)]
pub(crate) trait Observable: Send + Sync {
    fn name(&self) -> Option<&str>;

    fn snapshot(&self) -> Snapshot;

    fn last_change(&self) -> Option<LimitChange>;

    /// Returns whether a controller moves the limit.
    fn learns(&self) -> bool;

    #[cfg(feature = "metrics")]
    fn metrics(&self) -> &BudgetMetrics;

    /// Logs that shedding has stopped, if it has.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn check_shedding(&self);
}
