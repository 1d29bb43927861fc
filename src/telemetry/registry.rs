//! The budgets that live, so that one call publishes them all.
//!
//! One lock for those that live and for what those have counted that are gone: a budget is always one of both. It is
//! taken when a budget is made, when it is gone, and to publish, never by a request. The recorder is called without it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(feature = "metrics")]
use super::{
    budget_metrics::BudgetMetrics,
    series::{Row, Series},
};

use super::observable::Observable;
use crate::report::Snapshot;

static REGISTRY: Mutex<Registry> = Mutex::new(Registry::new());

struct Registry {
    live: BTreeMap<Id, Weak<dyn Observable>>,
    #[cfg(feature = "metrics")]
    series: Series,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

impl Default for Id {
    /// The next one.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number that orders nothing.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Registry {
    const fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            #[cfg(feature = "metrics")]
            series: Series::new(),
        }
    }
}

fn locked<T>(run: impl FnOnce(&mut Registry) -> T) -> T {
    // Whole at any moment, so a poisoned one is as good.
    run(&mut REGISTRY.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn add(id: Id, budget: Weak<dyn Observable>) {
    locked(|registry| registry.live.insert(id, budget));
}

#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
pub(crate) fn retire(
    id: Id,
    #[cfg(feature = "metrics")] metrics: &BudgetMetrics,
    name: Option<&str>,
    last: &Snapshot,
) {
    // The weak handle is dropped outside the lock.
    let _weak = locked(|registry| {
        #[cfg(feature = "metrics")]
        registry.series.retire(metrics, name, last);
        registry.live.remove(&id)
    });
}

/// Returns the budgets alive. They are to be dropped outside the lock: the drop of a last handle takes it.
pub(crate) fn live() -> Vec<Arc<dyn Observable>> {
    locked(|registry| registry.live.values().filter_map(Weak::upgrade).collect())
}

/// Returns what is to be written for the `live` budgets, and for labels whose budgets are gone.
#[cfg(feature = "metrics")]
pub(crate) fn series(live: &[Arc<dyn Observable>]) -> Vec<Row> {
    locked(|registry| registry.series.of(live))
}
