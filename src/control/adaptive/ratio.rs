//! The ratio that the budget is used to.

use tokio::time::Instant;

use crate::control::controller::Sample;

/// Which part of the limit those are admitted to that are refused first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    /// At least so much, as caps are rounded down.
    low: f64,
    /// And less than that.
    high: f64,
    seen: Option<Instant>,
    /// The lowest of those that are refused later, and when one of them was seen.
    next: Option<(f64, Instant)>,
}

impl Default for Ratio {
    fn default() -> Self {
        Self {
            low: 1.0,
            high: f64::INFINITY,
            seen: None,
            next: None,
        }
    }
}

impl Ratio {
    /// The lowest ratio counts, for as long as it is seen once in 10 s.
    pub(crate) fn learn(&mut self, samples: &[Sample], now: Instant) {
        let is_old = |seen: Instant| now.saturating_duration_since(seen).as_secs() >= 10;
        self.next = self.next.filter(|&(_, seen)| !is_old(seen));
        for sample in samples.iter().filter(|sample| sample.limit > 0) {
            let limit = sample.limit as f64;
            let (low, high) = (sample.cap as f64 / limit, (sample.cap + 1) as f64 / limit);
            if low < self.high && self.low < high {
                (self.low, self.high) = (self.low.max(low), self.high.min(high));
            } else if high <= self.low || self.seen.is_none_or(is_old) {
                (self.low, self.high) = (low, high);
            } else {
                // One may always run, whatever the ratio.
                if sample.cap > 1 {
                    let next = self.next.map_or(low, |(next, _)| next.min(low));
                    self.next = Some((next, now));
                }
                continue;
            }
            self.seen = Some(now);
        }
    }

    /// Up to how many times as many may be in flight for those who are refused next as for those who are refused first:
    /// 1 where all are refused at once.
    pub(crate) fn headroom(&self) -> f64 {
        match self.next {
            Some((next, _)) if next >= self.high => next / self.low,
            _ => 1.0,
        }
    }

    /// The limit under which so many may be in flight.
    pub(crate) fn limit(&self, in_flight: f64) -> f64 {
        // Not one more for what the caps' rounding has made of the ratio.
        (in_flight.round().max(1.0) / self.low * (1.0 - 1e-4)).ceil()
    }

    /// The limit under which so many may be in flight for sure.
    pub(crate) fn limit_that_admits(&self, in_flight: f64) -> f64 {
        (in_flight.round().max(1.0) / self.low).ceil()
    }

    /// How many may be in flight under this limit.
    pub(crate) fn in_flight(&self, limit: usize) -> f64 {
        (limit as f64 * self.low).max(1.0)
    }
}
