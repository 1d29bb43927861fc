//! How long callers wait.

use super::{estimates::Estimates, observation::has_timed_out};
use crate::control::controller::{CLIENT_TIMEOUTS, Outcome, Sample};

/// How long callers wait: as a setting says, else as most requests state, else as they are seen to. In seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientTimeout {
    pub(crate) set: Option<f64>,
    stated: StatedTimeout,
    /// At most 1.
    seen: f64,
}

/// How long callers wait, as most of the latest requests state.
///
/// A request without a timeout says nothing about its caller. So the stated timeouts count only where at least half of the latest
/// requests state one. Of different timeouts the median counts: a few short ones do not shorten the queue of all, and a few long
/// ones do not lengthen it.
#[derive(Clone, Copy, Debug, Default)]
struct StatedTimeout {
    /// The samples seen, [`LATEST`] at most.
    samples: f64,
    /// The share of the latest samples that state a timeout.
    share: f64,
    /// In seconds, 0 before the first one.
    median: f64,
}

/// The share is a mean of so many samples: where every second request states a timeout, its standard deviation is 0.02.
const LATEST: f64 = 256.0;

/// A timeout changes the median by this factor at most: a tenth is reached in 47 timeouts. Where 60 % of the requests state one
/// timeout and the others another one, the estimate is 11 % off the former, on average.
const STEP: f64 = 1.05;

/// Longer timeouts count as this one, in seconds. Many callers state a timeout that is no more than a safeguard, and the stated
/// timeout also delays the recognition of held requests. In the simulator, with calls that state 30 s beside 300 long polls, 0.1 %
/// of the calls were refused in vain at 1 s and at 2 s, 0.3 % at 3 s, and 3 % at 5 s.
const LONGEST: f64 = 2.0;

/// In service times: a caller that cancels sooner has not waited for this server.
const WAITED: f64 = 3.0;

impl ClientTimeout {
    pub(crate) fn new(set: Option<f64>) -> Self {
        Self {
            set,
            stated: StatedTimeout::default(),
            seen: 1.0,
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        let timeout = self.set.or(self.stated.seconds());
        timeout.unwrap_or(self.seen)
    }

    /// Takes in samples. Where most callers cancel, a cancellation after a wait tells how long callers wait; and so does a success after
    /// a longer wait.
    pub(crate) fn learn(&mut self, samples: &[Sample], server: &Estimates) {
        self.stated.learn(samples);
        let many = !server.do_respond();
        for sample in samples {
            let waited = sample.latency.as_secs_f64();
            let tells = match sample.outcome {
                Outcome::Success => waited > self.seen,
                _ => many && has_timed_out(sample) && waited > WAITED * server.service,
            };
            if tells {
                self.seen += 0.05 * (waited.min(1.0) - self.seen);
            }
        }
    }
}

impl StatedTimeout {
    fn learn(&mut self, samples: &[Sample]) {
        for sample in samples {
            let stated = sample.client_timeout;
            let stated = stated.filter(|timeout| CLIENT_TIMEOUTS.contains(timeout));
            self.samples = (self.samples + 1.0).min(LATEST);
            let is_stated = f64::from(u8::from(stated.is_some()));
            self.share += (is_stated - self.share) / self.samples;
            if let Some(timeout) = stated {
                self.follow(timeout.as_secs_f64().min(LONGEST));
            }
        }
    }

    /// Moves the median towards a timeout, in bounded steps: a stochastic approximation (Robbins and Monro, 1951).
    fn follow(&mut self, timeout: f64) {
        self.median = match self.median {
            0.0 => timeout,
            median => timeout.clamp(median / STEP, median * STEP),
        };
    }

    /// Returns the timeout in seconds, or `None` where most requests state none.
    fn seconds(&self) -> Option<f64> {
        (self.median > 0.0 && self.share >= 0.5).then_some(self.median)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::control::adaptive::{
        adaptive::tests::{TICK, samples, window},
        observation::Observation,
    };

    /// Returns what is learned from the timeouts, in milliseconds, one after the other and many times over.
    fn learned(timeouts: &[Option<u64>]) -> Option<f64> {
        let sample = |timeout: &Option<u64>| {
            let mut sample = Sample::new(Instant::now());
            sample.client_timeout = timeout.map(Duration::from_millis);
            sample
        };
        let samples: Vec<_> = timeouts.iter().map(sample).collect();
        let mut stated = StatedTimeout::default();
        (0..1_000).for_each(|_| stated.learn(&samples));
        stated.seconds()
    }

    #[test]
    fn the_first_timeout_counts_at_once() {
        let mut sample = Sample::new(Instant::now());
        sample.client_timeout = Some(Duration::from_millis(100));
        let mut stated = StatedTimeout::default();
        assert_eq!(stated.seconds(), None);
        stated.learn(&[sample]);
        assert_eq!(stated.seconds(), Some(0.1));
    }

    #[test]
    fn a_minority_with_other_timeouts_does_not_change_the_timeout_of_the_others() {
        for few in [1, 10, 60_000] {
            let timeout = learned(&[few, 500, 500, 500, few, 500, 500, 500].map(Some));
            assert!(timeout.is_some_and(|it| (0.45..0.55).contains(&it)));
        }
    }

    #[test]
    fn a_new_timeout_is_learned_from_fifty_requests() {
        let mut sample = Sample::new(Instant::now());
        let mut stated = StatedTimeout::default();
        for millis in [1_000, 100, 1_000] {
            sample.client_timeout = Some(Duration::from_millis(millis));
            stated.learn(&[sample; 50]);
            assert_eq!(stated.seconds(), Some(millis as f64 / 1e3));
        }
    }

    #[test]
    fn timeouts_count_only_where_at_least_half_of_the_requests_state_one() {
        let some = Some(100);
        assert_eq!(learned(&[None, None, some, None]), None);
        assert_eq!(learned(&[some, None, some, some]), Some(0.1));
    }

    #[test]
    fn a_timeout_out_of_range_counts_as_none_and_a_long_one_as_2_s() {
        assert_eq!(learned(&[Some(0)]), None);
        assert_eq!(learned(&[Some(3_600_001)]), None);
        assert_eq!(learned(&[Some(3_600_000)]), Some(2.0));
        assert_eq!(learned(&[Some(1)]), Some(0.001));
    }

    #[test]
    fn p11_a_few_early_cancellations_are_forgotten_when_callers_are_seen_to_wait() {
        let (mut server, mut now) = (Estimates::new(0.01, 100.0), Instant::now());
        let mut timeout = ClientTimeout::new(None);
        let mut see = |cancelled: usize, after: u64, succeeded: usize, latency: u64| {
            now += TICK;
            let mut all = samples(cancelled, now, Duration::from_millis(after), 100);
            for sample in &mut all {
                sample.outcome = Outcome::Cancelled;
            }
            all.extend(samples(succeeded, now, Duration::from_millis(latency), 100));
            server.observe(&Observation::of(&window(now, 100, 100, &all), 0.0));
            timeout.learn(&all, &server);
            timeout.seconds()
        };
        assert_eq!(see(0, 0, 1, 10), 1.0);
        // One caller in ten cancels early: not because of the server.
        for _ in 0..100 {
            assert_eq!(see(1, 100, 9, 10), 1.0);
        }
        assert!((0.1..0.11).contains(&see(100, 100, 0, 0)));
        // Earlier successes say nothing about it.
        assert!((0.1..0.11).contains(&see(0, 0, 100, 50)));
        assert!((0.99..1.01).contains(&see(0, 0, 100, 2_000)));
    }

    #[test]
    fn a_setting_precedes_stated_timeouts_and_these_precede_cancellations() {
        let mut all = samples(100, Instant::now(), Duration::from_millis(300), 100);
        for sample in &mut all {
            sample.outcome = Outcome::Cancelled;
        }
        let seen = Observation::of(&window(Instant::now(), 100, 100, &all), 0.0);
        let learned = |set: Option<f64>, samples: &[Sample]| {
            let (mut server, mut timeout) = (Estimates::new(0.01, 100.0), ClientTimeout::new(set));
            server.observe(&seen);
            timeout.learn(samples, &server);
            timeout.seconds()
        };
        assert!((0.3..0.31).contains(&learned(None, &all)));
        for sample in &mut all {
            sample.client_timeout = Some(Duration::from_millis(500));
        }
        assert_eq!(learned(None, &all), 0.5);
        assert_eq!(learned(Some(0.4), &all), 0.4);
    }
}
