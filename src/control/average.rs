//! Averages over time.

use tokio::time::Instant;

/// Returns the weight of what has gone on for `elapsed` against an average over `time`.
pub(crate) fn gain(elapsed: f64, time: f64) -> f64 {
    1.0 - (-elapsed / time).exp()
}

/// Returns the seconds between two moments, or 0 where the clock goes back.
pub(crate) fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}
