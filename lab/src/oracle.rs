//! The best fixed limit of each phase.

use std::time::Duration;

use crate::{
    options::{AdmissionPath, Lab},
    report::{PhaseReport, Report},
    scenario::Scenario,
};

/// The best fixed limit of each phase, found by running the scenario under many limits on the same seed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Oracle {
    /// The limit with the highest goodput and its report, by phase: the smallest limit within 0.1 % of the highest goodput.
    pub best: Vec<(usize, PhaseReport)>,
}

/// The result that a phase of a run is compared to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OracleScore {
    /// The limit, in requests in flight. 0 where the score is a bound and not the result of a limit.
    pub limit: usize,
    /// The number of calls served in time.
    pub good: f64,
    /// The 99th percentile of the latency of admitted calls, timeouts included.
    pub p99: Duration,
}

/// The limits to try, in units of the workers.
const TRIED_LIMITS: [f64; 22] = [
    0.5, 0.75, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0,
    13.0, 18.0, 25.0, 1e6,
];

/// The number of limits in one run. Few, because most scenarios end before the large limits; more than one, because the
/// calls are drawn once for all limits of a run.
const LIMITS_AT_ONCE: usize = 6;

impl Oracle {
    /// Returns the result of the best limit, phase by phase.
    #[must_use]
    pub fn scores(&self) -> Vec<OracleScore> {
        let score = |(limit, report): &(usize, PhaseReport)| OracleScore {
            limit: *limit,
            good: report.good as f64,
            p99: report.latency(0.99),
        };
        self.best.iter().map(score).collect()
    }

    /// Runs the scenario under each limit, and keeps the best of each phase.
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
                // A limit that refuses nothing gives the same result as any larger one.
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
