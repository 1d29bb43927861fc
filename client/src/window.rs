use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Requests and accepts of the last two minutes, in steps of five seconds: a ring of buckets, each of them one word.
///
/// A word has, from the top, 20 bits for which step it is of, and 22 each for requests and accepts. A bucket of an
/// earlier round is recognised by its step, and begins anew with the first request that finds it; steps come round
/// again after 60 days. A full bucket counts no more: four million in five seconds.
///
/// # Memory ordering
///
/// `Relaxed`: a bucket changes in one step, and a sum over buckets that others change meanwhile is an estimate.
#[derive(Debug)]
pub(super) struct Window {
    epoch: Instant,
    buckets: [AtomicU64; BUCKETS as usize],
}

const STEP: Duration = Duration::from_secs(5);
const BUCKETS: u64 = 24;

const COUNT_BITS: u32 = 22;
const COUNT_MOST: u64 = (1 << COUNT_BITS) - 1;
const STEP_MOST: u64 = (1 << 20) - 1;

#[derive(Clone, Copy)]
struct Bucket {
    step: u64,
    requests: u64,
    accepts: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            buckets: Default::default(),
        }
    }

    /// One more request, and as many `accepts`: none or one.
    pub(super) fn add(&self, now: Instant, accepts: u32) {
        let step = self.step(now);
        let add = |packed| {
            let bucket = Bucket::unpack(packed).at(step);
            (bucket.requests < COUNT_MOST).then(|| {
                Bucket {
                    requests: bucket.requests + 1,
                    accepts: bucket.accepts + u64::from(accepts),
                    ..bucket
                }
                .pack()
            })
        };
        // A full bucket is left as it is.
        let _ = self.buckets[(step % BUCKETS) as usize].fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            add,
        );
    }

    /// Requests and accepts.
    pub(super) fn sums(&self, now: Instant) -> (u32, u32) {
        let step = self.step(now);
        let (mut requests, mut accepts) = (0, 0);
        for bucket in &self.buckets {
            let bucket = Bucket::unpack(bucket.load(Ordering::Relaxed));
            if bucket.age(step) < BUCKETS {
                requests += bucket.requests as u32;
                accepts += bucket.accepts as u32;
            }
        }
        (requests, accepts)
    }

    fn step(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() / STEP.as_secs()
    }
}

impl Bucket {
    /// As it is at this step: empty, if what it has is of an earlier round.
    fn at(self, step: u64) -> Self {
        if self.age(step) == 0 {
            return self;
        }
        Self {
            step: step & STEP_MOST,
            requests: 0,
            accepts: 0,
        }
    }

    fn age(self, step: u64) -> u64 {
        step.wrapping_sub(self.step) & STEP_MOST
    }

    fn pack(self) -> u64 {
        self.step << (2 * COUNT_BITS) | self.requests << COUNT_BITS | self.accepts
    }

    fn unpack(packed: u64) -> Self {
        Self {
            step: packed >> (2 * COUNT_BITS),
            requests: packed >> COUNT_BITS & COUNT_MOST,
            accepts: packed & COUNT_MOST,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of everything that was ever added.
        #[test]
        fn it_has_what_came_within_the_last_24_steps(
            gaps in prop::collection::vec((0_u64..40_000, any::<bool>()), 1..300),
        ) {
            let window = Window::new();
            let mut now = window.epoch;
            let mut all = VecDeque::new();
            for (gap, accepted) in gaps {
                now += Duration::from_millis(gap);
                window.add(now, u32::from(accepted));
                all.push_back((window.step(now), accepted));
                let since = window.step(now).saturating_sub(BUCKETS - 1);
                let recent: Vec<_> = all.iter().filter(|(step, _)| *step >= since).collect();
                let accepts = recent.iter().filter(|(_, accepted)| *accepted).count();
                prop_assert_eq!(window.sums(now), (recent.len() as u32, accepts as u32));
            }
        }
    }

    #[test]
    fn a_full_bucket_stays_full_and_spoils_no_other() {
        let window = Window::new();
        let full = Bucket {
            step: 0,
            requests: COUNT_MOST,
            accepts: COUNT_MOST,
        };
        window.buckets[0].store(full.pack(), Ordering::Relaxed);
        window.add(window.epoch, 1);
        let most = COUNT_MOST as u32;
        assert_eq!(window.sums(window.epoch), (most, most));
    }

    #[test]
    fn after_60_days_it_counts_on() {
        let window = Window::new();
        let days = Duration::from_secs((STEP_MOST + 3) * STEP.as_secs());
        window.add(window.epoch + days, 1);
        assert_eq!(window.sums(window.epoch + days), (1, 1));
        window.add(window.epoch + days + STEP, 0);
        assert_eq!(window.sums(window.epoch + days + STEP), (2, 1));
    }
}
