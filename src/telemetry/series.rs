use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use metrics::SharedString;

use super::{
    budget_metrics::{BudgetMetrics, Changes, Shown, add},
    label::{OTHER, Text},
    observable::Observable,
    routes::{self, Counts},
};
use crate::report::Snapshot;

/// All that has been published, by label.
pub(crate) struct Series {
    by_label: BTreeMap<Text, Entry>,
    /// Those that living budgets without a name have.
    numbers: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// What budgets have counted that are gone.
    gone: Totals,
    /// What was published last: a counter never goes down.
    shown: Totals,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) admitted: u64,
    pub(crate) by_share: [u64; 2],
    pub(crate) refused: u64,
    pub(crate) would_refuse: u64,
    pub(crate) exempt: u64,
    pub(crate) waited: u64,
    pub(crate) hints: u64,
    pub(crate) changes: Changes,
    pub(crate) routes: Counts,
}

/// What is written of one label.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) budget: SharedString,
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) peak_in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) totals: Totals,
}

/// A budget for each tenant is a series for each tenant; a recorder keeps them all for good.
const MOST_LABELS: usize = 1_000;

impl Totals {
    fn of(metrics: &BudgetMetrics, snapshot: &Snapshot) -> Self {
        let by_share = [0, 1].map(|mode| metrics.by_share[mode].load(Ordering::Relaxed));
        // What is counted meanwhile may be among these already, and not yet among all.
        let others = |all: usize, by_share| (all as u64).saturating_sub(by_share);
        Self {
            admitted: snapshot.admitted as u64,
            by_share,
            refused: others(snapshot.refused, by_share[0]),
            would_refuse: others(snapshot.would_refuse, by_share[1]),
            exempt: snapshot.exempt as u64,
            waited: snapshot.waited as u64,
            hints: metrics.hints.0.load(Ordering::Relaxed),
            changes: metrics.changes().clone(),
            routes: metrics.routes.counts(),
        }
    }

    fn add(&mut self, more: &Self) {
        self.admitted += more.admitted;
        self.refused += more.refused;
        self.would_refuse += more.would_refuse;
        for (all, more) in self.by_share.iter_mut().zip(more.by_share) {
            *all += more;
        }
        self.exempt += more.exempt;
        self.waited += more.waited;
        self.hints += more.hints;
        for (reason, count) in &more.changes {
            add(&mut self.changes, reason, *count);
        }
        routes::add(&mut self.routes, &more.routes);
    }

    /// An inner layer that refuses takes back what an outer one has counted; and a budget that is about to be dropped is
    /// for a moment neither alive nor gone.
    fn rise_to(&mut self, now: Self) {
        self.admitted = self.admitted.max(now.admitted);
        self.refused = self.refused.max(now.refused);
        self.would_refuse = self.would_refuse.max(now.would_refuse);
        for (shown, now) in self.by_share.iter_mut().zip(now.by_share) {
            *shown = now.max(*shown);
        }
        self.exempt = self.exempt.max(now.exempt);
        self.waited = self.waited.max(now.waited);
        self.hints = self.hints.max(now.hints);
        for (reason, count) in now.changes {
            let shown = self.changes.entry(reason).or_default();
            *shown = count.max(*shown);
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

    /// What there is to be written, also of labels whose budgets are all gone.
    pub(crate) fn of(&mut self, live: &[Arc<dyn Observable>]) -> Vec<Row> {
        let mut rows: BTreeMap<Text, Row> = BTreeMap::new();
        for budget in live {
            let metrics = budget.metrics();
            let snapshot = budget.snapshot();
            // It may be about to be named, or replaced by another one: a layer makes one before it is given one.
            let is_new = budget.name().is_none() && is_unused(&snapshot);
            if is_new && metrics.label.get().is_none() {
                continue;
            }
            let shown = metrics.label.get_or_init(|| self.label(budget.name()));
            let label = &shown.label;
            let row = rows.entry(Arc::clone(label)).or_default();
            row.limit += snapshot.limit;
            row.in_flight += snapshot.in_flight;
            row.peak_in_flight += snapshot.peak_in_flight;
            row.waiting += snapshot.waiting;
            row.totals.add(&Totals::of(metrics, &snapshot));
            self.by_label.entry(Arc::clone(label)).or_default();
        }
        let rows = self.by_label.iter_mut().map(|(label, entry)| {
            let mut row = rows.remove(label).unwrap_or_default();
            row.budget = Arc::clone(label).into();
            row.totals.add(&entry.gone);
            entry.shown.rise_to(row.totals);
            row.totals = entry.shown.clone();
            row
        });
        rows.collect()
    }

    pub(crate) fn retire(&mut self, metrics: &BudgetMetrics, name: Option<&str>, last: &Snapshot) {
        let totals = Totals::of(metrics, last);
        let label = match (metrics.label.get(), name) {
            (Some(shown), _) => {
                shown.number.map(|number| self.numbers.remove(&number));
                Arc::clone(&shown.label)
            }
            // Never published: what it has counted counts all the same.
            (None, Some(name)) => self.known(name),
            (None, None) => return,
        };
        self.by_label.entry(label).or_default().gone.add(&totals);
    }

    fn label(&mut self, name: Option<&str>) -> Shown {
        let number = match name {
            Some(_) => None,
            None => (1..).find(|&number| self.numbers.insert(number)),
        };
        let label = match (name, number) {
            (Some(name), _) => self.known(name),
            (None, number) => self.known(&format!("budget-{}", number.unwrap_or_default())),
        };
        Shown { label, number }
    }

    fn known(&self, name: &str) -> Text {
        let is_one_too_many =
            self.by_label.len() >= MOST_LABELS && !self.by_label.contains_key(name);
        if is_one_too_many { OTHER } else { name }.into()
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

    fn labels(rows: &[Row]) -> Vec<&str> {
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
    fn budgets_without_a_name_have_a_number_each_while_they_live() {
        let mut series = Series::new();
        let mut live = vec![unnamed(), unnamed()];
        assert_eq!(
            labels(&series.of(&observables(&live))),
            ["budget-1", "budget-2"]
        );
        // A name that comes too late.
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
            "the first goes on in its series"
        );
    }

    #[test]
    fn labels_and_reasons_are_bounded_and_nothing_that_is_over_is_lost() {
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
