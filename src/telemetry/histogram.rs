//! The latencies of requests by outcome, in buckets: the memory does not depend on the number of requests.

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

/// Buckets an octave. Each is a 16th of its octave wide, so its middle is within 3 % of each latency in it.
const STEPS: u32 = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;

/// The buckets range from 2¹⁰ ns, 1 µs, to 2⁴⁰ ns, 18 minutes. Other latencies count as the nearest of them.
const LOWEST: u32 = 10;
const HIGHEST: u32 = 40;

const BUCKETS: usize = ((HIGHEST - LOWEST) * STEPS) as usize;

pub(crate) const OUTCOMES: [&str; 4] = ["success", "overload", "cancelled", "ignored"];

fn index(outcome: Outcome) -> usize {
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
        let at = index(sample.outcome) * BUCKETS + bucket(sample.latency);
        // Relaxed, here and below: the count orders no other memory access.
        self.0[at].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the latencies since the last call: an outcome, a latency in seconds, and its count.
    pub(crate) fn take(&self) -> impl Iterator<Item = (&'static str, f64, usize)> {
        self.0.iter().enumerate().filter_map(|(at, count)| {
            // A load first, as most buckets are empty.
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
    fn the_middle_of_a_bucket_is_within_3_percent_of_each_latency_in_it() {
        let mut nanos = 1_024_u64;
        while nanos < 1 << HIGHEST {
            let middle = middle(bucket(Duration::from_nanos(nanos))).as_nanos() as f64;
            let off = (middle / nanos as f64 - 1.0).abs();
            assert!(off < 0.032, "{nanos} ns read as {middle} ns");
            nanos += 1 + nanos / 97;
        }
    }

    #[test]
    fn a_latency_outside_of_the_range_counts_as_the_nearest_in_it() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }
}
