//! What came of a run.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{
    random::Draw,
    scenario::{Phase, Scenario, Server, Station},
    station::Nanos,
};

/// What came of a run, phase by phase.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// In the order of the scenario.
    pub phases: Vec<PhaseReport>,
}

/// What came of one phase.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// Whether it counts.
    pub scored: bool,
    /// How long it lasted.
    pub length: Duration,
    /// Calls that arrived in it, without second tries.
    pub offered: usize,
    /// Calls that came to the admission in it, second tries included.
    pub attempts: usize,
    /// Calls that were admitted of those.
    pub admitted: usize,
    /// Refusals in it, those of second tries included.
    pub refused: usize,
    /// Refusals after its first second.
    pub refused_later: usize,
    /// Refusals after which the caller did not try again.
    pub lost: usize,
    /// Calls that arrived in it and were answered in it, before the caller had left.
    pub good: usize,
    /// CRITICAL calls that arrived in it, and that were answered.
    pub critical: (usize, usize),
    /// CRITICAL calls that came in it and were refused for good, or were not answered in time.
    pub critical_lost: usize,
    /// Calls that cost more than one unit, which arrived in it, and which were answered.
    pub large: (usize, usize),
    /// The same for each tenant.
    pub tenants: Vec<(usize, usize)>,
    /// The most units that calls cost that were inside at once.
    pub peak_units: usize,
    /// Calls that arrived in it, and that would have been answered in time had they been alone.
    pub servable: usize,
    /// What was seen each 100 ms, from the first 100 ms on.
    pub ticks: Vec<Tick>,
    /// Of all that arrived and do not hang, in nanoseconds of a worker.
    work: f64,
    latencies: Histogram<u32>,
    critical_latencies: Histogram<u32>,
    offered_before: usize,
    attempts_before: usize,
    admitted_before: usize,
    good_before: usize,
}

/// What was seen at one moment, of all instances together.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Tick {
    /// The limit.
    pub limit: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls that arrived since the moment before.
    pub offered: usize,
    /// The same with second tries.
    pub attempts: usize,
    /// Calls that were admitted since.
    pub admitted: usize,
    /// Calls that were answered since, in time.
    pub good: usize,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let phases = scenario.phases.iter().map(|phase| PhaseReport {
            name: phase.name.clone(),
            scored: phase.scored,
            length: phase.length,
            offered: 0,
            attempts: 0,
            admitted: 0,
            refused: 0,
            refused_later: 0,
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
        });
        Self {
            phases: phases.collect(),
        }
    }

    /// The phase of this name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

impl PhaseReport {
    /// Answers in time, a second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.good as f64 / self.length.as_secs_f64()
    }

    /// More answers in time than this nobody can give, chance aside: what is [servable](Self::servable), and what the
    /// workers have time for, when nothing is known of a call before it is done.
    ///
    /// It is a bound and not a goal: where times vary, callers are impatient or loads come in bursts, the best that can
    /// be done is well below. For that, see [`Oracle`](crate::Oracle).
    #[must_use]
    pub fn bound(&self, scenario: &Scenario, phase: &Phase) -> f64 {
        let servable = self.servable as f64;
        if scenario.server.station == Station::None || self.work == 0.0 {
            return servable;
        }
        let workers = (scenario.server.workers as f64 * phase.workers)
            .round()
            .max(1.0);
        let seconds = self.length.as_secs_f64() * phase.load.busy(scenario.callers.timeout);
        let time = workers * scenario.instances as f64 * seconds * 1e9;
        // All that is worked on is a sample of what arrives, those included for whom it is in vain.
        servable.min(time * servable / self.work)
    }

    /// How long the admitted waited, those who left included, at this quantile, such as 0.99.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(quantile))
    }

    /// The same of the CRITICAL ones.
    #[must_use]
    pub fn critical_latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.critical_latencies.value_at_quantile(quantile))
    }

    /// The share of the CRITICAL calls that were served in time.
    #[must_use]
    pub fn critical_served(&self) -> f64 {
        1.0 - self.critical_lost as f64 / self.critical.0.max(1) as f64
    }

    /// How long it took until a second's goodput came to 90 % of `goodput`, and that of the next two with it on average: the first
    /// second of an overload is good, as the line has yet to grow.
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

    /// The mean of the limit over the second half, and its standard deviation ÷ the mean.
    #[must_use]
    pub fn limit(&self) -> (f64, f64) {
        let half = &self.ticks[self.ticks.len() / 2..];
        let count = half.len().max(1) as f64;
        let mean = half.iter().map(|tick| tick.limit as f64).sum::<f64>() / count;
        let square = |tick: &Tick| (tick.limit as f64 - mean).powi(2);
        let variance = half.iter().map(square).sum::<f64>() / count;
        (mean, variance.sqrt() / mean)
    }

    pub(crate) fn record_arrival(&mut self, server: &Server, draw: &Draw) {
        self.offered += 1;
        self.servable += usize::from(draw.fits(server));
        if draw.dependency.is_some() {
            self.work += draw.service as f64;
        }
        self.critical.0 += usize::from(draw.critical);
        self.tenants[draw.tenant as usize].0 += 1;
        self.large.0 += usize::from(draw.units > 1);
    }

    pub(crate) fn record_refusal(&mut self, into: Nanos) {
        self.refused += 1;
        self.refused_later += usize::from(into > 1_000_000_000);
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

    /// The caller has left.
    pub(crate) fn record_timeout(&mut self, draw: &Draw, nanos: Nanos) {
        self.critical_lost += usize::from(draw.critical);
        self.record_latency(draw, nanos);
    }

    pub(crate) fn record_latency(&mut self, draw: &Draw, nanos: Nanos) {
        let record = |latencies: &mut Histogram<u32>| {
            let fits = latencies.record(nanos / 1_000);
            debug_assert!(fits.is_ok(), "it grows as needed");
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

fn histogram() -> Histogram<u32> {
    Histogram::new(2).expect("two digits are within its range")
}
