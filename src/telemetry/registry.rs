//! The living budgets of the process, so that one call publishes all of them.
//!
//! No budget that is made or dropped waits for a publication. A publication holds each lock that a budget takes for some
//! microseconds at a time: it takes the living budgets in batches, and reads them without a lock. Requests take none of the locks.
//!
//! A budget is published as living or as dropped, never as both: a publication keeps its living budgets alive until it has added
//! the counts of those that were dropped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(feature = "metrics")]
use super::{
    budget_metrics::BudgetMetrics,
    series::{BudgetSeries, Labels, Series, Totals, rows},
};

use super::observable::Observable;
use crate::report::Snapshot;

static LIVE: Mutex<BTreeMap<Id, Weak<dyn Observable>>> = Mutex::new(BTreeMap::new());
#[cfg(feature = "metrics")]
static LABELS: Mutex<Labels> = Mutex::new(Labels::new());
/// Locked by publications alone.
#[cfg(feature = "metrics")]
static SERIES: Mutex<Series> = Mutex::new(Series::new());

/// The living budgets that a publication takes under one lock: some microseconds.
const BATCH: usize = 64;

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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete in one step, so a poisoned lock does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn add(id: Id, budget: Weak<dyn Observable>) {
    locked(&LIVE).insert(id, budget);
}

#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
pub(crate) fn retire(
    id: Id,
    #[cfg(feature = "metrics")] metrics: &BudgetMetrics,
    name: Option<&str>,
    last: &Snapshot,
) {
    #[cfg(feature = "metrics")]
    {
        let totals = Totals::of(metrics, last);
        locked(&LABELS).retire(metrics.label.get(), name, &totals);
    }
    let weak = locked(&LIVE).remove(&id);
    // Without the lock: it may free the budget's memory.
    drop(weak);
}

/// Returns the living budgets, without those that are made meanwhile. Drop them without a lock: the drop of the last handle of a
/// budget takes locks.
pub(crate) fn live() -> Vec<Arc<dyn Observable>> {
    let (mut next, end) = (Id(0), Id::default());
    let mut live = Vec::new();
    while next < end {
        let batch: Vec<_> = locked(&LIVE)
            .range(next..end)
            .take(BATCH)
            .map(|(id, budget)| (*id, budget.upgrade()))
            .collect();
        next = batch.last().map_or(end, |(last, _)| Id(last.0 + 1));
        live.extend(batch.into_iter().filter_map(|(_, budget)| budget));
    }
    live
}

/// Returns the series of the `live` budgets, and of labels whose budgets were dropped.
#[cfg(feature = "metrics")]
pub(crate) fn series(live: &[Arc<dyn Observable>]) -> Vec<BudgetSeries> {
    let rows = rows(live, |name| locked(&LABELS).next(name));
    let mut series = locked(&SERIES);
    let dropped = locked(&LABELS).take_dropped();
    series.publish(rows, dropped)
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::{budget::budget::Budget, report::LimitChange, threshold::threshold::Threshold};

    /// A budget that makes and drops another on another thread, whenever a publication reads it.
    #[derive(Default)]
    struct Slow {
        metrics: BudgetMetrics,
    }

    impl Observable for Slow {
        fn name(&self) -> Option<&str> {
            Some("slow")
        }

        fn snapshot(&self) -> Snapshot {
            let (done, is_done) = mpsc::channel();
            thread::spawn(move || {
                let budget = Budget::fixed(1).named("made while a publication reads");
                drop(budget.try_acquire(Threshold::NEVER_SHED));
                drop(budget);
                done.send(())
            });
            let done = is_done.recv_timeout(Duration::from_secs(10));
            done.expect("no budget waits for the publication");
            Budget::fixed(1).snapshot()
        }

        fn last_change(&self) -> Option<LimitChange> {
            None
        }

        fn learns(&self) -> bool {
            false
        }

        fn metrics(&self) -> &BudgetMetrics {
            &self.metrics
        }

        fn check_shedding(&self) {}
    }

    #[test]
    fn p17_a_budget_is_made_and_dropped_while_a_publication_reads_another() {
        let slow: Arc<dyn Observable> = Arc::new(Slow::default());
        let id = Id::default();
        add(id, Arc::downgrade(&slow));
        let live = live();
        assert!(live.iter().any(|budget| Arc::ptr_eq(budget, &slow)));
        let rows = series(&[slow]);
        let of = |label: &str| rows.iter().find(|row| *row.budget == *label);
        assert!(of("slow").is_some());
        let dropped = of("made while a publication reads").expect("it was dropped before the end");
        assert_eq!(dropped.totals.admitted, 1);
        locked(&LIVE).remove(&id);
    }

    #[test]
    fn living_budgets_are_found_across_batches() {
        let budgets: Vec<_> = (0..3 * BATCH).map(|_| Budget::fixed(1)).collect();
        let live = live();
        for budget in &budgets {
            let observable = budget.observable();
            let found = live.iter().filter(|it| Arc::ptr_eq(it, &observable));
            assert_eq!(found.count(), 1);
        }
    }
}
