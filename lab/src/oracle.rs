//! The best that a fixed limit could have done.

use std::time::Duration;

use crate::{
    options::{AdmissionPath, Lab},
    report::{PhaseReport, Report},
    scenario::Scenario,
};

/// The best fixed limit of each phase, found by trying them on the same seed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Oracle {
    /// By phase: the limit, and what came of it. Of several as good ones (within 0.1 %) the smallest.
    pub best: Vec<(usize, PhaseReport)>,
}

/// What a phase of a run is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OracleScore {
    /// The limit. 0 where none is known.
    pub limit: usize,
    /// Calls answered in time.
    pub good: f64,
    /// How long the admitted waited at the 99th percentile.
    pub p99: Duration,
}

/// The limits that are tried, in units of the workers.
const TRIED_LIMITS: [f64; 22] = [
    0.5, 0.75, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0,
    13.0, 18.0, 25.0, 1e6,
];

/// Few, as most scenarios need no large ones; several, as calls are drawn once for all that run together.
const LIMITS_AT_ONCE: usize = 6;

impl Oracle {
    /// Phase by phase, what came of the best limit.
    #[must_use]
    pub fn scores(&self) -> Vec<OracleScore> {
        let score = |(limit, report): &(usize, PhaseReport)| OracleScore {
            limit: *limit,
            good: report.good as f64,
            p99: report.latency(0.99),
        };
        self.best.iter().map(score).collect()
    }

    /// Tries them.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let workers = scenario.server.workers as f64;
        let limit = |times: f64| (workers * times).round().max(1.0) as usize;
        let mut limits: Vec<_> = TRIED_LIMITS.into_iter().map(limit).collect();
        limits.dedup();
        let lab = Lab::seed(seed).ratio(1.0).path(AdmissionPath::Budget);
        let mut runs: Vec<(usize, Report)> = Vec::new();
        for limits in limits.chunks(LIMITS_AT_ONCE) {
            let reports = lab.run_fixed(scenario, limits);
            runs.extend(limits.iter().copied().zip(reports));
            let refuses = |(_, run): &(_, Report)| run.phases.iter().any(|phase| phase.refused > 0);
            if !runs.iter().all(refuses) {
                // What refuses nothing does as the larger ones would.
                break;
            }
        }
        let best_of = |phase: usize| {
            let good = |run: &(usize, Report)| run.1.phases[phase].good;
            let most = runs.iter().map(good).max().unwrap_or(0);
            let enough = (most as f64 * 0.999) as usize;
            let (limit, report) = runs
                .iter()
                .find(|run| good(run) >= enough)
                .unwrap_or(&runs[0]);
            (*limit, report.phases[phase].clone())
        };
        Self {
            best: (0..scenario.phases.len()).map(best_of).collect(),
        }
    }
}
