//! Figures, through the `metrics` facade.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Label, SharedString, Unit, counter, gauge, histogram};

use super::{
    Budget, Decision, OTHER, Sample, Snapshot, Text,
    histogram::Latencies,
    routes::{self, Counts, Routes},
};
use crate::{refuse::drains, shed::Reason};

/// What a budget counts for its figures alone. All else is in its tally anyway.
#[derive(Debug, Default)]
pub(super) struct Figures {
    hints: Hints,
    /// Requests refused because of a share, and those that a dry run would have.
    by_share: [AtomicU64; 2],
    changes: Mutex<Changes>,
    pub(super) routes: Routes,
    /// Under which it was first published. A name that it is given later comes too late.
    label: OnceLock<Shown>,
    /// Made with the first sample: one allocation in a budget's life.
    latencies: OnceLock<Latencies>,
}

/// The sum of the hints given, in milliseconds. On a line of its own, as each refusal writes to it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hints(AtomicU64);

/// How often the limit was changed, by reason.
type Changes = BTreeMap<&'static str, u64>;

#[derive(Debug)]
struct Shown {
    label: Text,
    /// The number in it, if the budget has no name.
    number: Option<usize>,
}

/// A controller's author may have more reasons than [`Decision`](crate::control::Decision) asks for, but no more series.
const MOST_REASONS: usize = 32;

/// A budget for each tenant is a series for each tenant; a recorder keeps them all for good.
const MOST_LABELS: usize = 1_000;

impl Figures {
    pub(super) fn hinted(&self, hint: Duration) {
        let millis = u64::try_from(hint.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: a sum that orders nothing.
        self.hints.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, decision: Decision) {
        let by_share = match decision {
            Decision::Refused(Reason::Share) => &self.by_share[0],
            Decision::WouldRefuse(Reason::Share) => &self.by_share[1],
            _ => return,
        };
        // Relaxed, likewise.
        by_share.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn changed(&self, reason: &'static str) {
        add(&mut self.changes(), reason, 1);
    }

    #[cfg(feature = "tracing")]
    pub(super) fn label(&self) -> Option<&str> {
        self.label.get().map(|shown| &*shown.label)
    }

    pub(super) fn measured(&self, samples: &[Sample]) {
        if !samples.is_empty() {
            let latencies = self.latencies.get_or_init(Latencies::new);
            samples.iter().for_each(|sample| latencies.add(sample));
        }
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(changes: &mut Changes, reason: &'static str, count: u64) {
    let is_one_too_many = changes.len() >= MOST_REASONS && !changes.contains_key(reason);
    let reason = if is_one_too_many { OTHER } else { reason };
    *changes.entry(reason).or_default() += count;
}

/// All that has been published, by label.
pub(super) struct Series {
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
struct Totals {
    admitted: u64,
    by_share: [u64; 2],
    refused: u64,
    would_refuse: u64,
    exempt: u64,
    waited: u64,
    hints: u64,
    changes: Changes,
    routes: Counts,
}

/// What is written of one label.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    budget: SharedString,
    limit: usize,
    in_flight: usize,
    peak_in_flight: usize,
    waiting: usize,
    totals: Totals,
}

impl Totals {
    fn of(figures: &Figures, snapshot: &Snapshot) -> Self {
        let by_share = [0, 1].map(|mode| figures.by_share[mode].load(Ordering::Relaxed));
        // What is counted meanwhile may be among these already, and not yet among all.
        let others = |all: usize, by_share| (all as u64).saturating_sub(by_share);
        Self {
            admitted: snapshot.admitted as u64,
            by_share,
            refused: others(snapshot.refused, by_share[0]),
            would_refuse: others(snapshot.would_refuse, by_share[1]),
            exempt: snapshot.exempt as u64,
            waited: snapshot.waited as u64,
            hints: figures.hints.0.load(Ordering::Relaxed),
            changes: figures.changes().clone(),
            routes: figures.routes.counts(),
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
    pub(super) const fn new() -> Self {
        Self {
            by_label: BTreeMap::new(),
            numbers: BTreeSet::new(),
        }
    }

    /// What there is to be written, also of labels whose budgets are all gone.
    pub(super) fn of(&mut self, live: &[Budget]) -> Vec<Line> {
        let mut lines: BTreeMap<Text, Line> = BTreeMap::new();
        for budget in live {
            let figures = &budget.observed().figures;
            let snapshot = budget.snapshot();
            // It may be about to be named, or replaced by another one: a layer makes one before it is given one.
            let is_new = budget.name().is_none() && is_unused(&snapshot);
            if is_new && figures.label.get().is_none() {
                continue;
            }
            let shown = figures.label.get_or_init(|| self.label(budget.name()));
            let label = &shown.label;
            let line = lines.entry(Arc::clone(label)).or_default();
            line.limit += snapshot.limit;
            line.in_flight += snapshot.in_flight;
            line.peak_in_flight += snapshot.peak_in_flight;
            line.waiting += snapshot.waiting;
            line.totals.add(&Totals::of(figures, &snapshot));
            self.by_label.entry(Arc::clone(label)).or_default();
        }
        let lines = self.by_label.iter_mut().map(|(label, entry)| {
            let mut line = lines.remove(label).unwrap_or_default();
            line.budget = Arc::clone(label).into();
            line.totals.add(&entry.gone);
            entry.shown.rise_to(line.totals);
            line.totals = entry.shown.clone();
            line
        });
        lines.collect()
    }

    pub(super) fn retire(&mut self, figures: &Figures, name: Option<&str>, last: &Snapshot) {
        let totals = Totals::of(figures, last);
        let label = match (figures.label.get(), name) {
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

/// Hands everything over to the recorder, which is asked for each anew: it may be another one than last time.
pub(super) fn write(lines: Vec<Line>, live: &[Budget]) {
    describe();
    for line in lines {
        line.write();
    }
    for budget in live {
        budget.observed().figures.write_latencies();
    }
    gauge!("loadshed_drains").set(drains() as f64);
}

impl Line {
    fn write(self) {
        let Self {
            budget,
            limit,
            in_flight,
            peak_in_flight,
            waiting,
            totals,
        } = self;
        let labels = || vec![Label::new("budget", budget.clone())];
        let with = |name: &'static str, value: &'static str| {
            let more = iter::once(Label::from_static_parts(name, value));
            labels().into_iter().chain(more).collect::<Vec<_>>()
        };
        gauge!("loadshed_limit", labels()).set(limit as f64);
        gauge!("loadshed_in_flight", labels()).set(in_flight as f64);
        gauge!("loadshed_peak_in_flight", labels()).set(peak_in_flight as f64);
        gauge!("loadshed_waiting", labels()).set(waiting as f64);
        let utilization = in_flight as f64 / limit.max(1) as f64;
        gauge!("loadshed_utilization_ratio", labels()).set(utilization);

        let Totals {
            admitted,
            by_share,
            refused,
            would_refuse,
            exempt,
            waited,
            hints,
            changes,
            routes,
        } = totals;
        counter!("loadshed_admitted_total", labels()).absolute(admitted);
        counter!("loadshed_exempt_total", labels()).absolute(exempt);
        counter!("loadshed_waited_total", labels()).absolute(waited);
        counter!("loadshed_hint_seconds_total", labels()).absolute(hints / 1_000);
        let write = |why, [refused, would_refuse]: [u64; 2]| {
            let why = || with("reason", reason(why));
            counter!("loadshed_refused_total", why()).absolute(refused);
            counter!("loadshed_would_refuse_total", why()).absolute(would_refuse);
        };
        write(Reason::Utilization, [refused, would_refuse]);
        // Where there are no shares, nor is there a series for them.
        if by_share != [0; 2] {
            write(Reason::Share, by_share);
        }
        for (reason, count) in changes {
            counter!("loadshed_limit_changes_total", with("reason", reason)).absolute(count);
        }
        routes::write(&budget, &routes);
    }
}

impl Figures {
    fn write_latencies(&self) {
        let (Some(latencies), Some(Shown { label, .. })) = (self.latencies.get(), self.label.get())
        else {
            return;
        };
        for (outcome, seconds, count) in latencies.take() {
            let budget = Label::new("budget", Arc::clone(label));
            let labels = vec![budget, Label::from_static_parts("outcome", outcome)];
            histogram!("loadshed_latency_seconds", labels).record_many(seconds, count);
        }
    }
}

pub(super) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Utilization => "utilization",
        Reason::Share => "share",
    }
}

/// Each time, as nobody tells when there is another recorder.
fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};

    for (name, text) in [
        (
            "loadshed_limit",
            "How many requests the budget carries at once.",
        ),
        ("loadshed_in_flight", "How many requests are in flight."),
        (
            "loadshed_peak_in_flight",
            "The most requests that ever were in flight at once.",
        ),
        ("loadshed_waiting", "How many requests wait for room."),
        (
            "loadshed_drains",
            "How many refused uploads are being read, in the whole process.",
        ),
        (
            "loadshed_utilization_ratio",
            "Requests in flight, of the limit.",
        ),
    ] {
        // Without a unit: a count is 1 to OpenTelemetry, and Prometheus makes of a gauge's 1 a name that ends in _ratio.
        describe_gauge!(name, text);
    }
    for (name, text) in [
        ("loadshed_admitted_total", "Requests admitted."),
        ("loadshed_refused_total", "Requests refused."),
        (
            "loadshed_would_refuse_total",
            "Requests that a dry run would have refused.",
        ),
        (
            "loadshed_exempt_total",
            "Requests neither counted nor shed.",
        ),
        (
            "loadshed_waited_total",
            "Requests that have waited for room.",
        ),
        ("loadshed_limit_changes_total", "Changes of the limit."),
        (
            "loadshed_route_admitted_total",
            "Requests that a layer has admitted, by route and class.",
        ),
        (
            "loadshed_route_refused_total",
            "Requests that a layer has refused, by route and class.",
        ),
        (
            "loadshed_route_would_refuse_total",
            "Requests that a dry run would have refused, by route and class.",
        ),
        (
            "loadshed_route_exempt_total",
            "Requests neither counted nor shed, by route.",
        ),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
    describe_counter!(
        "loadshed_hint_seconds_total",
        Unit::Seconds,
        "Sum of the hints given to refused callers, in seconds."
    );
    describe_histogram!(
        "loadshed_latency_seconds",
        Unit::Seconds,
        "Latency of the requests that a learned budget has measured, in seconds."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| &*line.budget).collect()
    }

    fn unnamed() -> Budget {
        let budget = Budget::fixed(1);
        drop(budget.try_acquire(crate::Threshold::NEVER));
        budget
    }

    fn retire(series: &mut Series, budget: &Budget) {
        series.retire(
            &budget.observed().figures,
            budget.name(),
            &budget.snapshot(),
        );
    }

    #[test]
    fn budgets_without_a_name_have_a_number_each_while_they_live() {
        let mut series = Series::new();
        let mut live = vec![unnamed(), unnamed()];
        assert_eq!(labels(&series.of(&live)), ["budget-1", "budget-2"]);
        // A name that comes too late.
        live[1] = live[1].clone().named("late");
        retire(&mut series, &live.remove(0));
        live.push(unnamed());
        live.push(unnamed());
        let lines = series.of(&live);
        assert_eq!(labels(&lines), ["budget-1", "budget-2", "budget-3"]);
        let admitted = lines.iter().map(|line| line.totals.admitted);
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
            series.of(std::slice::from_ref(&budget));
            retire(&mut series, &budget);
        }
        for _ in 0..50 {
            let budget = unnamed();
            series.of(std::slice::from_ref(&budget));
            retire(&mut series, &budget);
        }
        let lines = series.of(&[]);
        assert_eq!(lines.len(), MOST_LABELS + 1);
        let other = lines.iter().find(|line| &*line.budget == OTHER).unwrap();
        assert_eq!((other.totals.admitted, other.limit), (100, 0));
        assert!(series.numbers.is_empty());

        let figures = Figures::default();
        for reason in 0..MOST_REASONS + 7 {
            figures.changed(Box::leak(format!("reason {reason}").into()));
        }
        let changes = figures.changes();
        assert_eq!((changes.len(), changes[OTHER]), (MOST_REASONS + 1, 7));
    }
}
