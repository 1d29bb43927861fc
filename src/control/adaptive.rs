use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

use super::{Controller, Decision, Outcome, Sample, Window};
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
    judged: Judged,
}

/// What has been seen since the last decision.
#[derive(Clone, Debug, Default)]
struct Judged {
    /// The last change. Only what was admitted after it counts.
    since: Option<Instant>,
    overloaded: usize,
    total: usize,
    /// The most that were in flight when one of them was admitted.
    busiest: usize,
    refused: usize,
}

/// Longer than most callers of a service wait. The law's only constant with a unit.
const TOO_SLOW: Duration = Duration::from_secs(1);

/// Callers give up before an answer is too slow, or they would not have been callers of it.
const GAVE_UP: Duration = Duration::from_millis(500);

/// One in ten is too many: the windowed 90th percentile.
const OVERLOADED_SHARE: usize = 10;

/// What ended longer ago is of another episode.
const STALE: Duration = Duration::from_secs(5);

/// Fewer samples decide nothing: with 10, one slow answer alone is not yet more than one in ten.
const ENOUGH: usize = 10;

/// A step up is a twentieth: after a cut to half, some 15 steps lead back, each as long as requests take.
const STEP: usize = 20;

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            initial: None,
            // One must always run, or nothing would ever be learned again.
            min: 1,
            // More requests than a process has sockets for, by default on Linux.
            max: 1 << 16,
            judged: Judged::default(),
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

    fn decide(&mut self, window: &Window<'_>) -> Decision {
        let Judged {
            overloaded,
            total,
            busiest,
            refused,
            ..
        } = self.judged;
        if total < ENOUGH {
            return Decision::new(window.limit, "too few samples");
        }
        let decision = if overloaded * OVERLOADED_SHARE > total {
            let half = window.limit.min(busiest) / 2;
            Decision::new(half.max(self.min), "overload")
        } else if refused > 0 {
            let more = window.limit + (window.limit / STEP).max(1);
            Decision::new(more.min(self.max), "room to try")
        } else {
            Decision::new(window.limit, "enough")
        };
        let changed = decision.limit != window.limit;
        self.judged = Judged {
            since: if changed {
                Some(window.now)
            } else {
                self.judged.since
            },
            ..Judged::default()
        };
        decision
    }
}

impl Judged {
    fn take_in(&mut self, sample: &Sample) {
        let under_an_older_limit = self.since.is_some_and(|since| sample.admitted_at < since);
        let overload = match sample.outcome {
            Outcome::Ignored => return,
            Outcome::Cancelled if sample.latency < GAVE_UP => return,
            Outcome::Cancelled | Outcome::Overload => true,
            Outcome::Success => sample.latency > TOO_SLOW,
        };
        if !under_an_older_limit {
            self.total += 1;
            self.overloaded += usize::from(overload);
            self.busiest = self.busiest.max(sample.in_flight);
        }
    }
}

impl Controller for Adaptive {
    fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    fn initial_limit(&self) -> usize {
        self.initial.unwrap_or(self.max)
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        self.judged.refused += window.refused;
        for sample in window.samples {
            // A window stays open while nobody finishes: what it began with may be long over.
            let ended = sample.admitted_at + sample.latency;
            if window.now.saturating_duration_since(ended) <= STALE {
                self.judged.take_in(sample);
            }
        }
        self.decide(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` samples that were admitted at `at`, with this latency and outcome.
    fn samples(count: usize, at: Instant, latency: Duration, outcome: Outcome) -> Vec<Sample> {
        let mut sample = Sample::new(at);
        sample.latency = latency;
        sample.outcome = outcome;
        sample.in_flight = 100;
        vec![sample; count]
    }

    fn window(now: Instant, limit: usize, refused: usize, samples: &[Sample]) -> Window<'_> {
        let mut window = Window::new(now, limit);
        window.in_flight = limit;
        window.refused = refused;
        window.samples = samples;
        window
    }

    const QUICK: Duration = Duration::from_millis(100);
    const SLOW: Duration = Duration::from_millis(1_001);

    #[test]
    fn more_than_one_in_ten_slow_answers_halve_what_is_in_flight() {
        let (mut law, now) = (Adaptive::default(), Instant::now());
        let mut one_in_ten = samples(18, now, QUICK, Outcome::Success);
        one_in_ten.extend(samples(2, now, SLOW, Outcome::Success));
        let decision = law.update(&window(now, 100, 0, &one_in_ten));
        assert_eq!(decision, Decision::new(100, "enough"));

        let mut more = samples(17, now, QUICK, Outcome::Success);
        more.extend(samples(3, now, SLOW, Outcome::Success));
        let decision = law.update(&window(now, 100, 0, &more));
        assert_eq!(decision, Decision::new(50, "overload"));
    }

    #[test]
    fn one_episode_is_one_decrease() {
        let (mut law, start) = (Adaptive::default(), Instant::now());
        let slow = samples(20, start, SLOW, Outcome::Success);
        let cut_at = start + Duration::from_secs(1);
        assert_eq!(law.update(&window(cut_at, 100, 5, &slow)).limit, 50);
        // Those were admitted before the cut and say nothing about it.
        let later = cut_at + QUICK;
        let decision = law.update(&window(later, 50, 5, &slow));
        assert_eq!(decision, Decision::new(50, "too few samples"));
        // These were admitted under it.
        let still = samples(20, cut_at, SLOW, Outcome::Success);
        assert_eq!(law.update(&window(later, 50, 5, &still)).limit, 25);
    }

    #[test]
    fn it_grows_only_while_somebody_is_refused() {
        let (mut law, now) = (Adaptive::default(), Instant::now());
        let quick = samples(20, now, QUICK, Outcome::Success);
        assert_eq!(law.update(&window(now, 100, 0, &quick)).limit, 100);
        assert_eq!(law.update(&window(now, 100, 1, &quick)).limit, 105);
        assert_eq!(law.update(&window(now, 3, 1, &quick)).limit, 4);
    }

    #[test]
    fn quick_errors_and_callers_who_just_left_are_no_evidence() {
        let (mut law, now) = (Adaptive::default(), Instant::now());
        let mut mixed = samples(50, now, QUICK, Outcome::Ignored);
        mixed.extend(samples(50, now, QUICK, Outcome::Cancelled));
        let decision = law.update(&window(now, 100, 1, &mixed));
        assert_eq!(decision, Decision::new(100, "too few samples"));
        let gave_up = samples(20, now, GAVE_UP, Outcome::Cancelled);
        assert_eq!(law.update(&window(now, 100, 1, &gave_up)).limit, 50);
    }

    #[test]
    fn a_cut_is_by_what_was_in_flight_then_and_not_by_what_is_left() {
        let (mut law, now) = (Adaptive::default(), Instant::now());
        let slow = samples(20, now, SLOW, Outcome::Success);
        let mut emptied = window(now + SLOW, 1_000, 0, &slow);
        emptied.in_flight = 0;
        assert_eq!(law.update(&emptied).limit, 50);
    }

    #[test]
    fn what_is_long_over_is_no_evidence() {
        let (mut law, now) = (Adaptive::default(), Instant::now());
        let slow = samples(40, now, SLOW, Outcome::Success);
        let an_hour_later = window(now + Duration::from_secs(3600), 100, 0, &slow);
        let decision = law.update(&an_hour_later);
        assert_eq!(decision, Decision::new(100, "too few samples"));
    }

    #[test]
    fn it_stays_between_floor_and_ceiling() {
        let mut law = Adaptive::default().min(4).max(10);
        let now = Instant::now();
        let slow = samples(20, now, Duration::ZERO, Outcome::Overload);
        assert_eq!(law.update(&window(now, 5, 0, &slow)).limit, 4);
        let quick = samples(20, now, QUICK, Outcome::Success);
        assert_eq!(law.update(&window(now, 10, 1, &quick)).limit, 10);
    }
}
