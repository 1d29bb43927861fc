use std::{ops::RangeInclusive, time::Duration};

use super::{Controller, Decision, Window, knee::Law};
use crate::invalid::{InvalidSetting, expect_valid};

/// The default law of a learned budget. It needs no settings.
///
/// It begins at its ceiling, so that nothing is refused before there is a reason to. When more than one in ten of the
/// requests in a window are a sign of overload, the limit becomes half of what was in flight at most
/// when they were admitted; while requests are refused
/// and there is no such sign, it grows by a twentieth. A sign of overload is an answer after more than a second, an
/// answer that says so (503, 504), or a caller who gave up after half a second or more.
///
/// This is additive-increase, multiplicative-decrease (Chiu and Jain, 1989) on a windowed percentile, with one decrease
/// per episode: after any change, only requests that were admitted under the new limit are judged.
///
/// Its objective of a second is absolute. A server whose healthy answers take longer than that wants
/// [`Budget::fixed`](crate::Budget::fixed).
///
/// ```
/// use loadshed::{Adaptive, Budget};
///
/// let budget = Budget::new(Adaptive::default().initial(64).min(4).max(2_000));
/// assert_eq!(budget.limit(), 64);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Adaptive {
    initial: Option<usize>,
    min: usize,
    max: usize,
    law: Law,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            initial: None,
            // One must always run, or nothing would ever be learned again.
            min: 1,
            // More requests than a process has sockets for, by default on Linux.
            max: 1 << 16,
            law: Law::default(),
        }
    }
}

impl Adaptive {
    /// The limit to begin with, in requests. By default the ceiling.
    ///
    /// # Panics
    ///
    /// If `initial` is not within floor and ceiling. Set those first. [`try_initial`](Self::try_initial) returns an
    /// error instead.
    #[track_caller]
    pub fn initial(self, initial: usize) -> Self {
        expect_valid(self.try_initial(initial))
    }

    /// [`initial`](Self::initial) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `initial` is not within floor and ceiling.
    pub fn try_initial(mut self, initial: usize) -> Result<Self, InvalidSetting> {
        let (min, max) = (self.min, self.max);
        if !(min..=max).contains(&initial) {
            let allowed = format!("{min} to {max}, the floor and the ceiling");
            return Err(InvalidSetting::new("initial limit", initial, allowed));
        }
        self.initial = Some(initial);
        Ok(self)
    }

    /// The floor, in requests. By default 1.
    ///
    /// # Panics
    ///
    /// If `min` is 0 or above the initial limit. [`try_min`](Self::try_min) returns an error instead.
    #[track_caller]
    pub fn min(self, min: usize) -> Self {
        expect_valid(self.try_min(min))
    }

    /// [`min`](Self::min) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `min` is 0 or above the initial limit.
    pub fn try_min(mut self, min: usize) -> Result<Self, InvalidSetting> {
        let initial = self.initial_limit();
        if !(1..=initial).contains(&min) {
            let allowed = format!("1 to {initial}, the initial limit or else the ceiling");
            return Err(InvalidSetting::new("floor", min, allowed));
        }
        self.min = min;
        Ok(self)
    }

    /// The ceiling, in requests. By default 65,536.
    ///
    /// # Panics
    ///
    /// If `max` is below the floor, below an initial limit that was set, or more than 2,147,483,647.
    /// [`try_max`](Self::try_max) returns an error instead.
    #[track_caller]
    pub fn max(self, max: usize) -> Self {
        expect_valid(self.try_max(max))
    }

    /// [`max`](Self::max) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `max` is below the floor, below an initial limit that was set, or more than 2,147,483,647.
    pub fn try_max(mut self, max: usize) -> Result<Self, InvalidSetting> {
        let least = self.initial.unwrap_or(self.min);
        if !(least..=super::MAX_LIMIT).contains(&max) {
            let allowed = format!("{least} to {}", super::MAX_LIMIT);
            return Err(InvalidSetting::new("ceiling", max, allowed));
        }
        self.max = max;
        Ok(self)
    }
}

impl Controller for Adaptive {
    fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    fn initial_limit(&self) -> usize {
        self.initial.unwrap_or(self.max)
    }

    fn window(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let (target, reason) = self.law.update(window);
        let limit = target.map_or(self.max, |target| (target as usize).clamp(self.min, self.max));
        Decision::new(limit, reason)
    }
}
