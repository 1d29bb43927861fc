//! The metrics of a candidate in one phase.

use std::{fmt, time::Duration};

use crate::{criterion::Criterion, oracle::OracleScore, phase_report::PhaseReport};

/// The metrics of one candidate in one phase of one scenario, for the kinds of one name, over all seeds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The size of the server, as given to the evaluator.
    pub size: String,
    /// The number of workers of the first kind.
    pub workers: usize,
    /// The name of the scenario.
    pub scenario: String,
    /// The initial limit, if the scenario sets one; `usize::MAX` is the largest limit of the candidate.
    pub initial: Option<usize>,
    /// The name of the phase.
    pub phase: String,
    /// The name of the kinds.
    pub kind: String,
    /// The pass criterion, in place of that of the scenario's name.
    pub criterion: Option<Criterion>,
    /// The name of the candidate.
    pub candidate: String,
    /// The seed of the first of [`metrics`](Self::metrics); the others follow it.
    pub first_seed: u64,
    /// The metrics, by seed.
    pub metrics: Vec<PhaseMetrics>,
}

/// The metrics of one phase of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PhaseMetrics {
    /// The goodput ÷ that of the oracle on the same seed.
    pub score: f64,
    /// The 99th percentile of the latency of admitted calls, timeouts included.
    pub p99: Duration,
    /// The same ÷ that of the oracle. 0 where the oracle has none.
    pub p99_ratio: f64,
    /// Refusals ÷ calls. Where refused callers retry, this can be above 1.
    pub refused: f64,
    /// Refusals after the first second ÷ calls.
    pub refused_later: f64,
    /// Refusals after the first three seconds ÷ calls.
    pub refused_after_3s: f64,
    /// The time until the goodput reaches 90 % of the oracle's mean, as [`PhaseReport::recovery_to`] defines it.
    pub recovery: Option<Duration>,
    /// The mean of the limit over the second half of the phase.
    pub limit: f64,
    /// The standard deviation of the limit ÷ that mean.
    pub limit_deviation: f64,
    /// The share of CRITICAL calls that were served in time, where there are any.
    pub critical: Option<f64>,
}

impl PhaseMetrics {
    pub(crate) fn new(phase: &PhaseReport, oracle: OracleScore) -> Self {
        let of_offered = |calls: usize| calls as f64 / phase.offered.max(1) as f64;
        let p99 = phase.latency(0.99);
        let (limit, limit_deviation) = phase.limit();
        let (critical, served) = phase.critical;
        Self {
            // Where the oracle serves nothing, there is nothing to miss.
            score: ratio(phase.good as f64, oracle.good).unwrap_or(1.0),
            p99,
            p99_ratio: ratio(p99.as_secs_f64(), oracle.p99.as_secs_f64()).unwrap_or(0.0),
            refused: of_offered(phase.refused),
            refused_later: of_offered(phase.refused_later),
            refused_after_3s: of_offered(phase.refused_after_3s),
            recovery: phase.recovery_to(oracle.good / phase.length.as_secs_f64()),
            limit,
            limit_deviation,
            critical: ratio(served as f64, critical as f64),
        }
    }
}

impl Row {
    /// Returns the name of the scenario, with the initial limit if the scenario sets one.
    #[must_use]
    pub fn name(&self) -> String {
        match self.initial {
            None => self.scenario.clone(),
            Some(usize::MAX) => format!("{}, from max", self.scenario),
            Some(limit) => format!("{}, from {limit}", self.scenario),
        }
    }

    /// Returns the mean score.
    #[must_use]
    pub fn score(&self) -> f64 {
        self.mean(|metrics| metrics.score)
    }

    /// Returns the worst score and its seed.
    #[must_use]
    pub fn worst(&self) -> (f64, u64) {
        let seeds = self.first_seed..;
        let scores = self.metrics.iter().map(|metrics| metrics.score).zip(seeds);
        let worst = scores.min_by(|(a, _), (b, _)| a.total_cmp(b));
        worst.unwrap_or((1.0, self.first_seed))
    }

    /// Returns the mean of refusals ÷ calls.
    #[must_use]
    pub fn refused(&self) -> f64 {
        self.mean(|metrics| metrics.refused)
    }

    /// Returns the longest time to reach 90 % of the oracle's goodput, or `None` if some seed did not reach it.
    #[must_use]
    pub fn recovery(&self) -> Option<Duration> {
        let all: Option<Vec<_>> = self
            .metrics
            .iter()
            .map(|metrics| metrics.recovery)
            .collect();
        all?.into_iter().max()
    }

    /// Returns the mean share of CRITICAL calls that were served in time, where there are any.
    #[must_use]
    pub fn critical(&self) -> Option<f64> {
        let any = self
            .metrics
            .iter()
            .any(|metrics| metrics.critical.is_some());
        any.then(|| self.mean(|metrics| metrics.critical.unwrap_or(1.0)))
    }

    /// Returns the mean of a metric over the seeds.
    #[must_use]
    pub fn mean(&self, of: impl Fn(&PhaseMetrics) -> f64) -> f64 {
        self.metrics.iter().map(of).sum::<f64>() / self.metrics.len().max(1) as f64
    }
}

/// One line of text, for test output.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worst, seed) = self.worst();
        write!(
            f,
            "{} {}, {}, {}, {}: {:.3}, worst {worst:.3} (seed {seed}), refused {:.4}, limit {:.0} ± {:.0} %",
            self.size,
            self.name(),
            self.phase,
            self.kind,
            self.candidate,
            self.score(),
            self.refused(),
            self.mean(|metrics| metrics.limit),
            self.mean(|metrics| metrics.limit_deviation) * 100.0,
        )?;
        match self.critical() {
            Some(share) => write!(f, ", CRITICAL {share:.4}"),
            None => Ok(()),
        }
    }
}

fn ratio(of: f64, to: f64) -> Option<f64> {
    (to > 0.0).then(|| of / to)
}
