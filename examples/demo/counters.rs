//! Counters and latency histograms of the callers, which can be added up.

use std::time::Duration;

use super::callers::Class;

/// Counters of one interval, or of a phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Requests sent for the first time.
    pub(crate) fresh: usize,
    pub(crate) classes: [Outcomes; 2],
    /// Latencies of requests that were not refused. A timed-out request counts with its time until then.
    pub(crate) latency: Histogram,
    /// Retry hints of refusals.
    pub(crate) hints: Histogram,
    /// Lateness of the generator.
    pub(crate) lateness: Histogram,
}

/// Outcomes of the requests of one class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) sent: usize,
    /// Successful responses within the timeout.
    pub(crate) succeeded: usize,
    /// Requests that timed out.
    pub(crate) timed_out: usize,
    pub(crate) refused: usize,
    /// Other failures: the queue was full, or the connection broke.
    pub(crate) failed: usize,
}

impl Counters {
    pub(crate) fn class(&mut self, class: Class) -> &mut Outcomes {
        &mut self.classes[class as usize]
    }

    /// Returns the sum of both classes.
    pub(crate) fn all(&self) -> Outcomes {
        let [mut sum, other] = self.classes;
        sum.add(&other);
        sum
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.fresh += other.fresh;
        for (sum, class) in self.classes.iter_mut().zip(&other.classes) {
            sum.add(class);
        }
        self.latency.add(&other.latency);
        self.hints.add(&other.hints);
        self.lateness.add(&other.lateness);
    }
}

impl Outcomes {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.timed_out += other.timed_out;
        self.refused += other.refused;
        self.failed += other.failed;
    }

    /// Returns the share of refusals among the requests that have ended.
    pub(crate) fn refused_share(&self) -> Option<f64> {
        self.share(self.refused)
    }

    /// Returns the share of timeouts and failures among the requests that have ended.
    pub(crate) fn failed_share(&self) -> Option<f64> {
        self.share(self.timed_out + self.failed)
    }

    fn share(&self, part: usize) -> Option<f64> {
        let ended = self.succeeded + self.timed_out + self.refused + self.failed;
        (ended > 0).then(|| part as f64 / ended as f64)
    }
}

/// A histogram of durations, with an error of at most 5 %.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: [u32; BUCKETS],
    max: Duration,
}

/// Buckets per doubling, from `LEAST` up. 5 minutes are in the last bucket.
const PER_DOUBLING: f64 = 16.0;
const LEAST: Duration = Duration::from_micros(100);
const BUCKETS: usize = 352;

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let doublings = duration.div_duration_f64(LEAST).max(1.0).log2();
        let bucket = (doublings * PER_DOUBLING) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.max = self.max.max(duration);
    }

    fn add(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.max = self.max.max(other.max);
    }

    /// `None` if nothing was recorded.
    pub(crate) fn percentile(&self, percent: u64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        // The position of the percentile: of 100 values, the 99th.
        let wanted = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        let end = LEAST.mul_f64((bucket as f64 / PER_DOUBLING + 1.0 / PER_DOUBLING).exp2());
        Some(end.min(self.max))
    }
}
