//! The ratios that requests of the budget are admitted at.

use tokio::time::Instant;

use crate::control::{average::seconds, controller::Sample};

/// The lowest ratio that samples show: requests at that ratio are refused first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowestRatio {
    /// The ratio is at least `low`, as caps are rounded down, and less than `high`.
    low: f64,
    high: f64,
    seen: Option<Instant>,
    /// The lowest of the higher ratios, and when a request of a higher ratio was seen.
    next: Option<(f64, Instant)>,
}

/// A ratio that is not seen for so long, in seconds, is no longer in use.
const UNUSED: f64 = 10.0;

impl Default for LowestRatio {
    fn default() -> Self {
        Self {
            low: 1.0,
            high: f64::INFINITY,
            seen: None,
            next: None,
        }
    }
}

impl LowestRatio {
    pub(crate) fn learn(&mut self, samples: &[Sample], now: Instant) {
        let is_unused = |seen: Instant| seconds(seen, now) >= UNUSED;
        self.next = self.next.filter(|&(_, seen)| !is_unused(seen));
        for sample in samples.iter().filter(|sample| sample.limit > 0) {
            let limit = sample.limit as f64;
            let (low, high) = (sample.cap as f64 / limit, (sample.cap + 1) as f64 / limit);
            if low < self.high && self.low < high {
                (self.low, self.high) = (self.low.max(low), self.high.min(high));
            } else if high <= self.low || self.seen.is_none_or(is_unused) {
                (self.low, self.high) = (low, high);
            } else {
                // One request may always run, whatever its ratio.
                if sample.cap > 1 {
                    let next = self.next.map_or(low, |(next, _)| next.min(low));
                    self.next = Some((next, now));
                }
                continue;
            }
            self.seen = Some(now);
        }
    }

    /// Returns how many times as many requests may be in flight for the next ratio as for the lowest: 1 where there is one ratio.
    pub(crate) fn headroom(&self) -> f64 {
        match self.next {
            Some((next, _)) if next >= self.high => next / self.low,
            _ => 1.0,
        }
    }

    /// Returns the limit under which so many requests of the lowest ratio may be in flight.
    pub(crate) fn limit(&self, in_flight: f64) -> f64 {
        // Not one more for what the rounding of caps has made of the ratio.
        (in_flight.round().max(1.0) / self.low * (1.0 - 1e-4)).ceil()
    }

    /// The same, or one more: so many may be in flight for certain.
    pub(crate) fn limit_that_admits(&self, in_flight: f64) -> f64 {
        (in_flight.round().max(1.0) / self.low).ceil()
    }

    /// Returns how many requests of the lowest ratio may be in flight under this limit.
    pub(crate) fn in_flight(&self, limit: usize) -> f64 {
        (limit as f64 * self.low).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::adaptive::adaptive::tests::{TICK, cap, samples};

    #[test]
    fn the_lowest_ratio_that_is_seen_counts_and_rounding_does_not_move_it() {
        let (mut ratio, now) = (LowestRatio::default(), Instant::now());
        ratio.learn(&samples(1, now, TICK, 1_000), now);
        assert_eq!(ratio.limit(85.0), 100.0);
        // 85 % of 7 is 5.95, so 5 are admitted: that is no ratio of 71 %.
        ratio.learn(&samples(1, now, TICK, 7), now);
        assert_eq!(ratio.limit(85.0), 100.0);
        let mut never = samples(1, now, TICK, 1_000);
        never[0].cap = 1_000;
        ratio.learn(&never, now + TICK);
        assert_eq!(ratio.limit(85.0), 100.0);
        ratio.learn(&never, now + Duration::from_secs(20));
        assert_eq!(ratio.limit(85.0), 85.0);
    }

    #[test]
    fn there_is_headroom_where_some_requests_are_refused_later_and_rounding_makes_none() {
        let (mut ratio, now) = (LowestRatio::default(), Instant::now());
        let seen = |cap: usize, limit: usize| {
            let mut seen = samples(1, now, TICK, limit);
            seen[0].cap = cap;
            seen
        };
        // 85 % of each of these, and one request that may always run.
        for limit in (6..400).chain([1]) {
            ratio.learn(&seen(cap(limit), limit), now);
            assert_eq!(ratio.headroom(), 1.0, "{limit}");
        }
        ratio.learn(&seen(95, 100), now);
        assert!((1.117..1.119).contains(&ratio.headroom()), "{ratio:?}");
        // Of several the lowest counts, as it has the least.
        ratio.learn(&seen(90, 100), now);
        ratio.learn(&seen(100, 100), now);
        assert!((1.058..1.06).contains(&ratio.headroom()), "{ratio:?}");
        ratio.learn(&seen(85, 100), now + Duration::from_secs(9));
        assert!(ratio.headroom() > 1.0);
        ratio.learn(&[], now + Duration::from_secs(10));
        assert_eq!(ratio.headroom(), 1.0);
        // Those that were refused later are now refused first.
        ratio.learn(&seen(90, 100), now + Duration::from_secs(18));
        ratio.learn(&seen(36, 40), now + Duration::from_secs(20));
        assert_eq!(ratio.headroom(), 1.0, "{ratio:?}");
    }
}
