use std::time::Duration;

use tokio::time::Instant;

use crate::control::controller::{Outcome, Sample, Window};

/// What has been seen since the last decision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The last change of the limit. Only what was admitted from then on is judged.
    changed: Option<Instant>,
    /// When the first and the latest of it ended.
    ended: Option<(Instant, Instant)>,
    /// How long successes took: each, or one in `every` where they are many.
    latencies: Vec<Duration>,
    every: usize,
    successes: usize,
    /// Callers who went away after the target.
    gave_up: usize,
    /// The most in flight when one of those was admitted.
    busiest: usize,
    /// All that were judged, whatever became of them.
    measured: usize,
    /// All that finished meanwhile, measured or not.
    completed: usize,
    refused: usize,
}

/// What the evidence says. Latencies are in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    /// For how long it was gathered.
    pub(crate) span: Duration,
    /// The latency at the percentile.
    pub(crate) quantile: f64,
    /// The least that it may be: two standard deviations of its rank below.
    pub(crate) at_least: f64,
    /// Successes per second.
    pub(crate) throughput: f64,
}

/// Fewer samples decide nothing, and above the 90th percentile that one slow answer alone is not yet too many.
const ENOUGH: usize = 10;

/// More latencies are thinned out. The rank of a percentile among so many is within 1 % two times in three.
const MANY: usize = 1_024;

/// What ended longer ago is of another episode, unless answers are due even less often.
const STALE: Duration = Duration::from_secs(10);

impl Evidence {
    /// None yet, after a decision upon the limit.
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

    pub(crate) fn busiest(&self) -> usize {
        self.busiest.max(1)
    }

    pub(crate) fn take_in(&mut self, window: &Window<'_>, target: Duration) {
        let stale = STALE.max(target.saturating_mul(2));
        let is_stale = |ended| window.now.saturating_duration_since(ended) > stale;
        if self.ended.is_some_and(|(_, latest)| is_stale(latest)) {
            *self = Self::after(self.changed);
        }
        for sample in window.samples {
            let older = self.changed.is_some_and(|at| sample.admitted_at < at);
            if !older && !is_stale(sample.admitted_at + sample.latency) {
                self.judge(sample, target);
            }
        }
        if self.ended.is_some() {
            self.completed += window.completed;
        }
        self.refused += window.refused;
    }

    fn judge(&mut self, sample: &Sample, target: Duration) {
        let now = sample.admitted_at + sample.latency;
        let (first, latest) = self.ended.unwrap_or((now, now));
        self.ended = Some((first.min(now), latest.max(now)));
        self.measured += 1;
        match sample.outcome {
            Outcome::Success => self.keep(sample.latency),
            Outcome::Cancelled if sample.latency >= target => self.gave_up += 1,
            _ => return,
        }
        self.busiest = self.busiest.max(sample.in_flight);
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
        if self.successes % self.every == 0 {
            self.latencies.push(latency);
        }
        self.successes += 1;
    }

    /// Whether more callers give up than are answered, and not by chance. Then successes are the lucky few, and their
    /// latency says nothing.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.gave_up >= self.successes + ENOUGH
    }

    /// `None` where there are too few successes, or the clock stands still.
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
        let at = |priority: f64| {
            let priority = (priority.ceil() as usize).clamp(1, latencies);
            self.latencies[priority - 1].as_secs_f64()
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
