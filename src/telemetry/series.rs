use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
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
use crate::{report::Snapshot, shed::Reason, support::numbers::Numbers};

/// The labels of budgets.
pub(crate) struct Labels {
    known: BTreeSet<Text>,
    /// Of living budgets without a name. The first is `budget-1`.
    numbers: Numbers,
    /// The counts of budgets that were dropped since the latest publication.
    dropped: DroppedCounts,
}

/// The counts of dropped budgets, by label.
pub(crate) type DroppedCounts = BTreeMap<Text, Totals>;

/// The published counts of all labels.
pub(crate) struct Series {
    by_label: BTreeMap<Text, LabelTotals>,
}

/// What the living budgets of each label have together.
pub(crate) type Rows = BTreeMap<Text, BudgetSeries>;

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
    pub(crate) fn of(metrics: &BudgetMetrics, snapshot: &Snapshot) -> Self {
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

impl Labels {
    pub(crate) const fn new() -> Self {
        Self {
            known: BTreeSet::new(),
            numbers: Numbers::new(),
            dropped: BTreeMap::new(),
        }
    }

    /// Returns the label of a budget that is published for the first time.
    pub(crate) fn next(&mut self, name: Option<&str>) -> BudgetLabel {
        if let Some(name) = name {
            let (text, number) = (self.bounded(name), None);
            return BudgetLabel { text, number };
        }
        let number = self.numbers.claim();
        BudgetLabel {
            text: self.bounded(&format!("budget-{}", number + 1)),
            number: Some(number),
        }
    }

    /// Keeps the counts of a budget that is dropped. `label` is that of its first publication.
    pub(crate) fn retire(
        &mut self,
        label: Option<&BudgetLabel>,
        name: Option<&str>,
        counts: &Totals,
    ) {
        let label = match (label, name) {
            (Some(label), _) => {
                if let Some(number) = label.number {
                    self.numbers.give_back(number);
                }
                Arc::clone(&label.text)
            }
            // Its counts matter also if the budget was never published.
            (None, Some(name)) => self.bounded(name),
            (None, None) => return,
        };
        self.dropped.entry(label).or_default().add(counts);
    }

    pub(crate) fn take_dropped(&mut self) -> DroppedCounts {
        mem::take(&mut self.dropped)
    }

    fn bounded(&mut self, name: &str) -> Text {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let label: Text = match self.known.len() < MOST_LABELS {
            true => name.into(),
            false => OTHER.into(),
        };
        self.known.insert(Arc::clone(&label));
        label
    }
}

/// Returns what the `live` budgets of each label have together. `label` is asked for the label of each budget without one.
pub(crate) fn rows(
    live: &[Arc<dyn Observable>],
    label: impl Fn(Option<&str>) -> BudgetLabel,
) -> Rows {
    let mut rows = Rows::new();
    for budget in live {
        let metrics = budget.metrics();
        let snapshot = budget.snapshot();
        // A budget without requests may still get a name, or be replaced: a layer creates a budget before it is given one.
        let is_new = budget.name().is_none() && is_unused(&snapshot);
        if is_new && metrics.label.get().is_none() {
            continue;
        }
        let label = metrics.label.get_or_init(|| label(budget.name()));
        let row = rows.entry(Arc::clone(&label.text)).or_default();
        row.limit += snapshot.limit;
        row.in_flight += snapshot.in_flight;
        row.marked += snapshot.marked;
        row.peak_in_flight += snapshot.peak_in_flight;
        row.waiting += snapshot.waiting;
        row.stalled_responses += snapshot.stalled_responses;
        row.totals.add(&Totals::of(metrics, &snapshot));
    }
    rows
}

impl Series {
    pub(crate) const fn new() -> Self {
        Self {
            by_label: BTreeMap::new(),
        }
    }

    /// Returns the series of all labels, also of labels without a living budget.
    pub(crate) fn publish(&mut self, mut rows: Rows, dropped: DroppedCounts) -> Vec<BudgetSeries> {
        for label in rows.keys() {
            self.by_label.entry(Arc::clone(label)).or_default();
        }
        for (label, counts) in dropped {
            self.by_label.entry(label).or_default().dropped.add(&counts);
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
    use std::sync::Mutex;

    use super::*;
    use crate::{budget::budget::Budget, telemetry::budget_metrics::MOST_REASONS};

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

    /// The labels and series of a process of its own.
    struct Published(Mutex<Labels>, Series);

    impl Published {
        fn new() -> Self {
            Self(Mutex::new(Labels::new()), Series::new())
        }

        fn of(&mut self, live: &[Arc<dyn Observable>]) -> Vec<BudgetSeries> {
            let rows = rows(live, |name| self.0.lock().unwrap().next(name));
            let dropped = self.0.lock().unwrap().take_dropped();
            self.1.publish(rows, dropped)
        }

        fn retire(&mut self, budget: &Budget) {
            let observable = budget.observable();
            let metrics = observable.metrics();
            let counts = Totals::of(metrics, &budget.snapshot());
            let mut labels = self.0.lock().unwrap();
            labels.retire(metrics.label.get(), budget.name(), &counts);
        }
    }

    #[test]
    fn each_living_budget_without_a_name_has_its_own_number() {
        let mut series = Published::new();
        let mut live = vec![unnamed(), unnamed()];
        assert_eq!(
            labels(&series.of(&observables(&live))),
            ["budget-1", "budget-2"]
        );
        // The name comes after the first publication.
        live[1] = live[1].clone().named("late");
        series.retire(&live.remove(0));
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
        let mut series = Published::new();
        for name in 0..MOST_LABELS + 50 {
            let budget = unnamed().named(format!("tenant {name}"));
            series.of(&[budget.observable()]);
            series.retire(&budget);
        }
        for _ in 0..50 {
            let budget = unnamed();
            series.of(&[budget.observable()]);
            series.retire(&budget);
        }
        let rows = series.of(&[]);
        assert_eq!(rows.len(), MOST_LABELS + 1);
        let other = rows.iter().find(|row| &*row.budget == OTHER).unwrap();
        assert_eq!((other.totals.admitted, other.limit), (100, 0));
        let next = series.0.lock().unwrap().numbers.claim();
        assert_eq!(next, 0, "all numbers are given back");

        let metrics = BudgetMetrics::default();
        for reason in 0..MOST_REASONS + 7 {
            metrics.changed(Box::leak(format!("reason {reason}").into()));
        }
        let changes = metrics.changes();
        assert_eq!((changes.len(), changes[OTHER]), (MOST_REASONS + 1, 7));
    }
}
