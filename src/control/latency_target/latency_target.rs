#[cfg(test)]
pub(crate) mod tests;

use std::{ops::RangeInclusive, time::Duration};

use super::evidence::{Evidence, Finding};
use crate::{
    control::{
        controller::{Controller, Decision, Window},
        range::{Range, range_settings},
    },
    support::invalid::{InvalidSetting, expect_valid},
};

/// A law that keeps a percentile of latency, the 90th by default, under what the user says is too slow.
///
/// It begins at its ceiling, so that nothing is refused before there is a reason to. Every 25 ms it looks at the
/// successes that were admitted under the present limit, W being their latency at the percentile:
///
/// - W is above the target: the limit comes down to where W would be 0.85 × the target. It does so at once if there is
///   no doubt, else after samples of as long as the target.
/// - W would be above 2.5 × the target with as many in flight as there are now: the same, before it happens.
/// - W is below 0.85 × the target, and somebody was refused: the limit goes half of the way up to it, at most to
///   twice what was really in flight.
///
/// How far is Newton's step by Little's law (1961), L = X × W: where requests stand in line, W changes by d when the
/// requests in flight change by d × X, with X the successes per second. One step comes down to half at most.
///
/// Callers who gave up are no successes, and failures say nothing, so calls that hang do not make it collapse. Only where
/// more callers give up after the target than are answered, the limit is halved: then the answers are the lucky few.
///
/// # Which target
///
/// One that healthy answers keep at the percentile with room to spare, about five times the usual latency, and that
/// is well below the time after which callers go away: those it does not see. A target that the server misses even with
/// nobody in line takes the limit down to its floor, as then every answer is too slow; [`min`](Self::min) sets how far.
///
/// ```
/// use std::time::Duration;
/// use loadshed::{Budget, LatencyTarget};
///
/// let budget = Budget::new(LatencyTarget::new(Duration::from_millis(250)));
///
/// let law = LatencyTarget::new(Duration::from_millis(250)).percentile(0.95).min(8);
/// let budget = Budget::new(law);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct LatencyTarget {
    target: Duration,
    percentile: f64,
    range: Range,
    evidence: Evidence,
}

/// Short beside any target, as a line grows fast; some samples long on a busy server.
const WINDOW: Duration = Duration::from_millis(25);

/// What is aimed at, of the target. The rest is room for the noise of a percentile of few samples.
const AIM: f64 = 0.85;

/// Of what is to come, how much too slow is too much. When a dependency turns slow without being full, requests pile
/// up until the first slow ones are done, and what is to come seems to be twice what then comes.
const FAR_TOO_SLOW: f64 = 2.5;

/// And it has to be seen that latency rises, by this part of the target.
const RISING: f64 = 0.25;

/// The most that one decrease takes.
const HALF: f64 = 0.5;

/// The least that it takes: less would be lost in the noise.
const LEAST: f64 = 0.05;

impl LatencyTarget {
    /// Slower than `target` is too slow.
    ///
    /// # Panics
    ///
    /// If `target` is zero. [`try_new`](Self::try_new) returns an error instead.
    #[track_caller]
    pub fn new(target: Duration) -> Self {
        expect_valid(Self::try_new(target))
    }

    /// [`new`](Self::new) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `target` is zero.
    pub fn try_new(target: Duration) -> Result<Self, InvalidSetting> {
        if target.is_zero() {
            return Err(InvalidSetting::new("target", "0 s", "greater than 0 s"));
        }
        Ok(Self {
            target,
            percentile: 0.9,
            // One must always run, or nothing would ever be learned again; and more requests than a process has sockets
            // for, by default on Linux.
            range: Range::new(1 << 16, 1, 1 << 16),
            evidence: Evidence::default(),
        })
    }

    /// Which part of the answers has to be faster than the target. By default 0.9.
    ///
    /// The law decides upon 1 / (1 - `percentile`) samples or more, and never upon fewer than ten.
    ///
    /// # Panics
    ///
    /// If `percentile` is not within 0.5 and 0.99. [`try_percentile`](Self::try_percentile) returns an error instead.
    #[track_caller]
    pub fn percentile(self, percentile: f64) -> Self {
        expect_valid(self.try_percentile(percentile))
    }

    /// [`percentile`](Self::percentile) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `percentile` is not within 0.5 and 0.99.
    pub fn try_percentile(mut self, percentile: f64) -> Result<Self, InvalidSetting> {
        if !(0.5..=0.99).contains(&percentile) {
            let allowed = "from 0.5 to 0.99";
            return Err(InvalidSetting::new("percentile", percentile, allowed));
        }
        self.percentile = percentile;
        Ok(self)
    }

    range_settings!(initial: "the ceiling", min: "1", max: "65,536");

    /// `None` while there is too little to decide upon.
    fn decide(&mut self, window: &Window<'_>) -> Option<Decision> {
        if self.evidence.is_hopeless() {
            let half = self.used(window.limit) * (1.0 - HALF);
            return Some(Decision::new(half as usize, "no responses"));
        }
        let found = self.evidence.find(window.now, self.percentile)?;
        let target = self.target.as_secs_f64();
        // What was admitted first has had the time to be too slow. Before, the quick ones are in the majority.
        let settled = found.span >= self.target;
        let (limit, reason) = if found.at_least > target || settled && found.quantile > target {
            (self.lower(window.limit, &found), "latency above target")
        } else if self.will_be_too_slow(window, &found) {
            (
                self.lower(window.limit, &found),
                "latency about to exceed target",
            )
        } else if !settled {
            return None;
        } else if self.evidence.refused() && found.quantile < AIM * target {
            (self.higher(window.limit, &found), "headroom")
        } else {
            (window.limit, "within target")
        };
        Some(Decision::new(limit, reason))
    }

    /// How many more or fewer in flight would bring the percentile to where it should be.
    fn missing(&self, found: &Finding) -> f64 {
        (AIM * self.target.as_secs_f64() - found.quantile) * found.throughput
    }

    /// The line may grow faster than its end comes to the front: each one more in flight than when the judged ones
    /// were admitted will be done the later.
    fn will_be_too_slow(&self, window: &Window<'_>, found: &Finding) -> bool {
        let more = window.in_flight.saturating_sub(self.evidence.busiest());
        let to_come = found.quantile + more as f64 / found.throughput;
        let target = self.target.as_secs_f64();
        found.quantile > RISING * target && to_come > FAR_TOO_SLOW * target
    }

    /// What the limit is when it is in force, or else what is in flight.
    fn used(&self, limit: usize) -> f64 {
        // A layer that sheds at a ratio keeps requests in flight at a part of the limit.
        let in_force = self.evidence.refused() && self.evidence.busiest() >= limit / 4;
        let used = if in_force {
            limit
        } else {
            self.evidence.busiest().min(limit)
        };
        used as f64
    }

    fn lower(&self, limit: usize, found: &Finding) -> usize {
        let change = self.missing(found) / self.evidence.busiest() as f64;
        let lower = self.used(limit) * (1.0 + change.max(-HALF));
        lower.min(limit as f64 * (1.0 - LEAST)) as usize
    }

    fn higher(&self, limit: usize, found: &Finding) -> usize {
        let step = (self.missing(found) / 2.0).max(1.0) as usize;
        let most = 2 * self.evidence.busiest() + 2;
        (limit + step).min(most.max(limit))
    }
}

impl Controller for LatencyTarget {
    fn limits(&self) -> RangeInclusive<usize> {
        self.range.limits()
    }

    fn initial_limit(&self) -> usize {
        self.range.initial()
    }

    fn window(&self) -> Duration {
        WINDOW
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        self.evidence.take_in(window, self.target);
        let Some(mut decision) = self.decide(window) else {
            return Decision::new(window.limit, "too few samples");
        };
        decision.limit = self.range.keep(decision.limit);
        let changed = if decision.limit == window.limit {
            self.evidence.changed()
        } else {
            Some(window.now)
        };
        self.evidence = Evidence::after(changed);
        decision
    }
}
