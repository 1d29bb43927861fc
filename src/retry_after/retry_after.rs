use std::time::Duration;

use super::{
    refusal::{Counts, Refusal, Unit},
    schedule::Schedule,
};
use crate::support::{
    clock::nanos,
    invalid::{InvalidSetting, expect_valid},
    spread::{share, spread, spread_apart},
};

/// The policy for retry hints: the time after which a refused caller should retry.
///
/// ```
/// use std::time::Duration;
/// use loadshed::{LoadShed, RetryAfter};
///
/// // The default is `RetryAfter::adaptive()`: the time that the excess needs to drain, spread out, at most a minute.
/// let shed = LoadShed::ratio(0.85);
///
/// // These callers respect long hints.
/// let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::adaptive().max(Duration::from_secs(600)));
///
/// // From 5 to 7.5 s, whatever the load.
/// let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::fixed(Duration::from_secs(5)).jitter(0.5));
/// ```
///
/// With the feature `serde`, the policy is read from a map of these fields. Each may be absent. Any other field is an error.
///
/// | field | value | setting |
/// |---|---|---|
/// | `kind` | `"adaptive"` (the default), `"fixed"` or `"none"` | [`adaptive`](Self::adaptive), [`fixed`](Self::fixed), [`none`](Self::none) |
/// | `seconds` | a number, with kind `"fixed"` only | the fixed hint |
/// | `jitter` | a number from 0 to 1 | [`jitter`](Self::jitter) |
/// | `min_seconds`, `max_seconds` | numbers | [`min`](Self::min), [`max`](Self::max) |
/// | `milliseconds` | a boolean | [`milliseconds`](Self::milliseconds) |
/// | `seed` | an integer | [`seed`](Self::seed) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryAfter {
    policy: Policy,
    /// In units of 2⁻³².
    jitter: u64,
    /// In nanoseconds, like all times here: each refusal computes with them.
    min: u64,
    max: u64,
    sent: Sent,
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Adaptive,
    Fixed(u64),
}

/// The response headers that carry the hint over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nowhere,
    Seconds,
    SecondsAndMilliseconds,
}

/// The hint for a refused caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The time to wait.
    nanos: u64,
    /// The time to wait, in whole seconds.
    pub(crate) whole: u32,
    sent: Sent,
}

const SECOND: u64 = 1_000_000_000;

/// The default longest hint. After a minute most callers have given up, or an operator has acted.
const LONGEST: u64 = 60 * SECOND;

/// The upper bound of all hints: more than a century. No caller waits that long, and every header can carry the value.
const FOREVER: u64 = u32::MAX as u64 * SECOND;

impl RetryAfter {
    const fn new(policy: Policy, max: u64) -> Self {
        Self {
            policy,
            jitter: 0,
            min: 0,
            max,
            sent: Sent::Seconds,
            seed: None,
        }
    }

    /// Returns the default policy: the time that the excess needs to drain.
    ///
    /// Each caller gets its own time. So refused requests return at a rate for which the server has free capacity. Hints
    /// begin at 1 second over HTTP, and at 10 milliseconds elsewhere. The longest is a minute.
    ///
    /// ```text
    /// hint = min + earlier refused requests that have not returned ÷ free
    /// free = 0.95 × capacity − fresh load, at least a tenth of the capacity
    /// ```
    ///
    /// - Capacity is the number of completions in a second while requests are refused.
    /// - Fresh load is the number of arrivals in a second, over the last 30 seconds, without requests that return after a hint.
    ///
    /// Until both are known, a request is assumed to take a second. If the excess does not fit below [`max`](Self::max), it
    /// returns as evenly as possible. Lower classes wait for the higher classes.
    pub fn adaptive() -> Self {
        Self::new(Policy::Adaptive, LONGEST)
    }

    /// Returns a policy with the same hint for all callers.
    ///
    /// Callers refused together return together. If callers retry, prefer [`adaptive`](Self::adaptive), or add some
    /// [`jitter`](Self::jitter). HTTP has whole seconds only: there the hint is rounded up.
    ///
    /// # Panics
    ///
    /// If `hint` is zero or more than `u32::MAX` seconds. [`try_fixed`](Self::try_fixed) returns an error instead.
    #[track_caller]
    pub fn fixed(hint: Duration) -> Self {
        expect_valid(Self::try_fixed(hint))
    }

    /// Returns the policy of [`fixed`](Self::fixed) for a value from a configuration.
    ///
    /// # Errors
    ///
    /// If `hint` is zero or more than `u32::MAX` seconds.
    pub fn try_fixed(hint: Duration) -> Result<Self, InvalidSetting> {
        if !(1..=FOREVER).contains(&nanos(hint)) {
            return Err(InvalidSetting::new(
                "retry after",
                format_args!("{hint:?}"),
                "greater than 0 and at most 4294967295 seconds",
            ));
        }
        Ok(Self::new(Policy::Fixed(nanos(hint)), FOREVER))
    }

    /// Returns a policy without hints: no header is sent, and callers choose their own time.
    ///
    /// [`Shed::retry_after`](crate::Shed::retry_after) still returns the hint of [`adaptive`](Self::adaptive), within
    /// [`min`](Self::min) and [`max`](Self::max). [`milliseconds`](Self::milliseconds) has no effect on this policy.
    pub fn none() -> Self {
        Self {
            sent: Sent::Nowhere,
            ..Self::adaptive()
        }
    }

    /// Sets the jitter: each hint gets longer by up to this fraction of it, evenly spread.
    ///
    /// The default is 0, as adaptive hints are spread already. The jitter takes no hint past [`max`](Self::max).
    ///
    /// # Panics
    ///
    /// If `fraction` is not from 0 to 1. [`try_jitter`](Self::try_jitter) returns an error instead.
    #[track_caller]
    pub fn jitter(self, fraction: f64) -> Self {
        expect_valid(self.try_jitter(fraction))
    }

    /// Sets the [`jitter`](Self::jitter) to a value from a configuration.
    ///
    /// # Errors
    ///
    /// If `fraction` is not from 0 to 1.
    pub fn try_jitter(self, fraction: f64) -> Result<Self, InvalidSetting> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(InvalidSetting::new("jitter", fraction, "from 0 to 1"));
        }
        let jitter = (fraction * (1_u64 << 32) as f64) as u64;
        Ok(Self { jitter, ..self })
    }

    /// Sets the shortest hint.
    ///
    /// Over HTTP the shortest hint is always at least a second, and a hint with a fraction may be rounded down. Elsewhere the
    /// default is 10 milliseconds.
    ///
    /// # Panics
    ///
    /// If `min` is more than [`max`](Self::max) or than a fixed hint. [`try_min`](Self::try_min) returns an error
    /// instead.
    #[track_caller]
    pub fn min(self, min: Duration) -> Self {
        expect_valid(self.try_min(min))
    }

    /// Sets the [`min`](Self::min) to a value from a configuration.
    ///
    /// # Errors
    ///
    /// If `min` is more than [`max`](Self::max) or than a fixed hint.
    pub fn try_min(self, min: Duration) -> Result<Self, InvalidSetting> {
        let (most, named) = match self.policy {
            Policy::Adaptive => (self.max, "the longest"),
            Policy::Fixed(hint) => (hint, "the fixed one"),
        };
        if nanos(min) > most {
            let given = format_args!("{min:?}").to_string();
            let allowed = format!("at most {:?}, {named}", Duration::from_nanos(most));
            return Err(InvalidSetting::new("shortest hint", given, allowed));
        }
        let min = nanos(min);
        Ok(Self { min, ..self })
    }

    /// Sets the longest hint. The default of adaptive hints is a minute.
    ///
    /// An excess that needs longer than this to drain returns too early, at a rate above capacity.
    ///
    /// # Panics
    ///
    /// If `max` is less than a second, than [`min`](Self::min) or than a fixed hint, or more than `u32::MAX` seconds.
    /// [`try_max`](Self::try_max) returns an error instead.
    #[track_caller]
    pub fn max(self, max: Duration) -> Self {
        expect_valid(self.try_max(max))
    }

    /// Sets the [`max`](Self::max) to a value from a configuration.
    ///
    /// # Errors
    ///
    /// If `max` is less than a second, than [`min`](Self::min) or than a fixed hint, or more than `u32::MAX` seconds.
    pub fn try_max(self, max: Duration) -> Result<Self, InvalidSetting> {
        let hint = match self.policy {
            Policy::Adaptive => 0,
            Policy::Fixed(hint) => hint,
        };
        let least = Unit::Seconds.least().max(self.min).max(hint);
        if !(least..=FOREVER).contains(&nanos(max)) {
            let given = format_args!("{max:?}").to_string();
            let [least, most] = [least, FOREVER].map(Duration::from_nanos);
            let allowed = format!("from {least:?} to {most:?}");
            return Err(InvalidSetting::new("longest hint", given, allowed));
        }
        let max = nanos(max);
        Ok(Self { max, ..self })
    }

    /// Sets whether HTTP responses also carry the exact hint in milliseconds, as `retry-after-ms`. The default is `false`.
    ///
    /// Few clients read this header: the SDKs of OpenAI and Azure do. A policy [without hints](Self::none) does not send it.
    pub fn milliseconds(self, milliseconds: bool) -> Self {
        let sent = match (self.sent, milliseconds) {
            (Sent::Nowhere, _) => Sent::Nowhere,
            (_, true) => Sent::SecondsAndMilliseconds,
            (_, false) => Sent::Seconds,
        };
        Self { sent, ..self }
    }

    /// Sets the start of the sequence that spreads hints. The default is 0.
    ///
    /// With different seeds, instances of a server do not spread their hints alike. The same seed and the same clock give the
    /// same hints.
    pub fn seed(self, seed: u64) -> Self {
        let seed = Some(seed);
        Self { seed, ..self }
    }

    /// Sets the seed, if none is set.
    pub(crate) fn or_seed(self, seed: u64) -> Self {
        let seed = self.seed.or(Some(seed));
        Self { seed, ..self }
    }

    /// Returns the hint for a refused caller. Calls `counts` only when the rates are due to be measured.
    pub(crate) fn hint(
        &self,
        schedule: &Schedule,
        refusal: Refusal<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Hint {
        let nth = refusal.nth.wrapping_add(self.seed.unwrap_or(0));
        match self.policy {
            Policy::Fixed(hint) if self.jitter == 0 => {
                // Rounded up: no caller gets less than the configured hint.
                self.told(hint, hint.div_ceil(SECOND))
            }
            Policy::Fixed(hint) => {
                let wait = self.jittered(hint, nth);
                self.told(wait, self.rounded(wait, 0, nth))
            }
            Policy::Adaptive => {
                let least = refusal.unit.least().max(self.min);
                let most = self.max.saturating_sub(least);
                let wait = schedule.join(refusal, most, nth, counts);
                let blur = schedule.blur(wait);
                let wait = self.jittered(least + wait, nth);
                self.told(wait, self.rounded(wait, blur, nth))
            }
        }
    }

    fn told(&self, nanos: u64, whole: u64) -> Hint {
        Hint {
            nanos,
            // At most `FOREVER`.
            whole: whole.max(1) as u32,
            sent: self.sent,
        }
    }

    fn jittered(&self, wait: u64, nth: u64) -> u64 {
        if self.jitter == 0 {
            return wait;
        }
        let left = self.max.saturating_sub(wait);
        // 2⁶² nanoseconds at most, by 2³².
        let more = ((u128::from(wait) * u128::from(self.jitter)) >> 32) as u64;
        wait + share(more.min(left), spread_apart(nth))
    }

    /// Returns `wait` in whole seconds, moved by up to `blur` to either side, at least half a second.
    ///
    /// So the fraction of `wait` decides how many callers get a second more.
    fn rounded(&self, wait: u64, blur: u64, nth: u64) -> u64 {
        let left = self.max.saturating_sub(wait);
        let blur = blur.min(left / 3).max(SECOND / 2);
        let rounded = (wait + SECOND / 2 + share(2 * blur, spread(nth))).saturating_sub(blur);
        rounded.clamp(self.min.max(SECOND), self.max) / SECOND
    }
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self::adaptive()
    }
}

impl Hint {
    pub(crate) fn wait(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Returns the value of `Retry-After`, if it is sent.
    pub(crate) fn seconds(self) -> Option<u64> {
        (self.sent != Sent::Nowhere).then_some(self.whole.into())
    }

    /// Returns the value of `grpc-retry-pushback-ms`, if it is sent. Rounded up, and never 0: a client may stall on 0.
    pub(crate) fn milliseconds(self) -> Option<u64> {
        let milliseconds = self.nanos.div_ceil(1_000_000).max(1);
        (self.sent != Sent::Nowhere).then_some(milliseconds)
    }

    /// Returns the value of `retry-after-ms`, if it is sent.
    pub(crate) fn milliseconds_beside(self) -> Option<u64> {
        let beside = self.sent == Sent::SecondsAndMilliseconds;
        beside.then(|| self.milliseconds()).flatten()
    }
}

#[cfg(test)]
pub(crate) mod tests;
