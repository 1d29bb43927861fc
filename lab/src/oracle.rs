//! The best fixed limit of each bottleneck, phase by phase.

use std::time::Duration;

use crate::{
    options::{AdmissionPath, Lab},
    report::Report,
    scenario::scenario::{Bottleneck, Scenario},
};

/// The best result of fixed limits, found by running the scenario under many limits on the same seed.
///
/// Each bottleneck is run alone: the kinds whose calls share its workers, and no other kind. A kind is thus compared to what it
/// would get if its own bottleneck had the best limit. The best limit of a bottleneck is the one that completes the most work in
/// time; where all kinds take equally long, the most calls. A bottleneck none of whose kinds is part of the evaluation is left
/// out, with scores of 0.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Oracle {
    /// The scores by name of the kinds, as in [`Scenario::kind_names`], and by phase.
    pub scores: Vec<Vec<OracleScore>>,
}

/// The result that a phase of a run is compared to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OracleScore {
    /// The smallest limit within 0.1 % of the best result, in requests in flight. 0 where the score is a bound and not the
    /// result of a limit.
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

/// A limit that no scenario reaches.
const UNLIMITED: usize = 1_000_000_000;

/// The number of limits in one run. Few, because most scenarios end before the large limits; more than one, because the
/// calls are drawn once for all limits of a run.
const LIMITS_AT_ONCE: usize = 6;

impl Oracle {
    /// Runs each bottleneck of the scenario under each limit, and keeps the best of each phase.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let none = OracleScore {
            limit: 0,
            good: 0.0,
            p99: Duration::ZERO,
        };
        let names = scenario.kind_names();
        let mut scores = vec![vec![none; scenario.phases.len()]; names.len()];
        let is_scored = |bottleneck: &Bottleneck| {
            let mut kinds = bottleneck.kinds.iter();
            kinds.any(|&kind| scenario.is_scored(kind))
        };
        for bottleneck in scenario.bottlenecks().into_iter().filter(is_scored) {
            let of_limits = Runs::of(scenario, &bottleneck, seed);
            for phase in 0..scenario.phases.len() {
                let (limit, report) = of_limits.best(phase);
                for (name, scores) in scores.iter_mut().enumerate() {
                    // A name can have kinds in several bottlenecks.
                    let (score, part) = (&mut scores[phase], &report.of_kind(name)[phase]);
                    if part.offered > 0 {
                        score.limit += limit;
                        score.good += part.good as f64;
                        score.p99 = score.p99.max(part.latency(0.99));
                    }
                }
            }
        }
        Self { scores }
    }
}

/// The runs of one bottleneck.
struct Runs {
    by_limit: Vec<(usize, Report)>,
    /// The weight of a call by name: the mean service time, in units of that of the first kind.
    weights: Vec<f64>,
}

impl Runs {
    fn of(scenario: &Scenario, bottleneck: &Bottleneck, seed: u64) -> Self {
        let first = bottleneck.kinds[0];
        let server = &scenario.kinds[first].server;
        let limit = |times: f64| (server.workers as f64 * times).round().max(1.0) as usize;
        let mut limits: Vec<_> = match scenario.is_queued(first) {
            true => TRIED_LIMITS.into_iter().map(limit).collect(),
            // What needs no worker has no bottleneck.
            false => vec![UNLIMITED],
        };
        limits.dedup();
        let lab = Lab::seed(seed).ratio(1.0).path(AdmissionPath::Budget);
        let mut by_limit: Vec<(usize, Report)> = Vec::new();
        for limits in limits.chunks(LIMITS_AT_ONCE) {
            let reports = lab.run_fixed(scenario, &bottleneck.kinds, limits);
            by_limit.extend(limits.iter().copied().zip(reports));
            let refuses = |(_, run): &(_, Report)| run.phases.iter().any(|phase| phase.refused > 0);
            if !by_limit.iter().all(refuses) {
                // A limit that refuses nothing gives the same result as any larger one.
                break;
            }
        }
        let weight = |name: &str| {
            let kinds = bottleneck.kinds.iter().map(|&kind| &scenario.kinds[kind]);
            let mut of_name = kinds.filter(|kind| kind.name == name);
            let time = of_name
                .next()
                .map_or(0.0, |kind| kind.server.service.as_secs_f64());
            time / server.service.as_secs_f64()
        };
        Self {
            by_limit,
            weights: scenario.kind_names().into_iter().map(weight).collect(),
        }
    }

    /// Returns the best limit of a phase and its run.
    fn best(&self, phase: usize) -> (usize, &Report) {
        let good = |(_, run): &(usize, Report)| -> f64 {
            let weights = self.weights.iter().enumerate();
            weights
                .map(|(name, weight)| weight * run.of_kind(name)[phase].good as f64)
                .sum()
        };
        let most = self.by_limit.iter().map(good).fold(0.0, f64::max);
        let is_enough = |run: &&(usize, Report)| good(run) >= (most * 0.999).floor();
        let best = self.by_limit.iter().find(is_enough);
        let (limit, report) = best.unwrap_or(&self.by_limit[0]);
        (*limit, report)
    }
}
