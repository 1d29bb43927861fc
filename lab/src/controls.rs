//! Candidates that must fail: if one of them passes, the scenarios are too weak.

use std::ops::RangeInclusive;

use loadshed::{
    Budget,
    control::{Controller, Decision, Outcome, Window},
};

use crate::candidate::Candidate;

/// What a budget of everything has, by default: more than anybody has sockets for.
const MAX_LIMIT: usize = 1 << 16;

/// The controls: a limit that never moves from where it begins, which is right at one size by luck; one of 1; one that
/// refuses nothing; and a controller that reads only the ratio of the latency to a learned baseline.
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

/// The limit follows baseline ÷ latency, as in the gradient controllers; the baseline is the latency's slow average.
///
/// It cannot know better: with the overload the baseline drifts up, and a slower dependency looks like a queue.
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

/// The latency may be so many times the baseline before the limit goes down, as in Gradient2.
const TOLERANCE: f64 = 1.5;
/// What a window adds to the baseline: of 100 ms each, some 600 for most of a change, a minute.
const DRIFT: f64 = 1.0 / 600.0;

impl Controller for LatencyRatio {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=MAX_LIMIT
    }

    fn initial_limit(&self) -> usize {
        self.initial
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let answered = window
            .samples
            .iter()
            .filter(|sample| sample.outcome == Outcome::Success);
        let latencies: Vec<f64> = answered
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
        // Room for a queue, so that it can grow; but only where it is in use.
        let room = if window.refused > 0 {
            self.limit.sqrt()
        } else {
            0.0
        };
        let target = self.limit * gradient + room;
        self.limit = (self.limit + 0.2 * (target - self.limit)).clamp(1.0, MAX_LIMIT as f64);
        self.baseline = Some(baseline + DRIFT * (mean - baseline));
        Decision::new(self.limit.round() as usize, "ratio")
    }
}
