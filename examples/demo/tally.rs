//! What callers saw: counts and distributions that can be added up.

use std::time::Duration;

use super::callers::Class;

/// From one beat to the next, or over a phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Requests sent for the first time.
    pub(crate) fresh: usize,
    pub(crate) classes: [Counts; 2],
    /// How long the callers waited that were not refused. Who left counts with how long that took.
    pub(crate) latency: Histogram,
    /// What the refused were told to wait.
    pub(crate) hints: Histogram,
    /// How late the generator sent.
    pub(crate) lateness: Histogram,
}

/// What became of the requests of one class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: usize,
    /// Answered before the deadline.
    pub(crate) good: usize,
    /// The deadline came first.
    pub(crate) late: usize,
    pub(crate) refused: usize,
    /// None of these: the queue was full, or the connection broke.
    pub(crate) failed: usize,
}

impl Tally {
    pub(crate) fn class(&mut self, class: Class) -> &mut Counts {
        &mut self.classes[class as usize]
    }

    /// Of both classes.
    pub(crate) fn all(&self) -> Counts {
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

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.good += other.good;
        self.late += other.late;
        self.refused += other.refused;
        self.failed += other.failed;
    }

    /// The refused, of those whose end is known.
    pub(crate) fn refused_share(&self) -> Option<f64> {
        self.share(self.refused)
    }

    /// Those who got nothing, of those whose end is known.
    pub(crate) fn failed_share(&self) -> Option<f64> {
        self.share(self.late + self.failed)
    }

    fn share(&self, part: usize) -> Option<f64> {
        let ended = self.good + self.late + self.refused + self.failed;
        (ended > 0).then(|| part as f64 / ended as f64)
    }
}

/// Durations, each known to within 5 %.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: [u32; BUCKETS],
    max: Duration,
}

/// From `LEAST` up, this many for each doubling: 5 minutes are in the last one.
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
        // Of 100, the 99th.
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
