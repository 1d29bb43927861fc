//! How long requests took, by how they ended: in buckets, so that it takes the same memory however many they are.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::{
    control::controller::{Outcome, Sample},
    support::clock::nanos,
};

/// One histogram for each [`Outcome`].
#[derive(Debug)]
pub(crate) struct Latencies(Box<[AtomicUsize]>);

/// Buckets an octave: each is a 16th of its octave wide, so its middle is within 3 % of all that is in it.
const STEPS: u32 = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;

/// From 2¹⁰ ns, 1 µs, to 2⁴⁰ ns, 18 minutes. What is beyond counts as the nearest.
const LOWEST: u32 = 10;
const HIGHEST: u32 = 40;

const BUCKETS: usize = ((HIGHEST - LOWEST) * STEPS) as usize;

pub(crate) const OUTCOMES: [&str; 4] = ["success", "overload", "cancelled", "ignored"];

fn row(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Success => 0,
        Outcome::Overload => 1,
        Outcome::Cancelled => 2,
        Outcome::Ignored => 3,
    }
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let buckets = BUCKETS * OUTCOMES.len();
        Self((0..buckets).map(|_| AtomicUsize::new(0)).collect())
    }

    pub(crate) fn add(&self, sample: &Sample) {
        let at = row(sample.outcome) * BUCKETS + bucket(sample.latency);
        // Relaxed, here and below: a number of events that orders nothing.
        self.0[at].fetch_add(1, Ordering::Relaxed);
    }

    /// What came since the last call: an outcome, a latency in seconds, and how often.
    pub(crate) fn take(&self) -> impl Iterator<Item = (&'static str, f64, usize)> {
        self.0.iter().enumerate().filter_map(|(at, count)| {
            // Reads before it writes: most are 0.
            if count.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let count = count.swap(0, Ordering::Relaxed);
            let seconds = middle(at % BUCKETS).as_secs_f64();
            Some((OUTCOMES[at / BUCKETS], seconds, count))
        })
    }
}

fn bucket(latency: Duration) -> usize {
    let nanos = nanos(latency).clamp(1 << LOWEST, (1 << HIGHEST) - 1);
    let octave = nanos.ilog2();
    let step = (nanos >> (octave - STEP_BITS)) as u32 % STEPS;
    ((octave - LOWEST) * STEPS + step) as usize
}

fn middle(bucket: usize) -> Duration {
    let (octave, step) = (bucket as u32 / STEPS, bucket as u64 % u64::from(STEPS));
    let width = 1 << (octave + LOWEST - STEP_BITS);
    Duration::from_nanos((u64::from(STEPS) + step) * width + width / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_bucket_is_within_3_percent_of_what_is_in_it() {
        let mut nanos = 1_024_u64;
        while nanos < 1 << HIGHEST {
            let middle = middle(bucket(Duration::from_nanos(nanos))).as_nanos() as f64;
            let off = (middle / nanos as f64 - 1.0).abs();
            assert!(off < 0.032, "{nanos} ns read as {middle} ns");
            nanos += 1 + nanos / 97;
        }
    }

    #[test]
    fn what_is_beyond_the_buckets_counts_as_the_nearest() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }
}
