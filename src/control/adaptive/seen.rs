//! What a window shows.

use tokio::time::Instant;

use crate::control::controller::{Outcome, Sample, Window};

/// One window's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now: Instant,
    pub(crate) elapsed: f64,
    /// Those who wait for their answer.
    pub(crate) in_flight: f64,
    pub(crate) completed: f64,
    pub(crate) refused: bool,
    pub(crate) refusals: f64,
    pub(crate) successes: f64,
    pub(crate) latency: f64,
    pub(crate) left: f64,
    pub(crate) left_latency: f64,
    pub(crate) squares: f64,
    /// Requests that have neither succeeded nor been given up after a wait.
    pub(crate) errors: f64,
}

impl Seen {
    /// Callers and back ends that give up sooner than `soon`, in seconds, have met no queue here: these samples say nothing.
    pub(crate) fn of(window: &Window<'_>, soon: f64) -> Self {
        let mut seen = Self {
            now: window.now,
            elapsed: window.elapsed.as_secs_f64(),
            in_flight: window.waiting() as f64,
            completed: window.completed as f64,
            refused: window.refused > 0,
            refusals: window.refused as f64,
            successes: 0.0,
            latency: 0.0,
            left: 0.0,
            left_latency: 0.0,
            squares: 0.0,
            errors: 0.0,
        };
        for sample in window.samples {
            let latency = latency(sample);
            if sample.outcome == Outcome::Success {
                seen.successes += 1.0;
                seen.latency += latency;
                seen.squares += latency * latency;
            } else if has_left(sample) && latency >= soon {
                seen.left += 1.0;
                seen.left_latency += latency;
            } else {
                seen.errors += 1.0;
            }
        }
        seen
    }

    /// The mean latency of the successes, or 0 where there is none.
    pub(crate) fn mean(&self) -> f64 {
        self.latency / self.successes.max(1.0)
    }

    /// Whether a caller gave up after a wait.
    pub(crate) fn has_left(&self) -> bool {
        self.left > 0.0
    }
}

pub(crate) fn has_left(sample: &Sample) -> bool {
    matches!(sample.outcome, Outcome::Cancelled | Outcome::Overload)
}

/// At least a microsecond, as a clock that stands still makes no server infinitely fast.
pub(crate) fn latency(sample: &Sample) -> f64 {
    sample.latency.as_secs_f64().max(1e-6)
}
