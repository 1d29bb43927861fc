//! Admits some requests where the limit is full of requests that do not end.
//!
//! Requests are found to be [held](crate::control::overtaking) once later ones overtake them. Where the limit admits no later one,
//! nothing would ever be found. So one is admitted from time to time, and twice as many each time that they are answered.

use tokio::time::Instant;

use crate::control::{
    average::seconds,
    controller::{Outcome, Sample, Window},
};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProbeFromBelow {
    /// When a request was last admitted.
    admitted: Option<Instant>,
    /// When the latest probe was admitted, if no request that was admitted since has succeeded.
    open: Option<Instant>,
    /// How many probes in a row were not answered.
    unanswered: i32,
    /// The requests of the latest probe, if it was answered, else 0.
    answered: f64,
}

/// The pace of probes that are answered, in service times.
const PACE: f64 = 4.0;

/// Without an answer, no request is admitted for so long before a probe, in service times.
const STILL: f64 = 8.0;

/// At most 2 to the power of this many times as long.
const DOUBLINGS: i32 = 6;

/// The most requests of a probe: as many tell which requests are held.
const MOST: f64 = 16.0;

impl ProbeFromBelow {
    /// Returns how many requests more are to be admitted now. `admitted` is the number of the window; `fence` and `service` are in
    /// seconds. None where all requests in flight are held, or have responded: there is nothing to find.
    pub(crate) fn due(
        &mut self,
        window: &Window<'_>,
        admitted: f64,
        service: f64,
        fence: f64,
    ) -> Option<f64> {
        let now = window.now;
        let is_later = |sample: &Sample| self.open.is_some_and(|at| sample.admitted_at >= at);
        let is_answer = |sample: &Sample| sample.outcome == Outcome::Success && is_later(sample);
        if window.samples.iter().any(is_answer) {
            (self.open, self.unanswered) = (None, 0);
        }
        if admitted > 0.0 {
            self.admitted = Some(now);
        }
        let is_answered = self.answered > 0.0 && self.open.is_none();
        let still = match is_answered {
            true => (PACE * service).max(0.02),
            false => {
                let doubled = f64::from(self.unanswered.min(DOUBLINGS)).exp2();
                (STILL * service).max(fence) * doubled
            }
        };
        let since = *self.admitted.get_or_insert(now);
        if window.refused == 0 || window.waiting() == 0 || seconds(since, now) < still {
            return None;
        }
        let size = match is_answered {
            true => (2.0 * self.answered).min(MOST),
            false => 1.0,
        };
        (self.admitted, self.open, self.answered) = (Some(now), Some(now), size);
        self.unanswered += 1;
        Some(size)
    }
}
