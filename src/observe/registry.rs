//! The budgets that live, so that one call publishes them all.
//!
//! One lock for those that live and for what those have counted that are gone: a budget is always one of both. It is
//! taken when a budget is made, when it is gone, and to publish, never by a request. The recorder is called without it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(feature = "metrics")]
use super::metrics::{self, series::Series};

use super::Observed;
use crate::{
    budget::budget::{Budget, WeakBudget},
    report::Snapshot,
};

static REGISTRY: Mutex<Registry> = Mutex::new(Registry::new());

struct Registry {
    live: BTreeMap<Id, WeakBudget>,
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

pub(crate) fn add(id: Id, budget: WeakBudget) {
    locked(|registry| registry.live.insert(id, budget));
}

#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
pub(crate) fn retire(observed: &Observed, name: Option<&str>, last: &Snapshot) {
    // Its weak handle is dropped without the lock, as is all that is not ours to know.
    let _weak = locked(|registry| {
        #[cfg(feature = "metrics")]
        registry.series.retire(&observed.figures, name, last);
        registry.live.remove(&observed.id)
    });
}

pub(crate) fn publish() {
    // The budgets are dropped without the lock: whoever drops the last handle takes it.
    let live = locked(|registry| {
        let live = registry.live.values();
        live.filter_map(WeakBudget::upgrade)
            .collect::<Vec<Budget>>()
    });
    #[cfg(feature = "metrics")]
    metrics::write(locked(|registry| registry.series.of(&live)), &live);
    #[cfg(feature = "tracing")]
    for budget in &live {
        budget.observed().shedding.passed(budget);
    }
}
