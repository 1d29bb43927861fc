//! Netflix's Gradient2: a gradient of latency.
//!
//! Source: `Gradient2Limit` within `WindowedLimit` of Netflix's
//! [concurrency-limits](https://github.com/Netflix/concurrency-limits/blob/78a74b9878d38c4c048b0304ce12a162ab7b7222/concurrency-limits-core/src/main/java/com/netflix/concurrency/limits/limit/Gradient2Limit.java)
//! (0.5.4).

use std::{ops::RangeInclusive, time::Duration};

use loadshed::control::{Controller, Decision, Outcome, Sample, Window};

use super::range::{Range, range_settings};

/// Netflix's Gradient2, for comparison: the limit follows the ratio of a long to a short average of latency.
///
/// For each window of 1 s, where `short` is its mean latency, and `long` is the exponential average of `short` over 600 windows
/// (the mean, for the first 10 windows):
///
/// ```text
/// gradient = 1.5 × long ÷ short, within ½ and 1
/// limit    ← 0.8 × limit + 0.2 × (gradient × limit + 4)
/// ```
///
/// The limit is 20 to 200 and begins at 20. It does not change in a window in which less than half of it was in
/// flight at the most. Where `long` is more than twice `short`, `long` falls by a twentieth. All values are the defaults of `Gradient2Limit` in
/// [concurrency-limits](https://github.com/Netflix/concurrency-limits) 0.5.4.
///
/// The window is that of `WindowedLimit`, in which the README and the examples of the source wrap the algorithm. It lasts 1 s,
/// and yields the mean latency and the most requests in flight. Requests under 100 µs are left out. A window with fewer than
/// 10 other requests is discarded. As in the source, a drop ([`Outcome::Overload`], [`Outcome::Cancelled`]) counts only by its
/// latency. At high rates only a part of the requests is measured, and the mean is that of the measured requests.
///
/// # Known flaws, kept
///
/// - In a lasting overload `long` rises to `short` within 600 windows, and the limit rises with it.
/// - `long` includes the first windows: if these were overloaded, a queue is taken for the normal state.
/// - The limit grows as soon as half of it is used, although no request is refused.
/// - A slower dependency looks like a queue for some minutes.
///
/// ```
/// use loadshed::Budget;
/// use loadshed_lab::Gradient2;
///
/// let budget = Budget::new(Gradient2::default().max(1_000));
/// assert_eq!(budget.limit(), 20);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Gradient2 {
    range: Range,
    /// The limit with its fraction, because a step can be less than one request.
    estimate: Option<f64>,
    long: LongAverage,
}

/// The long average of latency, in seconds.
#[derive(Clone, Debug, Default)]
struct LongAverage {
    value: f64,
    /// The sum of the first windows.
    sum: f64,
    count: u32,
}

/// The ratio of `short` to `long` up to which there is no queue.
const TOLERANCE: f64 = 1.5;

/// The share of each step that is applied.
const SMOOTHING: f64 = 0.2;

/// The allowed queue, in requests.
const QUEUE: f64 = 4.0;

/// The number of windows of the long average, and of its initial mean.
const LONG_WINDOWS: f64 = 600.0;
const FIRST_WINDOWS: u32 = 10;

/// The window: its duration, the least number of requests, and the latency below which requests are left out.
const WINDOW: Duration = Duration::from_secs(1);
const ENOUGH: usize = 10;
const TOO_QUICK: Duration = Duration::from_micros(100);

impl Default for Gradient2 {
    fn default() -> Self {
        Self {
            range: Range::new(20, 200),
            estimate: None,
            long: LongAverage::default(),
        }
    }
}

impl Gradient2 {
    range_settings!(min: "20", max: "200");

    /// Returns the limit with its fraction; without, after a manual override.
    fn estimate(&self, limit: usize) -> f64 {
        let own = self.estimate.filter(|estimate| *estimate as usize == limit);
        own.unwrap_or(limit as f64)
    }
}

impl LongAverage {
    fn add(&mut self, short: f64) -> f64 {
        if self.count < FIRST_WINDOWS {
            self.count += 1;
            self.sum += short;
            self.value = self.sum / f64::from(self.count);
        } else {
            let factor = 2.0 / (LONG_WINDOWS + 1.0);
            self.value = self.value * (1.0 - factor) + short * factor;
        }
        self.value
    }
}

impl Controller for Gradient2 {
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
        let counts =
            |sample: &&Sample| sample.outcome != Outcome::Ignored && sample.latency >= TOO_QUICK;
        let samples = || window.samples.iter().filter(counts);
        let count = samples().count();
        if count < ENOUGH {
            return Decision::new(window.limit, "too few samples");
        }
        let sum: f64 = samples().map(|sample| sample.latency.as_secs_f64()).sum();
        let short = sum / count as f64;
        let long = self.long.add(short);
        if long / short > 2.0 {
            self.long.value *= 0.95;
        }

        let estimate = self.estimate(window.limit);
        let busiest = samples().map(|sample| sample.in_flight).max().unwrap_or(0);
        if (busiest as f64) < estimate / 2.0 {
            return Decision::new(window.limit, "enough");
        }
        let gradient = (TOLERANCE * long / short).clamp(0.5, 1.0);
        let aim = estimate * gradient + QUEUE;
        let (min, max) = self.range.limits().into_inner();
        let smoothed = estimate * (1.0 - SMOOTHING) + aim * SMOOTHING;
        let next = smoothed.clamp(min as f64, max as f64);
        self.estimate = Some(next);
        let reason = match next {
            lower if lower < estimate => "latency rises",
            higher if higher > estimate => "headroom",
            _ => "enough",
        };
        Decision::new(next as usize, reason)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn samples(count: usize, latency_ms: u64) -> Vec<Sample> {
        let mut sample = Sample::new(Instant::now());
        sample.latency = Duration::from_millis(latency_ms);
        sample.in_flight = 1_000;
        vec![sample; count]
    }

    fn update(controller: &mut Gradient2, limit: usize, samples: &[Sample]) -> Decision {
        let mut window = Window::new(Instant::now(), limit);
        window.samples = samples;
        controller.update(&window)
    }

    /// Returns the limits after windows with these latencies, in milliseconds.
    fn run(controller: &mut Gradient2, mut limit: usize, latencies_ms: &[u64]) -> Vec<usize> {
        let after = |&latency_ms: &u64| {
            limit = update(controller, limit, &samples(10, latency_ms)).limit;
            limit
        };
        latencies_ms.iter().map(after).collect()
    }

    #[test]
    fn a_steady_latency_adds_four_fifths_of_a_request_a_window() {
        let steps = run(&mut Gradient2::default(), 100, &[50; 6]);
        assert_eq!(steps, [100, 101, 102, 103, 104, 104]);
    }

    #[test]
    fn a_latency_of_twice_the_long_average_takes_a_part_of_the_limit() {
        let mut controller = Gradient2::default();
        run(&mut controller, 100, &[50; 10]);
        // long = 50 × (1 − 2/601) + 100 × 2/601 = 50.166 ms, so the gradient is 0.7525.
        let decision = update(&mut controller, 100, &samples(10, 100));
        assert_eq!(decision, Decision::new(95, "latency rises"));
        // The gradient is at least ½, and a fifth of the step applies: 100 → 90.8.
        let decision = update(&mut controller, 100, &samples(10, 60_000));
        assert_eq!(decision.limit, 90);
    }

    #[test]
    fn as_in_its_source_a_lasting_overload_becomes_the_normal_state() {
        let mut controller = Gradient2::default();
        run(&mut controller, 200, &[50; 10]);
        let limits = run(&mut controller, 200, &[150; 600]);
        assert!(limits[99] < 50, "{} after 100 windows", limits[99]);
        assert_eq!(limits[599], 200);
    }

    #[test]
    fn a_long_average_that_is_too_high_comes_down_faster() {
        let mut controller = Gradient2::default();
        run(&mut controller, 100, &[500; 10]);
        run(&mut controller, 100, &[50]);
        // One step of the average takes it to 498.5 ms, and then it falls by a twentieth.
        assert!((controller.long.value - 0.473_577).abs() < 1e-6);
    }

    #[test]
    fn an_unused_limit_stays() {
        let mut controller = Gradient2::default();
        let mut unused = samples(10, 50);
        unused.iter_mut().for_each(|sample| sample.in_flight = 49);
        let decision = update(&mut controller, 100, &unused);
        assert_eq!(decision, Decision::new(100, "enough"));
    }

    #[test]
    fn p14_too_few_too_quick_and_ignored_requests_decide_nothing() {
        let mut controller = Gradient2::default();
        let mut ignored = samples(50, 50);
        for sample in &mut ignored {
            sample.outcome = Outcome::Ignored;
        }
        for none in [samples(9, 50), samples(50, 0), ignored] {
            let decision = update(&mut controller, 100, &none);
            assert_eq!(decision, Decision::new(100, "too few samples"));
        }
        assert_eq!(controller.long.count, 0);
    }

    #[test]
    fn p15_it_stays_between_floor_and_ceiling() {
        let mut controller = Gradient2::default();
        assert_eq!(run(&mut controller, 200, &[50])[0], 200);
        run(&mut controller, 200, &[50; 10]);
        assert_eq!(run(&mut controller, 200, &[60_000; 30])[29], 20);
    }

    #[test]
    fn p16_the_same_windows_lead_to_the_same_limits() {
        let latencies_ms: Vec<u64> = (0..300).map(|n| 50 + n * 7 % 90).collect();
        let run = || run(&mut Gradient2::default(), 100, &latencies_ms);
        assert_eq!(run(), run());
    }

    #[test]
    fn a_manual_override_is_the_next_starting_point() {
        let mut controller = Gradient2::default();
        run(&mut controller, 100, &[50; 10]);
        assert_eq!(update(&mut controller, 50, &samples(10, 50)).limit, 50);
        assert_eq!(controller.estimate, Some(50.8));
    }
}
