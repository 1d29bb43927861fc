//! Negative controls: candidates that must fail. A control that passes shows that the scenarios are too weak.

use std::ops::RangeInclusive;

use loadshed::{
    Budget,
    control::{Controller, Decision, Outcome, Window},
};

use crate::candidate::Candidate;

/// The limit of a budget that refuses nothing, in requests in flight: the default maximum of the adaptive budget.
const MAX_LIMIT: usize = 1 << 16;

/// Returns the negative controls:
///
/// - a constant limit of 24, or of the scenario's initial limit, which suits one size of server by luck;
/// - a limit of 1;
/// - a limit of 65,536, which only the large server can reach;
/// - a controller that reads only the ratio of the latency to a learned baseline.
#[must_use]
pub fn controls() -> Vec<Candidate> {
    vec![
        Candidate::with_initial_limit("never moves", |limit| {
            Budget::fixed(limit.unwrap_or(24).min(MAX_LIMIT))
        }),
        Candidate::new("always min", || Budget::fixed(1)),
        Candidate::new("always max", || Budget::fixed(MAX_LIMIT)),
        Candidate::of_controller(
            "latency ratio",
            LatencyRatio::default(),
            |controller, initial| LatencyRatio {
                initial,
                ..controller
            },
        ),
    ]
}

/// A controller whose limit follows baseline ÷ latency, as in the gradient algorithms; the baseline is a slow average of
/// the latency.
///
/// It must fail: under overload the baseline drifts up, and a slower dependency looks like a queue.
#[derive(Clone, Debug)]
struct LatencyRatio {
    initial: usize,
    baseline: Option<f64>,
    limit: f64,
}

impl Default for LatencyRatio {
    fn default() -> Self {
        Self {
            initial: 24,
            baseline: None,
            limit: 0.0,
        }
    }
}

/// The ratio of latency to baseline above which the limit goes down, as in Gradient2.
const TOLERANCE: f64 = 1.5;
/// The weight of one window of 100 ms in the baseline: 600 windows, 60 s, take in 63 % of a change.
const DRIFT: f64 = 1.0 / 600.0;

impl Controller for LatencyRatio {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=MAX_LIMIT
    }

    fn initial_limit(&self) -> usize {
        self.initial
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let succeeded = window
            .samples
            .iter()
            .filter(|sample| sample.outcome == Outcome::Success);
        let latencies: Vec<f64> = succeeded
            .map(|sample| sample.latency.as_secs_f64())
            .collect();
        let mean = latencies.iter().sum::<f64>() / latencies.len() as f64;
        if latencies.is_empty() || mean == 0.0 {
            return Decision::new(window.limit, "nothing learned");
        }
        if self.limit.round() as usize != window.limit {
            self.limit = window.limit as f64;
        }
        let baseline = self.baseline.unwrap_or(mean);
        let gradient = (TOLERANCE * baseline / mean).clamp(0.5, 1.0);
        // Headroom for a queue, so that the limit can grow; only while the limit binds.
        let headroom = if window.refused > 0 {
            self.limit.sqrt()
        } else {
            0.0
        };
        let target = self.limit * gradient + headroom;
        self.limit = (self.limit + 0.2 * (target - self.limit)).clamp(1.0, MAX_LIMIT as f64);
        self.baseline = Some(baseline + DRIFT * (mean - baseline));
        Decision::new(self.limit.round() as usize, "ratio")
    }
}
