use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::SharedString;

use super::{
    budget_metrics::{BudgetLabel, BudgetMetrics, ChangeCounts, Refusals, add},
    label::{OTHER, Text},
    observable::Observable,
    routes::{self, RouteCounts},
};
use crate::{report::Snapshot, shed::Reason};

/// The published counts of all labels.
pub(crate) struct Series {
    by_label: BTreeMap<Text, LabelTotals>,
    /// The numbers of living budgets without a name.
    numbers: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct LabelTotals {
    /// The counts of dropped budgets.
    dropped: Totals,
    /// The counts of the last publication, as a counter must not decrease.
    published: Totals,
}

/// The counters of a label.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) admitted: u64,
    pub(crate) refusals: Refusals<u64>,
    pub(crate) exempt: u64,
    pub(crate) waited: u64,
    pub(crate) stalled: u64,
    pub(crate) hints: u64,
    pub(crate) slow_uploads: u64,
    pub(crate) unwatched_uploads: u64,
    pub(crate) changes: ChangeCounts,
    pub(crate) routes: RouteCounts,
}

/// The values of the series of a label.
#[derive(Clone, Debug, Default)]
pub(crate) struct BudgetSeries {
    pub(crate) budget: SharedString,
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) marked: usize,
    pub(crate) peak_in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) stalled_responses: usize,
    pub(crate) totals: Totals,
}

/// The most labels: an application may create a budget for each tenant, and a recorder keeps each series forever.
const MOST_LABELS: usize = 1_000;

impl Totals {
    fn of(metrics: &BudgetMetrics, snapshot: &Snapshot) -> Self {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut refusals = metrics
            .refusals
            .each_ref()
            .map(|it| it.each_ref().map(load));
        for (mode, all) in [snapshot.refused, snapshot.would_refuse]
            .into_iter()
            .enumerate()
        {
            let others: u64 = refusals.iter().map(|it| it[mode]).sum();
            // A refusal counted meanwhile may be in `others` already, and not yet in the snapshot.
            let rest = (all as u64).saturating_sub(others);
            refusals[Reason::Utilization as usize][mode] = rest;
        }
        Self {
            admitted: snapshot.admitted as u64,
            refusals,
            exempt: snapshot.exempt as u64,
            waited: snapshot.waited as u64,
            stalled: snapshot.stalled as u64,
            hints: metrics.hints.0.load(Ordering::Relaxed),
            slow_uploads: metrics.slow_uploads.load(Ordering::Relaxed),
            unwatched_uploads: metrics.unwatched_uploads.load(Ordering::Relaxed),
            changes: metrics.changes().clone(),
            routes: metrics.routes.counts(),
        }
    }

    fn add(&mut self, more: &Self) {
        self.admitted += more.admitted;
        let refusals = self.refusals.as_flattened_mut().iter_mut();
        for (all, more) in refusals.zip(more.refusals.as_flattened()) {
            *all += more;
        }
        self.exempt += more.exempt;
        self.waited += more.waited;
        self.stalled += more.stalled;
        self.hints += more.hints;
        self.slow_uploads += more.slow_uploads;
        self.unwatched_uploads += more.unwatched_uploads;
        for (reason, count) in &more.changes {
            add(&mut self.changes, reason, *count);
        }
        routes::add(&mut self.routes, &more.routes);
    }

    /// Raises each counter to `now`, and lowers none. A count may decrease: an inner layer that refuses takes back the count of an
    /// outer layer, and a budget that is being dropped is neither alive nor retired for a moment.
    fn rise_to(&mut self, now: Self) {
        self.admitted = self.admitted.max(now.admitted);
        let refusals = self.refusals.as_flattened_mut().iter_mut();
        for (published, now) in refusals.zip(now.refusals.as_flattened()) {
            *published = (*now).max(*published);
        }
        self.exempt = self.exempt.max(now.exempt);
        self.waited = self.waited.max(now.waited);
        self.stalled = self.stalled.max(now.stalled);
        self.hints = self.hints.max(now.hints);
        self.slow_uploads = self.slow_uploads.max(now.slow_uploads);
        self.unwatched_uploads = self.unwatched_uploads.max(now.unwatched_uploads);
        for (reason, count) in now.changes {
            let published = self.changes.entry(reason).or_default();
            *published = count.max(*published);
        }
        routes::rise_to(&mut self.routes, now.routes);
    }
}

impl Series {
    pub(crate) const fn new() -> Self {
        Self {
            by_label: BTreeMap::new(),
            numbers: BTreeSet::new(),
        }
    }

    /// Returns the series of all labels, also of labels without a living budget.
    pub(crate) fn of(&mut self, live: &[Arc<dyn Observable>]) -> Vec<BudgetSeries> {
        let mut rows: BTreeMap<Text, BudgetSeries> = BTreeMap::new();
        for budget in live {
            let metrics = budget.metrics();
            let snapshot = budget.snapshot();
            // A budget without requests may still get a name, or be replaced: a layer creates a budget before it is given one.
            let is_new = budget.name().is_none() && is_unused(&snapshot);
            if is_new && metrics.label.get().is_none() {
                continue;
            }
            let label = metrics.label.get_or_init(|| self.label(budget.name()));
            let label = &label.text;
            let row = rows.entry(Arc::clone(label)).or_default();
            row.limit += snapshot.limit;
            row.in_flight += snapshot.in_flight;
            row.marked += snapshot.marked;
            row.peak_in_flight += snapshot.peak_in_flight;
            row.waiting += snapshot.waiting;
            row.stalled_responses += snapshot.stalled_responses;
            row.totals.add(&Totals::of(metrics, &snapshot));
            self.by_label.entry(Arc::clone(label)).or_default();
        }
        let rows = self.by_label.iter_mut().map(|(label, totals)| {
            let mut row = rows.remove(label).unwrap_or_default();
            row.budget = Arc::clone(label).into();
            row.totals.add(&totals.dropped);
            totals.published.rise_to(row.totals);
            row.totals = totals.published.clone();
            row
        });
        rows.collect()
    }

    pub(crate) fn retire(&mut self, metrics: &BudgetMetrics, name: Option<&str>, last: &Snapshot) {
        let totals = Totals::of(metrics, last);
        let label = match (metrics.label.get(), name) {
            (Some(label), _) => {
                label.number.map(|number| self.numbers.remove(&number));
                Arc::clone(&label.text)
            }
            // Its counts matter also if the budget was never published.
            (None, Some(name)) => self.bounded(name),
            (None, None) => return,
        };
        self.by_label.entry(label).or_default().dropped.add(&totals);
    }

    fn label(&mut self, name: Option<&str>) -> BudgetLabel {
        let number = match name {
            Some(_) => None,
            None => (1..).find(|&number| self.numbers.insert(number)),
        };
        let text = match (name, number) {
            (Some(name), _) => self.bounded(name),
            (None, number) => self.bounded(&format!("budget-{}", number.unwrap_or_default())),
        };
        BudgetLabel { text, number }
    }

    fn bounded(&self, name: &str) -> Text {
        let is_past_bound = self.by_label.len() >= MOST_LABELS && !self.by_label.contains_key(name);
        if is_past_bound { OTHER } else { name }.into()
    }
}

fn is_unused(snapshot: &Snapshot) -> bool {
    let Snapshot {
        admitted,
        refused,
        would_refuse,
        exempt,
        ..
    } = *snapshot;
    [admitted, refused, would_refuse, exempt] == [0; 4]
}

#[cfg(test)]
mod tests {
    use crate::budget::budget::Budget;

    use super::*;
    use crate::telemetry::budget_metrics::MOST_REASONS;

    fn labels(rows: &[BudgetSeries]) -> Vec<&str> {
        rows.iter().map(|row| &*row.budget).collect()
    }

    fn observables(budgets: &[Budget]) -> Vec<Arc<dyn Observable>> {
        budgets.iter().map(Budget::observable).collect()
    }

    fn unnamed() -> Budget {
        let budget = Budget::fixed(1);
        drop(budget.try_acquire(crate::Threshold::NEVER_SHED));
        budget
    }

    fn retire(series: &mut Series, budget: &Budget) {
        series.retire(
            budget.observable().metrics(),
            budget.name(),
            &budget.snapshot(),
        );
    }

    #[test]
    fn each_living_budget_without_a_name_has_its_own_number() {
        let mut series = Series::new();
        let mut live = vec![unnamed(), unnamed()];
        assert_eq!(
            labels(&series.of(&observables(&live))),
            ["budget-1", "budget-2"]
        );
        // The name comes after the first publication.
        live[1] = live[1].clone().named("late");
        retire(&mut series, &live.remove(0));
        live.push(unnamed());
        live.push(unnamed());
        let rows = series.of(&observables(&live));
        assert_eq!(labels(&rows), ["budget-1", "budget-2", "budget-3"]);
        let admitted = rows.iter().map(|row| row.totals.admitted);
        assert_eq!(
            Vec::from_iter(admitted),
            [2, 1, 1],
            "the new budget continues the series of the dropped one"
        );
    }

    #[test]
    fn labels_and_reasons_are_bounded_and_no_count_past_the_bound_is_lost() {
        let mut series = Series::new();
        for name in 0..MOST_LABELS + 50 {
            let budget = unnamed().named(format!("tenant {name}"));
            series.of(&[budget.observable()]);
            retire(&mut series, &budget);
        }
        for _ in 0..50 {
            let budget = unnamed();
            series.of(&[budget.observable()]);
            retire(&mut series, &budget);
        }
        let rows = series.of(&[]);
        assert_eq!(rows.len(), MOST_LABELS + 1);
        let other = rows.iter().find(|row| &*row.budget == OTHER).unwrap();
        assert_eq!((other.totals.admitted, other.limit), (100, 0));
        assert!(series.numbers.is_empty());

        let metrics = BudgetMetrics::default();
        for reason in 0..MOST_REASONS + 7 {
            metrics.changed(Box::leak(format!("reason {reason}").into()));
        }
        let changes = metrics.changes();
        assert_eq!((changes.len(), changes[OTHER]), (MOST_REASONS + 1, 7));
    }
}
