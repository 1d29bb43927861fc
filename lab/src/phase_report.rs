//! The report of one phase of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{
    random::Draw,
    scenario::{phase::Phase, scenario::Scenario},
    station::Nanos,
};

/// The report of one phase.
///
/// A *call* is counted once, in the phase in which it arrives. An *attempt* is a call or a retry of it, and is counted in the
/// phase in which the attempt is made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PhaseReport {
    /// The name of the phase.
    pub name: String,
    /// Whether the phase is part of the evaluation.
    pub scored: bool,
    /// The duration of the phase.
    pub length: Duration,
    /// The number of calls.
    pub offered: usize,
    /// The number of attempts: calls and retries.
    pub attempts: usize,
    /// The number of attempts that were admitted.
    pub admitted: usize,
    /// The number of attempts that were refused.
    pub refused: usize,
    /// The number of refusals after the first second of the phase.
    pub refused_later: usize,
    /// The number of refusals after the first three seconds of the phase.
    pub refused_after_3s: usize,
    /// The number of refusals after which the caller did not retry.
    pub lost: usize,
    /// The number of attempts that completed in the same phase, before the client timeout.
    pub good: usize,
    /// The number of CRITICAL calls, and of CRITICAL attempts that count as [`good`](Self::good).
    pub critical: (usize, usize),
    /// The number of CRITICAL calls whose last attempt was refused, or was admitted and timed out.
    pub critical_lost: usize,
    /// The number of calls that cost more than one unit, and of such attempts that count as [`good`](Self::good).
    pub large: (usize, usize),
    /// The number of calls and of good attempts of each tenant.
    pub tenants: Vec<(usize, usize)>,
    /// The largest cost of all calls in flight, in units.
    pub peak_units: usize,
    /// The number of calls that would be served in time on an idle server.
    pub servable: usize,
    /// Observations every 100 ms, the first of them 100 ms after the beginning.
    pub ticks: Vec<Tick>,
    /// The work of all calls that do not hang, in nanoseconds of one worker.
    pub(crate) work: f64,
    latencies: Histogram<u32>,
    critical_latencies: Histogram<u32>,
    offered_before: usize,
    attempts_before: usize,
    admitted_before: usize,
    good_before: usize,
}

/// An observation at one moment, summed over all instances.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Tick {
    /// The limit, in requests in flight.
    pub limit: usize,
    /// The calls in flight, in units of cost: by default each call is one unit.
    pub in_flight: usize,
    /// The number of calls since the previous tick.
    pub offered: usize,
    /// The number of attempts since the previous tick.
    pub attempts: usize,
    /// The number of attempts admitted since the previous tick.
    pub admitted: usize,
    /// The number of attempts completed in time since the previous tick.
    pub good: usize,
}

impl PhaseReport {
    pub(crate) fn new(scenario: &Scenario, phase: &Phase) -> Self {
        Self {
            name: phase.name.clone(),
            scored: phase.scored,
            length: phase.length,
            offered: 0,
            attempts: 0,
            admitted: 0,
            refused: 0,
            refused_later: 0,
            refused_after_3s: 0,
            lost: 0,
            good: 0,
            critical: (0, 0),
            critical_lost: 0,
            large: (0, 0),
            tenants: vec![(0, 0); scenario.client_mix.tenants as usize],
            peak_units: 0,
            servable: 0,
            ticks: Vec::new(),
            work: 0.0,
            latencies: histogram(),
            critical_latencies: histogram(),
            offered_before: 0,
            attempts_before: 0,
            admitted_before: 0,
            good_before: 0,
        }
    }

    /// Returns the goodput: calls served in time, a second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.good as f64 / self.length.as_secs_f64()
    }

    /// Returns a quantile, such as 0.99, of the latency of admitted attempts, timeouts included.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(quantile))
    }

    /// Returns a quantile of the latency of admitted CRITICAL attempts, timeouts included.
    #[must_use]
    pub fn critical_latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.critical_latencies.value_at_quantile(quantile))
    }

    /// Returns the share of CRITICAL calls that were neither refused nor timed out.
    #[must_use]
    pub fn critical_served(&self) -> f64 {
        1.0 - self.critical_lost as f64 / self.critical.0.max(1) as f64
    }

    /// Returns the time until the goodput of one second reaches 90 % of `goodput`, and so does the mean of that second and the
    /// next two. The mean is needed because the first second of an overload is good: the queue has yet to grow.
    #[must_use]
    pub fn recovery_to(&self, goodput: f64) -> Option<Duration> {
        let seconds = self.ticks.chunks(10);
        let good = |second: &[Tick]| second.iter().map(|tick| tick.good).sum::<usize>() as f64;
        let good: Vec<f64> = seconds.map(good).collect();
        let length = good.len().clamp(1, 3);
        let second = good.windows(length).position(|on| {
            let mean = on.iter().sum::<f64>() / length as f64;
            on[0].min(mean) >= 0.9 * goodput
        });
        second.map(|second| Duration::from_secs(second as u64 + 1))
    }

    /// Returns the mean of the limit over the second half of the phase, and its standard deviation ÷ that mean.
    #[must_use]
    pub fn limit(&self) -> (f64, f64) {
        let half = &self.ticks[self.ticks.len() / 2..];
        let count = half.len().max(1) as f64;
        let mean = half.iter().map(|tick| tick.limit as f64).sum::<f64>() / count;
        let square = |tick: &Tick| (tick.limit as f64 - mean).powi(2);
        let variance = half.iter().map(square).sum::<f64>() / count;
        (mean, variance.sqrt() / mean)
    }

    /// Records the arrival of a call that needs a worker, or none.
    pub(crate) fn record_arrival(&mut self, is_queued: bool, draw: &Draw) {
        self.offered += 1;
        self.servable += usize::from(draw.fits(is_queued));
        if draw.dependency.is_some() && !draw.fails {
            self.work += draw.service as f64;
        }
        self.critical.0 += usize::from(draw.critical);
        self.tenants[draw.tenant as usize].0 += 1;
        self.large.0 += usize::from(draw.units > 1);
    }

    /// Records the admission of an attempt, after which so many units are in flight.
    pub(crate) fn record_admission(&mut self, units: usize) {
        self.attempts += 1;
        self.admitted += 1;
        self.peak_units = self.peak_units.max(units);
    }

    /// Records the refusal of an attempt, so long after the beginning of the phase.
    pub(crate) fn record_refusal(&mut self, into: Nanos) {
        self.attempts += 1;
        self.refused += 1;
        self.refused_later += usize::from(into > SECOND);
        self.refused_after_3s += usize::from(into > 3 * SECOND);
    }

    pub(crate) fn record_response(&mut self, draw: &Draw) {
        self.good += 1;
        self.critical.1 += usize::from(draw.critical);
        self.tenants[draw.tenant as usize].1 += 1;
        self.large.1 += usize::from(draw.units > 1);
    }

    pub(crate) fn record_loss(&mut self, draw: &Draw) {
        self.lost += 1;
        self.critical_lost += usize::from(draw.critical);
    }

    /// Records the timeout of an admitted attempt.
    pub(crate) fn record_timeout(&mut self, draw: &Draw, nanos: Nanos) {
        self.critical_lost += usize::from(draw.critical);
        self.record_latency(draw, nanos);
    }

    pub(crate) fn record_latency(&mut self, draw: &Draw, nanos: Nanos) {
        let record = |latencies: &mut Histogram<u32>| {
            let fits = latencies.record(nanos / 1_000);
            debug_assert!(fits.is_ok(), "the histogram grows as needed");
        };
        record(&mut self.latencies);
        if draw.critical {
            record(&mut self.critical_latencies);
        }
    }

    pub(crate) fn record_tick(&mut self, limit: usize, in_flight: usize) {
        self.ticks.push(Tick {
            limit,
            in_flight,
            offered: self.offered - self.offered_before,
            attempts: self.attempts - self.attempts_before,
            admitted: self.admitted - self.admitted_before,
            good: self.good - self.good_before,
        });
        self.offered_before = self.offered;
        self.attempts_before = self.attempts;
        self.admitted_before = self.admitted;
        self.good_before = self.good;
    }
}

const SECOND: Nanos = 1_000_000_000;

fn histogram() -> Histogram<u32> {
    Histogram::new(2).expect("two digits are within its range")
}
