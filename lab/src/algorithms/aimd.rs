//! Additive increase, multiplicative decrease.
//!
//! Source: `AIMDLimit` of Netflix's
//! [concurrency-limits](https://github.com/Netflix/concurrency-limits/blob/78a74b9878d38c4c048b0304ce12a162ab7b7222/concurrency-limits-core/src/main/java/com/netflix/concurrency/limits/limit/AIMDLimit.java)
//! (0.5.4). The algorithm is due to Chiu and Jain (1989).

use std::{ops::RangeInclusive, time::Duration};

use loadshed::control::{Controller, Decision, Outcome, Sample, Window};

use super::range::{Range, range_settings};

/// Netflix's AIMD, for comparison: the limit rises by one for a response, and falls by a tenth for a drop.
///
/// For each completed request, in the order of the window:
///
/// ```text
/// dropped, or latency > timeout   limit ← ⌊0.9 × limit⌋
/// else if 2 × in flight ≥ limit   limit ← limit + 1
/// ```
///
/// with a timeout of 5 s and a limit of 20 to 200 that begins at 20. All values are the defaults of `AIMDLimit` in
/// [concurrency-limits](https://github.com/Netflix/concurrency-limits) 0.5.4.
///
/// In the source, the gRPC server interceptor reports a call as dropped if it exceeds its deadline, or if the caller cancels
/// it at any time. Here a drop is [`Outcome::Overload`] or [`Outcome::Cancelled`]. Requests that are [`Outcome::Ignored`] are
/// ignored in the source, too.
///
/// The source has no window: it updates the limit at each request. Here a window gathers requests for 10 ms. The two differ in
/// how soon a new limit applies, and above 25,600 measured requests a second, where the window holds only a part of them.
///
/// # Known flaws, kept
///
/// - Every drop lowers the limit, also the drop of a request admitted before the last decrease: 21 drops in one episode take
///   the limit from 200 to its minimum.
/// - The limit grows as soon as half of it is used, although no request is refused.
/// - A queue lowers the limit only once a request takes longer than the timeout.
/// - Callers that cancel early for reasons of their own lower the limit.
///
/// ```
/// use std::time::Duration;
/// use loadshed::Budget;
/// use loadshed_lab::Aimd;
///
/// let budget = Budget::new(Aimd::default().timeout(Duration::from_secs(1)));
/// assert_eq!(budget.limit(), 20);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Aimd {
    range: Range,
    timeout: Duration,
}

/// The factor on the limit at a drop.
const BACKOFF: f64 = 0.9;

/// Short, because the source has no window; long enough that not every request takes the controller's lock.
const WINDOW: Duration = Duration::from_millis(10);

impl Default for Aimd {
    fn default() -> Self {
        Self {
            range: Range::new(20, 200),
            timeout: Duration::from_secs(5),
        }
    }
}

impl Aimd {
    range_settings!(min: "20", max: "200");

    /// Sets the latency above which a response counts as a drop. By default 5 s.
    ///
    /// # Panics
    ///
    /// Panics if `timeout` is zero.
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        assert!(
            !timeout.is_zero(),
            "invalid timeout 0 s: must be more than 0 s"
        );
        self.timeout = timeout;
        self
    }

    fn step(&self, limit: usize, sample: &Sample) -> usize {
        let dropped = match sample.outcome {
            Outcome::Overload | Outcome::Cancelled => true,
            Outcome::Success => sample.latency > self.timeout,
            _ => return limit,
        };
        let limit = if sample.latency.is_zero() {
            // The clock did not advance.
            limit
        } else if dropped {
            (limit as f64 * BACKOFF) as usize
        } else if sample.in_flight.saturating_mul(2) >= limit {
            limit + 1
        } else {
            limit
        };
        self.range.clamp(limit)
    }
}

impl Controller for Aimd {
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
        let step = |limit, sample| self.step(limit, sample);
        let limit = window.samples.iter().fold(window.limit, step);
        let reason = match limit {
            lower if lower < window.limit => "overload",
            higher if higher > window.limit => "headroom",
            _ => "enough",
        };
        Decision::new(limit, reason)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn sample(latency_ms: u64, in_flight: usize, outcome: Outcome) -> Sample {
        let mut sample = Sample::new(Instant::now());
        sample.latency = Duration::from_millis(latency_ms);
        sample.in_flight = in_flight;
        sample.outcome = outcome;
        sample
    }

    fn update(controller: &mut Aimd, limit: usize, samples: &[Sample]) -> Decision {
        let mut window = Window::new(Instant::now(), limit);
        window.samples = samples;
        controller.update(&window)
    }

    #[test]
    fn a_response_adds_one_where_half_of_the_limit_is_used() {
        let mut controller = Aimd::default();
        let full = [sample(10, 50, Outcome::Success); 4];
        assert_eq!(
            update(&mut controller, 97, &full),
            Decision::new(101, "headroom")
        );
        let half_empty = [sample(10, 48, Outcome::Success)];
        assert_eq!(
            update(&mut controller, 97, &half_empty),
            Decision::new(97, "enough")
        );
    }

    #[test]
    fn a_drop_of_any_kind_takes_a_tenth_rounded_down() {
        let mut controller = Aimd::default();
        for dropped in [
            sample(1, 1, Outcome::Overload),
            sample(1, 1, Outcome::Cancelled),
            sample(5_001, 1, Outcome::Success),
        ] {
            let decision = update(&mut controller, 105, &[dropped]);
            assert_eq!(decision, Decision::new(94, "overload"));
        }
        let in_time = [sample(5_000, 1, Outcome::Success)];
        assert_eq!(update(&mut controller, 105, &in_time).limit, 105);
    }

    #[test]
    fn as_in_its_source_every_drop_of_one_episode_cuts() {
        let drops = [sample(1_000, 200, Outcome::Cancelled); 21];
        assert_eq!(update(&mut Aimd::default(), 200, &drops[..20]).limit, 21);
        assert_eq!(update(&mut Aimd::default(), 200, &drops).limit, 20);
    }

    #[test]
    fn p14_ignored_samples_change_nothing() {
        let ignored = [sample(60_000, 200, Outcome::Ignored); 50];
        let decision = update(&mut Aimd::default(), 100, &ignored);
        assert_eq!(decision, Decision::new(100, "enough"));
    }

    #[test]
    fn p15_it_stays_between_floor_and_ceiling() {
        let mut controller = Aimd::default().min(4).max(10);
        assert_eq!(controller.initial_limit(), 10);
        let responses = [sample(1, 10, Outcome::Success); 50];
        assert_eq!(update(&mut controller, 4, &responses).limit, 10);
        let drops = [sample(1, 10, Outcome::Overload); 50];
        assert_eq!(update(&mut controller, 10, &drops).limit, 4);
    }

    #[test]
    fn p15_a_clock_that_stands_still_changes_nothing() {
        for outcome in [Outcome::Success, Outcome::Overload, Outcome::Cancelled] {
            let samples = [sample(0, 100, outcome); 50];
            assert_eq!(update(&mut Aimd::default(), 100, &samples).limit, 100);
        }
    }

    #[test]
    fn p16_the_same_samples_lead_to_the_same_limits() {
        let samples: Vec<_> = (0..200)
            .map(|n| sample(n * 30, 60, Outcome::Success))
            .collect();
        let run = || update(&mut Aimd::default(), 100, &samples);
        assert_eq!(run(), run());
    }
}
