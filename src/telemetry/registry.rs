//! The living budgets of the process, so that one call publishes all of them.
//!
//! One lock guards the living budgets and the counts of dropped budgets, so that each budget is in exactly one of the two. The
//! lock is taken when a budget is created or dropped, and to publish, but never by a request. It is not held while the recorder is
//! called.

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
    series::{BudgetSeries, Series},
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
    /// Returns the next number.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: the number orders no other memory access.
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
    // Every change of the registry is complete in one step, so a poisoned lock does no harm.
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

/// Returns the living budgets. Drop them outside of the lock: the drop of the last handle of a budget takes it.
pub(crate) fn live() -> Vec<Arc<dyn Observable>> {
    locked(|registry| registry.live.values().filter_map(Weak::upgrade).collect())
}

/// Returns the series of the `live` budgets, and of labels whose budgets were dropped.
#[cfg(feature = "metrics")]
pub(crate) fn series(live: &[Arc<dyn Observable>]) -> Vec<BudgetSeries> {
    locked(|registry| registry.series.of(live))
}
