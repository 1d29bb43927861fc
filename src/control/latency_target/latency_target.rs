#[cfg(test)]
pub(crate) mod tests;

use std::{ops::RangeInclusive, time::Duration};

#[cfg(feature = "serde")]
use crate::support::seconds;

use super::evidence::{Evidence, Finding};
use crate::{
    control::{
        average,
        controller::{Controller, Decision, Window},
        overtaking::{Held, Overtaking},
        range::{Range, range_settings},
        reason::latency_target as reason,
    },
    support::invalid::{InvalidSetting, expect_valid},
};

/// A controller that keeps a percentile of latency, by default the 90th, below a target that the user sets.
///
/// The initial limit is [`max`](Self::max), so that no request is refused without a reason. Every 25 ms the controller
/// evaluates the successes that were admitted under the present limit. `W` is their latency at the percentile:
///
/// | condition | limit | reason |
/// | --- | --- | --- |
/// | `W` is above the target | down to where `W` would be 0.85 × the target | `latency above target` |
/// | with the present number of requests in flight, `W` will exceed 2.5 × the target | the same, in advance | `latency about to exceed target` |
/// | `W` is below 0.85 × the target, and requests were refused | half of the way up to it, at most to twice the most that were in flight | `headroom` |
/// | more callers cancel after the target than requests succeed | halved | `no responses` |
/// | of the requests in flight, twice as many as may be slower than the target are older than it, and at least 10 | halved | `requests older than target` |
///
/// The first rule applies at once if chance does not explain `W`, else after samples of as long as the target.
///
/// The size of a step is Newton's step by Little's law (1961), L = X × W: where requests are queued, `W` changes by d when the
/// requests in flight change by d × X, with X the successes per second. A decrease takes 5 % to 50 % of the limit.
///
/// A cancelled request is no success, and a failure says nothing, so hanging requests do not make the limit collapse. Requests that
/// later ones have overtaken are slow by design, or hang: they do not count.
///
/// # Which target
///
/// Choose a target that healthy responses meet at the percentile with headroom: about five times the usual latency. It has to be
/// well below the client timeout, as the controller does not see the latency of cancelled requests. A target that the server
/// misses even without a queue takes the limit down to [`min`](Self::min), as every response is too slow then.
///
/// ```
/// use std::time::Duration;
/// use loadshed::{Budget, LatencyTarget};
///
/// let budget = Budget::new(LatencyTarget::new(Duration::from_millis(250)));
///
/// let controller = LatencyTarget::new(Duration::from_millis(250)).percentile(0.95).min(8);
/// let budget = Budget::new(controller);
/// ```
///
/// With the feature `serde` the settings can be read from a file. `target` is in seconds. Each other setting may be absent, and
/// an unknown field is an error.
///
/// ```
/// # #[cfg(feature = "serde")] {
/// # use loadshed::LatencyTarget;
/// let controller: LatencyTarget = toml::from_str("
///     target = 0.25
///     percentile = 0.95
///     min = 8
///     max = 2000
///     initial = 100
/// ").unwrap();
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize),
    serde(try_from = "Fields")
)]
#[must_use]
pub struct LatencyTarget {
    target: Duration,
    percentile: f64,
    range: Range,
    evidence: Evidence,
    overtaking: Overtaking,
}

/// Short beside any target, as a queue grows fast. Long enough for some samples on a busy server.
const WINDOW: Duration = Duration::from_millis(25);

/// The aim, as a part of the target. The rest is a margin for the noise of a percentile of few samples.
const AIM: f64 = 0.85;

/// The predicted latency that lowers the limit, in targets. When a dependency becomes slow without being saturated, a backlog
/// grows until the first slow requests complete. The prediction is then about twice the latency that follows.
const FAR_TOO_SLOW: f64 = 2.5;

/// The prediction counts only where the latency has risen to this part of the target.
const RISING: f64 = 0.25;

/// The largest decrease, as a part of the limit.
const HALF: f64 = 0.5;

/// The requests older than the target that are no chance.
const MANY_LATE: f64 = 10.0;

/// The smallest decrease: a smaller one would be lost in the noise.
const LEAST: f64 = 0.05;

impl LatencyTarget {
    /// Creates a controller for the latency `target`.
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
            // Min: one request must always run, or there would be no more samples. Max: more requests than a process has
            // sockets for, by default on Linux.
            range: Range::new(1 << 16, 1, 1 << 16),
            evidence: Evidence::default(),
            overtaking: Overtaking::default(),
        })
    }

    /// Sets the part of the successes that has to be faster than the target. The default is 0.9.
    ///
    /// The controller decides from at least 1 / (1 - `percentile`) samples, and never from fewer than 10.
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

    range_settings!(initial: "[`max`](Self::max)", min: "1", max: "65,536");

    /// Returns `None` while there are too few samples.
    fn decide(&mut self, window: &Window<'_>) -> Option<Decision> {
        if self.evidence.most_cancelled() {
            let half = self.used(window.limit) * (1.0 - HALF);
            return Some(Decision::new(half as usize, reason::NO_RESPONSES));
        }
        let found = self.evidence.find(window.now, self.percentile)?;
        let target = self.target.as_secs_f64();
        // The requests admitted first have had the time to be too slow. Before, quick requests are in the majority.
        let settled = found.span >= self.target;
        let (limit, reason) = if found.at_least > target || settled && found.quantile > target {
            (self.lower(window.limit, &found), reason::ABOVE_TARGET)
        } else if self.will_be_too_slow(window, &found) {
            (self.lower(window.limit, &found), reason::ABOUT_TO_EXCEED)
        } else if !settled {
            return None;
        } else if self.evidence.refused() && found.quantile < AIM * target {
            (self.higher(window.limit, &found), reason::HEADROOM)
        } else {
            (window.limit, reason::WITHIN_TARGET)
        };
        Some(Decision::new(limit, reason))
    }

    /// Decides by the age of the requests in flight, where hardly any request ends: more than may be slower than the target are
    /// older than the target already, of those admitted under the present limit.
    fn decide_by_age(&self, window: &Window<'_>, held: &Held) -> Option<Decision> {
        let changed = self.evidence.changed();
        let since_change = changed.map_or(f64::INFINITY, |at| average::seconds(at, window.now));
        let earlier = self.overtaking.older(window.now, since_change);
        let earlier = earlier.max(held.in_flight + held.expected);
        let target = self.target.as_secs_f64();
        let late = self.overtaking.older(window.now, target) - earlier;
        let all = window.waiting() as f64 - earlier + self.evidence.successes() as f64;
        let too_many = late >= MANY_LATE && late > 2.0 * (1.0 - self.percentile) * all;
        let half = window.in_flight.min(window.limit) as f64 * HALF;
        too_many.then(|| Decision::new(half as usize, reason::OLDER_THAN_TARGET))
    }

    /// Returns how many more requests in flight, or fewer if negative, bring the percentile to the aim.
    fn missing(&self, found: &Finding) -> f64 {
        (AIM * self.target.as_secs_f64() - found.quantile) * found.throughput
    }

    /// Returns whether a queue grows faster than its last request gets to the front. Each request more in flight than when the
    /// measured ones were admitted adds to the latency to come.
    fn will_be_too_slow(&self, window: &Window<'_>, found: &Finding) -> bool {
        let more = window
            .in_flight
            .saturating_sub(self.evidence.peak_in_flight());
        let to_come = found.quantile + more as f64 / found.throughput;
        let target = self.target.as_secs_f64();
        found.quantile > RISING * target && to_come > FAR_TOO_SLOW * target
    }

    /// Returns the limit if it binds, else the most requests that were in flight.
    fn used(&self, limit: usize) -> f64 {
        // A layer that sheds at a ratio keeps the requests in flight at a part of the limit.
        let binds = self.evidence.refused() && self.evidence.peak_in_flight() >= limit / 4;
        let used = if binds {
            limit
        } else {
            self.evidence.peak_in_flight().min(limit)
        };
        used as f64
    }

    fn lower(&self, limit: usize, found: &Finding) -> usize {
        let change = self.missing(found) / self.evidence.peak_in_flight() as f64;
        let lower = self.used(limit) * (1.0 + change.max(-HALF));
        lower.min(limit as f64 * (1.0 - LEAST)) as usize
    }

    fn higher(&self, limit: usize, found: &Finding) -> usize {
        let step = (self.missing(found) / 2.0).max(1.0) as usize;
        let most = 2 * self.evidence.peak_in_flight() + 2;
        (limit + step).min(most.max(limit))
    }
}

/// The settings in a file.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    target: f64,
    percentile: Option<f64>,
    initial: Option<usize>,
    min: Option<usize>,
    max: Option<usize>,
}

#[cfg(feature = "serde")]
impl TryFrom<Fields> for LatencyTarget {
    type Error = InvalidSetting;

    fn try_from(fields: Fields) -> Result<Self, InvalidSetting> {
        let target = seconds::duration("target", fields.target, "greater than 0 s")?;
        let mut controller = Self::try_new(target)?;
        if let Some(percentile) = fields.percentile {
            controller = controller.try_percentile(percentile)?;
        }
        controller.range = controller
            .range
            .configured(fields.initial, fields.min, fields.max)?;
        Ok(controller)
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
        self.evidence.add(window, self.target);
        let held = self.overtaking.observe(window, None, 0.0);
        let by_age = self.decide_by_age(window, &held);
        let Some(mut decision) = by_age.or_else(|| self.decide(window)) else {
            return Decision::new(window.limit, reason::TOO_FEW_SAMPLES);
        };
        decision.limit = self.range.clamp(decision.limit);
        let changed = if decision.limit == window.limit {
            self.evidence.changed()
        } else {
            Some(window.now)
        };
        self.evidence = Evidence::after(changed);
        decision
    }

    fn restart(&mut self) {
        self.evidence = Evidence::default();
        self.overtaking = Overtaking::default();
    }
}
