//! The first look at a server.

use tokio::time::Instant;

use super::estimates::{Estimates, latency};
use crate::control::{Outcome, Window};

/// Gathers the first answers until they tell a service time.
///
/// The first to finish are the short ones, so some time has to pass first: 1.6 times what nine in ten of them took.
/// Under a flood there is no time; but then the number in flight doubles and as many are answered as before, which no
/// server does that still has room.
#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    first: Option<Instant>,
    latencies: Vec<f64>,
    /// In flight, and answered a second, when they were last compared.
    compared: Option<(f64, f64)>,
    /// Whether the initial limit was too low for what came.
    pub(super) refused: bool,
}

const ENOUGH: usize = 4;

/// Nine in ten of exponential times are within 2.3 of the mean; within 1.6 times what nine in ten have taken so far, most
/// have ended.
const LONG_ENOUGH: f64 = 1.6;

/// Answers in a window that make a rate.
const COUNTED: usize = 8;

/// The most that are kept: a percentile of as many is as good.
const KEPT: usize = 1_024;

impl Start {
    pub(super) fn learn(&mut self, window: &Window<'_>) -> Option<Estimates> {
        self.refused |= window.refused > 0;
        for sample in window.samples {
            self.first.get_or_insert(sample.admitted_at);
            if sample.outcome == Outcome::Success && self.latencies.len() < KEPT {
                self.latencies.push(latency(sample));
            }
        }
        let first = self.first?;
        let elapsed = window.now.saturating_duration_since(first).as_secs_f64();
        if self.latencies.len() < ENOUGH || elapsed == 0.0 {
            return None;
        }
        self.latencies.sort_by(f64::total_cmp);
        let most = self.latencies[(self.latencies.len() - 1) * 9 / 10];
        let rate = rate(window);
        let is_flooded = self.is_flooded(window, rate);
        (elapsed >= LONG_ENOUGH * most || is_flooded).then(|| {
            let count = self.latencies.len() as f64;
            let mean = self.latencies.iter().sum::<f64>() / count;
            Estimates::new(mean, rate.max(count / elapsed))
        })
    }

    fn is_flooded(&mut self, window: &Window<'_>, rate: f64) -> bool {
        let in_flight = window.in_flight as f64;
        if window.completed < COUNTED {
            return false;
        }
        match self.compared {
            Some((before, _)) if in_flight <= 2.0 * before => false,
            Some((_, answered)) if rate < 1.3 * answered => true,
            _ => {
                self.compared = Some((in_flight, rate));
                false
            }
        }
    }
}

fn rate(window: &Window<'_>) -> f64 {
    let elapsed = window.elapsed.as_secs_f64();
    if elapsed > 0.0 {
        window.completed as f64 / elapsed
    } else {
        0.0
    }
}
