use std::time::Duration;

use tokio::time::Instant;

/// Tells a burst, which passes, from a standing queue.
///
/// Facebook's variant of CoDel, with its adaptive LIFO (Ben Maurer, "Fail at Scale", ACM Queue 13(8), 2015):
///
/// ```text
/// the queue was empty within the last N:  wait up to N, oldest first
/// it was not:                             wait up to M, newest first        N = 100 ms, M = 5 ms
/// ```
///
/// N is the longest wait that the user has set, and M is N ÷ 20, as in the article. CoDel (RFC 8289) has the same proportion
/// between its interval and its target, for this reason: a good queue empties within an interval, and a standing queue only
/// adds delay.
///
/// In the article, only workers empty the queue. Here, requests also leave it when they have waited too long. A queue that
/// empties in this way is no sign of free capacity. It counts as empty only after N without a waiter.
#[derive(Debug, Default)]
pub(crate) struct Delay {
    /// Since when the queue has not been empty.
    since: Option<Instant>,
    /// When the last waiter left without having been admitted.
    given_up: Option<Instant>,
}

/// N ÷ M.
const SHORTER: u32 = 20;

impl Delay {
    /// Notes that a request that may wait for `longest` joins the empty queue.
    pub(crate) fn begins(&mut self, now: Instant, longest: Duration) {
        let goes_on = |left| now.saturating_duration_since(left) <= longest;
        if !self.given_up.take().is_some_and(goes_on) {
            self.since = Some(now);
        }
    }

    /// Notes that the last waiter was admitted.
    pub(crate) fn served(&mut self) {
        *self = Self::default();
    }

    /// Notes that the last waiter has left without having been admitted.
    pub(crate) fn given_up(&mut self, now: Instant) {
        self.given_up = Some(now);
    }

    /// Returns whether the queue is standing, for a waiter that may wait for `longest`.
    pub(crate) fn is_standing(&self, now: Instant, longest: Duration) -> bool {
        let stands = |since| now.saturating_duration_since(since) > longest;
        self.since.is_some_and(stands)
    }

    /// Returns how long a request that joins now may wait.
    pub(crate) fn bound(&self, now: Instant, longest: Duration) -> Duration {
        if self.is_standing(now, longest) {
            longest / SHORTER
        } else {
            longest
        }
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    const N: Duration = Duration::from_millis(100);
    const M: Duration = Duration::from_millis(5);

    fn at(millis: u64) -> Instant {
        thread_local!(static EPOCH: Instant = Instant::now());
        EPOCH.with(|epoch| *epoch + Duration::from_millis(millis))
    }

    #[test]
    fn a_queue_that_was_not_empty_for_an_interval_bounds_waits_to_a_twentieth_of_it() {
        let mut delay = Delay::default();
        delay.begins(at(0), N);
        assert_eq!(delay.bound(at(100), N), N);
        assert_eq!(delay.bound(at(101), N), M);
        delay.served();
        delay.begins(at(102), N);
        assert_eq!(delay.bound(at(102), N), N);
    }

    #[test]
    fn a_queue_that_all_waiters_have_left_is_still_standing_for_an_interval() {
        let mut delay = Delay::default();
        delay.begins(at(0), N);
        delay.given_up(at(150));
        delay.begins(at(250), N);
        assert_eq!(delay.bound(at(250), N), M);
        delay.given_up(at(260));
        delay.begins(at(361), N);
        assert_eq!(
            delay.bound(at(361), N),
            N,
            "no request was queued for longer than that"
        );
    }
}
