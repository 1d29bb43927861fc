use std::time::Duration;

use tokio::time::Instant;

use crate::control::controller::{Outcome, Sample, Window};

/// The measured requests since the last decision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The last change of the limit. Only requests admitted since then count.
    changed: Option<Instant>,
    /// When the first and the latest of these requests ended.
    ended: Option<(Instant, Instant)>,
    /// The latencies of successes: of each, or of one in `every` where they are many.
    latencies: Vec<Duration>,
    every: usize,
    successes: usize,
    /// Requests cancelled after the target.
    cancelled: usize,
    /// The most requests in flight at the admission of a success or of a request cancelled after the target.
    peak_in_flight: usize,
    /// All measured requests, with any outcome.
    measured: usize,
    /// All requests that completed meanwhile, measured or not.
    completed: usize,
    refused: usize,
}

/// The figures of the evidence. Latencies are in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    /// The time from the first end of a request to now.
    pub(crate) span: Duration,
    /// The latency at the percentile.
    pub(crate) quantile: f64,
    /// The lower bound of that latency: two standard deviations of its rank lower.
    pub(crate) at_least: f64,
    /// Successes per second.
    pub(crate) throughput: f64,
}

/// The least number of samples. With fewer, a single slow response would exceed the 90th percentile.
const ENOUGH: usize = 10;

/// The most latencies kept: beyond, every second one is dropped. The rank of a percentile among as many is within 1 % two
/// times in three.
const MANY: usize = 1_024;

/// Requests that ended longer ago belong to another episode, unless responses take even longer.
const STALE: Duration = Duration::from_secs(10);

impl Evidence {
    /// Creates empty evidence, after a decision.
    pub(crate) fn after(changed: Option<Instant>) -> Self {
        Self {
            changed,
            ..Self::default()
        }
    }

    pub(crate) fn changed(&self) -> Option<Instant> {
        self.changed
    }

    pub(crate) fn refused(&self) -> bool {
        self.refused > 0
    }

    pub(crate) fn successes(&self) -> usize {
        self.successes
    }

    pub(crate) fn peak_in_flight(&self) -> usize {
        self.peak_in_flight.max(1)
    }

    pub(crate) fn add(&mut self, window: &Window<'_>, target: Duration) {
        let stale = STALE.max(target.saturating_mul(2));
        let is_stale = |ended| window.now.saturating_duration_since(ended) > stale;
        if self.ended.is_some_and(|(_, latest)| is_stale(latest)) {
            *self = Self::after(self.changed);
        }
        for sample in window.samples {
            let older = self.changed.is_some_and(|at| sample.admitted_at < at);
            if !older && !is_stale(sample.admitted_at + sample.latency) {
                self.add_sample(sample, target);
            }
        }
        if self.ended.is_some() {
            self.completed += window.completed;
        }
        self.refused += window.refused;
    }

    fn add_sample(&mut self, sample: &Sample, target: Duration) {
        let now = sample.admitted_at + sample.latency;
        let (first, latest) = self.ended.unwrap_or((now, now));
        self.ended = Some((first.min(now), latest.max(now)));
        self.measured += 1;
        match sample.outcome {
            Outcome::Success => self.keep(sample.latency),
            Outcome::Cancelled if sample.latency >= target => self.cancelled += 1,
            _ => return,
        }
        self.peak_in_flight = self.peak_in_flight.max(sample.in_flight);
    }

    fn keep(&mut self, latency: Duration) {
        if self.latencies.len() >= MANY {
            self.latencies.sort_unstable();
            let mut nth = 0;
            self.latencies.retain(|_| {
                nth += 1;
                nth % 2 == 0
            });
            self.every *= 2;
        }
        self.every = self.every.max(1);
        if self.successes.is_multiple_of(self.every) {
            self.latencies.push(latency);
        }
        self.successes += 1;
    }

    /// Returns whether more requests are cancelled than succeed, and not by chance. Then the latency of the few successes says
    /// nothing about the others.
    pub(crate) fn most_cancelled(&self) -> bool {
        self.cancelled >= self.successes + ENOUGH
    }

    /// Returns `None` if there are too few successes, or the clock stands still.
    pub(crate) fn find(&mut self, now: Instant, percentile: f64) -> Option<Finding> {
        let (first, _) = self.ended?;
        let span = now.saturating_duration_since(first);
        let enough = (1.0 / (1.0 - percentile)).round() as usize;
        let latencies = self.latencies.len();
        if latencies < enough.max(ENOUGH) || span.is_zero() || self.completed == 0 {
            return None;
        }
        self.latencies.sort_unstable();
        let count = latencies as f64;
        let at = |rank: f64| {
            let rank = (rank.ceil() as usize).clamp(1, latencies);
            self.latencies[rank - 1].as_secs_f64()
        };
        let deviation = (count * percentile * (1.0 - percentile)).sqrt();
        let succeeded = self.successes as f64 / self.measured as f64;
        Some(Finding {
            span,
            quantile: at(count * percentile),
            at_least: at(count * percentile - 2.0 * deviation),
            throughput: self.completed as f64 * succeeded / span.as_secs_f64(),
        })
    }
}
