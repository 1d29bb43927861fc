//! Admits one request more where the limit is full of requests that do not end.
//!
//! Requests are found to be [held](crate::control::overtaking) once later ones overtake them. Where the limit admits no later one,
//! nothing would ever be found: so one is admitted from time to time.

use tokio::time::Instant;

use crate::control::{
    average::seconds,
    controller::{Outcome, Sample, Window},
};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProbeFromBelow {
    in_flight: f64,
    /// When a request was last admitted or completed.
    moved: Option<Instant>,
    /// When the latest probe was admitted, if no later request has succeeded.
    open: Option<Instant>,
    /// How many probes in a row were not answered.
    unanswered: i32,
    /// Whether the latest probe was answered.
    is_answered: bool,
}

/// After an answered probe the next one follows at this pace, in service times: a few more tell which requests are held.
const PACE: f64 = 4.0;

/// Without an answer yet, nothing moves for so long before a probe, in service times.
const STILL: f64 = 8.0;

/// At most 2 to the power of this many times as long.
const DOUBLINGS: i32 = 6;

impl ProbeFromBelow {
    /// Returns whether one more request is to be admitted now. `fence` and `service` are in seconds.
    pub(crate) fn is_due(&mut self, window: &Window<'_>, service: f64, fence: f64) -> bool {
        let now = window.now;
        let is_later = |sample: &Sample| self.open.is_some_and(|at| sample.admitted_at >= at);
        let is_answer = |sample: &Sample| sample.outcome == Outcome::Success && is_later(sample);
        if window.samples.iter().any(is_answer) {
            (self.open, self.unanswered, self.is_answered) = (None, 0, true);
        }
        let in_flight = window.in_flight as f64;
        let admitted = in_flight - self.in_flight + window.completed as f64;
        self.in_flight = in_flight;
        if admitted > 0.0 || window.completed > 0 {
            self.moved = Some(now);
        }
        let still = match self.is_answered {
            true => (PACE * service).max(0.02),
            false => {
                (STILL * service).max(fence) * f64::from(self.unanswered.min(DOUBLINGS)).exp2()
            }
        };
        let moved = *self.moved.get_or_insert(now);
        if window.refused == 0 || seconds(moved, now) < still {
            return false;
        }
        (self.moved, self.open, self.is_answered) = (Some(now), Some(now), false);
        self.unanswered += 1;
        true
    }
}
