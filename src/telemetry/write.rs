use std::{iter, sync::Arc};

use metrics::{Label, Unit, counter, gauge, histogram};

use super::{
    budget_metrics::{BudgetLabel, BudgetMetrics},
    observable::Observable,
    routes,
    series::{BudgetSeries, Totals},
};
use crate::{refused_upload::reader::refused_uploads, shed::Reason};

/// Writes all series to the recorder. It asks the recorder for each instrument anew, as the recorder may have been replaced.
pub(crate) fn write(rows: Vec<BudgetSeries>, live: &[Arc<dyn Observable>]) {
    describe();
    for row in rows {
        row.write();
    }
    for budget in live {
        budget.metrics().write_latencies();
    }
    gauge!("loadshed_refused_uploads").set(refused_uploads() as f64);
}

impl BudgetSeries {
    fn write(self) {
        let Self {
            budget,
            limit,
            in_flight,
            marked,
            peak_in_flight,
            waiting,
            stalled_responses,
            totals,
        } = self;
        let labels = || vec![Label::new("budget", budget.clone())];
        let with = |name: &'static str, value: &'static str| {
            let more = iter::once(Label::from_static_parts(name, value));
            labels().into_iter().chain(more).collect::<Vec<_>>()
        };
        gauge!("loadshed_limit", labels()).set(limit as f64);
        gauge!("loadshed_in_flight", labels()).set(in_flight as f64);
        gauge!("loadshed_marked", labels()).set(marked as f64);
        gauge!("loadshed_peak_in_flight", labels()).set(peak_in_flight as f64);
        gauge!("loadshed_waiting", labels()).set(waiting as f64);
        gauge!("loadshed_stalled_responses", labels()).set(stalled_responses as f64);
        let unmarked = in_flight.saturating_sub(marked);
        let utilization = unmarked as f64 / limit.max(1) as f64;
        gauge!("loadshed_utilization_ratio", labels()).set(utilization);

        let Totals {
            admitted,
            refusals,
            exempt,
            waited,
            stalled,
            hints,
            slow_uploads,
            unwatched_uploads,
            changes,
            routes,
        } = totals;
        counter!("loadshed_admitted_total", labels()).absolute(admitted);
        counter!("loadshed_exempt_total", labels()).absolute(exempt);
        counter!("loadshed_waited_total", labels()).absolute(waited);
        counter!("loadshed_stalled_total", labels()).absolute(stalled);
        counter!("loadshed_hint_seconds_total", labels()).absolute(hints / 1_000);
        counter!("loadshed_slow_uploads_total", labels()).absolute(slow_uploads);
        counter!("loadshed_unwatched_uploads_total", labels()).absolute(unwatched_uploads);
        for (reason, [refused, would_refuse]) in Reason::ALL.into_iter().zip(refusals) {
            // Without fair shares and drains there are no series for them.
            if reason != Reason::Utilization && refused + would_refuse == 0 {
                continue;
            }
            let labels = || with("reason", reason.label());
            counter!("loadshed_refused_total", labels()).absolute(refused);
            counter!("loadshed_would_refuse_total", labels()).absolute(would_refuse);
        }
        for (reason, count) in changes {
            counter!("loadshed_limit_changes_total", with("reason", reason)).absolute(count);
        }
        routes::write(&budget, &routes);
    }
}

impl BudgetMetrics {
    fn write_latencies(&self) {
        let (Some(latencies), Some(BudgetLabel { text, .. })) =
            (self.latencies.get(), self.label.get())
        else {
            return;
        };
        for (outcome, seconds, count) in latencies.take() {
            let budget = Label::new("budget", Arc::clone(text));
            let labels = vec![budget, Label::from_static_parts("outcome", outcome)];
            histogram!("loadshed_latency_seconds", labels).record_many(seconds, count);
        }
    }
}

/// Describes all metrics, at each publication, as the recorder may have been replaced.
fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};

    for (name, text) in [
        ("loadshed_limit", "Limit of the units in flight."),
        (
            "loadshed_in_flight",
            "Units in flight: requests, where each request costs 1.",
        ),
        (
            "loadshed_peak_in_flight",
            "The most units that ever were in flight at once.",
        ),
        (
            "loadshed_marked",
            "Units in flight that a dry run would have refused.",
        ),
        ("loadshed_waiting", "Requests that are queued now."),
        (
            "loadshed_stalled_responses",
            "Responses that are stalled now: not in flight, but in memory.",
        ),
        (
            "loadshed_refused_uploads",
            "Refused uploads that are being read, in the whole process.",
        ),
        (
            "loadshed_utilization_ratio",
            "Units in flight ÷ limit, without those that a dry run would have refused.",
        ),
    ] {
        // Without a unit: OpenTelemetry writes a count as the unit 1, and Prometheus then adds _ratio to the name of a gauge.
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
        ("loadshed_waited_total", "Requests that were queued."),
        (
            "loadshed_stalled_total",
            "Responses that stalled, and lost their permit.",
        ),
        (
            "loadshed_slow_uploads_total",
            "Uploads that were ended because they arrived too slowly.",
        ),
        (
            "loadshed_unwatched_uploads_total",
            "Requests with a body that their layer cannot watch.",
        ),
        ("loadshed_limit_changes_total", "Changes of the limit."),
        (
            "loadshed_route_admitted_total",
            "Requests that a layer admitted, by route and class.",
        ),
        (
            "loadshed_route_refused_total",
            "Requests that a layer refused, by route and class.",
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
        "Sum of the retry hints given to refused callers, in seconds."
    );
    describe_histogram!(
        "loadshed_latency_seconds",
        Unit::Seconds,
        "Latency of measured requests of a learned budget, in seconds."
    );
}
