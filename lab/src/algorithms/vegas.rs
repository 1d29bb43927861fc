//! TCP Vegas, for requests.
//!
//! Source: `VegasLimit` of Netflix's
//! [concurrency-limits](https://github.com/Netflix/concurrency-limits/blob/78a74b9878d38c4c048b0304ce12a162ab7b7222/concurrency-limits-core/src/main/java/com/netflix/concurrency/limits/limit/VegasLimit.java)
//! (0.5.4). TCP Vegas is due to Brakmo and Peterson (1995).

use std::{ops::RangeInclusive, time::Duration};

use loadshed::control::{Controller, Decision, Outcome, Sample, Window};

use super::range::{Range, range_settings};

/// Netflix's Vegas, for comparison: the limit follows an estimate of the queue.
///
/// For each completed request, in the order of the window, where `lowest` is the lowest latency so far, and `step` is
/// ⌊log₁₀ limit⌋, at least 1:
///
/// ```text
/// queue = ⌈limit × (1 − lowest ÷ latency)⌉
///
/// dropped                    limit − step
/// 2 × in flight < limit      unchanged
/// queue ≤ step               limit + 6 × step
/// queue < 3 × step           limit + step
/// queue > 6 × step           limit − step
/// ```
///
/// The limit is 1 to 1,000 and begins at 20. After 15 to 30 × limit requests (30 × a random factor of ½ to 1, drawn
/// anew each time), the latency of the current request becomes `lowest`, whatever its value. All values are the defaults of
/// `VegasLimit` in [concurrency-limits](https://github.com/Netflix/concurrency-limits) 0.5.4.
///
/// As for [`Aimd`](super::Aimd), a drop is [`Outcome::Overload`] or [`Outcome::Cancelled`].
///
/// The source updates the limit at each request: its limiters use `VegasLimit` without a window by default. Here each sample
/// is an update of its own, too, but a window gathers the samples for 10 ms. The two differ in how soon a new limit applies,
/// and above 25,600 measured requests a second, where the window holds only a part of them.
///
/// # Known flaws, kept
///
/// - Under a lasting overload the new `lowest` includes a queue. The algorithm no longer sees that queue, and the limit grows.
///   One slow response at that moment has the same effect.
/// - Where latencies vary, the lowest of many is far below the mean: the limit falls without a queue.
/// - A quick failure that reports overload, or a call that is cancelled at once, counts as a low latency.
///
/// ```
/// use loadshed::Budget;
/// use loadshed_lab::Vegas;
///
/// let budget = Budget::new(Vegas::default().max(500).seed(7));
/// assert_eq!(budget.limit(), 20);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Vegas {
    range: Range,
    lowest: Option<Duration>,
    /// Requests since the lowest latency was last replaced.
    since_probe: u64,
    /// The number of the random factor in use.
    draw: u64,
}

/// The number of requests, in units of the limit and of a random factor, after which the lowest latency is replaced.
const PROBE: f64 = 30.0;

/// The fractional part of the golden ratio, in units of 2⁻⁶⁴.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Short, because the source has no window; long enough that not every request takes the controller's lock.
const WINDOW: Duration = Duration::from_millis(10);

impl Default for Vegas {
    fn default() -> Self {
        Self {
            range: Range::new(1, 1_000),
            lowest: None,
            since_probe: 0,
            draw: 1,
        }
    }
}

impl Vegas {
    range_settings!(min: "1", max: "1,000");

    /// Sets the seed of the random factors. By default 1. Two controllers with the same seed draw the same factors.
    pub fn seed(mut self, seed: u64) -> Self {
        self.draw = seed;
        self
    }

    /// Returns the limit after one request, given the limit before it.
    fn step(&mut self, limit: usize, sample: &Sample) -> usize {
        // A latency of zero means that the clock did not advance.
        if sample.outcome == Outcome::Ignored || sample.latency.is_zero() {
            return limit;
        }
        self.since_probe += 1;
        if PROBE * self.factor() * limit as f64 <= self.since_probe as f64 {
            self.draw = self.draw.wrapping_add(1);
            self.since_probe = 0;
            self.lowest = Some(sample.latency);
            return limit;
        }
        match self.lowest {
            Some(lowest) if lowest <= sample.latency => {
                self.range.clamp(next(limit, lowest, sample))
            }
            _ => {
                self.lowest = Some(sample.latency);
                limit
            }
        }
    }

    /// Returns a factor of at least ½ and less than 1, from multiples of the golden ratio, which spread evenly (Weyl's sequence).
    fn factor(&self) -> f64 {
        // A float holds 53 bits.
        let bits = self.draw.wrapping_mul(GOLDEN) >> 11;
        0.5 + bits as f64 / (1_u64 << 53) as f64 / 2.0
    }
}

fn next(limit: usize, lowest: Duration, sample: &Sample) -> usize {
    let step = limit.checked_ilog10().unwrap_or(0).max(1) as usize;
    let share = 1.0 - lowest.as_secs_f64() / sample.latency.as_secs_f64();
    let queue = (limit as f64 * share).ceil() as usize;
    if sample.outcome != Outcome::Success {
        limit.saturating_sub(step)
    } else if sample.in_flight.saturating_mul(2) < limit {
        limit
    } else if queue <= step {
        limit + 6 * step
    } else if queue < 3 * step {
        limit + step
    } else if queue > 6 * step {
        limit.saturating_sub(step)
    } else {
        limit
    }
}

impl Controller for Vegas {
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
            lower if lower < window.limit => "queue",
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

    fn response(latency_ms: u64) -> Sample {
        sample(latency_ms, 1_000, Outcome::Success)
    }

    fn update(controller: &mut Vegas, limit: usize, samples: &[Sample]) -> Decision {
        let mut window = Window::new(Instant::now(), limit);
        window.samples = samples;
        controller.update(&window)
    }

    /// Returns a controller with 100 ms as the lowest latency.
    fn after_first_response() -> Vegas {
        let mut controller = Vegas::default();
        assert_eq!(update(&mut controller, 100, &[response(100)]).limit, 100);
        controller
    }

    #[test]
    fn the_limit_follows_the_estimated_queue() {
        // At a limit of 100 the step is 2, and the queue is 100 × (1 − 100 ms ÷ latency).
        for (latency_ms, limit) in [
            (100, 112), // no queue
            (102, 112), // 2
            (103, 102), // 3
            (105, 102), // 5
            (106, 100), // 6
            (113, 100), // 12
            (114, 98),  // 13
            (900, 98),  // 89
        ] {
            let decision = update(&mut after_first_response(), 100, &[response(latency_ms)]);
            assert_eq!(decision.limit, limit, "after {latency_ms} ms");
        }
    }

    #[test]
    fn an_unused_limit_stays_unless_something_is_dropped() {
        let unused = [sample(100, 49, Outcome::Success)];
        let decision = update(&mut after_first_response(), 100, &unused);
        assert_eq!(decision, Decision::new(100, "enough"));
        for outcome in [Outcome::Overload, Outcome::Cancelled] {
            let decision = update(&mut after_first_response(), 100, &[sample(100, 1, outcome)]);
            assert_eq!(decision, Decision::new(98, "queue"));
        }
    }

    #[test]
    fn as_in_its_source_a_probe_takes_a_queue_for_the_service_itself() {
        let mut controller = after_first_response();
        // The probe comes after at most 30 × 100 requests, at a latency for which the limit stays.
        update(&mut controller, 100, &[response(110); 3_000]);
        assert_eq!(controller.lowest, Some(Duration::from_millis(110)));
        let decision = update(&mut controller, 100, &[response(110)]);
        assert_eq!(decision, Decision::new(112, "headroom"));
    }

    #[test]
    fn p15_it_stays_between_floor_and_ceiling() {
        let mut controller = Vegas::default();
        assert_eq!(
            (controller.limits(), controller.initial_limit()),
            (1..=1_000, 20)
        );
        assert_eq!(
            update(&mut controller, 20, &[response(100); 500]).limit,
            1_000
        );
        let drops = [sample(200, 1, Outcome::Overload); 900];
        assert_eq!(update(&mut controller, 1_000, &drops).limit, 1);
        assert_eq!(update(&mut controller.min(4), 5, &drops).limit, 4);
    }

    #[test]
    fn p15_a_clock_that_stands_still_changes_nothing() {
        let mut controller = after_first_response();
        for outcome in [Outcome::Success, Outcome::Overload, Outcome::Cancelled] {
            let still = [sample(0, 100, outcome); 5_000];
            assert_eq!(update(&mut controller, 100, &still).limit, 100);
        }
        assert_eq!(controller.lowest, Some(Duration::from_millis(100)));
    }

    #[test]
    fn p16_the_same_seed_probes_at_the_same_requests() {
        let run = |seed| -> Vec<usize> {
            let mut controller = Vegas::default().seed(seed);
            let samples: Vec<_> = (0..20_000).map(|n| response(100 + n % 37)).collect();
            let mut limit = 20;
            let windows = samples.chunks(50);
            windows
                .map(|samples| {
                    limit = update(&mut controller, limit, samples).limit;
                    limit
                })
                .collect()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
