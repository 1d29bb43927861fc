use std::time::Duration;

use super::{
    refusal::{Counts, Refusal, Unit},
    schedule::Schedule,
};
use crate::{
    support::{
        clock::{Now, nanos},
        invalid::{InvalidSetting, expect_valid},
        spread::{share, spread, spread_apart},
    },
    threshold::criticality::Criticality,
};

/// The policy for retry hints: when a refused caller should come back.
///
/// ```
/// use std::time::Duration;
/// use loadshed::{LoadShed, RetryAfter};
///
/// // The default is `RetryAfter::adaptive()`: as long as the excess needs to drain, spread out, at most a minute.
/// let shed = LoadShed::ratio(0.85);
///
/// // These callers wait for as long as they are told.
/// let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::adaptive().max(Duration::from_secs(600)));
///
/// // From 5 to 7.5 s, whatever the load.
/// let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::fixed(Duration::from_secs(5)).jitter(0.5));
/// ```
///
/// With the feature `serde`, it is read from a map of these fields, of which each may be absent. Any other field is an error.
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
    min: Duration,
    max: Duration,
    sent: Sent,
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Adaptive,
    Fixed(Duration),
}

/// In which headers over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nowhere,
    Seconds,
    SecondsAndMilliseconds,
}

/// What one refused caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// How long to wait. A word, as it is copied on its way to the answer, and a `Duration` is two of different lengths.
    nanos: u64,
    /// The same in whole seconds.
    pub(crate) whole: u32,
    sent: Sent,
}

/// Past a minute most callers have given up, or a person has acted.
const LONGEST: Duration = Duration::from_secs(60);

/// A century. No caller waits that long, and every header can say it.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

impl RetryAfter {
    const fn new(policy: Policy, max: Duration) -> Self {
        Self {
            policy,
            jitter: 0,
            min: Duration::ZERO,
            max,
            sent: Sent::Seconds,
            seed: None,
        }
    }

    /// The default: how long the excess needs to drain, each caller with a moment of its own, so that they come back
    /// as a flow which the server has room for. From 1 second over HTTP, and 10 milliseconds elsewhere, up to a minute.
    ///
    /// ```text
    /// hint = min + refused before it who are not back ÷ room
    /// room = 0.95 × capacity − fresh load, at least a tenth of the capacity
    /// ```
    ///
    /// Capacity is what completes in a second while requests are refused, fresh load what has arrived in each of the last
    /// 30 without being told to. Until they are known, one request is taken to last a second. Where the excess does not fit
    /// below [`max`](Self::max), it comes back as evenly as it can. Lower classes wait for the higher ones.
    pub fn adaptive() -> Self {
        Self::new(Policy::Adaptive, LONGEST)
    }

    /// The same for everyone. They will come back together: prefer [`adaptive`](Self::adaptive) where callers retry, or
    /// add some [`jitter`](Self::jitter).
    ///
    /// HTTP knows whole seconds; there the hint is rounded up.
    ///
    /// # Panics
    ///
    /// If `hint` is zero or more than `u32::MAX` seconds. [`try_fixed`](Self::try_fixed) returns an error instead.
    #[track_caller]
    pub fn fixed(hint: Duration) -> Self {
        expect_valid(Self::try_fixed(hint))
    }

    /// [`fixed`](Self::fixed) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `hint` is zero or more than `u32::MAX` seconds.
    pub fn try_fixed(hint: Duration) -> Result<Self, InvalidSetting> {
        if hint.is_zero() || hint > FOREVER {
            return Err(InvalidSetting::new(
                "retry after",
                format_args!("{hint:?}"),
                "greater than 0 and at most 4294967295 seconds",
            ));
        }
        Ok(Self::new(Policy::Fixed(hint), FOREVER))
    }

    /// Says nothing: no header is sent, and callers wait as they like. [`Shed::retry_after`](crate::Shed::retry_after)
    /// still tells what [`adaptive`](Self::adaptive) would have said.
    pub fn none() -> Self {
        Self {
            sent: Sent::Nowhere,
            ..Self::adaptive()
        }
    }

    /// Makes each hint longer by up to this share of it, evenly spread. By default 0: adaptive hints are spread already.
    ///
    /// # Panics
    ///
    /// If `fraction` is not from 0 to 1. [`try_jitter`](Self::try_jitter) returns an error instead.
    #[track_caller]
    pub fn jitter(self, fraction: f64) -> Self {
        expect_valid(self.try_jitter(fraction))
    }

    /// [`jitter`](Self::jitter) for a value that comes from configuration.
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

    /// The shortest hint. HTTP cannot say less than a second, whatever is set, and of a fraction it may say the whole second
    /// below. By default 10 milliseconds elsewhere.
    ///
    /// # Panics
    ///
    /// If `min` is more than [`max`](Self::max) or than a fixed hint. [`try_min`](Self::try_min) returns an error
    /// instead.
    #[track_caller]
    pub fn min(self, min: Duration) -> Self {
        expect_valid(self.try_min(min))
    }

    /// [`min`](Self::min) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `min` is more than [`max`](Self::max) or than a fixed hint.
    pub fn try_min(self, min: Duration) -> Result<Self, InvalidSetting> {
        let (most, named) = match self.policy {
            Policy::Adaptive => (self.max, "the longest"),
            Policy::Fixed(hint) => (hint, "the fixed one"),
        };
        if min > most {
            let given = format_args!("{min:?}").to_string();
            let allowed = format!("at most {most:?}, {named}");
            return Err(InvalidSetting::new("shortest hint", given, allowed));
        }
        Ok(Self { min, ..self })
    }

    /// The longest hint. By default a minute where it is adaptive.
    ///
    /// What needs longer than this to drain comes back too early, as a flow above capacity.
    ///
    /// # Panics
    ///
    /// If `max` is less than a second, than [`min`](Self::min) or than a fixed hint, or more than `u32::MAX` seconds.
    /// [`try_max`](Self::try_max) returns an error instead.
    #[track_caller]
    pub fn max(self, max: Duration) -> Self {
        expect_valid(self.try_max(max))
    }

    /// [`max`](Self::max) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `max` is less than a second, than [`min`](Self::min) or than a fixed hint, or more than `u32::MAX` seconds.
    pub fn try_max(self, max: Duration) -> Result<Self, InvalidSetting> {
        let hint = match self.policy {
            Policy::Adaptive => Duration::ZERO,
            Policy::Fixed(hint) => hint,
        };
        let least = Unit::Seconds.least().max(self.min).max(hint);
        if !(least..=FOREVER).contains(&max) {
            let given = format_args!("{max:?}").to_string();
            let allowed = format!("from {least:?} to {FOREVER:?}");
            return Err(InvalidSetting::new("longest hint", given, allowed));
        }
        Ok(Self { max, ..self })
    }

    /// Whether HTTP answers carry the exact hint too, in milliseconds, as `retry-after-ms`. Few clients read it: the
    /// SDKs of OpenAI and Azure do. By default they do not.
    pub fn milliseconds(self, milliseconds: bool) -> Self {
        let sent = match (self.sent, milliseconds) {
            (Sent::Nowhere, _) => Sent::Nowhere,
            (_, true) => Sent::SecondsAndMilliseconds,
            (_, false) => Sent::Seconds,
        };
        Self { sent, ..self }
    }

    /// Where the sequence begins that spreads hints, so that instances of one server do not spread alike. The same seed
    /// and the same clock give the same hints. By default 0.
    pub fn seed(self, seed: u64) -> Self {
        let seed = Some(seed);
        Self { seed, ..self }
    }

    /// With this seed, if it has none of its own.
    pub(crate) fn or_seed(self, seed: u64) -> Self {
        let seed = self.seed.or(Some(seed));
        Self { seed, ..self }
    }

    /// The hint for one refused caller. The `counts` are asked for only when rates are due to be measured.
    pub(crate) fn hint(
        &self,
        schedule: &Schedule,
        refusal: Refusal<'_>,
        counts: impl FnOnce() -> Counts,
    ) -> Hint {
        let nth = refusal.nth.wrapping_add(self.seed.unwrap_or(0));
        match self.policy {
            Policy::Fixed(hint) if self.jitter == 0 => {
                // Rounded up: nobody is told less than was asked for.
                let whole = hint.as_secs() + u64::from(hint.subsec_nanos() > 0);
                self.told(nanos(hint), whole)
            }
            Policy::Fixed(hint) => {
                let wait = self.jittered(nanos(hint), nth);
                self.told(wait, self.rounded(wait, 0, nth))
            }
            Policy::Adaptive => {
                let least = nanos(refusal.unit.least().max(self.min));
                let most = nanos(self.max).saturating_sub(least);
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
        let left = nanos(self.max).saturating_sub(wait);
        // 2⁶² nanoseconds at most, by 2³².
        let more = ((u128::from(wait) * u128::from(self.jitter)) >> 32) as u64;
        wait + share(more.min(left), spread_apart(nth))
    }

    /// In whole seconds, of which the fraction decides how many get one more; or any within `blur` of it.
    fn rounded(&self, wait: u64, blur: u64, nth: u64) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        let left = nanos(self.max).saturating_sub(wait);
        let blur = blur.min(left / 3).max(SECOND / 2);
        let rounded = (wait + SECOND / 2 + share(2 * blur, spread(nth))).saturating_sub(blur);
        let (least, most) = (self.min.as_secs().max(1), self.max.as_secs());
        (rounded / SECOND).clamp(least, most)
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

    /// For `Retry-After`, if it is sent.
    pub(crate) fn seconds(self) -> Option<u64> {
        (self.sent != Sent::Nowhere).then_some(self.whole.into())
    }

    /// For `grpc-retry-pushback-ms`, if it is sent. Rounded up, and never 0: a client that is told so may stall.
    pub(crate) fn milliseconds(self) -> Option<u64> {
        let milliseconds = self.nanos.div_ceil(1_000_000).max(1);
        (self.sent != Sent::Nowhere).then_some(milliseconds)
    }

    /// For `retry-after-ms`, if it is sent.
    pub(crate) fn milliseconds_beside(self) -> Option<u64> {
        let beside = self.sent == Sent::SecondsAndMilliseconds;
        beside.then(|| self.milliseconds()).flatten()
    }
}

#[cfg(test)]
pub(crate) mod tests;
