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

/// Since when a condition has held without a break.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Since(Option<Instant>);

impl Since {
    /// Notes whether the condition holds. Returns for how long it has held, in seconds.
    pub(crate) fn so(&mut self, holds: bool, now: Instant) -> f64 {
        if !holds {
            self.0 = None;
            return 0.0;
        }
        self.0.get_or_insert(now);
        self.lasts(now)
    }

    /// Returns for how long the condition has held, in seconds.
    pub(crate) fn lasts(&self, now: Instant) -> f64 {
        self.0.map_or(0.0, |since| seconds(since, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_break_begins_anew() {
        let (mut since, now) = (Since::default(), Instant::now());
        assert_eq!(since.so(true, now), 0.0);
        assert_eq!(since.so(true, now + Duration::from_secs(2)), 2.0);
        assert_eq!(since.so(false, now + Duration::from_secs(3)), 0.0);
        assert_eq!(since.so(true, now + Duration::from_secs(4)), 0.0);
    }
}
