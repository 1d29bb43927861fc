//! What a candidate did in one phase, in figures.

use std::{fmt, time::Duration};

use crate::{oracle::OracleScore, report::PhaseReport};

/// One candidate in one phase of one scenario, over all seeds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The size of the server, as the evaluator was told.
    pub size: String,
    /// Its workers.
    pub workers: usize,
    /// The scenario.
    pub scenario: String,
    /// Where the limit began, if the scenario says; `usize::MAX` is the largest that the candidate has.
    pub initial: Option<usize>,
    /// The phase.
    pub phase: String,
    /// The candidate.
    pub candidate: String,
    /// The seed of the first of [`metrics`](Self::metrics); the others follow it.
    pub first_seed: u64,
    /// By seed.
    pub metrics: Vec<PhaseMetrics>,
}

/// One phase of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PhaseMetrics {
    /// Its goodput ÷ the oracle's on the same seed.
    pub score: f64,
    /// How long the admitted waited at the 99th percentile.
    pub p99: Duration,
    /// That ÷ the oracle's. 0 where there is none.
    pub p99_ratio: f64,
    /// Refusals ÷ calls that arrived. Above 1 where the refused try again.
    pub refused: f64,
    /// The same for refusals after the first second.
    pub refused_later: f64,
    /// How long it took until the goodput of three seconds came to 90 % of the oracle's mean.
    pub recovery: Option<Duration>,
    /// The mean of the limit over the second half of the phase.
    pub limit: f64,
    /// Its standard deviation ÷ that mean.
    pub limit_deviation: f64,
    /// The share of CRITICAL calls that were answered, where there are any.
    pub critical: Option<f64>,
}

impl PhaseMetrics {
    pub(crate) fn new(phase: &PhaseReport, score: OracleScore) -> Self {
        let of_offered = |calls: usize| calls as f64 / phase.offered.max(1) as f64;
        let p99 = phase.latency(0.99);
        let (limit, limit_deviation) = phase.limit();
        let (critical, served) = phase.critical;
        Self {
            // Where nothing can be done, nothing is missed.
            score: ratio(phase.good as f64, score.good).unwrap_or(1.0),
            p99,
            p99_ratio: ratio(p99.as_secs_f64(), score.p99.as_secs_f64()).unwrap_or(0.0),
            refused: of_offered(phase.refused),
            refused_later: of_offered(phase.refused_later),
            recovery: phase.recovery_to(score.good / phase.length.as_secs_f64()),
            limit,
            limit_deviation,
            critical: ratio(served as f64, critical as f64),
        }
    }
}

impl Row {
    /// The scenario, and where the limit began.
    #[must_use]
    pub fn name(&self) -> String {
        match self.initial {
            None => self.scenario.clone(),
            Some(usize::MAX) => format!("{}, from max", self.scenario),
            Some(limit) => format!("{}, from {limit}", self.scenario),
        }
    }

    /// The mean score.
    #[must_use]
    pub fn score(&self) -> f64 {
        self.mean(|metrics| metrics.score)
    }

    /// The worst score, and its seed.
    #[must_use]
    pub fn worst(&self) -> (f64, u64) {
        let seeds = self.first_seed..;
        let scores = self.metrics.iter().map(|metrics| metrics.score).zip(seeds);
        let worst = scores.min_by(|(a, _), (b, _)| a.total_cmp(b));
        worst.unwrap_or((1.0, self.first_seed))
    }

    /// The mean share that was refused.
    #[must_use]
    pub fn refused(&self) -> f64 {
        self.mean(|metrics| metrics.refused)
    }

    /// The longest that it took to come to 90 % of the oracle's goodput. `None` if it did not on some seed.
    #[must_use]
    pub fn recovery(&self) -> Option<Duration> {
        let all: Option<Vec<_>> = self
            .metrics
            .iter()
            .map(|metrics| metrics.recovery)
            .collect();
        all?.into_iter().max()
    }

    /// The mean share of CRITICAL calls that were answered, where there are any.
    #[must_use]
    pub fn critical(&self) -> Option<f64> {
        let any = self
            .metrics
            .iter()
            .any(|metrics| metrics.critical.is_some());
        any.then(|| self.mean(|metrics| metrics.critical.unwrap_or(1.0)))
    }

    /// The mean of something over the seeds.
    #[must_use]
    pub fn mean(&self, of: impl Fn(&PhaseMetrics) -> f64) -> f64 {
        self.metrics.iter().map(of).sum::<f64>() / self.metrics.len().max(1) as f64
    }
}

/// For people who look at one row, such as a test's.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worst, seed) = self.worst();
        write!(
            f,
            "{} {}, {}, {}: {:.3}, worst {worst:.3} (seed {seed}), refused {:.4}, limit {:.0} ± {:.0} %",
            self.size,
            self.name(),
            self.phase,
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
