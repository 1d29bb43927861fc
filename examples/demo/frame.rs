//! Computes what the page and the terminal show from the counters.

use std::time::Duration;

use serde::Serialize;

use super::{callers::Class, counters::Counters, service::Service, settings::Settings};

/// Both sides at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    /// Seconds since the start.
    pub(crate) at: f64,
    pub(crate) settings: Settings,
    /// Present capacity of each side, in requests a second.
    pub(crate) capacity: f64,
    pub(crate) bare: SideMetrics,
    pub(crate) shed: SideMetrics,
}

/// The metrics of one side. Rates are per second, times in milliseconds, shares from 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SideMetrics {
    /// Requests sent for the first time.
    pub(crate) fresh: f64,
    /// All requests, retries included.
    pub(crate) offered: f64,
    /// Successful responses within the timeout.
    pub(crate) goodput: f64,
    /// Goodput as a share of the present capacity.
    pub(crate) goodput_share: f64,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Share of requests that timed out or failed.
    pub(crate) failed: Option<f64>,
    pub(crate) refused: Option<f64>,
    /// Share of the class.
    pub(crate) refused_browse: Option<f64>,
    pub(crate) refused_pay: Option<f64>,
    /// Refusals that a dry run would have made since the start.
    pub(crate) would_refuse: usize,
    /// Retry hints, in seconds.
    pub(crate) hint_p50: Option<f64>,
    pub(crate) hint_max: Option<f64>,
    pub(crate) in_flight: usize,
    /// `None` while the budget is unlimited, and without a budget.
    pub(crate) limit: Option<usize>,
    /// Reason of the last change of the limit.
    pub(crate) reason: Option<&'static str>,
    /// Time to serve all requests that are queued or being served, in seconds.
    pub(crate) backlog: f64,
    /// Lateness of the generator.
    pub(crate) lateness: Option<f64>,
}

/// The default maximum of `Adaptive`: at this limit, the budget is unlimited.
const UNLIMITED: usize = 1 << 16;

impl SideMetrics {
    pub(crate) fn new(counters: &Counters, seconds: f64, service: &Service) -> Self {
        let all = counters.all();
        let rate = |count: usize| count as f64 / seconds;
        let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1_000.0);
        let budget = service.shed.as_ref().map(|shed| shed.budget());
        let last = budget.and_then(|budget| budget.changes().last().copied());
        let snapshot = budget.map(|budget| budget.snapshot());
        let in_flight = service.pool.in_flight();
        let refused = |class| counters.classes[class as usize].refused_share();
        Self {
            fresh: rate(counters.fresh),
            offered: rate(all.sent),
            goodput: rate(all.succeeded),
            goodput_share: rate(all.succeeded) / service.pool.capacity(),
            p50: millis(counters.latency.percentile(50)),
            p99: millis(counters.latency.percentile(99)),
            failed: all.failed_share(),
            refused: all.refused_share(),
            refused_browse: refused(Class::Browse),
            refused_pay: refused(Class::Pay),
            would_refuse: snapshot.map_or(0, |budget| budget.would_refuse),
            hint_p50: counters.hints.percentile(50).map(|hint| hint.as_secs_f64()),
            hint_max: counters
                .hints
                .percentile(100)
                .map(|hint| hint.as_secs_f64()),
            in_flight: snapshot.map_or(in_flight, |budget| budget.in_flight),
            limit: snapshot
                .map(|budget| budget.limit)
                .filter(|limit| *limit < UNLIMITED),
            reason: last.map(|change| change.reason),
            backlog: in_flight as f64 / service.pool.capacity(),
            lateness: millis(counters.lateness.percentile(99)),
        }
    }
}
