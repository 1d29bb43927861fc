//! From tallies to what is shown.

use std::time::Duration;

use serde::Serialize;

use super::{callers::Class, service::Service, settings::Settings, tally::Tally};

/// Both sides at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    /// Seconds since the start.
    pub(crate) at: f64,
    pub(crate) settings: Settings,
    /// Requests a second that each side can carry now.
    pub(crate) capacity: f64,
    pub(crate) bare: Figures,
    pub(crate) shed: Figures,
}

/// One side. Rates are a second, times are in milliseconds, shares go up to 1.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Requests that are sent for the first time.
    pub(crate) fresh: f64,
    /// All of them, retries included.
    pub(crate) offered: f64,
    /// Good answers.
    pub(crate) goodput: f64,
    /// Of the capacity that there is now.
    pub(crate) goodput_share: f64,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Who left at the deadline or got an error.
    pub(crate) failed: Option<f64>,
    pub(crate) refused: Option<f64>,
    /// Of its class.
    pub(crate) refused_browse: Option<f64>,
    pub(crate) refused_pay: Option<f64>,
    /// In a dry run, since the start.
    pub(crate) would_refuse: usize,
    /// In seconds.
    pub(crate) hint_p50: Option<f64>,
    pub(crate) hint_max: Option<f64>,
    pub(crate) in_flight: usize,
    /// `None` while the budget is open, and where there is none.
    pub(crate) limit: Option<usize>,
    /// Why it is that limit.
    pub(crate) reason: Option<&'static str>,
    /// How long the work takes, in seconds, that waits for a worker or has one.
    pub(crate) backlog: f64,
    /// How late the generator sends.
    pub(crate) lateness: Option<f64>,
}

/// No limit at all: nothing says that the server is overloaded.
const OPEN: usize = 1 << 16;

impl Figures {
    pub(crate) fn of(tally: &Tally, seconds: f64, service: &Service) -> Self {
        let all = tally.all();
        let rate = |count: usize| count as f64 / seconds;
        let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1_000.0);
        let budget = service.shed.as_ref().map(|shed| shed.budget());
        let last = budget.and_then(|budget| budget.changes().last().copied());
        let snapshot = budget.map(|budget| budget.snapshot());
        let inside = service.pool.inside();
        let refused = |class| tally.classes[class as usize].refused_share();
        Self {
            fresh: rate(tally.fresh),
            offered: rate(all.sent),
            goodput: rate(all.good),
            goodput_share: rate(all.good) / service.pool.capacity(),
            p50: millis(tally.latency.percentile(50)),
            p99: millis(tally.latency.percentile(99)),
            failed: all.failed_share(),
            refused: all.refused_share(),
            refused_browse: refused(Class::Browse),
            refused_pay: refused(Class::Pay),
            would_refuse: snapshot.map_or(0, |budget| budget.would_refuse),
            hint_p50: tally.hints.percentile(50).map(|hint| hint.as_secs_f64()),
            hint_max: tally.hints.percentile(100).map(|hint| hint.as_secs_f64()),
            in_flight: snapshot.map_or(inside, |budget| budget.in_flight),
            limit: snapshot
                .map(|budget| budget.limit)
                .filter(|limit| *limit < OPEN),
            reason: last.map(|change| change.reason),
            backlog: inside as f64 / service.pool.capacity(),
            lateness: millis(tally.lateness.percentile(99)),
        }
    }
}
